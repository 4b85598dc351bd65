//! A layer that waits for more is not called before there is more.

use super::early::polls_in_a_while;
use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use support::seal::{Seal, end_of_seal, hello, sealed};
use support::{
    Hooked, Kind, Log, Peer, Recorder, Scene, Served, TempDir, drive, each_kind, failures, settle,
    strict_loop,
};
use tidegate::{CloseReason, EventLoop, Layer, LayerIo, ListenOptions, Result};

/// The number of bytes that a layer may leave unconsumed.
const MAX_INPUT: usize = 112 * 1024;

/// The length of a unit.
const UNIT: usize = 10;

/// Delivers units as they become complete, and counts its calls.
#[derive(Default)]
struct Units {
    calls: Rc<Cell<usize>>,
    /// The number of calls that it asks for beside those that bring input.
    asks: usize,
}

impl Layer for Units {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.calls.set(self.calls.get() + 1);
        if self.asks > 0 {
            self.asks -= 1;
            io.more();
        }
        while io.input().len() >= UNIT {
            let unit = io.input()[..UNIT].to_vec();
            io.consume(UNIT);
            io.deliver(&unit);
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

#[track_caller]
fn assert_sleeps(event_loop: &mut EventLoop) {
    settle(event_loop);
    let polls = polls_in_a_while(event_loop);
    assert!(
        polls < 50,
        "{polls} polls: {:#?}",
        event_loop.handle().stats()
    );
}

fn half_a_unit_is_one_call_and_the_loop_sleeps(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let layer = Units::default();
    let calls = layer.calls.clone();
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    for (bytes, called, delivered) in [
        (&b"half"[..], 1, 0),
        (b" a", 2, 0),
        (b" uni", 3, 10),
        (b"two units, and more", 4, 20),
    ] {
        peer.send(bytes);
        drive(&mut event_loop, "the call", || calls.get() == called);
        assert_sleeps(&mut event_loop);
        assert_eq!((calls.get(), log.data_len()), (called, delivered));
    }
    // Nothing else brings it input.
    transport.write(b"reply").unwrap();
    peer.expect(&mut event_loop, 5);
    transport.pause_reading();
    settle(&mut event_loop);
    transport.resume_reading();
    assert_sleeps(&mut event_loop);
    assert_eq!((calls.get(), log.data_len()), (4, 20));
}
each_kind!(half_a_unit_is_one_call_and_the_loop_sleeps);

fn a_layer_that_asks_for_a_call_gets_that_one(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let layer = Units {
        asks: 3,
        ..Units::default()
    };
    let calls = layer.calls.clone();
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(b"half");
    drive(&mut event_loop, "the calls", || calls.get() == 4);
    assert_sleeps(&mut event_loop);
    assert_eq!((calls.get(), log.data_len()), (4, 0));
}
each_kind!(a_layer_that_asks_for_a_call_gets_that_one);

/// Half a hello, half a record, and half a record within a record.
fn the_loop_sleeps_on_half_a_record_of_each_layer_of_a_stack(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir))
        .layer(Seal::server)
        .layer(|| Hooked::new(|_, _| Ok(())))
        .layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    let inner = [hello(), sealed(b"ping"), end_of_seal()].concat();
    let halves = inner.chunks(2).flat_map(sealed);
    let all: Vec<u8> = hello().into_iter().chain(halves).collect();
    drive(&mut event_loop, "the connection", || {
        served.server.connection_count() == 1
    });
    for part in all.chunks(19) {
        let handle = event_loop.handle().clone();
        let before = handle.stats().events;
        peer.send(part);
        drive(&mut event_loop, "the part", || {
            handle.stats().events > before
        });
        assert_sleeps(&mut event_loop);
    }
    drive(&mut event_loop, "the end", || {
        served.accepted() == 1 && served.log(0).is_lost()
    });
    assert_eq!(served.log(0).words(), ["made", "data", "eof", "lost"]);
}
each_kind!(the_loop_sleeps_on_half_a_record_of_each_layer_of_a_stack);

/// The output waits for the peer, and half a record is there.
fn the_loop_sleeps_when_the_kernel_takes_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
    let layer = Units::default();
    let calls = layer.calls.clone();
    let pushed = transport.push_layer(layer, b"");
    event_loop.run_until(pushed).unwrap();
    transport.write(b"behind it").unwrap();
    peer.send(b"half");
    drive(&mut event_loop, "the call", || calls.get() == 1);
    assert_sleeps(&mut event_loop);
    assert_eq!((calls.get(), log.data_len()), (1, 0));
    let written = transport.written() as usize;
    peer.expect(&mut event_loop, written);
    assert_sleeps(&mut event_loop);
    assert_eq!((calls.get(), log.data_len()), (1, 0));
}
each_kind!(the_loop_sleeps_when_the_kernel_takes_nothing);

/// Waits for ever.
struct Greedy;

impl Layer for Greedy {
    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

fn a_layer_that_never_consumes_ends_its_connection_alone(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&log));
    let (other, mut other_peer) = Scene::of(kind).on(&mut event_loop, Recorder::echo(&Log::new()));
    transport.push_layer(Greedy, b"").detach();
    settle(&mut event_loop);
    let (part, mut sent) = (vec![1; 200_000], 0);
    drive(&mut event_loop, "the end", || {
        sent += peer.try_write(&part[sent..]).unwrap_or(0);
        log.is_lost()
    });
    assert!(sent > MAX_INPUT, "{sent}");
    let closed = log.closed();
    let CloseReason::Io(error) = closed.reason() else {
        panic!("{closed:?}");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("maximum"), "{error}");
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "lost"]);
    assert!(told.borrow().is_empty(), "{told:?}");
    other_peer.send(b"still served");
    other_peer.expect(&mut event_loop, 12);
    assert!(other.closed().is_none());
}
each_kind!(a_layer_that_never_consumes_ends_its_connection_alone);

#[test]
fn a_hundred_half_records_cost_the_loop_nothing() {
    let mut event_loop = strict_loop();
    let options = ListenOptions::new("127.0.0.1:0").layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let peers: Vec<_> = (0..100)
        .map(|n| {
            let mut peer = Peer::connect(&served.address());
            let record = sealed(&[1; 200]);
            peer.send(&[&hello()[..], &record[..1 + n]].concat());
            peer
        })
        .collect();
    drive(&mut event_loop, "the connections", || {
        served.accepted() == 100
    });
    assert_sleeps(&mut event_loop);
    assert!((0..100).all(|n| served.log(n).words() == ["made"]));
    drop(peers);
}
