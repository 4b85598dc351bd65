//! A codec reads the bytes that its encoder makes.

use super::feed::{End, Seen, run};
use crate::netstring;
use crate::{Delimiter, LengthPrefix, LineEnd, Lines, Netstring, Prefix};
use proptest::collection::vec;
use proptest::prelude::*;

fn seen(frames: &[Vec<u8>]) -> (Vec<Seen>, End) {
    (frames.iter().cloned().map(Seen::Bytes).collect(), End::Eof)
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    prop_oneof![
        (2..=8_usize).prop_map(Prefix::Big),
        (2..=8_usize).prop_map(Prefix::Little),
        Just(Prefix::Varint),
    ]
}

proptest! {
    #[test]
    fn lengths_of_every_form_and_setting_are_read_as_they_are_written(
        prefix in prefixes(),
        (offset, adjustment, includes_header) in (0..4_usize, -300..=0_i64, any::<bool>()),
        frames in vec(vec(any::<u8>(), 4..400), 0..8),
        pieces in vec(1..300_usize, 1..5),
        stops in vec(any::<bool>(), 0..4),
    ) {
        let mut codec = LengthPrefix::new(prefix).offset(offset).adjustment(adjustment);
        if includes_header {
            codec = codec.includes_header();
        }
        let (mut stream, mut whole, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for frame in &frames {
            let (before, head, body) = codec.parts(frame).unwrap();
            whole.push([before, head.bytes(), body].concat());
            stream.extend_from_slice(whole.last().unwrap());
            bodies.push(body.to_vec());
        }
        let (frames, end, _) = run(codec.clone(), &stream, &pieces, &stops);
        prop_assert_eq!((frames, end), seen(&bodies));
        let (frames, end, _) = run(codec.strip(0), &stream, &pieces, &stops);
        prop_assert_eq!((frames, end), seen(&whole));
    }

    #[test]
    fn lines_are_read_as_they_are_written(
        end in prop_oneof![Just(LineEnd::Either), Just(LineEnd::Lf), Just(LineEnd::CrLf)],
        frames in vec("[a-z]{0,200}", 0..8),
        pieces in vec(1..300_usize, 1..5),
        stops in vec(any::<bool>(), 0..4),
    ) {
        let codec = Lines::new().end(end);
        let frames: Vec<_> = frames.into_iter().map(String::into_bytes).collect();
        let stream: Vec<_> = frames.iter().flat_map(|line| [&line[..], codec.end_bytes()].concat()).collect();
        let (read, end, _) = run(codec, &stream, &pieces, &stops);
        prop_assert_eq!((read, end), seen(&frames));
    }

    #[test]
    fn delimited_frames_and_netstrings_are_read_as_they_are_written(
        frames in vec(vec(0..=250_u8, 0..200), 0..8),
        pieces in vec(1..300_usize, 1..5),
        stops in vec(any::<bool>(), 0..4),
    ) {
        let stream: Vec<_> = frames.iter().flat_map(|frame| [&frame[..], &[251, 252]].concat()).collect();
        let (read, end, _) = run(Delimiter::new(&[251, 252]), &stream, &pieces, &stops);
        prop_assert_eq!((read, end), seen(&frames));
        let encode = |frame: &Vec<u8>| [netstring::head(frame.len(), &mut [0; 21]), frame, b","].concat();
        let stream: Vec<_> = frames.iter().flat_map(encode).collect();
        let (read, end, _) = run(Netstring::new(), &stream, &pieces, &stops);
        prop_assert_eq!((read, end), seen(&frames));
    }
}

#[test]
fn a_varint_that_counts_its_own_width_is_as_short_as_it_can_be() {
    let codec = LengthPrefix::new(Prefix::Varint).includes_header();
    for (len, width, number) in [
        (0, 1, 1),
        (126, 1, 127),
        (127, 2, 129),
        (16381, 2, 16383),
        (16382, 3, 16385),
    ] {
        let payload = vec![0; len];
        let head = codec.parts(&payload).unwrap().1;
        assert_eq!(head.bytes().len(), width, "{len}");
        let read = head
            .bytes()
            .iter()
            .rev()
            .fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
        assert_eq!(read, number);
    }
    let greatest = netstring::head(usize::MAX, &mut [0; 21]).to_vec();
    assert_eq!(greatest, b"18446744073709551615:");
}
