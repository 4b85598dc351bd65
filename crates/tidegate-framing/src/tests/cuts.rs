//! A stream has the same frames however it is cut, and wherever its reader stops.

use super::feed::{End, Feed, Packets, Seen, Tested, run};
use crate::{
    Delimiter, Fixed, LengthPrefix, LineEnd, Lines, Netstring, Overlong, Prefix, Raw, Step,
};

/// Checks a stream that is cut at each place, at each two places, into single bytes, and with stops
/// after each frame.
#[track_caller]
fn check<C: Tested + Clone>(codec: C, stream: &[u8], expected: &[&[u8]], end: End) {
    let expected: Vec<_> = expected
        .iter()
        .map(|frame| Seen::Bytes(frame.to_vec()))
        .collect();
    check_seen(&codec, stream, &expected, &end);
    check_need(&codec, stream);
}

/// Checks that a codec never misses more of the first frame than is missing.
#[track_caller]
fn check_need<C: Tested + Clone>(codec: &C, stream: &[u8]) {
    let Ok(Step::Frame(_, len)) = codec.clone().decode(stream) else {
        return;
    };
    for have in 0..len {
        match codec.clone().decode(&stream[..have]) {
            Ok(Step::Need(need)) => assert!(have + need <= len, "{need} for {have} of {len}"),
            _ => panic!("{have} bytes are enough for {len}"),
        }
    }
}

#[track_caller]
fn check_seen<C: Tested + Clone>(codec: &C, stream: &[u8], expected: &[Seen], end: &End) {
    let all = stream.len();
    let mut cases = vec![vec![all], vec![1], vec![2], vec![3, 1]];
    for first in 1..all {
        cases.push(vec![first, all]);
        cases.extend((1..all - first).map(|second| vec![first, second, all]));
    }
    for pieces in cases {
        for stops in [&[][..], &[true], &[true, false], &[false, true]] {
            let (seen, ended, _) = run(codec.clone(), stream, &pieces, stops);
            assert_eq!(
                (&seen[..], &ended),
                (expected, end),
                "pieces {pieces:?}, stops {stops:?}"
            );
        }
    }
}

fn too_long(max: usize) -> End {
    End::Failed(format!("a frame is longer than {max} bytes"))
}

fn truncated(have: usize) -> End {
    End::Failed(format!(
        "the stream ended within a frame, of which {have} bytes are left"
    ))
}

#[test]
fn lines_end_with_either_end_and_the_last_one_without() {
    let stream = b"one\r\n\n\r\n\r\r\ntwo\rthree\nfour";
    let frames: &[&[u8]] = &[b"one", b"", b"", b"\r", b"two\rthree", b"four"];
    check(Lines::new(), stream, frames, End::Eof);
}

#[test]
fn lines_that_end_with_lf_keep_their_cr() {
    let lines = Lines::new().end(LineEnd::Lf);
    check(lines, b"one\r\n\n\r", &[b"one\r", b"", b"\r"], End::Eof);
}

#[test]
fn lines_that_end_with_crlf_have_any_other_cr_and_lf_in_them() {
    let lines = Lines::new().end(LineEnd::CrLf);
    let stream = b"one\ntwo\r\n\r\r\n\n\r\n\rthree\r\n\r";
    let frames: &[&[u8]] = &[b"one\ntwo", b"\r", b"\n", b"\rthree", b"\r"];
    check(lines, stream, frames, End::Eof);
}

#[test]
fn lines_keep_their_ends_if_wished() {
    let lines = Lines::new().keep_end(true);
    check(
        lines,
        b"one\r\ntwo\nthree",
        &[b"one\r\n", b"two\n", b"three"],
        End::Eof,
    );
}

#[test]
fn the_maximum_of_a_line_does_not_count_its_end() {
    let lines = Lines::new().max(3);
    check(
        lines.clone(),
        b"abc\r\nabc\nabc",
        &[b"abc", b"abc", b"abc"],
        End::Eof,
    );
    check(lines.clone(), b"abc\nabcd\n", &[b"abc"], too_long(3));
    check(lines.clone(), b"abc\nabcd\r\n", &[b"abc"], too_long(3));
    check(lines.clone(), b"abc\nabcd", &[b"abc"], too_long(3));
    check(lines, b"abc\nabc\r", &[b"abc"], too_long(3));
    let lines = Lines::new().end(LineEnd::Lf).max(3);
    check(lines, b"abc\nabc\r\n", &[b"abc"], too_long(3));
    let lines = Lines::new().end(LineEnd::CrLf).max(3);
    check(
        lines.clone(),
        b"a\nb\r\nabc\r\nab\r\r\n",
        &[b"a\nb", b"abc", b"ab\r"],
        End::Eof,
    );
    check(lines, b"abc\r\nabc\n\r\n", &[b"abc"], too_long(3));
    check(Lines::new().max(0), b"\n\r\nx\n", &[b"", b""], too_long(0));
}

