//! Protocols around others, and values that protocols drive.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Recorder, Seen, Wire, drive, each_wire, failures, flood, settle};
use tidegate::{EventLoop, Protocol, Result, Transport, WithProtocolError, Wrap};

/// Writes nothing itself.
struct Plain<P>(P);

impl<P: Protocol> Wrap for Plain<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.0
    }
}

/// Passes on all but a first byte.
struct Tail<P> {
    protocol: P,
    begun: bool,
}

impl<P: Protocol> Wrap for Tail<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.protocol
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let own = usize::from(!std::mem::replace(&mut self.begun, true));
        self.protocol.data_received(transport, &data[own..])
    }
}

fn tail<P>(protocol: P) -> Tail<P> {
    Tail {
        protocol,
        begun: false,
    }
}

/// No protocol.
struct Handler {
    calls: u32,
}

/// Drives a handler.
struct Drives {
    handler: Handler,
    kept: &'static [u8],
}

impl Protocol for Drives {
    fn user(&mut self) -> Option<&mut dyn Any> {
        Some(&mut self.handler)
    }

    fn leftover(&mut self) -> Vec<u8> {
        self.kept.to_vec()
    }
}

fn drives() -> Drives {
    Drives {
        handler: Handler { calls: 0 },
        kept: b"kept",
    }
}

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec())
}

/// The callbacks that come to a protocol in a life with each of them.
fn life(wire: Wire, buffered: bool, wrap: impl FnOnce(Recorder) -> Box<dyn Protocol>) -> Vec<Seen> {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let recorder = Recorder::new(&log).keep_open();
    let recorder = if buffered {
        recorder.buffered(3)
    } else {
        recorder
    };
    let (transport, mut peer) = wire.scene().on(&mut event_loop, wrap(recorder));
    peer.send(b"bytes");
    drive(&mut event_loop, "data", || log.data_len() == 5);
    flood(&transport);
    drive(&mut event_loop, "the resume", || {
        peer.read_available();
        log.has(&Seen::Resume)
    });
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || log.has(&Seen::Eof));
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    log.seen()
}

each_wire!(a_wrapper_forwards_every_callback_that_it_does_not_write);
fn a_wrapper_forwards_every_callback_that_it_does_not_write(wire: Wire) {
    for buffered in [false, true] {
        let expected = life(wire, buffered, |recorder| Box::new(recorder));
        let words = if buffered { 7 } else { 6 };
        assert_eq!(expected.len(), words, "{expected:?}");
        let wrapped = life(wire, buffered, |recorder| {
            let boxed: Box<dyn Protocol> = Box::new(Plain(Plain(recorder)));
            Box::new(Plain(boxed))
        });
        assert_eq!(wrapped, expected);
    }
}

each_wire!(what_an_inner_protocol_gives_back_comes_again_through_its_wrappers);
fn what_an_inner_protocol_gives_back_comes_again_through_its_wrappers(wire: Wire) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let places = Rc::new(Cell::new((0, 0)));
    let noted = places.clone();
    let inner = Recorder::new(&log).on_data(move |transport, data| {
        let end = data.as_ptr_range().end.addr();
        noted.set((noted.get().1, end));
        transport.unread(&data[1..]);
        Ok(())
    });
    let (_, mut peer) = wire.scene().on(&mut event_loop, Plain(tail(Plain(inner))));
    peer.send(b"-abc");
    drive(&mut event_loop, "each byte", || {
        log.seen().ends_with(&[data(b"c")])
    });
    assert_eq!(log.seen()[1..], [data(b"abc"), data(b"bc"), data(b"c")]);
    // Through the wrappers too the tail is known.
    assert_eq!(places.get().0, places.get().1);
}

each_wire!(typed_calls_find_what_a_protocol_drives_through_wrappers_and_boxes);
fn typed_calls_find_what_a_protocol_drives_through_wrappers_and_boxes(wire: Wire) {
    for boxed in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let protocol: Box<dyn Protocol> = if boxed {
            let inner: Box<dyn Protocol> = Box::new(drives());
            Box::new(Plain(tail(inner)))
        } else {
            Box::new(drives())
        };
        let (transport, _peer) = wire.scene().on(&mut event_loop, protocol);
        settle(&mut event_loop);
        let handle = event_loop.handle().clone();
        let count = |handler: &mut Handler, _: &Transport| {
            handler.calls += 1;
            Ok(())
        };
        transport.call_soon(count);
        transport.call_later(Duration::ZERO, count);
        transport.call_every(Duration::ZERO, count);
        let (completer, completion) = handle.completion::<()>();
        completion.then_on(&transport, move |handler: &mut Handler, transport, _| {
            count(handler, transport)
        });
        completer.complete(Ok(()));
        let calls = || {
            let calls = transport.with_protocol(|handler: &mut Handler, _| handler.calls);
            calls.unwrap()
        };
        drive(&mut event_loop, "each call", || calls() >= 5);
        // The protocols around it too.
        assert!(transport.with_protocol(|_: &mut Drives, _| ()).is_ok());
        let error = transport.with_protocol(|_: &mut Cell<u8>, _| ());
        let text = error.unwrap_err().to_string();
        assert!(matches!(error, Err(WithProtocolError::OtherType { .. })));
        assert!(text.contains("Cell<u8>"), "{text}");
        assert!(failures.borrow().is_empty());
    }
}

each_wire!(a_wrapper_and_a_box_forward_leftover_and_user);
fn a_wrapper_and_a_box_forward_leftover_and_user(wire: Wire) {
    let mut event_loop = EventLoop::new().unwrap();
    let inner: Box<dyn Protocol> = Box::new(drives());
    let mut wrapped: Box<dyn Protocol> = Box::new(Plain(Plain(inner)));
    assert!(wrapped.user().is_some_and(|user| user.is::<Handler>()));
    let (transport, _peer) = wire.scene().on(&mut event_loop, wrapped);
    let new = Log::new().switched_in();
    transport.set_protocol(Recorder::new(&new), b"").unwrap();
    drive(&mut event_loop, "what was kept", || new.data() == b"kept");
}

#[test]
fn a_wrapper_has_the_name_of_its_type_in_failures() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let protocol = Plain(Recorder::default().on_data(|_, _| Err("failing on purpose".into())));
    let (_, mut peer) = support::adopted(event_loop.handle(), Kind::Unix, protocol);
    peer.send(b"bytes");
    drive(&mut event_loop, "the failure", || {
        !failures.borrow().is_empty()
    });
    let protocol = failures.borrow()[0].protocol().unwrap().to_owned();
    assert!(protocol.contains("Plain<"), "{protocol}");
}
