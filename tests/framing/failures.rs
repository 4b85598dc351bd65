//! Errors of codecs.

use crate::{Note, Noted, Notes, Reader, connection, frame};
use support::{Kind, Log, Peer, Recorder, Scene, Seen, drive, each_kind, failures, flood, settle};
use tidegate::{CloseReason, EventLoop, Result, Transport};
use tidegate_framing::{
    FrameError, FrameProtocol, Framed, LengthPrefix, Lines, Netstring, Prefix, Raw,
};

/// The pieces in which a malformed frame may come, each behind a good one.
const MALFORMED: [&[&[u8]]; 3] = [&[b"1:a,x:"], &[b"1:a,1", b":2", b"b"], &[b"1:", b"a,1:ab"]];

/// A net below the length of the frames that are refused.
const NET: usize = 10;

#[track_caller]
fn send(event_loop: &mut EventLoop, peer: &mut Peer, pieces: &[&[u8]]) {
    for piece in pieces {
        peer.send(piece);
        settle(event_loop);
    }
}

/// Checks that an error behind the frame `a` ends the connection. Returns it.
#[track_caller]
fn ended_by(kind: Kind, pieces: &[&[u8]]) -> FrameError {
    let notes = Notes::default();
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let protocol = Framed::new(Reader::new(Netstring::new(), &notes)).limit(NET);
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, protocol);
    send(&mut event_loop, &mut peer, pieces);
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
    assert_eq!(notes.all()[0], frame(b"a"));
    assert_eq!(
        (notes.failed().len(), &notes.all()[2..]),
        (1, &[Note::Lost][..])
    );
    let Some(CloseReason::Callback(error)) =
        transport.closed().map(|closed| closed.reason().clone())
    else {
        panic!("{:?}", transport.closed());
    };
    assert_eq!(failures.borrow().len(), 1);
    error.downcast_ref::<FrameError>().unwrap().clone()
}

each_kind!(an_error_of_the_codec_the_net_or_the_end_ends_the_connection);
fn an_error_of_the_codec_the_net_or_the_end_ends_the_connection(kind: Kind) {
    for pieces in [&[&b"1:a,x:"[..]][..], &[b"1:", b"a,1:ab"]] {
        let error = ended_by(kind, pieces);
        assert!(matches!(error, FrameError::Malformed { .. }), "{error}");
    }
    for pieces in [&[&b"1:a,3:bc"[..]][..], &[b"1:a,3", b":bc"]] {
        let error = ended_by(kind, pieces);
        assert!(matches!(error, FrameError::Truncated { have: 4, .. }));
    }
    for pieces in [&[&b"1:a,50:bc"[..]][..], &[b"1:a,5", b"0:bc"]] {
        let error = ended_by(kind, pieces);
        assert!(matches!(error, FrameError::TooLong { max: NET, .. }));
    }
}

each_kind!(an_error_is_told_once_and_then_no_frame_and_no_end_comes);
fn an_error_is_told_once_and_then_no_frame_and_no_end_comes(kind: Kind) {
    for pieces in MALFORMED {
        let notes = Notes::default();
        let reader = Reader::new(Netstring::new(), &notes).on_failure(|transport, _| {
            transport.write(b"malformed")?;
            Ok(())
        });
        let (mut event_loop, transport, mut peer) = connection(kind, Framed::new(reader));
        send(&mut event_loop, &mut peer, pieces);
        send(&mut event_loop, &mut peer, &[b"1:c,", b"x"]);
        assert_eq!(notes.failed().len(), 1);
        assert!(!transport.is_closing());
        peer.shutdown_write();
        drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
        let all = notes.all();
        assert_eq!((&all[0], &all[2..]), (&frame(b"a"), &[Note::Lost][..]));
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received(), b"malformed");
    }
}

/// Notes that it was paused.
struct Pauses {
    codec: Netstring,
    log: Log,
}

impl FrameProtocol for Pauses {
    type Codec = Netstring;

    fn codec(&mut self) -> &mut Netstring {
        &mut self.codec
    }

    fn frame_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        unreachable!()
    }

    fn frame_failed(&mut self, _: &Transport, _: tidegate::BoxError) -> Result {
        self.log.note("failed");
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<tidegate::OnPause> {
        self.log.note("pause");
        Ok(tidegate::OnPause::KeepReading)
    }

    fn resume_writing(&mut self, _: &Transport) -> Result {
        self.log.note("resume");
        Ok(())
    }
}