#[test]
fn overlong_lines_are_left_out_and_counted_once() {
    let lines = |end| Lines::new().end(end).max(3).overlong(Overlong::Skip);
    let streams: [(_, &[u8], &[&[u8]], _); 6] = [
        (
            LineEnd::Either,
            b"abcd\nabc\nabcdefghi\r\n\nx",
            &[b"abc", b"", b"x"],
            2,
        ),
        (LineEnd::Either, b"abcdefghij", &[], 1),
        (LineEnd::Either, b"abc\r", &[], 1),
        (
            LineEnd::Lf,
            b"abc\r\nabc\nabcdefghi\nx\n",
            &[b"abc", b"x"],
            2,
        ),
        (LineEnd::CrLf, b"abcdefgh\ni\r\nx\r\n", &[b"x"], 1),
        (LineEnd::CrLf, b"x\r\nabcdefgh\r\r", &[b"x"], 1),
    ];
    for (end, stream, frames, skipped) in streams {
        check(lines(end), stream, frames, End::Eof);
        for pieces in 1..=stream.len() {
            let (_, _, lines) = run(lines(end), stream, &[pieces], &[]);
            assert_eq!(lines.skipped(), skipped, "{stream:?} in pieces of {pieces}");
        }
    }
}

#[test]
fn delimiters_end_frames_also_when_they_overlap() {
    let frames: &[&[u8]] = &[b"a", b"", b"b"];
    check(Delimiter::new(b"--"), b"a----b---", frames, truncated(1));
    check(Delimiter::new(b"aab"), b"aaab-aab", &[b"a", b"-"], End::Eof);
    check(
        Delimiter::new(b"\0"),
        b"one\0two\0",
        &[b"one", b"two"],
        End::Eof,
    );
    check(
        Delimiter::new(b"--").max(2),
        b"ab--abc--",
        &[b"ab"],
        too_long(2),
    );
    check(Delimiter::new(b"--").max(2), b"a---", &[b"a"], truncated(1));
}

#[test]
fn frames_of_one_length_come_whole() {
    check(Fixed::new(3), b"abcdef", &[b"abc", b"def"], End::Eof);
    check(Fixed::new(3), b"abcd", &[b"abc"], truncated(1));
    check(Fixed::new(1), b"abc", &[b"a", b"b", b"c"], End::Eof);
}

#[test]
fn frames_that_are_known_by_later_ones_come_whole() {
    let stream: Vec<u8> = (0..1000).map(|at| at as u8).collect();
    let packets: Vec<_> = stream.chunks_exact(Packets::LEN).collect();
    let expected: Vec<_> = packets
        .iter()
        .map(|one| Seen::Bytes(one.to_vec()))
        .collect();
    for says_what_it_needs in [false, true] {
        for first in 1..stream.len() {
            for second in [1, 2, 100, 188, 189, 377, 1000] {
                for stops in [&[][..], &[true], &[true, false]] {
                    let codec = Packets { says_what_it_needs };
                    let (seen, end, _) = run(codec, &stream, &[first, second], stops);
                    assert_eq!(
                        (&seen, end),
                        (&expected, truncated(60)),
                        "{first}, {second}"
                    );
                }
            }
        }
    }
}

#[test]
fn lengths_of_every_form_are_read() {
    let stream = b"\0\0\x02hi\0\0\0\0\0\x01!";
    check(
        LengthPrefix::new(Prefix::Big(3)),
        stream,
        &[b"hi", b"", b"!"],
        End::Eof,
    );
    let stream = b"\x02\0hi\0\0\x01\0!\x05\0ab";
    check(
        LengthPrefix::new(Prefix::Little(2)),
        stream,
        &[b"hi", b"", b"!"],
        truncated(4),
    );
    let long = [&[200, 1][..], &[7; 200], &[0, 1, 9]].concat();
    check_long(
        LengthPrefix::new(Prefix::Varint),
        &long,
        &[&[7; 200], &[], &[9]],
    );
}

