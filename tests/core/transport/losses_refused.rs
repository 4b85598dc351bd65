//! The end of a connection whose last write the cap refused: the peer misses these bytes, though all
//! that were taken have arrived.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{
    Kind, Log, Peer, Recorder, Scene, adopted, drive, each_kind, failures, never_paused, no_limits,
    put, settle,
};
use tidegate::{
    BoxError, CloseReason, EventLoop, Protocol, Result, Transport, WriteError, WriteLimits,
};

/// A connection on a loop of its own, its peer, and the refusal of its last write.
struct Refused {
    event_loop: EventLoop,
    log: Log,
    transport: Transport,
    peer: Peer,
    refusal: WriteError,
}

impl Refused {
    /// The peer has all that was taken before, so none of it is unsent.
    fn new(kind: Kind) -> Self {
        let scene = Scene::of(kind).limits(no_limits()).stalled(1000);
        let (mut event_loop, log, transport, mut peer) = scene.set();
        let one = WriteLimits::new().with_high(0).with_cap(1);
        transport.set_write_limits(one).unwrap();
        assert_eq!(transport.refused_write(), None);
        let refusal = transport.write(b"missing").unwrap_err();
        assert!(
            matches!(refusal, WriteError::BufferFull { .. }),
            "{refusal}"
        );
        assert_eq!(transport.refused_write().as_ref(), Some(&refusal));
        peer.expect_text(&mut event_loop, &transport);
        settle(&mut event_loop);
        assert_eq!(transport.write_buffer_size(), 0);
        Self {
            event_loop,
            log,
            transport,
            peer,
            refusal,
        }
    }

    /// Runs `call` as a callback.
    fn in_callback(&self, call: impl FnOnce(&Transport) -> Result + 'static) {
        let call = move |_: &mut Recorder, transport: &Transport| call(transport);
        self.transport.call_soon(call);
    }

    fn wait_until_lost(&mut self) {
        let log = &self.log;
        drive(&mut self.event_loop, "lost", || log.is_lost());
        assert_eq!(log.closed().unsent(), 0, "{}", log.closed());
    }

    /// The peer, which has all that was taken, sees that there was more; a Unix socket cannot say so.
    #[track_caller]
    fn expect_cut(mut self, kind: Kind) {
        self.wait_until_lost();
        match kind {
            Kind::Tcp => self.expect(Some(ErrorKind::ConnectionReset)),
            Kind::Unix => self.expect(None),
        }
    }

    #[track_caller]
    fn expect_eof(mut self) {
        self.wait_until_lost();
        self.expect(None);
    }

    #[track_caller]
    fn expect(mut self, error: Option<ErrorKind>) {
        self.peer.expect_text(&mut self.event_loop, &self.transport);
        self.peer.expect_end(&mut self.event_loop);
        assert_eq!(self.peer.saw_error(), error, "{}", self.log.closed());
    }
}

