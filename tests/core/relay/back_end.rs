//! How the front hears that the back has ended.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use support::{Kind, Peer, TempDir, accept, adopted, drive, each_way, failures, relayed, settle};
use tidegate::{Address, CloseReason, EventLoop, Relay, RelayReport, Transport};

/// A relay that notes the calls of `on_back_end` and the report.
struct Told {
    event_loop: EventLoop,
    transport: Transport,
    front: Peer,
    back: Peer,
    /// Whether the front had ended by then.
    calls: Rc<RefCell<Vec<bool>>>,
    report: Rc<RefCell<Option<RelayReport>>>,
    _dir: TempDir,
}

impl Told {
    fn new(kind: Kind) -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (listener, address) = kind.listen(&dir);
        let calls: Rc<RefCell<Vec<bool>>> = Rc::default();
        let report: Rc<RefCell<Option<RelayReport>>> = Rc::default();
        let (called, told) = (calls.clone(), report.clone());
        let relay = relayed(Relay::to(&address))
            .on_back_end(move |front| called.borrow_mut().push(front.is_closing()))
            .on_end(move |_, report| {
                told.replace(Some(report.clone()));
            });
        let (transport, front) = adopted(event_loop.handle(), kind, relay);
        let back = accept(&mut event_loop, &listener);
        // So a Unix peer that closes is seen to break off.
        settle(&mut event_loop);
        Self {
            event_loop,
            transport,
            front,
            back,
            calls,
            report,
            _dir: dir,
        }
    }

    #[track_caller]
    fn is_told(&mut self) {
        let calls = self.calls.clone();
        drive(&mut self.event_loop, "the call", || {
            !calls.borrow().is_empty()
        });
    }

    #[track_caller]
    fn ended(&mut self) {
        let report = self.report.clone();
        drive(&mut self.event_loop, "the report", || {
            report.borrow().is_some()
        });
        assert_eq!(*self.calls.borrow(), [false]);
    }
}

each_way!(a_front_that_waits_idle_gets_the_eof_of_its_back_although_it_is_not_read);
fn a_front_that_waits_idle_gets_the_eof_of_its_back_although_it_is_not_read(kind: Kind) {
    for paused in [false, true] {
        let mut told = Told::new(kind);
        if paused {
            told.transport.pause_reading();
        }
        told.back.shutdown_write();
        told.front.expect_end(&mut told.event_loop);
        assert!(told.front.saw_eof());
        assert_eq!(*told.calls.borrow(), [false]);
        // The other direction goes on.
        told.transport.resume_reading();
        told.front.send(b"still here");
        told.back.expect(&mut told.event_loop, 10);
        told.front.shutdown_write();
        told.ended();
        assert!(told.report.take().unwrap().is_clean());
    }
}

each_way!(a_front_that_waits_idle_is_reset_with_its_back_although_it_is_not_read);
fn a_front_that_waits_idle_is_reset_with_its_back_although_it_is_not_read(kind: Kind) {
    for paused in [false, true] {
        let mut told = Told::new(kind);
        if paused {
            told.transport.pause_reading();
        } else {
            told.front
                .send(b"unread, so that a Unix peer that closes is seen to break off");
        }
        settle(&mut told.event_loop);
        told.back.reset();
        told.front.expect_end(&mut told.event_loop);
        if kind == Kind::Tcp {
            assert_eq!(told.front.saw_error(), Some(ErrorKind::ConnectionReset));
        }
        told.front.close();
        told.transport.resume_reading();
        told.ended();
    }
}

each_way!(the_end_of_the_back_is_told_while_the_front_does_not_read);
fn the_end_of_the_back_is_told_while_the_front_does_not_read(kind: Kind) {
    let mut told = Told::new(kind);
    told.front
        .send(b"unread, so that a Unix peer that closes is seen to break off");
    settle(&mut told.event_loop);
    told.back.fill(&mut told.event_loop);
    assert!(told.transport.write_buffer_size() > 0);
    told.back.reset();
    told.is_told();
    assert!(told.report.borrow().is_none());
    assert!(told.transport.write_buffer_size() > 0);
    // The bytes from before are still delivered.
    told.front.expect_end(&mut told.event_loop);
    assert!(told.front.received().len() > 64 * 1024);
    told.ended();
}

each_way!(the_end_of_a_back_is_not_told_to_a_front_that_ended_first);
fn the_end_of_a_back_is_not_told_to_a_front_that_ended_first(kind: Kind) {
    let mut told = Told::new(kind);
    told.transport.abort();
    let report = told.report.clone();
    drive(&mut told.event_loop, "the report", || {
        report.borrow().is_some()
    });
    assert!(told.calls.borrow().is_empty());
    assert_eq!(Rc::strong_count(&told.calls), 1, "the closure is dropped");
}

fn refusing() -> Address {
    // Closed again, so nobody listens.
    Kind::Tcp.listen(&TempDir::new()).1
}

each_way!(a_front_without_a_back_may_be_given_a_last_word_and_closed);
fn a_front_without_a_back_may_be_given_a_last_word_and_closed(kind: Kind) {
    for closes in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let report = Rc::new(RefCell::new(None));
        let told = report.clone();
        let relay = relayed(Relay::to(refusing()))
            .on_back_end(move |front| {
                front.write(b"502 no back").unwrap();
                if closes {
                    front.close();
                }
            })
            .on_end(move |_, report| {
                told.replace(Some(report.clone()));
            });
        let (_, mut front) = adopted(event_loop.handle(), kind, relay);
        front.expect_end(&mut event_loop);
        front.close();
        drive(&mut event_loop, "the report", || report.borrow().is_some());
        let report = report.take().unwrap();
        let error = report.back.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        if closes {
            assert_eq!(front.received(), b"502 no back");
            assert!(matches!(report.front.reason(), CloseReason::LocalClose));
        } else {
            assert!(matches!(report.front.reason(), CloseReason::Io(_)));
        }
    }
}

each_way!(a_panic_at_the_end_of_the_back_is_reported_and_the_end_carried_over);
fn a_panic_at_the_end_of_the_back_is_reported_and_the_end_carried_over(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let relay = relayed(Relay::to(&address)).on_back_end(|_| panic!("at the end"));
    let (_, mut front) = adopted(event_loop.handle(), kind, relay);
    let back = accept(&mut event_loop, &listener);
    back.shutdown_write();
    front.expect_end(&mut event_loop);
    assert!(front.saw_eof());
    front.shutdown_write();
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the end", || {
        handle.stats().connections == 0
    });
    let failures = failures.borrow();
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].to_string().contains("on_back_end"),
        "{}",
        failures[0]
    );
}
