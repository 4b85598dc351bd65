//! Gives the pieces of a stream to a codec, as a connection would, and notes the frames.

use super::asked::Asked;
use crate::assembly::{Assembly, Ending, Target};
use crate::{Decode, Delimiter, Fixed, LengthPrefix, Lines, Netstring, Piece, Raw, Step};
use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use tidegate::{BoxError, Result};

/// A frame, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Bytes(Vec<u8>),
    /// Adjacent pieces are joined, unless one was the last.
    Raw(Vec<u8>, u64),
    #[cfg(feature = "tokio-util")]
    Text(String),
}

/// A codec under test.
pub(super) trait Tested: Decode {
    fn seen(frame: Self::Frame<'_>) -> Seen;

    /// Acts on a frame, as a protocol does with its codec.
    fn act(&mut self, _: &Seen) {}
}

macro_rules! tested {
    ($($codec:ty),*) => {
        $(impl Tested for $codec {
            fn seen(frame: &[u8]) -> Seen {
                Seen::Bytes(frame.to_vec())
            }
        })*
    };
}

tested!(Lines, Delimiter, Fixed, LengthPrefix, Netstring, Packets);

/// Packets of 188 bytes, each of which counts when the two behind it have begun, or the stream ends.
#[derive(Debug, Clone)]
pub(super) struct Packets {
    pub(super) says_what_it_needs: bool,
}

impl Packets {
    pub(super) const LEN: usize = 188;
    const SEEN: usize = 2 * Self::LEN + 1;
}

impl Decode for Packets {
    type Frame<'a> = &'a [u8];
    type Error = BoxError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>> {
        Ok(match Self::SEEN.checked_sub(input.len()) {
            None | Some(0) => Step::Frame(&input[..Self::LEN], Self::LEN),
            Some(missing) => Step::Need(if self.says_what_it_needs { missing } else { 0 }),
        })
    }

    fn decode_eof<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>> {
        let packet = input.get(..Self::LEN);
        Ok(packet.map_or(Step::Need(0), |packet| Step::Frame(packet, Self::LEN)))
    }
}

#[cfg(feature = "tokio-util")]
impl Tested for crate::TokioCodec<tokio_util::codec::LinesCodec> {
    fn seen(frame: String) -> Seen {
        Seen::Text(frame)
    }
}

#[cfg(feature = "tokio-util")]
impl Tested for crate::TokioCodec<tokio_util::codec::LengthDelimitedCodec> {
    fn seen(frame: bytes::BytesMut) -> Seen {
        Seen::Bytes(frame.to_vec())
    }
}

/// The last byte of a head is the number of bytes behind it; `*` stands for all.
impl<C: Tested> Tested for Raw<C> {
    fn seen(frame: Piece<'_, C::Frame<'_>>) -> Seen {
        match frame {
            Piece::Frame(frame) => C::seen(frame),
            Piece::Raw { bytes, left } => {
                assert!(!bytes.is_empty());
                Seen::Raw(bytes.to_vec(), left)
            }
        }
    }

    fn act(&mut self, seen: &Seen) {
        let head = match seen {
            Seen::Bytes(head) => &head[..],
            #[cfg(feature = "tokio-util")]
            Seen::Text(head) => head.as_bytes(),
            Seen::Raw(..) => return,
        };
        self.expect(match head.last() {
            Some(b'*') => u64::MAX,
            Some(&len) => u64::from(len % 16),
            None => 0,
        });
    }
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Eof,
    Failed(String),
}

/// A taker of frames.
pub(super) struct Taker<C> {
    pub(super) codec: C,
    pub(super) seen: Vec<Seen>,
    failed: Option<String>,
}

/// Where the bytes come from.
pub(super) struct Source {
    pub(super) given_back: RefCell<Vec<u8>>,
    wants_more: Cell<bool>,
    /// Whether to stop after the next frames, over and over.
    stops: Vec<bool>,
    frames: Cell<usize>,
}

impl<C: Tested> Target for Taker<C> {
    type Codec = C;
    type Source = Source;

    fn codec(&mut self) -> &mut C {
        &mut self.codec
    }

