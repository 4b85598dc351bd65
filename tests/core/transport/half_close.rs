//! The end of one side of a stream: `eof_received`, its return value, and `write_eof`.

use std::time::Duration;
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, Seen, adopted, drive, each_kind, never_paused, settle,
    stall, text,
};
use tidegate::{EventLoop, OnEof, WriteError};

#[track_caller]
fn expect_eof(event_loop: &mut EventLoop, log: &Log) {
    drive(event_loop, "eof_received", || log.has(&Seen::Eof));
}

each_kind!(the_provided_answer_to_the_end_of_stream_is_to_close);
fn the_provided_answer_to_the_end_of_stream_is_to_close(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    peer.send(b"only this");
    peer.shutdown_write();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
    assert!(transport.closed().unwrap().is_clean());
}

each_kind!(close_after_the_end_of_stream_sends_what_is_buffered_first);
fn close_after_the_end_of_stream_sends_what_is_buffered_first(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_eof(|transport| {
        transport.write(b", and a last word")?;
        Ok(OnEof::Close)
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    let len = transport.written() as usize;
    peer.shutdown_write();
    expect_eof(&mut event_loop, &log);
    settle(&mut event_loop);
    assert!(!log.is_lost() && transport.is_closing());
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert!(peer.received()[..len] == text(0, len));
    assert_eq!(&peer.received()[len..], b", and a last word");
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "peer-eof");
}

each_kind!(an_end_of_stream_that_is_kept_open_leaves_writing_as_it_was);
fn an_end_of_stream_that_is_kept_open_leaves_writing_as_it_was(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).keep_open();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.shutdown_write();
    expect_eof(&mut event_loop, &log);
    settle(&mut event_loop);
    assert!(!transport.is_closing() && transport.closed().is_none());
    assert!(!transport.is_reading());
    // Flow control too.
    stall(&mut event_loop, &transport, MIB);
    assert_eq!(log.words(), ["made", "eof", "pause"]);
    let len = transport.written() as usize;
    peer.expect(&mut event_loop, len);
    assert!(peer.received() == text(0, len));
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "eof", "pause", "resume"]);
    event_loop.run_until(transport.flush()).unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "peer-eof");
}

each_kind!(eof_received_comes_once_however_often_reading_is_paused_and_resumed);
fn eof_received_comes_once_however_often_reading_is_paused_and_resumed(kind: Kind) {
    // In asyncio, resume_reading() after a kept-open end delivers eof_received() once more.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_eof(|transport| {
        transport.pause_reading();
        Ok(OnEof::KeepOpen)
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.shutdown_write();
    expect_eof(&mut event_loop, &log);
    for _ in 0..3 {
        transport.resume_reading();
        settle(&mut event_loop);
        transport.pause_reading();
        settle(&mut event_loop);
        // A writable event in between.
        transport.write(b"tick").unwrap();
        peer.read_available();
    }
    transport.resume_reading();
    transport.resume_reading();
    peer.expect(&mut event_loop, 12);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "eof"]);
    assert_eq!(peer.received(), b"tickticktick");
}

each_kind!(the_hold_of_a_paused_writer_does_not_repeat_the_end_of_stream);
fn the_hold_of_a_paused_writer_does_not_repeat_the_end_of_stream(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).keep_open();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.shutdown_write();
    expect_eof(&mut event_loop, &log);
    for _ in 0..2 {
        stall(&mut event_loop, &transport, MIB);
        peer.expect(&mut event_loop, transport.written() as usize);
        settle(&mut event_loop);
    }
    let words = ["made", "eof", "pause", "resume", "pause", "resume"];
    assert_eq!(log.words(), words);
}

each_kind!(an_end_of_stream_waits_while_reading_is_paused_and_then_comes_once);
fn an_end_of_stream_waits_while_reading_is_paused_and_then_comes_once(kind: Kind) {
    let (mut event_loop, log, transport, peer) = Scene::of(kind).set();
    transport.pause_reading();
    peer.shutdown_write();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
}

each_kind!(an_end_of_stream_waits_while_a_paused_writer_holds_reading);
fn an_end_of_stream_waits_while_a_paused_writer_holds_reading(kind: Kind) {
    let (mut event_loop, log, _, mut peer) = Scene::of(kind).stalled(MIB).set();
    peer.send(b"data");
    peer.shutdown_write();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause"]);
    // The loop lifts the hold.
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(
        log.words(),
        ["made", "pause", "resume", "data", "eof", "lost"]
    );
}

each_kind!(an_end_of_stream_right_behind_its_data_waits_when_data_received_pauses);
fn an_end_of_stream_right_behind_its_data_waits_when_data_received_pauses(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set_with(|recorder| {
        recorder.on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        })
    });
    peer.send(b"data");
    peer.shutdown_write();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

each_kind!(a_protocol_installed_after_eof_gets_its_unread_bytes_and_its_own_eof);
fn a_protocol_installed_after_eof_gets_its_unread_bytes_and_its_own_eof(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (first, second) = (Log::new(), Log::new().switched_in());
    let protocol = Recorder::new(&first).keep_open();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.shutdown_write();
    expect_eof(&mut event_loop, &first);
    let next = Recorder::new(&second).on_eof(|transport| {
        transport.write(b"done")?;
        Ok(OnEof::Close)
    });
    // While reading is stopped, neither.
    transport.pause_reading();
    transport.set_protocol(next, b"left over").unwrap();
    settle(&mut event_loop);
    assert_eq!(second.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || second.is_lost());
    assert_eq!(first.words(), ["made", "eof"]);
    assert_eq!(second.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(second.data(), b"left over");
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"done");
}

