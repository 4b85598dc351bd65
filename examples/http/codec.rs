//! The codec: heads of requests, and what stands between the bytes of a chunked body.

use crate::head::{self, Body, Head, MAX_FIELDS};
use crate::reply::Status;
use httparse::EMPTY_HEADER;
use tidegate_framing::{Decode, Step};

/// Maximum number of bytes in the empty lines before a head. RFC 9112, section 2.2: some clients send one
/// behind a body.
const MAX_EMPTY_LINES: usize = 8;

/// Maximum length of the line before a chunk: its size, and extensions, which nobody sends.
const MAX_SIZE_LINE: usize = 256;

/// The limits of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Maximum number of bytes in a head, and in the trailers of a body.
    pub(crate) head: usize,
    /// Maximum number of bytes in a body.
    pub(crate) body: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unit<'a> {
    Head(Head<'a>),
    /// This number of bytes follows.
    Chunk(u64),
    /// The end of a chunked body, its trailers included.
    End,
}

#[derive(Debug)]
enum State {
    Head,
    /// The size of a chunk comes next.
    Size,
    /// The line break behind a chunk comes next.
    BehindChunk,
    Trailers,
}

/// Finds [`Unit`]s. A part that comes byte by byte is parsed again with each byte. The limits keep this
/// below the cost of receiving the bytes.
#[derive(Debug)]
pub(crate) struct Codec {
    limits: Limits,
    state: State,
    /// The number of bytes that the chunked body may still have.
    left: u64,
}

impl Codec {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head,
            left: 0,
        }
    }

    #[inline(always)]
    fn head<'a>(&mut self, input: &'a [u8]) -> Result<Step<Unit<'a>>, Status> {
        // httparse skips empty lines. They are a part of the head, so that its time and its maximum hold.
        let is_of_empty_line = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        if input.iter().take_while(is_of_empty_line).count() > MAX_EMPTY_LINES {
            return Err(Status::BadRequest);
        }
        let seen = &input[..input.len().min(self.limits.head)];
        let Some((head, len)) = head::parse(seen)? else {
            return self.need(input);
        };
        match head.body {
            Body::Length(len) if len > self.limits.body => return Err(Status::ContentTooLarge),
            Body::Length(_) => {}
            Body::Chunked => {
                self.left = self.limits.body;
                self.state = State::Size;
            }
        }
        Ok(Step::Frame(Unit::Head(head), len))
    }

    fn need<'a>(&self, input: &[u8]) -> Result<Step<Unit<'a>>, Status> {
        match input.len() < self.limits.head {
            true => Ok(Step::Need(0)),
            false => Err(Status::FieldsTooLarge),
        }
    }

    fn size<'a>(&mut self, input: &[u8]) -> Result<Step<Unit<'a>>, Status> {
        let seen = &input[..input.len().min(MAX_SIZE_LINE)];
        let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
            return match input.len() < MAX_SIZE_LINE {
                true => Ok(Step::Need(0)),
                false => Err(Status::BadRequest),
            };
        };
        let line = seen[..end].strip_suffix(b"\r");
        let size = line.and_then(chunk_size).ok_or(Status::BadRequest)?;
        if size == 0 {
            self.state = State::Trailers;
            return Ok(Step::Skip(end + 1));
        }
        let left = self.left.checked_sub(size);
        self.left = left.ok_or(Status::ContentTooLarge)?;
        self.state = State::BehindChunk;
        Ok(Step::Frame(Unit::Chunk(size), end + 1))
    }

    fn behind_chunk<'a>(&mut self, input: &[u8]) -> Result<Step<Unit<'a>>, Status> {
        match input {
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(Step::Skip(2))
            }
            [] | [b'\r'] => Ok(Step::Need(2 - input.len())),
            _ => Err(Status::BadRequest),
        }
    }

    /// Trailers are parsed and thrown away: RFC 9110, section 6.5.1, allows it.
    fn trailers<'a>(&mut self, input: &[u8]) -> Result<Step<Unit<'a>>, Status> {
        let seen = &input[..input.len().min(self.limits.head)];
        match httparse::parse_headers(seen, &mut [EMPTY_HEADER; MAX_FIELDS]) {
            Ok(httparse::Status::Complete((len, _))) => {
                self.state = State::Head;
                Ok(Step::Frame(Unit::End, len))
            }
            Ok(httparse::Status::Partial) => self.need(input),
            Err(httparse::Error::TooManyHeaders) => Err(Status::FieldsTooLarge),
            Err(_) => Err(Status::BadRequest),
        }
    }
}

/// Returns the size in the line before a chunk (RFC 9112, section 7.1). Extensions are ignored. A line
/// break by a single character is none, and no character of an extension either: a reader that takes it
/// for one sees other chunks. (`httparse::parse_chunk_size` is not as strict.)
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (size, extension) = line.split_at(digits.count());
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    let is_extension = extension.trim_ascii_start().starts_with(b";");
    if !(extension.is_empty() || is_extension && extension.iter().all(is_text)) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()
}

impl Decode for Codec {
    type Frame<'a> = Unit<'a>;
    type Error = Status;

    // Inlined by order, as all of a head's way is: each call on it copies the head once more.
    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<Unit<'a>>, Status> {
        match self.state {
            State::Head => self.head(input),
            State::Size => self.size(input),
            State::BehindChunk => self.behind_chunk(input),
            State::Trailers => self.trailers(input),
        }
    }
}
