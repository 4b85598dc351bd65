//! Calls with a layer from outside of it: `with_layer`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Seal, hello, sealed};
use support::{Hooked, Kind, Log, Recorder, Scene, each_kind, settle, strict_loop};
use tidegate::EventLoop;

/// Two layers that are open; the upper one calls nothing, the lower one is a [`Seal`].
fn two_layers(kind: Kind) -> (EventLoop, Log, tidegate::Transport, support::Peer) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let sealed = transport.push_layer(Seal::server(), b"");
    let upper = transport.push_layer(Hooked::new(|_, _| Ok(())), b"");
    peer.send(&hello());
    event_loop.run_until(sealed).unwrap();
    event_loop.run_until(upper).unwrap();
    settle(&mut event_loop);
    peer.read_available();
    (event_loop, log, transport, peer)
}

fn a_call_that_says_nothing_gives_the_loop_nothing_to_do(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = two_layers(kind);
    assert_eq!(event_loop.poll_timeout(), None);
    for _ in 0..100 {
        assert_eq!(transport.with_layer(|_: &mut Seal, _| 1), Some(1));
        assert_eq!(transport.with_layer(|_: &mut Hooked, _| 2), Some(2));
        assert_eq!(transport.with_layer(|_: &mut Other, _| 3), None);
    }
    assert_eq!(event_loop.poll_timeout(), None, "only an event wakes it");
    transport
        .with_layer(|_: &mut Hooked, io| io.send(b"output"))
        .unwrap();
    assert_eq!(event_loop.poll_timeout(), Some(Duration::ZERO));
    settle(&mut event_loop);
    // The connection is as it was.
    peer.send(&sealed(b"input"));
    support::drive(&mut event_loop, "the data", || log.data() == b"input");
    transport.write(b", written").unwrap();
    let all = [hello(), sealed(b"output"), sealed(b", written")].concat();
    peer.expect(&mut event_loop, all.len());
    assert_eq!(peer.received(), all);
}
each_kind!(a_call_that_says_nothing_gives_the_loop_nothing_to_do);

/// A type of which there is no layer.
struct Other;

impl tidegate::Layer for Other {
    fn receive(&mut self, _: &mut tidegate::LayerIo<'_>) -> tidegate::Result {
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut tidegate::LayerIo<'_>) -> tidegate::Result<usize> {
        Ok(0)
    }
}

/// The layer has changed what it has a say in: it is asked again.
fn a_layer_that_took_nothing_is_asked_again_behind_a_call_that_says_nothing(kind: Kind) {
    let (mut event_loop, _log, transport, mut peer) = Scene::of(kind).strict().set();
    let takes = Rc::new(Cell::new(0));
    let layer = Hooked::new(|_, _| Ok(())).taking(&takes);
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    transport.write(b"waits").unwrap();
    settle(&mut event_loop);
    assert_eq!(transport.sent(), 0);
    transport
        .with_layer(|_: &mut Hooked, _| takes.set(100))
        .unwrap();
    peer.expect(&mut event_loop, 5);
    assert_eq!(peer.received(), b"waits");
}
each_kind!(a_layer_that_took_nothing_is_asked_again_behind_a_call_that_says_nothing);

/// Whatever the call does: here it has another connection write.
fn what_a_callback_has_gathered_stays_its_own_in_a_call_with_a_layer(kind: Kind) {
    let mut event_loop = strict_loop();
    let (other, mut other_peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&Log::new()));
    let to = other.clone();
    let log = Log::new();
    let recorder = Recorder::new(&log).on_data(move |transport, _| {
        transport.write(b"gathered, ")?;
        let wrote = transport.with_layer(|_: &mut Hooked, _| {
            to.with_protocol(|_: &mut Recorder, other| other.write(b"the other's"))
        });
        wrote.expect("a layer").expect("a protocol")?;
        transport.write(b"and sent")?;
        Ok(())
    });
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, recorder);
    let layer = Hooked::new(|_, _| Ok(()));
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(b"go");
    peer.expect(&mut event_loop, 18);
    other_peer.expect(&mut event_loop, 11);
    assert_eq!(peer.received(), b"gathered, and sent");
    assert_eq!(other_peer.received(), b"the other's");
    assert_eq!((transport.written(), other.written()), (18, 11));
}
each_kind!(what_a_callback_has_gathered_stays_its_own_in_a_call_with_a_layer);
