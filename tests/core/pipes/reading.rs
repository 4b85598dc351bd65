//! Read pipes: their one direction, their end, and a hang-up while nobody reads.

use std::cell::Cell;
use std::io::{self, ErrorKind, PipeWriter, Write};
use std::rc::Rc;
use std::time::Duration;
use support::{Log, MIB, Recorder, drive, settle, strict_loop, tick};
use tidegate::{CloseReason, EventLoop, OnEof, Transport, WriteError};

fn reading(make: impl FnOnce(Recorder) -> Recorder) -> (EventLoop, Log, Transport, PipeWriter) {
    let event_loop = strict_loop();
    let log = Log::new();
    let (reader, writer) = io::pipe().unwrap();
    let recorder = make(Recorder::new(&log));
    let transport = event_loop.handle().connect_read_pipe(reader, recorder);
    (event_loop, log, transport.unwrap(), writer)
}

#[test]
fn a_read_pipe_delivers_what_is_written_and_ends_with_its_writer() {
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| recorder);
    writer.write_all(b"hello").unwrap();
    drive(&mut event_loop, "data", || log.data() == b"hello");
    drop(writer);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
    assert!(transport.closed().unwrap().is_clean());
    assert!(!transport.is_accepted());
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!(
        (stats.connections, stats.lingering, stats.stale_events),
        (0, 0, 0)
    );
}

#[test]
fn megabytes_come_through_a_read_pipe_in_order() {
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| recorder);
    let sent = support::pattern(0, 8 * MIB);
    let data = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&data));
    drive(&mut event_loop, "lost", || log.is_lost());
    writing.join().unwrap().unwrap();
    assert!(log.data() == sent, "{} bytes", log.data_len());
    assert_eq!(transport.stats().received, 8 * MIB as u64);
}

#[test]
fn a_write_to_a_read_pipe_is_a_write_after_eof() {
    let (mut event_loop, log, transport, _writer) = reading(|recorder| recorder);
    settle(&mut event_loop);
    for _ in 0..2 {
        let refused = transport.write(b"up the pipe").unwrap_err();
        assert!(matches!(refused, WriteError::AfterEof { .. }), "{refused}");
    }
    transport.write_eof().unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
}

#[test]
fn the_end_of_the_stream_ends_a_read_pipe_whatever_eof_received_returns() {
    for on_eof in [
        OnEof::Close,
        OnEof::KeepOpen,
        OnEof::CloseWithin(Duration::from_secs(60)),
    ] {
        let (mut event_loop, log, transport, writer) =
            reading(|recorder| recorder.on_eof(move |_| Ok(on_eof)));
        drop(writer);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "eof", "lost"], "{on_eof:?}");
        assert_eq!(*transport.closed().unwrap().reason(), CloseReason::PeerEof);
    }
}

#[test]
fn a_hang_up_while_reading_is_paused_loses_nothing_and_ends_nothing() {
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| recorder);
    transport.pause_reading();
    settle(&mut event_loop);
    writer.write_all(b"the last words").unwrap();
    drop(writer);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"], "nothing ends while it is paused");
    assert!(!transport.is_closing());
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"the last words");
    assert_eq!(log.reason(), "peer-eof");
}

#[test]
fn a_hang_up_while_reading_is_held_in_the_callback_loses_nothing() {
    let paused = Rc::new(Cell::new(false));
    let seen = paused.clone();
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| {
        recorder.on_data(move |transport, _| {
            if !seen.replace(true) {
                transport.pause_reading();
            }
            Ok(())
        })
    });
    writer.write_all(b"one").unwrap();
    drive(&mut event_loop, "the pause", || paused.get());
    writer.write_all(b" two").unwrap();
    drop(writer);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"one two");
}

#[test]
fn closing_a_read_pipe_does_not_linger_so_that_its_writer_fails_at_once() {
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| recorder);
    writer.write_all(b"unread").unwrap();
    transport.pause_reading();
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
    assert_eq!(event_loop.handle().stats().lingering, 0);
    let refused = writer.write(b"nobody reads").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_layer_needs_both_directions() {
    let (mut event_loop, log, transport, _writer) = reading(|recorder| recorder);
    settle(&mut event_loop);
    let pushed = transport.push_layer(support::Hooked::new(|_, _| Ok(())), b"");
    let refused = event_loop.run_until(pushed).unwrap_err();
    assert!(WriteError::of(&refused).is_some(), "{refused}");
    assert_eq!(log.words(), ["made"]);
}

#[test]
fn a_pipe_stays_with_its_loop_when_it_is_to_be_detached() {
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| recorder);
    let refused = event_loop.run_until(transport.detach()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    writer.write_all(b"more").unwrap();
    drive(&mut event_loop, "the data", || log.data() == b"more");
}

#[test]
fn a_loop_that_ends_ends_its_pipes() {
    let (mut event_loop, log, transport, mut writer) = reading(|recorder| recorder);
    tick(&mut event_loop);
    drop(event_loop);
    assert_eq!(log.reason(), "shutdown");
    assert!(writer.write(b"nobody").is_err());
    let refused = transport
        .handle()
        .connect_read_pipe(io::pipe().unwrap().0, Recorder::new(&Log::new()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotConnected);
}
