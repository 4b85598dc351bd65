//! Bytes that a protocol has kept when another one takes over.

use std::cell::Cell;
use std::rc::Rc;
use support::{
    Kind, Log, Recorder, Seen, Wire, adopted, drive, each_kind, each_wire, failures, once, settle,
};
use tidegate::{EventLoop, Wrap};

/// A recorder that has kept bytes.
struct Keeps {
    recorder: Recorder,
    kept: &'static [u8],
    asked: Rc<Cell<u32>>,
}

impl Wrap for Keeps {
    type Inner = Recorder;

    fn wrapped(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn leftover(&mut self) -> Vec<u8> {
        self.asked.set(self.asked.get() + 1);
        assert!(self.kept != b"panic", "panicking on purpose");
        self.kept.to_vec()
    }
}

fn keeps(recorder: Recorder, kept: &'static [u8]) -> (Keeps, Rc<Cell<u32>>) {
    let asked = Rc::new(Cell::new(0));
    let protocol = Keeps {
        recorder,
        kept,
        asked: asked.clone(),
    };
    (protocol, asked)
}

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec())
}

/// The place from which `set_protocol` is called.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Callback,
    Outside,
    OutsideTwice,
    WithProtocol,
}

each_wire!(a_new_protocol_gets_unread_then_leftover_then_what_was_given_back_then_the_kernels);
fn a_new_protocol_gets_unread_then_leftover_then_what_was_given_back_then_the_kernels(wire: Wire) {
    let all = [
        From::Callback,
        From::Outside,
        From::OutsideTwice,
        From::WithProtocol,
    ];
    for from in all {
        let mut event_loop = EventLoop::new().unwrap();
        let (old, new) = (Log::new(), Log::new().switched_in());
        let mut next = once(Recorder::new(&new));
        let recorder = Recorder::new(&old).on_data(move |transport, data| {
            transport.unread(&data[1..]);
            if from == From::Callback {
                transport.set_protocol(next().unwrap(), b"unread, ")?;
            }
            transport.pause_reading();
            Ok(())
        });
        let (protocol, asked) = keeps(recorder, b"leftover, ");
        let (transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
        peer.send(b"|given back, ");
        drive(&mut event_loop, "the first", || old.data_len() > 0);
        peer.send(b"kernel");
        settle(&mut event_loop);
        let replaced = Log::new().switched_in();
        if from == From::OutsideTwice {
            transport
                .set_protocol(Recorder::new(&replaced), b"unread, ")
                .unwrap();
            transport.set_protocol(Recorder::new(&new), b"").unwrap();
        } else if from != From::Callback {
            transport
                .set_protocol(Recorder::new(&new), b"unread, ")
                .unwrap();
        }
        assert_eq!(asked.get(), u32::from(from == From::Callback));
        if from == From::WithProtocol {
            transport.with_protocol(|_: &mut Recorder, _| ()).unwrap();
            assert_eq!(asked.get(), 1);
        }
        transport.resume_reading();
        let first = b"unread, leftover, given back, ";
        drive(&mut event_loop, "all of it", || {
            new.data_len() == first.len() + 6
        });
        assert_eq!(new.seen(), [Seen::Made, data(first), data(b"kernel")]);
        assert_eq!((asked.get(), old.words().len()), (1, 2), "{from:?}");
    }
}

each_wire!(leftover_is_not_asked_when_no_other_protocol_comes);
fn leftover_is_not_asked_when_no_other_protocol_comes(wire: Wire) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (protocol, asked) = keeps(Recorder::new(&log), b"leftover");
    let (_, mut peer) = wire.scene().on(&mut event_loop, protocol);
    peer.send(b"bytes");
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!(asked.get(), 0);
}

each_kind!(a_panic_of_leftover_ends_the_connection);
fn a_panic_of_leftover_ends_the_connection(kind: Kind) {
    for with_protocol in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let new = Log::new().switched_in();
        let (protocol, asked) = keeps(Recorder::default(), b"panic");
        let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
        settle(&mut event_loop);
        transport
            .set_protocol(Recorder::new(&new), b"unread")
            .unwrap();
        if with_protocol {
            transport.with_protocol(|_: &mut Recorder, _| ()).unwrap();
        }
        drive(&mut event_loop, "lost", || new.is_lost());
        assert_eq!(
            (new.words(), asked.get()),
            (vec!["made".into(), "lost".into()], 1)
        );
        assert_eq!(new.reason(), "panic");
        let failures = failures.borrow();
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].context(), "leftover");
        assert!(failures[0].protocol().unwrap().ends_with("Keeps"));
    }
}
