//! How a watch ends, and what is left of it then.

use super::heard::{Heard, is_closed, pair};
use std::cell::{Cell, OnceCell};
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use support::{settle, strict_loop, tick};
use tidegate::{CloseReason, EventLoop, Handle, PanicPolicy, Watch, WatchFor};

/// A watch that another one, or its own closure, can stop.
type Slot = Rc<OnceCell<Watch>>;

/// Asserts that nothing is left of a watch: no source, no closure that holds `held`, no descriptor.
#[track_caller]
fn assert_gone(event_loop: &EventLoop, held: &Rc<Cell<usize>>, theirs: &UnixDatagram) {
    let stats = event_loop.handle().stats();
    assert_eq!((stats.watches, Rc::strong_count(held)), (0, 1));
    assert!(is_closed(theirs), "the descriptor is open");
}

#[test]
fn an_error_is_reported_and_ends_the_watch() {
    let mut event_loop = strict_loop();
    let failures = support::failures(event_loop.handle());
    let (ours, theirs) = pair();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let fail = move |_: &Handle, _: &UnixDatagram| {
        counted.set(counted.get() + 1);
        Err(io::Error::other("no more of this"))
    };
    let handle = event_loop.handle().clone();
    let watch = handle.watch(ours, WatchFor::Read, fail).unwrap();
    theirs.send(b"x").unwrap();
    settle(&mut event_loop);
    assert_eq!(calls.get(), 1);
    assert_gone(&event_loop, &calls, &theirs);
    let failures = failures.borrow();
    assert_eq!(failures.len(), 1);
    assert!(matches!(failures[0].reason(), CloseReason::Callback(_)));
    assert_eq!(failures[0].to_string(), "watch failed: no more of this");
    watch.stop();
}

#[test]
fn a_panic_is_reported_and_ends_the_watch() {
    for policy in [PanicPolicy::Isolate, PanicPolicy::Propagate] {
        let builder = EventLoop::builder().panic_policy(policy);
        let mut event_loop = builder.build().unwrap();
        let failures = support::failures(event_loop.handle());
        let (ours, theirs) = pair();
        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let panic = move |_: &Handle, _: &UnixDatagram| -> io::Result<()> {
            counted.set(counted.get() + 1);
            panic!("in the closure");
        };
        let handle = event_loop.handle().clone();
        handle.watch(ours, WatchFor::Read, panic).unwrap();
        theirs.send(b"x").unwrap();
        let run = std::panic::AssertUnwindSafe(|| settle(&mut event_loop));
        let went_on = std::panic::catch_unwind(run).is_err();
        assert_eq!(went_on, policy == PanicPolicy::Propagate);
        settle(&mut event_loop);
        assert_eq!(calls.get(), 1);
        assert_gone(&event_loop, &calls, &theirs);
        let failures = failures.borrow();
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].to_string(), "watch panicked: in the closure");
    }
}

#[test]
fn stop_within_the_closure_is_the_last_call_whatever_it_returns() {
    for returned in [None, Some(ErrorKind::WouldBlock), Some(ErrorKind::Other)] {
        let mut event_loop = strict_loop();
        let failures = support::failures(event_loop.handle());
        let (ours, theirs) = pair();
        let (slot, calls) = (Slot::default(), Rc::new(Cell::new(0)));
        let (own, counted) = (slot.clone(), calls.clone());
        let ready = move |_: &Handle, socket: &UnixDatagram| {
            counted.set(counted.get() + 1);
            own.get().unwrap().stop();
            own.get().unwrap().stop();
            // It is there until the end of the call.
            socket.send(b"bye").unwrap();
            returned.map_or(Ok(()), |kind| Err(kind.into()))
        };
        let handle = event_loop.handle().clone();
        let watch = handle.watch(ours, WatchFor::Read, ready).unwrap();
        slot.set(watch).unwrap();
        for _ in 0..3 {
            theirs.send(b"x").unwrap();
        }
        tick(&mut event_loop);
        assert_eq!(calls.get(), 1);
        assert_gone(&event_loop, &calls, &theirs);
        let reported = usize::from(returned == Some(ErrorKind::Other));
        assert_eq!(failures.borrow().len(), reported);
        settle(&mut event_loop);
        assert_eq!(event_loop.handle().stats().stale_events, 0);
    }
}