/// An error of a library between a protocol and its transport.
#[derive(Debug)]
struct Wrapped(io::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrapped: {}", self.0)
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The forms in which a callback passes a refusal on.
const FORMS: [fn(WriteError) -> BoxError; 3] = [
    |refusal| refusal.into(),
    |refusal| io::Error::from(refusal).into(),
    |refusal| Wrapped(refusal.into()).into(),
];

each_kind!(a_callback_that_fails_for_a_refused_write_is_a_cut_though_all_that_was_taken_was_sent);
fn a_callback_that_fails_for_a_refused_write_is_a_cut_though_all_that_was_taken_was_sent(
    kind: Kind,
) {
    for form in FORMS {
        let refused = Refused::new(kind);
        let error = form(refused.refusal.clone());
        refused.in_callback(|_| Err(error));
        refused.expect_cut(kind);
    }
    // Neither the error nor the panic says of which write it comes.
    let refused = Refused::new(kind);
    refused.in_callback(|_| Err("no room".into()));
    refused.expect_cut(kind);
    let refused = Refused::new(kind);
    refused.in_callback(|_| panic!("no room"));
    refused.expect_cut(kind);
}

each_kind!(every_end_after_a_refused_write_is_a_cut_unless_close_brings_it);
fn every_end_after_a_refused_write_is_a_cut_unless_close_brings_it(kind: Kind) {
    let refused = Refused::new(kind);
    refused.transport.abort();
    refused.expect_cut(kind);

    let mut refused = Refused::new(kind);
    refused.event_loop = EventLoop::new().unwrap();
    assert_eq!(refused.log.reason(), "shutdown");
    refused.expect_cut(kind);

    let refused = Refused::new(kind);
    refused.transport.close();
    assert_eq!(refused.transport.refused_write(), None);
    refused.expect_eof();

    // The error comes when the close has nothing left to send.
    let refused = Refused::new(kind);
    refused.transport.close();
    let error = refused.refusal.clone();
    refused.in_callback(|_| Err(error.into()));
    refused.expect_eof();

    let refused = Refused::new(kind);
    refused.peer.shutdown_write();
    refused.expect_eof();
}

each_kind!(a_write_that_is_taken_after_a_refused_one_makes_it_good_unless_a_callback_fails_with_it);
fn a_write_that_is_taken_after_a_refused_one_makes_it_good_unless_a_callback_fails_with_it(
    kind: Kind,
) {
    let made_good = || {
        let mut refused = Refused::new(kind);
        put(never_paused(&refused.transport), 1000);
        settle(&mut refused.event_loop);
        assert_eq!(refused.transport.refused_write(), None);
        refused
    };
    let refused = made_good();
    refused.transport.abort();
    refused.expect_eof();

    let refused = made_good();
    refused.in_callback(|_| Err("another reason".into()));
    refused.expect_eof();

    for form in FORMS {
        let refused = made_good();
        let error = form(refused.refusal.clone());
        refused.in_callback(|_| Err(error));
        refused.expect_cut(kind);
    }
}

each_kind!(a_refusal_by_another_connection_cuts_neither_of_both);
fn a_refusal_by_another_connection_cuts_neither_of_both(kind: Kind) {
    let mut other = Refused::new(kind);
    let log = Log::new();
    let (transport, mut peer) = adopted(other.event_loop.handle(), kind, Recorder::new(&log));
    put(&transport, 1000);
    let refusal = other.refusal.clone();
    transport.call_soon(move |_: &mut Recorder, _| Err(refusal.into()));
    drive(&mut other.event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "callback");
    peer.expect_text(&mut other.event_loop, &transport);
    peer.expect_end(&mut other.event_loop);
    assert!(peer.saw_eof(), "{:?}", peer.saw_error());
    assert!(!other.transport.is_closing());
}

each_kind!(fail_ends_a_connection_as_an_error_of_a_callback_does_and_reports_nothing);
fn fail_ends_a_connection_as_an_error_of_a_callback_does_and_reports_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    let reported = failures(event_loop.handle());
    put(&transport, 1000);
    transport.fail("no more");
    transport.fail("never told");
    assert!(!log.is_lost());
    drive(&mut event_loop, "lost", || log.is_lost());
    let closed = log.closed();
    assert!(matches!(closed.reason(), CloseReason::Callback(_)));
    assert_eq!(
        closed.to_string(),
        "connection closed: a callback failed: no more"
    );
    // Bytes written before got their chance.
    assert_eq!(closed.unsent(), 0);
    peer.expect_text(&mut event_loop, &transport);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    transport.fail("never told");
    assert_eq!(transport.closed(), Some(closed));
    settle(&mut event_loop);
    assert!(reported.borrow().is_empty());
}

each_kind!(fail_within_a_callback_offers_what_the_callback_has_written);
fn fail_within_a_callback_offers_what_the_callback_has_written(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    transport.call_soon(|_: &mut Recorder, transport| {
        put(transport, 1000);
        transport.fail("no more");
        Ok(())
    });
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(
        (log.reason(), log.closed().unsent()),
        ("callback".to_owned(), 0)
    );
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(fail_with_an_error_that_only_says_that_the_connection_is_ending_changes_nothing);
fn fail_with_an_error_that_only_says_that_the_connection_is_ending_changes_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
    transport.close();
    let closing = transport.write(b"late").unwrap_err();
    transport.fail(closing);
    peer.expect_text(&mut event_loop, &transport);
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(log.closed().is_clean(), "{}", log.closed());
}

/// An error that tells of its drop, and panics when its source is asked for.
#[derive(Debug)]
struct Hostile(Arc<AtomicBool>);

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hostile")
    }
}

impl Error for Hostile {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        panic!("no source")
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_error_whose_source_panics_ends_its_connection_alone() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Unix).set();
    let dropped = Arc::new(AtomicBool::new(false));
    let error = Hostile(dropped);
    transport.call_soon(move |_: &mut Recorder, _| Err(error.into()));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "callback");
    settle(&mut event_loop);
}

struct Nothing;

impl Protocol for Nothing {}

#[test]
fn an_error_that_fail_is_given_is_dropped_by_the_loop_never_within_the_call() {
    type Before = fn(&Transport);
    let states: [Before; 3] = [|_| (), Transport::close, Transport::abort];
    for before in states {
        let mut event_loop = EventLoop::new().unwrap();
        let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Nothing);
        before(&transport);
        let dropped = Arc::new(AtomicBool::new(false));
        transport.fail(Hostile(dropped.clone()));
        assert!(!dropped.load(Ordering::Relaxed), "dropped within the call");
        settle(&mut event_loop);
        // The end of the connection has it, if that is its reason.
        drop(transport);
        assert!(dropped.load(Ordering::Relaxed));
    }
}

#[test]
fn the_refusal_in_an_error_is_found_whatever_wraps_it() {
    let refused = Refused::new(Kind::Unix);
    for form in FORMS {
        let error = form(refused.refusal.clone());
        assert_eq!(WriteError::of(&*error), Some(&refused.refusal));
    }
    let other = io::Error::other("no refusal");
    assert_eq!(WriteError::of(&other), None);
}
