//! Encoders: one write, all of a frame or nothing.

use crate::{Notes, Reader, connection};
use std::io::ErrorKind;
use support::{Kind, Scene, each_kind, writes};
use tidegate::{BoxError, Transport, WriteLimits};
use tidegate_framing::{
    Delimiter, Framed, LengthPrefix, LineEnd, Lines, Netstring, Prefix, TokioCodec,
};
use tokio_util::codec::LengthDelimitedCodec;

type Encode = fn(&Transport, &[u8]) -> Result<tidegate::Flow, BoxError>;

fn to_crlf(transport: &Transport, payload: &[u8]) -> Result<tidegate::Flow, BoxError> {
    Ok(Lines::new().end(LineEnd::CrLf).write(transport, payload)?)
}

/// Encoders, and the frame of the payload `abc`.
const ENCODERS: [(Encode, &[u8]); 7] = [
    (|to, payload| Ok(Lines::new().write(to, payload)?), b"abc\n"),
    (to_crlf, b"abc\r\n"),
    (
        |to, payload| Ok(Delimiter::new(b"--").write(to, payload)?),
        b"abc--",
    ),
    (
        |to, payload| Ok(Netstring::new().write(to, payload)?),
        b"3:abc,",
    ),
    (
        |to, payload| Ok(LengthPrefix::new(Prefix::Big(4)).write(to, payload)?),
        b"\0\0\0\x03abc",
    ),
    (
        |to, payload| {
            let codec = LengthPrefix::new(Prefix::Varint)
                .offset(1)
                .includes_header();
            Ok(codec.write(to, payload)?)
        },
        b"a\x04bc",
    ),
    (
        |to, payload| {
            let payload = bytes::Bytes::copy_from_slice(payload);
            TokioCodec::new(LengthDelimitedCodec::new()).write(to, payload)
        },
        b"\0\0\0\x03abc",
    ),
];

each_kind!(a_frame_is_one_write);
fn a_frame_is_one_write(kind: Kind) {
    for (encode, expected) in ENCODERS {
        let protocol = Framed::new(Reader::new(Lines::new(), &Notes::default()));
        let (mut event_loop, transport, mut peer) = connection(kind, protocol);
        let before = writes(transport.handle());
        encode(&transport, b"abc").unwrap();
        assert_eq!(transport.written(), expected.len() as u64);
        peer.expect(&mut event_loop, expected.len());
        assert_eq!(peer.received(), expected);
        assert_eq!(writes(transport.handle()) - before, 1);
    }
}

each_kind!(all_of_a_frame_is_written_or_nothing);
fn all_of_a_frame_is_written_or_nothing(kind: Kind) {
    for (encode, _) in ENCODERS {
        let mut event_loop = support::strict_loop();
        let protocol = Framed::new(Reader::new(Lines::new(), &Notes::default()));
        let (transport, _peer) = Scene::of(kind).stalled(1).on(&mut event_loop, protocol);
        let (mut frame, mut refused) = (None, 0);
        // With some of this room, a part of a frame would reach the cap.
        for room in 1..=600 {
            let cap = transport.write_buffer_size() + room;
            let limits = WriteLimits::new().with_high(cap).with_cap(cap);
            transport.set_write_limits(limits).unwrap();
            let before = transport.written();
            let encoded = encode(&transport, &[b'x'; 100]);
            let written = transport.written() - before;
            if encoded.is_ok() {
                assert_eq!(written, *frame.get_or_insert(written), "{room}");
                continue;
            }
            assert_eq!(written, 0, "{room}");
            refused += 1;
        }
        assert!(
            refused > 0 && frame.is_some_and(|len| len > 100),
            "{refused}, {frame:?}"
        );
    }
}

each_kind!(a_payload_that_a_prefix_has_no_room_for_is_invalid_input_and_not_written);
fn a_payload_that_a_prefix_has_no_room_for_is_invalid_input_and_not_written(kind: Kind) {
    let protocol = Framed::new(Reader::new(Lines::new(), &Notes::default()));
    let (_event_loop, transport, _peer) = connection(kind, protocol);
    let codec = LengthPrefix::new(Prefix::Big(1));
    let error = codec.write(&transport, &[0; 256]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(transport.written(), 0);
    codec.write(&transport, &[0; 255]).unwrap();
    assert_eq!(transport.written(), 256);
}

each_kind!(an_error_of_an_ending_connection_changes_nothing_when_it_is_returned);
fn an_error_of_an_ending_connection_changes_nothing_when_it_is_returned(kind: Kind) {
    for (encode, _) in ENCODERS {
        let notes = Notes::default();
        let reader = Reader::new(Lines::new(), &notes).on_frame(move |transport, _, _| {
            transport.write(b"bye")?;
            transport.close();
            encode(transport, b"abc")?;
            Ok(())
        });
        let (mut event_loop, transport, mut peer) = connection(kind, Framed::new(reader));
        peer.send(b"line\n");
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received(), b"bye");
        assert!(transport.closed().is_some_and(|closed| closed.is_clean()));
    }
}
