//! Write pipes: their end, a reader that is gone, and backpressure.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use support::{Log, MIB, Recorder, drive, limits, pattern, settle, strict_loop};
use tidegate::{CloseReason, EventLoop, Flow, PipeEnd, Transport, WriteError};

fn writing_to(end: impl Into<PipeEnd>) -> (EventLoop, Log, Transport) {
    let event_loop = strict_loop();
    let log = Log::new();
    let recorder = Recorder::new(&log);
    let transport = event_loop.handle().connect_write_pipe(end, recorder);
    (event_loop, log, transport.unwrap())
}

fn writing() -> (EventLoop, Log, Transport, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let (event_loop, log, transport) = writing_to(writer);
    (event_loop, log, transport, reader)
}

/// Reads everything in another thread, so that the loop goes on.
fn all_of(mut reader: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    })
}

fn error_kind(log: &Log) -> ErrorKind {
    match log.closed().reason() {
        CloseReason::Io(error) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn write_eof_sends_the_rest_and_closes_a_write_pipe() {
    let (mut event_loop, log, transport, reader) = writing();
    let sent = pattern(0, 3 * MIB);
    transport.write(&sent).unwrap();
    transport.write_eof().unwrap();
    let refused = transport.write(b"late").unwrap_err();
    assert!(matches!(refused, WriteError::AfterEof { .. }), "{refused}");
    let all = all_of(reader);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(all.join().unwrap() == sent);
    assert_eq!(log.reason(), "local-close");
    assert_eq!(log.words(), ["made", "pause", "lost"]);
    assert!(log.closed().is_clean());
}

#[test]
fn close_sends_the_rest_of_a_write_pipe() {
    let (mut event_loop, log, transport, reader) = writing();
    let sent = pattern(7, MIB);
    transport.write(&sent).unwrap();
    transport.close();
    let all = all_of(reader);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(all.join().unwrap() == sent);
    assert!(log.closed().is_clean());
    assert_eq!(event_loop.handle().stats().lingering, 0);
}

#[test]
fn that_the_reader_is_gone_is_told_without_a_write() {
    let (mut event_loop, log, _transport, reader) = writing();
    settle(&mut event_loop);
    drop(reader);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(error_kind(&log), ErrorKind::BrokenPipe);
    assert!(log.closed().is_reset());
}

#[test]
fn that_the_reader_was_gone_before_is_told_too() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let (mut event_loop, log, _transport) = writing_to(writer);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(error_kind(&log), ErrorKind::BrokenPipe);
}

#[test]
fn bytes_that_the_reader_did_not_take_are_unsent() {
    let (mut event_loop, log, transport, reader) = writing();
    transport.write(&pattern(0, MIB)).unwrap();
    settle(&mut event_loop);
    let buffered = transport.write_buffer_size() as u64;
    assert!(buffered > 0);
    drop(reader);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(error_kind(&log), ErrorKind::BrokenPipe);
    assert_eq!(log.closed().unsent(), buffered);
    assert_eq!(transport.written(), transport.sent() + buffered);
}

#[test]
fn a_failed_write_ends_a_write_pipe_at_once() {
    let (mut event_loop, log, transport, reader) = writing();
    settle(&mut event_loop);
    drop(reader);
    // No event has come yet: the write itself meets the error.
    let failed = transport.write(&pattern(0, 20_000)).unwrap_err();
    assert!(matches!(failed, WriteError::Closed { .. }), "{failed}");
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(error_kind(&log), ErrorKind::BrokenPipe);
    assert_eq!(log.closed().unsent(), 20_000);
}

#[test]
fn writing_resumes_at_the_low_water_mark_and_not_at_empty() {
    let (mut event_loop, log, transport, mut reader) = writing();
    transport.set_write_limits(limits(100_000, 60_000)).unwrap();
    settle(&mut event_loop);
    assert_eq!(transport.write(&pattern(0, 300_000)), Ok(Flow::Paused));
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause"]);
    let mut taken = 0;
    let mut some = [0; 4096];
    while log.words() == ["made", "pause"] {
        taken += reader.read(&mut some).unwrap();
        settle(&mut event_loop);
    }
    assert_eq!(log.words(), ["made", "pause", "resume"]);
    let buffered = transport.write_buffer_size();
    assert!(0 < buffered && buffered <= 60_000, "{buffered} of {taken}");
}

#[test]
fn a_write_pipe_never_reads() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"against the stream").unwrap();
    let (mut event_loop, log, transport) = writing_to(ours);
    settle(&mut event_loop);
    transport.write(b"one way").unwrap();
    settle(&mut event_loop);
    let mut got = [0; 7];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one way");
    assert_eq!(log.words(), ["made"]);
    assert!(!transport.is_reading());
    assert_eq!(transport.stats().received, 0);
}

#[test]
fn a_socket_whose_other_end_is_gone_is_told_without_a_write() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut event_loop, log, _transport) = writing_to(ours);
    settle(&mut event_loop);
    // One that only ends its own side still reads.
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    drop(theirs);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(error_kind(&log), ErrorKind::BrokenPipe);
}

#[test]
fn another_protocol_writes_on_to_a_write_pipe_and_is_told_of_no_eof() {
    let (mut event_loop, log, transport, reader) = writing();
    settle(&mut event_loop);
    for text in ["by the second", " by the third"] {
        let next = Log::new().switched_in();
        transport.set_protocol(Recorder::new(&next), b"").unwrap();
        settle(&mut event_loop);
        assert_eq!(next.words(), ["made"], "{text}");
        assert!(!transport.is_closing(), "{text}");
        transport.write(text.as_bytes()).unwrap();
    }
    let last = Log::new().switched_in();
    transport.set_protocol(Recorder::new(&last), b"").unwrap();
    transport.write_eof().unwrap();
    let all = all_of(reader);
    drive(&mut event_loop, "lost", || last.is_lost());
    assert_eq!(all.join().unwrap(), b"by the second by the third");
    assert_eq!(last.words(), ["made", "lost"]);
    assert!(last.closed().is_clean());
    assert_eq!((log.words().len(), log.dropped()), (1, 1));
}
