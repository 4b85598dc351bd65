//! The end of the stream.

use crate::{Note, Notes, Reader, connection, frame};
use support::{Kind, drive, each_kind};
use tidegate_framing::{Framed, Lines, TokioCodec};
use tokio_util::codec::LinesCodec;

each_kind!(a_last_line_without_an_end_is_a_frame_and_then_the_end_comes);
fn a_last_line_without_an_end_is_a_frame_and_then_the_end_comes(kind: Kind) {
    for (stream, lines) in [
        (&b"one\ntwo"[..], &[&b"one"[..], b"two"][..]),
        (b"one\n", &[b"one"]),
        (b"\n", &[b""]),
        (b"", &[]),
        (b"two\r", &[b"two\r"]),
    ] {
        let notes = Notes::default();
        let protocol = Framed::new(Reader::new(Lines::new(), &notes));
        let (mut event_loop, transport, mut peer) = connection(kind, protocol);
        if !stream.is_empty() {
            peer.send(stream);
        }
        peer.shutdown_write();
        drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
        let lines = lines.iter().map(|line| frame(line));
        let expected: Vec<_> = lines.chain([Note::Eof, Note::Lost]).collect();
        assert_eq!(notes.all(), expected);
        assert!(transport.closed().is_some_and(|closed| closed.is_clean()));
    }
}

each_kind!(a_protocol_that_keeps_its_side_open_sends_after_the_end);
fn a_protocol_that_keeps_its_side_open_sends_after_the_end(kind: Kind) {
    let notes = Notes::default();
    let mut reader = Reader::new(TokioCodec::new(LinesCodec::new()), &notes);
    reader.on_eof = tidegate::OnEof::KeepOpen;
    let (mut event_loop, transport, mut peer) = connection(kind, Framed::new(reader));
    peer.send(b"one\ntwo");
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || notes.has(&Note::Eof));
    assert_eq!(notes.all(), [frame(b"one"), frame(b"two"), Note::Eof]);
    transport.write(b"still here").unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"still here");
}