/// As `check`, without two cuts.
#[track_caller]
fn check_long<C: Tested + Clone>(codec: C, stream: &[u8], expected: &[&[u8]]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|frame| Seen::Bytes(frame.to_vec()))
        .collect();
    for first in 1..=stream.len() {
        let (seen, end, _) = run(codec.clone(), stream, &[first, stream.len()], &[true]);
        assert_eq!((seen, end), (expected.clone(), End::Eof), "cut at {first}");
    }
}

#[test]
fn headers_are_counted_stripped_and_kept_as_set() {
    let big = LengthPrefix::new(Prefix::Big(1));
    let frames: &[&[u8]] = &[b"k\x02hi", b"l\0"];
    check(
        big.clone().offset(1).strip(0),
        b"k\x02hil\0",
        frames,
        End::Eof,
    );
    check(
        big.clone().offset(1),
        b"k\x02hil\0",
        &[b"hi", b""],
        End::Eof,
    );
    check(
        big.clone().offset(1).strip(1),
        b"k\x02hi",
        &[b"\x02hi"],
        End::Eof,
    );
    check(
        big.clone().includes_header(),
        b"\x03hi\x01",
        &[b"hi", b""],
        End::Eof,
    );
    check(
        big.clone().offset(2).includes_header(),
        b"ab\x04!",
        &[b"!"],
        End::Eof,
    );
    check(
        big.clone().adjustment(1),
        b"\x02fhi\0f",
        &[b"fhi", b"f"],
        End::Eof,
    );
    check(big.adjustment(-1), b"\x03hi\x01", &[b"hi", b""], End::Eof);
    let varint = LengthPrefix::new(Prefix::Varint).includes_header();
    check(varint, b"\x03hi\x01", &[b"hi", b""], End::Eof);
}

#[test]
fn netstrings_are_read() {
    check(
        Netstring::new(),
        b"5:hello,0:,12:hello world!,",
        &[b"hello", b"", b"hello world!"],
        End::Eof,
    );
    check(Netstring::new(), b"3:abc", &[], truncated(5));
    check(
        Netstring::new().max(12),
        b"12:hello world!,13:",
        &[b"hello world!"],
        too_long(12),
    );
}

#[test]
fn expected_bytes_come_as_they_arrive_and_then_frames_again() {
    let raw = |bytes: &[u8], left| Seen::Raw(bytes.to_vec(), left);
    let head = |bytes: &[u8]| Seen::Bytes(bytes.to_vec());
    let codec = Raw::new(Lines::new());
    let seen = [
        head(b"a\x03"),
        raw(b"x\ny", 0),
        head(b"b "),
        head(b"c\x01"),
        raw(b"z", 0),
    ];
    check_seen(&codec, b"a\x03\nx\nyb \nc\x01\nz", &seen, &End::Eof);
    let seen = [head(b"a*"), raw(b"x\ny", u64::MAX)];
    check_seen(&codec, b"a*\nx\ny", &seen, &End::Eof);
    let seen = [head(b"a\x03"), raw(b"x\n", 1)];
    check_seen(&codec, b"a\x03\nx\n", &seen, &truncated(0));
    check_seen(&codec, b"a\x03\n", &[head(b"a\x03")], &truncated(0));
    // Of a codec whose last frame ends with the stream.
    check_seen(&codec, b"a", &[head(b"a")], &truncated(0));
}

