//! Bytes that `eof_received` gives back, and the end itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use support::{Log, Recorder, Seen, Wire, drive, each_wire, settle};
use tidegate::{OnEof, Protocol, Result, Transport};

/// Keeps what comes, and gives it back at the end.
struct Keeps {
    kept: Vec<u8>,
    seen: Rc<RefCell<Vec<String>>>,
    at_eof: bool,
    pauses: bool,
}

impl Protocol for Keeps {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if !self.at_eof {
            self.kept.extend_from_slice(data);
            return Ok(());
        }
        let text = String::from_utf8_lossy(data).into_owned();
        self.seen.borrow_mut().push(text);
        if self.pauses {
            transport.pause_reading();
        }
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.seen.borrow_mut().push("eof".to_owned());
        transport.unread(&self.kept);
        self.kept.clear();
        // Without effect at the first call.
        self.at_eof = true;
        Ok(OnEof::Close)
    }
}

each_wire!(what_is_given_back_at_the_end_comes_before_the_end_which_then_comes_again);
fn what_is_given_back_at_the_end_comes_before_the_end_which_then_comes_again(wire: Wire) {
    for pauses in [false, true] {
        let mut event_loop = support::strict_loop();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let protocol = Keeps {
            kept: Vec::new(),
            seen: seen.clone(),
            at_eof: false,
            pauses,
        };
        let (transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
        peer.send(b"rest");
        peer.shutdown_write();
        drive(&mut event_loop, "the rest", || seen.borrow().len() >= 2);
        if pauses {
            settle(&mut event_loop);
            assert_eq!(*seen.borrow(), ["eof", "rest"]);
            assert!(!transport.is_closing());
            transport.resume_reading();
        }
        drive(&mut event_loop, "the end", || transport.closed().is_some());
        assert_eq!(*seen.borrow(), ["eof", "rest", "eof"]);
        assert!(transport.closed().is_some_and(|closed| closed.is_clean()));
    }
}

type OnTheEnd = Box<dyn FnMut(&Transport)>;

/// Gives the end back this many times.
struct Later {
    left: u32,
    ends: Rc<Cell<u32>>,
    /// Called when it has given the end back.
    then: OnTheEnd,
    last: OnEof,
}

impl Later {
    fn new(left: u32, ends: &Rc<Cell<u32>>, then: impl FnMut(&Transport) + 'static) -> Self {
        Self {
            left,
            ends: ends.clone(),
            then: Box::new(then),
            last: OnEof::Close,
        }
    }
}

impl Protocol for Later {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        assert_eq!(data, b"x", "only the end was given back");
        // Without effect: this is not the end.
        transport.unread_eof();
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.ends.set(self.ends.get() + 1);
        if self.left == 0 {
            return Ok(self.last);
        }
        self.left -= 1;
        transport.unread_eof();
        (self.then)(transport);
        // Without effect.
        Ok(OnEof::Close)
    }
}

each_wire!(an_end_that_is_given_back_comes_again_in_the_next_tick);
fn an_end_that_is_given_back_comes_again_in_the_next_tick(wire: Wire) {
    let mut event_loop = support::strict_loop();
    let ends = Rc::new(Cell::new(0));
    let protocol = Later::new(3, &ends, |_| {});
    let (transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
    peer.send(b"x");
    peer.shutdown_write();
    let mut each_tick = Vec::new();
    drive(&mut event_loop, "the end", || {
        each_tick.push(ends.get());
        transport.closed().is_some()
    });
    each_tick.dedup();
    assert_eq!(each_tick, [0, 1, 2, 3, 4]);
    assert!(transport.closed().is_some_and(|closed| closed.is_clean()));
}

each_wire!(an_end_that_is_given_back_while_reading_is_stopped_comes_when_it_goes_on);
fn an_end_that_is_given_back_while_reading_is_stopped_comes_when_it_goes_on(wire: Wire) {
    let mut event_loop = support::strict_loop();
    let ends = Rc::new(Cell::new(0));
    let protocol = Later::new(2, &ends, Transport::pause_reading);
    let (transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
    peer.send(b"x");
    peer.shutdown_write();
    for count in 1..=2 {
        drive(&mut event_loop, "an end", || ends.get() == count);
        settle(&mut event_loop);
        assert_eq!(ends.get(), count);
        assert!(!transport.is_closing());
        transport.resume_reading();
    }
    drive(&mut event_loop, "the end", || transport.closed().is_some());
    assert_eq!(ends.get(), 3);
}

each_wire!(a_protocol_that_takes_over_gets_an_end_that_was_given_back_and_no_bytes);
fn a_protocol_that_takes_over_gets_an_end_that_was_given_back_and_no_bytes(wire: Wire) {
    let mut event_loop = support::strict_loop();
    let (ends, log) = (Rc::new(Cell::new(0)), Log::new().switched_in());
    let next = log.clone();
    let protocol = Later::new(1, &ends, move |transport| {
        transport.set_protocol(Recorder::new(&next), b"").unwrap();
    });
    let (_transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
    peer.send(b"x");
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!((ends.get(), log.data()), (1, Vec::new()));
    assert_eq!(log.count(&Seen::Eof), 1);
}

each_wire!(an_end_that_is_given_back_after_a_close_or_outside_its_callback_does_not_come_again);
fn an_end_that_is_given_back_after_a_close_or_outside_its_callback_does_not_come_again(wire: Wire) {
    let mut event_loop = support::strict_loop();
    let ends = Rc::new(Cell::new(0));
    let protocol = Later::new(1, &ends, |transport| {
        transport.close();
        transport.unread_eof();
    });
    let (transport, peer) = wire.scene().on(&mut event_loop, protocol);
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || transport.closed().is_some());
    assert_eq!(ends.get(), 1);

    let ends = Rc::new(Cell::new(0));
    let mut protocol = Later::new(0, &ends, |_| {});
    protocol.last = OnEof::KeepOpen;
    let (transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
    peer.send(b"x");
    transport.unread_eof();
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || ends.get() == 1);
    transport.unread_eof();
    settle(&mut event_loop);
    assert_eq!(ends.get(), 1);
    transport.write(b"still open").unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"still open");
}