each_kind!(after_an_error_pause_and_resume_come);
fn after_an_error_pause_and_resume_come(kind: Kind) {
    let log = Log::new();
    let protocol = Framed::new(Pauses {
        codec: Netstring::new(),
        log: log.clone(),
    });
    let (mut event_loop, transport, mut peer) = connection(kind, protocol);
    peer.send(b"x");
    drive(&mut event_loop, "the error", || log.words() == ["failed"]);
    flood(&transport);
    drive(&mut event_loop, "the pause", || log.words().len() == 2);
    drive(&mut event_loop, "the resume", || {
        peer.read_available();
        log.words().len() == 3
    });
    assert_eq!(log.words(), ["failed", "pause", "resume"]);
}

/// Checks that a protocol that takes over at an error gets these bytes, and then the end.
#[track_caller]
fn check_taken_over<C: Noted>(kind: Kind, codec: C, pieces: &[&[u8]], bytes: &[u8]) {
    let (notes, log) = (Notes::default(), Log::new().switched_in());
    let next = log.clone();
    let reader = Reader::new(codec, &notes).on_failure(move |transport, _| {
        transport.set_protocol(Recorder::new(&next), b"")?;
        Ok(())
    });
    let protocol = Framed::new(reader).limit(NET);
    let (mut event_loop, _transport, mut peer) = connection(kind, protocol);
    send(&mut event_loop, &mut peer, pieces);
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.data(), bytes, "{pieces:?}");
    assert!(log.has(&Seen::Eof));
    assert_eq!((notes.len(), notes.failed().len()), (2, 1));
}

each_kind!(a_protocol_that_takes_over_at_an_error_gets_the_bytes_of_that_frame);
fn a_protocol_that_takes_over_at_an_error_gets_the_bytes_of_that_frame(kind: Kind) {
    for pieces in [
        &[&b"1:a,GET /"[..]][..],
        &[b"1:", b"a,GET /"],
        &[b"1", b":a,", b"GET /"],
    ] {
        check_taken_over(kind, Netstring::new(), pieces, b"GET /");
    }
}

each_kind!(a_protocol_that_takes_over_from_a_truncated_frame_gets_its_bytes_and_then_the_end);
fn a_protocol_that_takes_over_from_a_truncated_frame_gets_its_bytes_and_then_the_end(kind: Kind) {
    for pieces in [
        &[&b"1:a,3:bc"[..]][..],
        &[b"1:", b"a,3:bc"],
        &[b"1:a,3", b":b", b"c"],
    ] {
        check_taken_over(kind, Netstring::new(), pieces, b"3:bc");
    }
}

each_kind!(a_protocol_that_takes_over_from_a_frame_above_the_net_gets_all_of_its_bytes);
fn a_protocol_that_takes_over_from_a_frame_above_the_net_gets_all_of_its_bytes(kind: Kind) {
    for pieces in [
        &[&b"one\n0123456789abc"[..]][..],
        &[b"one\n", b"0123456789abc"],
        &[b"one\n01234", b"56789abc"],
        &[b"on", b"e\n01234", b"56789", b"abc"],
    ] {
        let codec = Lines::new().max(usize::MAX);
        check_taken_over(kind, codec, pieces, b"0123456789abc");
    }
    // Only announced.
    let codec = LengthPrefix::new(Prefix::Big(2)).max(usize::MAX);
    for pieces in [&[&b"\0\x01a\0\x64bc"[..]][..], &[b"\0\x01a\0", b"\x64bc"]] {
        check_taken_over(kind, codec.clone(), pieces, b"\0\x64bc");
    }
}

each_kind!(a_protocol_that_takes_over_where_all_bytes_are_missing_gets_the_end);
fn a_protocol_that_takes_over_where_all_bytes_are_missing_gets_the_end(kind: Kind) {
    check_taken_over(kind, Raw::new(Lines::new()), &[b"body 5\n"], b"");
}

each_kind!(a_stream_that_ends_within_a_frame_is_truncated);
fn a_stream_that_ends_within_a_frame_is_truncated(kind: Kind) {
    let notes = Notes::default();
    let reader = Reader::new(Netstring::new(), &notes).on_failure(|_, error| {
        assert!(matches!(
            error.downcast_ref(),
            Some(FrameError::Truncated { have: 4, .. })
        ));
        Ok(())
    });
    let (mut event_loop, _transport, mut peer) = connection(kind, Framed::new(reader));
    peer.send(b"1:a,3:bc");
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
    let all = notes.all();
    assert_eq!(
        (all.len(), &all[0], &all[2]),
        (3, &frame(b"a"), &Note::Lost)
    );
    assert_eq!(notes.failed().len(), 1);

    // A body that is not all there, of which no byte is kept.
    let notes = Notes::default();
    let reader = Reader::new(Raw::new(Lines::new()), &notes).on_failure(|_, _| Ok(()));
    let (mut event_loop, _transport, mut peer) = connection(kind, Framed::new(reader));
    peer.send(b"head 3\nab");
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
    assert_eq!(notes.failed().len(), 1);
    assert!(!notes.has(&Note::Eof));
}