#[test]
fn stop_from_elsewhere_ends_also_calls_that_are_owed_or_due() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let (ours, theirs) = pair();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let again = move |_: &Handle, _: &UnixDatagram| {
        counted.set(counted.get() + 1);
        Ok(())
    };
    let watch = handle.watch(ours, WatchFor::Read, again).unwrap();
    theirs.send(b"x").unwrap();
    tick(&mut event_loop);
    assert_eq!(calls.get(), 16, "more is owed");
    watch.clone().stop();
    settle(&mut event_loop);
    assert_eq!(calls.get(), 16);
    assert_gone(&event_loop, &calls, &theirs);

    // Two that are ready at a time: the first that is called stops the other.
    let slots = [Slot::default(), Slot::default()];
    let calls = Rc::new(Cell::new(0));
    let mut peers = Vec::new();
    for at in [0, 1] {
        let (ours, theirs) = pair();
        let (other, counted) = (slots[1 - at].clone(), calls.clone());
        let ready = move |_: &Handle, socket: &UnixDatagram| {
            counted.set(counted.get() + 1);
            other.get().unwrap().stop();
            socket.recv(&mut [0; 10]).map(drop)
        };
        let watch = handle.watch(ours, WatchFor::Read, ready).unwrap();
        slots[at].set(watch).unwrap();
        theirs.send(b"x").unwrap();
        peers.push(theirs);
    }
    tick(&mut event_loop);
    assert_eq!(calls.get(), 2, "a datagram, and that there is none");
    assert_eq!(handle.stats().watches, 1);
    assert_eq!(peers.iter().filter(|peer| is_closed(peer)).count(), 1);
}

#[test]
fn dropping_a_watch_does_nothing() {
    let mut event_loop = strict_loop();
    let (ours, theirs) = pair();
    let heard = Heard::default();
    drop(heard.watch(&event_loop, ours));
    settle(&mut event_loop);
    theirs.send(b"still").unwrap();
    settle(&mut event_loop);
    assert_eq!(heard.bytes(), b"still");
    assert_eq!(event_loop.handle().stats().watches, 1);
}

#[test]
fn a_copy_that_stays_open_brings_no_event_after_the_end() {
    let mut event_loop = strict_loop();
    let (ours, theirs) = pair();
    let copy = ours.try_clone().unwrap();
    let heard = Heard::default();
    let watch = heard.watch(&event_loop, ours);
    settle(&mut event_loop);
    watch.stop();
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    theirs.send(b"to the copy").unwrap();
    settle(&mut event_loop);
    let after = event_loop.handle().stats();
    assert_eq!((after.events, after.stale_events), (before.events, 0));
    copy.recv(&mut [0; 20]).unwrap();
}

#[test]
fn a_shared_descriptor_is_watched_anew_within_the_closure_and_after_it() {
    let mut event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let (ours, theirs) = pair();
    let ours = Rc::new(ours);
    let (slot, next) = (Slot::default(), Slot::default());
    let heard = Heard::default();
    let (own, then, receiver) = (slot.clone(), next.clone(), heard.clone());
    let first = move |handle: &Handle, socket: &Rc<UnixDatagram>| -> io::Result<()> {
        own.get().unwrap().stop();
        let receiver = receiver.clone();
        let second = move |_: &Handle, socket: &Rc<UnixDatagram>| receiver.receive(socket);
        let watch = handle.watch(socket.clone(), WatchFor::Read, second)?;
        then.set(watch).unwrap();
        Ok(())
    };
    let watch = handle.watch(ours.clone(), WatchFor::Read, first).unwrap();
    slot.set(watch).unwrap();
    theirs.send(b"one").unwrap();
    settle(&mut event_loop);
    assert_eq!(heard.bytes(), b"one");
    next.get().unwrap().stop();
    let receiver = heard.clone();
    let third = move |_: &Handle, socket: &Rc<UnixDatagram>| receiver.receive(socket);
    handle.watch(ours, WatchFor::Read, third).unwrap();
    theirs.send(b"two").unwrap();
    settle(&mut event_loop);
    assert_eq!(heard.bytes(), b"onetwo");
}

