//! How a connection ended: one `Closed` for every waiter and write, and its reason.

use bytes::Bytes;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;
use support::logs::{keep_log, logged};
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, adopted, drive, each_kind, never_paused, note_answer,
    settle, stall, stalled,
};
use tidegate::{CloseReason, Closed, EventLoop, Transport, WriteError};

/// The same end: the very same error, not just one that reads alike.
fn is_same(one: &Closed, other: &Closed) -> bool {
    let same_error = match (one.reason(), other.reason()) {
        (CloseReason::Io(one), CloseReason::Io(other)) => std::sync::Arc::ptr_eq(one, other),
        (CloseReason::Callback(one), CloseReason::Callback(other)) => {
            std::sync::Arc::ptr_eq(one, other)
        }
        (one, other) => format!("{one:?}") == format!("{other:?}"),
    };
    same_error && one.unsent() == other.unsent()
}

type Loss = fn(&Transport, &mut Peer);

/// Ends a connection that has bytes unsent, and whose peer has all that we sent unread, in every
/// way that loses them.
const LOSSES: [(&str, Loss); 6] = [
    ("local-abort", |transport, _| transport.abort()),
    ("local-abort", |transport, _| transport.reset()),
    ("timeout", |transport, _| {
        transport.close_within(Duration::from_millis(1));
    }),
    ("io", |_, peer| peer.close()),
    ("callback", |transport, _| {
        transport.call_soon::<Recorder>(|_, _| Err("no more".into()));
    }),
    ("panic", |transport, _| {
        transport.call_soon::<Recorder>(|_, _| panic!("no more"));
    }),
];

each_kind!(every_question_about_the_end_has_the_same_answer);
fn every_question_about_the_end_has_the_same_answer(kind: Kind) {
    for (reason, lose) in LOSSES {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let told: Rc<RefCell<Vec<Option<Closed>>>> = Rc::default();
        let tell = told.clone();
        let protocol = Recorder::new(&log).on_lost(move |transport, _| {
            let refusal = transport.write(b"x").unwrap_err();
            tell.borrow_mut().push(refusal.closed().cloned());
            tell.borrow_mut().push(transport.closed());
        });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, &transport, MIB);
        assert!(transport.flow().is_paused());
        note_answer(&log, "drain", transport.drain());
        note_answer(&log, "flush", transport.flush());
        let pending = transport.wait_closed();
        lose(&transport, &mut peer);
        let answered = event_loop.run_until(pending).unwrap();
        drive(&mut event_loop, "lost", || log.is_lost());
        settle(&mut event_loop);

        let closed = log.closed();
        assert_eq!(log.reason(), reason);
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
        assert!(closed.unsent() > 0);
        assert!(!closed.is_clean());
        assert!(is_same(&answered, &closed));
        assert_eq!(told.borrow().len(), 2);
        for told in told.take() {
            assert!(is_same(&told.unwrap(), &closed));
        }
        for name in ["drain", "flush"] {
            let told = format!("{name}: {closed}");
            assert!(log.words().contains(&told), "{reason}: {:?}", log.words());
        }
        // And later.
        assert!(is_same(&transport.closed().unwrap(), &closed));
        let later = event_loop.run_until(transport.wait_closed()).unwrap();
        assert!(is_same(&later, &closed));
        for waiting in [transport.drain(), transport.flush()] {
            let error = event_loop.run_until(waiting).unwrap_err();
            assert!(is_same(&Closed::of(&error).unwrap(), &closed));
        }
        let refusals = [
            transport.write(b"x").unwrap_err(),
            transport.write_owned(Bytes::from_static(b"x")).unwrap_err(),
            transport.write_vectored(&[IoSlice::new(b"x")]).unwrap_err(),
            transport.write_fmt(format_args!("{}", 1)).unwrap_err(),
            transport.write_eof().unwrap_err(),
        ];
        for refusal in refusals {
            assert!(is_same(refusal.closed().unwrap(), &closed));
            assert_eq!(refusal.transport(), transport.id());
            assert!(is_same(
                &Closed::of(&io::Error::from(refusal)).unwrap(),
                &closed
            ));
        }
        let error = transport.set_nodelay(true).unwrap_err();
        assert!(is_same(&Closed::of(&error).unwrap(), &closed));
        // Refused bytes were not taken.
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
        assert_eq!(transport.write_buffer_size(), 0);
    }
}

