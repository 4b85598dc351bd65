//! When a codec is asked, and for which bytes.

use super::feed::{Feed, Seen, Tested};
use crate::{Decode, Delimiter, LengthPrefix, Lines, Prefix, Raw, Step};
use std::cell::Cell;
use std::rc::Rc;
use tidegate::BoxError;

/// Checks that a codec is asked again when the bytes that it needs are there.
pub(super) struct Asked<C> {
    pub(super) codec: C,
    /// The number of bytes from which on it may be asked.
    wanted: usize,
    /// Nothing more comes.
    is_ended: Rc<Cell<bool>>,
    lens: Vec<usize>,
}

impl<C> Asked<C> {
    pub(super) fn new(codec: C, is_ended: &Rc<Cell<bool>>) -> Self {
        Self {
            codec,
            wanted: 0,
            is_ended: is_ended.clone(),
            lens: Vec::new(),
        }
    }
}

impl<C: Decode> Decode for Asked<C> {
    type Frame<'a> = C::Frame<'a>;
    type Error = BoxError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<C::Frame<'a>>, BoxError> {
        assert!(
            input.len() >= self.wanted || self.is_ended.get(),
            "{} bytes of {}",
            input.len(),
            self.wanted
        );
        self.lens.push(input.len());
        let step = self.codec.decode(input).map_err(Into::into)?;
        self.wanted = match &step {
            Step::Need(missing) if !input.is_empty() => input.len() + (*missing).max(1),
            _ => 0,
        };
        Ok(step)
    }

    fn decode_eof<'a>(&mut self, input: &'a [u8]) -> Result<Step<C::Frame<'a>>, BoxError> {
        assert!(self.is_ended.get());
        self.codec.decode_eof(input).map_err(Into::into)
    }

    fn is_changed(&self) -> bool {
        self.codec.is_changed()
    }
}

impl<C: Tested> Tested for Asked<C> {
    fn seen(frame: C::Frame<'_>) -> Seen {
        C::seen(frame)
    }

    fn act(&mut self, seen: &Seen) {
        self.codec.act(seen);
    }
}

#[test]
fn a_codec_is_asked_again_when_all_that_it_needs_is_there() {
    let codec = LengthPrefix::new(Prefix::Big(4));
    let mut feed = Feed::new(Asked::new(codec, &Rc::default()), &[]);
    let frame = [&[0, 0, 0, 100][..], &[7; 100]].concat();
    for byte in frame.chunks(1) {
        feed.give(byte);
    }
    assert_eq!(feed.taker.seen, [Seen::Bytes(vec![7; 100])]);
    // Then for the next frame, of which nothing is there.
    assert_eq!(feed.taker.codec.lens, [1, 4, 104, 0]);
}

/// A timer changes the mode within a frame.
#[track_caller]
fn check_expect<C>(inner: C, begun: &[u8], rest: &[u8], frames: &[&[u8]])
where
    C: for<'a> Decode<Frame<'a> = &'a [u8]> + Tested,
{
    let mut feed = Feed::new(Raw::new(inner), &[]);
    feed.give(begun);
    feed.taker.codec.expect(begun.len() as u64 + 2);
    feed.give(b"r");
    let mut raw = [begun, b"r"].concat();
    assert_eq!(feed.taker.seen, [Seen::Raw(raw.clone(), 1)]);
    // In one piece: a codec that is asked for no bytes begins anew by itself.
    feed.give(&[b"w", rest].concat());
    raw.push(b'w');
    let mut expected = vec![Seen::Raw(raw, 0)];
    expected.extend(frames.iter().map(|frame| Seen::Bytes(frame.to_vec())));
    assert_eq!(feed.taker.seen, expected);
}

#[test]
fn bytes_that_are_expected_within_a_frame_are_the_begun_ones_and_frames_follow() {
    check_expect(Lines::new(), b"begun", b"p\nP\n", &[b"p", b"P"]);
    check_expect(Delimiter::new(b"--"), b"begun", b"p--P--", &[b"p", b"P"]);
    // Of this frame 2,000 bytes are missing.
    let codec = LengthPrefix::new(Prefix::Big(2));
    check_expect(codec, &[7, 208, 0], b"\0\x01p", &[b"p"]);
    // Also of a codec around another one.
    let codec = Raw::new(Lines::new());
    let mut feed = Feed::new(Raw::new(codec), &[]);
    feed.give(b"begun");
    feed.taker.codec.expect(6);
    feed.give(b"rp\n");
    let Some(Seen::Bytes(line)) = feed.taker.seen.pop() else {
        panic!("{:?}", feed.taker.seen);
    };
    assert_eq!(line, b"p");
}
