//! Frames that are lent, and frames that are kept.

use crate::{Notes, Packets, Reader, connection, frame};
use std::cell::RefCell;
use std::rc::Rc;
use support::{Kind, drive, each_kind, settle};
use tidegate_framing::{Delimiter, Fixed, Framed, LengthPrefix, Lines, Netstring, Prefix, framed};

each_kind!(a_whole_frame_is_lent_from_the_loops_buffer_also_behind_a_torn_one);
fn a_whole_frame_is_lent_from_the_loops_buffer_also_behind_a_torn_one(kind: Kind) {
    let places: Rc<RefCell<Vec<usize>>> = Rc::default();
    let noted = places.clone();
    let protocol = framed(Lines::new(), move |_, line| {
        noted.borrow_mut().push(line.as_ptr().addr());
        Ok(())
    });
    let (mut event_loop, _transport, mut peer) = connection(kind, protocol);
    peer.send(b"one\ntwo\nto");
    drive(&mut event_loop, "two lines", || places.borrow().len() == 2);
    let lent = places.take();
    assert_eq!(lent[1] - lent[0], 4);
    peer.send(b"rn\nthree\n");
    drive(&mut event_loop, "two lines", || places.borrow().len() == 2);
    let after = places.take();
    // The first three bytes of the read were copied to the torn line.
    assert_eq!(after[1], lent[0] + 3);
    assert!(!(lent[0]..lent[0] + 10).contains(&after[0]));
}

each_kind!(a_length_above_the_maximum_is_refused_when_its_head_is_there);
fn a_length_above_the_maximum_is_refused_when_its_head_is_there(kind: Kind) {
    let too_long = |max| format!("a frame is longer than {max} bytes");
    let lines = Notes::default();
    let (mut event_loop, _transport, mut peer) =
        connection(kind, Framed::new(Reader::new(Lines::new(), &lines)));
    peer.send(&[b'a'; 64 * 1024]);
    settle(&mut event_loop);
    assert_eq!(lines.len(), 0);
    peer.send(b"a\r");
    drive(&mut event_loop, "the end", || lines.len() == 2);
    assert_eq!(lines.failed(), [too_long(64 * 1024)]);

    let lengths = Notes::default();
    let codec = LengthPrefix::new(Prefix::Big(4));
    let (mut event_loop, _transport, mut peer) =
        connection(kind, Framed::new(Reader::new(codec, &lengths)));
    peer.send(&(1024 * 1024_u32).to_be_bytes());
    peer.send(&[0; 1024]);
    settle(&mut event_loop);
    assert_eq!(lengths.len(), 0);
    for _ in 0..1023 {
        peer.send(&[0; 1024]);
        settle(&mut event_loop);
    }
    assert_eq!(lengths.len(), 1);
    peer.send(&(1024 * 1024_u32 + 1).to_be_bytes());
    drive(&mut event_loop, "the end", || lengths.len() == 3);
    assert_eq!(lengths.failed(), [too_long(1024 * 1024)]);

    let netstrings = Notes::default();
    let (mut event_loop, _transport, mut peer) = connection(
        kind,
        Framed::new(Reader::new(Netstring::new(), &netstrings)),
    );
    peer.send(b"1:a,1048577");
    drive(&mut event_loop, "the end", || netstrings.len() == 3);
    assert_eq!(netstrings.all()[0], frame(b"a"));
    assert_eq!(netstrings.failed(), [too_long(1024 * 1024)]);
}

each_kind!(a_frame_that_ends_with_a_delimiter_has_at_most_64_kib_by_default);
fn a_frame_that_ends_with_a_delimiter_has_at_most_64_kib_by_default(kind: Kind) {
    let longest = [b'a'; 64 * 1024];
    let notes = Notes::default();
    let protocol = Framed::new(Reader::new(Delimiter::new(b"--"), &notes));
    let (mut event_loop, _transport, mut peer) = connection(kind, protocol);
    peer.send(&longest);
    settle(&mut event_loop);
    peer.send(b"--");
    drive(&mut event_loop, "the longest frame", || notes.len() == 1);
    assert_eq!(notes.all(), [frame(&longest)]);
    peer.send(&longest);
    settle(&mut event_loop);
    assert_eq!(notes.len(), 1);
    // The first one of these may begin the delimiter; the second one does not end it.
    peer.send(b"-a");
    drive(&mut event_loop, "the end", || notes.len() == 3);
    assert_eq!(notes.failed(), ["a frame is longer than 65536 bytes"]);
}

each_kind!(a_codec_that_looks_at_later_frames_is_bounded_by_the_limit_of_framed_too);
fn a_codec_that_looks_at_later_frames_is_bounded_by_the_limit_of_framed_too(kind: Kind) {
    let notes = Notes::default();
    let protocol = Framed::new(Reader::new(Packets, &notes)).limit(2 * Packets::LEN + 1);
    let (mut event_loop, transport, mut peer) = connection(kind, protocol);
    let packets: Vec<_> = (0..=u8::MAX).map(|n| [n; Packets::LEN]).collect();
    for packet in &packets {
        peer.send(packet);
        settle(&mut event_loop);
    }
    assert_eq!(notes.len(), packets.len() - 2);
    // The bytes that are kept come to a protocol that takes over, and no others.
    let next = Framed::new(Reader::new(Fixed::new(Packets::LEN), &notes));
    transport.set_protocol(next, b"").unwrap();
    drive(&mut event_loop, "the others", || {
        notes.len() == packets.len()
    });
    let expected: Vec<_> = packets.iter().map(|packet| frame(packet)).collect();
    assert_eq!(notes.all(), expected);
}

each_kind!(a_codec_without_a_maximum_is_bounded_by_the_limit_of_framed);
fn a_codec_without_a_maximum_is_bounded_by_the_limit_of_framed(kind: Kind) {
    let notes = Notes::default();
    let lines = Lines::new().max(usize::MAX);
    let protocol = Framed::new(Reader::new(lines, &notes)).limit(100_000);
    let (mut event_loop, _transport, mut peer) = connection(kind, protocol);
    for _ in 0..100 {
        peer.send(&[b'a'; 999]);
        settle(&mut event_loop);
    }
    assert_eq!(notes.len(), 0);
    peer.send(&[b'a'; 100]);
    drive(&mut event_loop, "the end", || notes.len() == 2);
    assert_eq!(notes.failed(), ["a frame is longer than 100000 bytes"]);
}