each_kind!(waiters_of_an_abort_are_answered_after_connection_lost);
fn waiters_of_an_abort_are_answered_after_connection_lost(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).stalled(MIB).set();
    note_answer(&log, "drain", transport.drain());
    note_answer(&log, "flush", transport.flush());
    let after = log.clone();
    transport.wait_closed().then(move |_, closed| {
        after.note(format!("wait_closed: {}", closed.unwrap()));
    });
    transport.abort();
    settle(&mut event_loop);
    let closed = log.closed();
    let words = [
        "made".to_owned(),
        "pause".to_owned(),
        "lost".to_owned(),
        format!("drain: {closed}"),
        format!("flush: {closed}"),
        format!("wait_closed: {closed}"),
    ];
    assert_eq!(log.words(), words);
}

each_kind!(no_waiter_succeeds_when_an_abort_threw_its_bytes_away);
fn no_waiter_succeeds_when_an_abort_threw_its_bytes_away(kind: Kind) {
    // asyncio's drain() completes at once, and well, when abort() has emptied the buffer.
    for ask_before in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
        if ask_before {
            note_answer(&log, "flush", transport.flush());
        }
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        if !ask_before {
            note_answer(&log, "flush", transport.flush());
            note_answer(&log, "drain", transport.drain());
        }
        settle(&mut event_loop);
        let closed = log.closed();
        assert!(log.words().contains(&format!("flush: {closed}")));
        assert!(ask_before || log.words().contains(&format!("drain: {closed}")));
    }
}

each_kind!(a_flush_whose_bytes_went_succeeds_whatever_came_after);
fn a_flush_whose_bytes_went_succeeds_whatever_came_after(kind: Kind) {
    let (mut event_loop, _, transport, _peer) = Scene::of(kind).set();
    transport.write(b"these arrive").unwrap();
    let first = transport.flush();
    settle(&mut event_loop);
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    let second = transport.flush();
    transport.abort();
    event_loop.run_until(first).unwrap();
    let error = event_loop.run_until(second).unwrap_err();
    assert_eq!(
        Closed::of(&error).unwrap().unsent(),
        transport.written() - transport.sent()
    );
}

each_kind!(after_a_clean_close_flush_succeeds_and_drain_tells_the_end);
fn after_a_clean_close_flush_succeeds_and_drain_tells_the_end(kind: Kind) {
    let (mut event_loop, _, transport, _peer) = Scene::of(kind).set();
    transport.write(b"bye").unwrap();
    transport.close();
    let closed = event_loop.run_until(transport.wait_closed()).unwrap();
    assert!(closed.is_clean());
    event_loop.run_until(transport.flush()).unwrap();
    let error = event_loop.run_until(transport.drain()).unwrap_err();
    assert!(is_same(&Closed::of(&error).unwrap(), &closed));
}

each_kind!(closed_is_fixed_by_an_abort_at_once_and_by_a_close_only_at_the_end);
fn closed_is_fixed_by_an_abort_at_once_and_by_a_close_only_at_the_end(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    assert!(transport.closed().is_none() && !transport.is_closing());
    transport.close();
    settle(&mut event_loop);
    assert!(transport.closed().is_none() && transport.is_closing());
    let refusal = transport.write(b"x").unwrap_err();
    assert!(matches!(refusal, WriteError::Closing { .. }));
    peer.expect_end(&mut event_loop);
    assert!(log.closed().is_clean());

    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.abort();
    let closed = transport.closed().unwrap();
    assert!(transport.is_closing() && !log.is_lost());
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(is_same(&log.closed(), &closed));
}

each_kind!(later_writes_are_refused_each_time_and_no_line_is_logged);
fn later_writes_are_refused_each_time_and_no_line_is_logged(kind: Kind) {
    // asyncio drops them silently, and from the fifth on logs a line for each.
    keep_log(log::LevelFilter::Info);
    for (_, lose) in &LOSSES[..4] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
        logged();
        lose(&transport, &mut peer);
        drive(&mut event_loop, "lost", || log.is_lost());
        for _ in 0..100 {
            let refusal = transport.write(b"x").unwrap_err();
            assert!(is_same(refusal.closed().unwrap(), &log.closed()));
        }
        settle(&mut event_loop);
        assert_eq!(logged(), []);
    }
    log::error!("lines are kept");
    assert_eq!(logged().len(), 1);
}
