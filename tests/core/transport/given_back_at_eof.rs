//! Bytes that `eof_received` gives back.

use std::cell::RefCell;
use std::rc::Rc;
use support::{Wire, drive, each_wire, settle};
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