#[test]
fn the_end_of_the_loop_drops_the_closure_uncalled_and_closes_the_descriptor() {
    let event_loop = strict_loop();
    let handle = event_loop.handle().clone();
    let (ours, theirs) = pair();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let count = move |_: &Handle, _: &UnixDatagram| {
        counted.set(counted.get() + 1);
        Ok(())
    };
    let watch = handle.watch(ours, WatchFor::Read, count).unwrap();
    theirs.send(b"x").unwrap();
    assert_eq!(handle.stats().watches, 1);
    drop(event_loop);
    assert_eq!(calls.get(), 0);
    assert_eq!(Rc::strong_count(&calls), 1);
    assert!(is_closed(&theirs));
    assert_eq!(handle.stats().watches, 0);
    watch.stop();
}

/// A descriptor whose drop is code of the user's.
struct Own {
    socket: UnixDatagram,
    handle: Handle,
    dropped: Rc<Cell<usize>>,
}

impl AsFd for Own {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nothing is borrowed.
        assert_eq!(self.handle.stats().watches, 0);
        self.dropped.set(self.dropped.get() + 1);
        panic!("in the drop");
    }
}

#[test]
fn stop_runs_no_drop_of_the_users_and_the_panic_of_one_is_reported() {
    for inside in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let failures = support::failures(&handle);
        let (socket, theirs) = pair();
        let dropped = Rc::new(Cell::new(0));
        let own = Own {
            socket,
            handle: handle.clone(),
            dropped: dropped.clone(),
        };
        let (slot, counted) = (Slot::default(), dropped.clone());
        let stopping = slot.clone();
        let ready = move |_: &Handle, own: &Own| -> io::Result<()> {
            own.socket.recv(&mut [0; 10])?;
            stopping.get().unwrap().stop();
            assert_eq!(counted.get(), 0);
            Ok(())
        };
        let watch = handle.watch(own, WatchFor::Read, ready).unwrap();
        slot.set(watch).unwrap();
        if inside {
            theirs.send(b"x").unwrap();
        } else {
            slot.get().unwrap().stop();
        }
        assert_eq!(dropped.get(), 0);
        tick(&mut event_loop);
        assert_eq!(dropped.get(), 1);
        let failures = failures.borrow();
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].to_string(), "a drop panicked: in the drop");
    }
}

/// An error whose drop panics.
#[derive(Debug)]
struct Angry;

impl Drop for Angry {
    fn drop(&mut self) {
        panic!("in the drop of an error");
    }
}

impl fmt::Display for Angry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("angry")
    }
}

impl Error for Angry {}

#[test]
fn the_panic_of_a_discarded_error_is_reported_and_the_watch_goes_on() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let failures = support::failures(&handle);
    let (ours, theirs) = pair();
    let heard = Heard::default();
    let receiver = heard.clone();
    let watch = handle.watch(ours, WatchFor::Read, move |_, socket| {
        let received = receiver.receive(socket);
        received.map_err(|error| io::Error::new(error.kind(), Angry))
    });
    watch.unwrap();
    for round in 1..=2 {
        theirs.send(b"x").unwrap();
        settle(&mut event_loop);
        assert_eq!(heard.bytes().len(), round);
        assert_eq!(failures.borrow().len(), round);
    }
    let text = failures.borrow()[0].to_string();
    assert_eq!(text, "a drop panicked: in the drop of an error");
}