each_kind!(write_eof_sends_what_is_buffered_and_then_ends_our_side_only);
fn write_eof_sends_what_is_buffered_and_then_ends_our_side_only(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    transport.write(&text(transport.written(), 5)).unwrap();
    transport.write_eof().unwrap();
    settle(&mut event_loop);
    assert!(transport.write_buffer_size() > 0);
    assert!(!transport.is_closing());
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert!(peer.received() == text(0, transport.written() as usize));
    // The other side goes on.
    peer.send(b"still listening?");
    drive(&mut event_loop, "data", || log.data_len() == 16);
    assert_eq!(log.words(), ["made", "data"]);
    event_loop.run_until(transport.flush()).unwrap();
    event_loop.run_until(transport.drain()).unwrap();
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
    assert!(log.closed().is_clean());
}

each_kind!(write_eof_in_a_callback_ends_our_side_after_what_the_callback_wrote);
fn write_eof_in_a_callback_ends_our_side_after_what_the_callback_wrote(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, data| {
        transport.write(data)?;
        transport.write(b"!")?;
        transport.write_eof()?;
        Ok(())
    });
    let (_, mut peer) = Scene::of(kind).connected().on(&mut event_loop, protocol);
    peer.send(b"hello");
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"hello!");
    assert!(peer.saw_eof());
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
}

each_kind!(a_write_after_write_eof_is_refused_and_a_second_write_eof_does_nothing);
fn a_write_after_write_eof_is_refused_and_a_second_write_eof_does_nothing(kind: Kind) {
    for stalled in [false, true] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        if stalled {
            never_paused(&transport);
            stall(&mut event_loop, &transport, MIB);
        }
        for _ in 0..2 {
            let written = transport.written();
            transport.write_eof().unwrap();
            transport.write_eof().unwrap();
            let refusal = transport.write(b"x").unwrap_err();
            assert!(matches!(refusal, WriteError::AfterEof { .. }));
            assert_eq!(refusal.transport(), transport.id());
            assert_eq!(transport.written(), written);
            transport.write(b"").unwrap();
            settle(&mut event_loop);
            assert!(!transport.is_closing());
        }
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof());
        assert!(peer.received() == text(0, transport.written() as usize));
        // The more final return value replaces it.
        transport.close();
        let refusal = transport.write(b"x").unwrap_err();
        assert!(matches!(refusal, WriteError::Closing { .. }));
        let refusal = transport.write_eof().unwrap_err();
        assert!(matches!(refusal, WriteError::Closing { .. }));
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.reason(), "local-close");
        let refusal = transport.write_eof().unwrap_err();
        assert!(refusal.closed().unwrap().is_clean());
    }
}

/// The calls of a connection that ends both sides in some order.
fn both_sides_end(
    kind: Kind,
    script: impl FnOnce(&mut EventLoop, &Log, &tidegate::Transport, &mut Peer),
) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).keep_open();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    never_paused(&transport);
    script(&mut event_loop, &log, &transport, &mut peer);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert!(peer.received() == text(0, transport.written() as usize));
    drive(&mut event_loop, "the end by itself", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
    assert!(log.closed().is_clean());
}

each_kind!(a_connection_whose_both_sides_ended_ends_by_itself_in_either_order);
fn a_connection_whose_both_sides_ended_ends_by_itself_in_either_order(kind: Kind) {
    both_sides_end(kind, |event_loop, log, transport, peer| {
        peer.shutdown_write();
        expect_eof(event_loop, log);
        transport.write(&text(0, 9)).unwrap();
        settle(event_loop);
        assert!(!log.is_lost());
        transport.write_eof().unwrap();
    });
    both_sides_end(kind, |event_loop, log, transport, peer| {
        transport.write(&text(0, 9)).unwrap();
        transport.write_eof().unwrap();
        settle(event_loop);
        assert!(!log.is_lost());
        peer.shutdown_write();
    });
    // Within one tick.
    both_sides_end(kind, |_, _, transport, peer| {
        peer.shutdown_write();
        transport.write_eof().unwrap();
    });
    // Our end of stream waits behind bytes that the peer does not take.
    both_sides_end(kind, |event_loop, log, transport, peer| {
        stall(event_loop, transport, MIB);
        transport.write_eof().unwrap();
        peer.shutdown_write();
        expect_eof(event_loop, log);
        settle(event_loop);
        assert!(!log.is_lost() && !transport.is_closing());
    });
    both_sides_end(kind, |event_loop, log, transport, peer| {
        stall(event_loop, transport, MIB);
        peer.shutdown_write();
        expect_eof(event_loop, log);
        transport.write_eof().unwrap();
        settle(event_loop);
        assert!(!log.is_lost() && !transport.is_closing());
    });
}

each_kind!(write_eof_within_eof_received_ends_the_connection);
fn write_eof_within_eof_received_ends_the_connection(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_eof(|transport| {
        transport.write(b"that is all")?;
        transport.write_eof()?;
        Ok(OnEof::KeepOpen)
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.shutdown_write();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"that is all");
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
}

each_kind!(a_deadline_bounds_a_half_closed_connection_as_well);
fn a_deadline_bounds_a_half_closed_connection_as_well(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).set();
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    transport.write_eof().unwrap();
    transport.close_within(Duration::from_millis(1));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "timeout");
    assert!(log.closed().unsent() > 0);
}