#[cfg(feature = "tokio-util")]
#[test]
fn codecs_of_tokio_util_see_the_same_bytes() {
    use crate::TokioCodec;
    use tokio_util::codec::{LengthDelimitedCodec, LinesCodec};
    let text = |text: &str| Seen::Text(text.to_owned());
    let bytes = |bytes: &[u8]| Seen::Bytes(bytes.to_vec());
    let long = "x".repeat(300);
    let lines = format!("one\n{long}\r\n\ntwo");
    let lengths = [
        &[0, 0, 0, 2, 1, 2, 0, 0, 1, 44][..],
        long.as_bytes(),
        &[0; 5],
    ]
    .concat();
    let cuts = (1..=lines.len()).map(|first| [first, lines.len()]);
    for pieces in cuts.chain([[1, 1], [70, 1]]) {
        for stops in [&[][..], &[true]] {
            let codec = TokioCodec::new(LinesCodec::new());
            let (seen, end, _) = run(codec, lines.as_bytes(), &pieces, stops);
            let expected = [text("one"), text(&long), text(""), text("two")];
            assert_eq!((&seen[..], end), (&expected[..], End::Eof), "{pieces:?}");
            let codec = TokioCodec::new(LengthDelimitedCodec::new());
            let (seen, end, _) = run(codec, &lengths, &pieces, stops);
            let expected = [bytes(&[1, 2]), bytes(long.as_bytes()), bytes(&[])];
            let left = End::Failed("bytes remaining on stream".to_owned());
            assert_eq!((&seen[..], end), (&expected[..], left), "{pieces:?}");
            // Between its frames are bytes that the decoder is not shown.
            let codec = Raw::new(TokioCodec::new(LinesCodec::new()));
            let (seen, end, _) = run(codec, b"a\x05\nx\nyz\nb\x01\n\nc", &pieces, stops);
            let raw = |bytes: &[u8]| Seen::Raw(bytes.to_vec(), 0);
            let expected = [
                text("a\x05"),
                raw(b"x\nyz\n"),
                text("b\x01"),
                raw(b"\n"),
                text("c"),
            ];
            assert_eq!(
                (&seen[..], end),
                (&expected[..], truncated(0)),
                "{pieces:?}"
            );
        }
    }
}

#[cfg(feature = "tokio-util")]
#[test]
fn bytes_that_a_decoder_of_tokio_util_has_taken_belong_to_its_frame_until_it_is_there() {
    use crate::TokioCodec;
    use tokio_util::codec::LengthDelimitedCodec;
    let frame = b"\0\0\0\x04body";
    for cut in 1..frame.len() {
        let (begun, rest) = frame.split_at(cut);
        let feed = |piece: usize| {
            let mut feed = Feed::new(TokioCodec::new(LengthDelimitedCodec::new()), &[]);
            begun.chunks(piece).for_each(|piece| feed.give(piece));
            assert!(feed.assembly.is_torn(), "cut at {cut}");
            feed
        };
        for piece in 1..=cut {
            let mut whole = feed(piece);
            whole.give(rest);
            assert_eq!(whole.taker.seen, [Seen::Bytes(b"body".to_vec())]);
            assert!(!whole.assembly.is_torn());
            // For a protocol that takes over.
            assert_eq!(feed(piece).assembly.take_torn(), begun);
            // The error of the decoder, unless it has taken all that was there.
            let expected = match cut {
                4 => truncated(4),
                _ => End::Failed("bytes remaining on stream".to_owned()),
            };
            assert_eq!(feed(piece).end(), expected, "cut at {cut}");
        }
    }
}

#[cfg(feature = "tokio-util")]
#[test]
fn a_decoder_of_tokio_util_is_shown_all_that_it_needs_as_soon_as_it_is_there() {
    use tokio_util::codec::LinesCodec;
    let line = [&b"x".repeat(300)[..], b"\n"].concat();
    for first in 1..line.len() {
        let mut feed = Feed::new(crate::TokioCodec::new(LinesCodec::new()), &[]);
        feed.give(&line[..first]);
        assert_eq!(feed.taker.seen, []);
        feed.give(&line[first..]);
        assert_eq!(feed.taker.seen.len(), 1, "cut at {first}");
    }
}

#[test]
fn a_reader_that_takes_over_within_a_frame_gets_the_bytes_of_it() {
    let stream = b"one\ntwo\r\nthree\n";
    for cut in 0..=stream.len() {
        let (before, after) = stream.split_at(cut);
        let mut first = Feed::new(Lines::new(), &[]);
        before.chunks(2).for_each(|piece| first.give(piece));
        let mut second = Feed::new(Lines::new(), &[]);
        second.give(&first.assembly.take_torn());
        second.give(after);
        assert!(!first.assembly.is_torn());
        let seen = [first.taker.seen, second.taker.seen].concat();
        let expected = [&b"one"[..], b"two", b"three"].map(|line| Seen::Bytes(line.to_vec()));
        assert_eq!(seen, expected, "cut at {cut}");
    }
}