    fn frame(&mut self, source: &Source, frame: C::Frame<'_>) -> Result {
        assert!(self.failed.is_none(), "a frame after an error");
        assert!(source.wants_more.get(), "a frame that is not wanted");
        let frames = source.frames.get();
        source.frames.set(frames + 1);
        if !source.stops.is_empty() && source.stops[frames % source.stops.len()] {
            source.wants_more.set(false);
        }
        let seen = C::seen(frame);
        self.codec.act(&seen);
        match (self.seen.last_mut(), seen) {
            (Some(Seen::Raw(bytes, left @ 1..)), Seen::Raw(more, now_left)) => {
                let goes_on = *left == u64::MAX && now_left == u64::MAX;
                assert!(
                    goes_on || *left == now_left + more.len() as u64,
                    "{left} bytes were left"
                );
                bytes.extend_from_slice(&more);
                *left = now_left;
            }
            (_, seen) => self.seen.push(seen),
        }
        Ok(())
    }

    fn wants_more(source: &Source) -> bool {
        source.wants_more.get()
    }

    fn give_back(source: &Source, bytes: &[u8]) {
        source
            .given_back
            .borrow_mut()
            .splice(0..0, bytes.iter().copied());
    }

    fn failed(&mut self, _: &Source, error: BoxError) -> Result {
        assert!(self.failed.is_none(), "an error after an error");
        self.failed = Some(error.to_string());
        Ok(())
    }
}

/// A codec on a stream.
pub(super) struct Feed<C> {
    pub(super) taker: Taker<C>,
    pub(super) source: Source,
    pub(super) assembly: Assembly,
}

impl<C: Tested> Feed<C> {
    pub(super) fn new(codec: C, stops: &[bool]) -> Self {
        Self {
            taker: Taker {
                codec,
                seen: Vec::new(),
                failed: None,
            },
            source: Source {
                given_back: RefCell::default(),
                wants_more: Cell::new(true),
                stops: stops.to_vec(),
                frames: Cell::new(0),
            },
            assembly: Assembly::new(16 * 1024 * 1024),
        }
    }

    /// Gives a piece, and whatever comes back of it.
    pub(super) fn give(&mut self, piece: &[u8]) {
        self.give_once(piece);
        loop {
            let back = self.source.given_back.take();
            if back.is_empty() {
                return;
            }
            self.give_once(&back);
        }
    }

    /// Gives a piece, with reading on.
    pub(super) fn give_once(&mut self, piece: &[u8]) {
        self.source.wants_more.set(true);
        let received = self.assembly.receive(&mut self.taker, &self.source, piece);
        received.unwrap();
    }

    /// Ends the stream.
    pub(super) fn end(&mut self) -> End {
        loop {
            self.source.wants_more.set(true);
            let ending = self.assembly.end(&mut self.taker, &self.source).unwrap();
            let back = self.source.given_back.take();
            if ending == Ending::GivenBack {
                if !back.is_empty() {
                    self.give(&back);
                }
                continue;
            }
            assert_eq!(back, b"");
            match self.taker.failed.take() {
                Some(error) => return End::Failed(error),
                None => assert_eq!(ending, Ending::Done),
            }
            return End::Eof;
        }
    }
}

/// Decodes a stream in pieces of these lengths, over and over. Returns the frames, and the end.
pub(super) fn run<C: Tested>(
    codec: C,
    stream: &[u8],
    pieces: &[usize],
    stops: &[bool],
) -> (Vec<Seen>, End, C) {
    let is_ended = Rc::default();
    let mut feed = Feed::new(Asked::new(codec, &is_ended), stops);
    let (mut rest, mut lengths) = (stream, pieces.iter().cycle());
    while !rest.is_empty() {
        let len = lengths
            .next()
            .map_or(rest.len(), |len| (*len).min(rest.len()));
        let (piece, later) = rest.split_at(len.max(1));
        rest = later;
        feed.give(piece);
    }
    is_ended.set(true);
    let end = feed.end();
    (mem::take(&mut feed.taker.seen), end, feed.taker.codec.codec)
}
