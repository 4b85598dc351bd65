//! Frames that begin with their length.

use crate::decode::{Decode, Step};
use crate::error::FrameError;
use std::io::{self, IoSlice};
use tidegate::{Flow, Transport};

/// Maximum number of bytes behind the length by default.
const DEFAULT_MAX: usize = 1024 * 1024;

/// Maximum width of a varint: 64 bits in groups of 7.
const MAX_VARINT: usize = 10;

/// Frames that begin with their length.
///
/// By default the length is that of the bytes behind it, and frames are these bytes. Other formats
/// need one or two settings:
///
/// | format | settings |
/// | --- | --- |
/// | a kind of one byte, then a length of the payload; frames have all of it | `.offset(1).strip(0)` |
/// | a length that counts its own bytes too | `.includes_header()` |
/// | a length, flags of one byte that it does not count, the payload | `.adjustment(1)` |
///
/// ```
/// use tidegate_framing::{Decode, LengthPrefix, Prefix, Step};
///
/// let mut codec = LengthPrefix::new(Prefix::Big(2));
/// assert_eq!(codec.decode(b"\0\x02hi"), Ok(Step::Frame(&b"hi"[..], 4)));
/// assert_eq!(codec.decode(b"\0\x02h"), Ok(Step::Need(1)));
///
/// // A kind before the length, which counts the whole frame.
/// let mut codec = LengthPrefix::new(Prefix::Little(2)).offset(1).includes_header().strip(0);
/// assert_eq!(codec.decode(b"k\x05\0hi"), Ok(Step::Frame(&b"k\x05\0hi"[..], 5)));
/// ```
#[derive(Debug, Clone)]
pub struct LengthPrefix {
    prefix: Prefix,
    offset: usize,
    adjustment: i64,
    includes_header: bool,
    /// Without, the header.
    strip: Option<usize>,
    max: usize,
}

/// The form of a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefix {
    /// A number of 1 to 8 bytes, the most significant one first.
    Big(usize),
    /// A number of 1 to 8 bytes, the least significant one first.
    Little(usize),
    /// An unsigned LEB128, as in protobuf: 7 bits a byte, the least significant ones first, at most
    /// 10 bytes.
    Varint,
}

impl Prefix {
    /// Returns the number in front of `bytes` and its width, when all of it is there.
    fn read(self, bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
        let mut number = [0; 8];
        let (width, number) = match self {
            Self::Big(width) => {
                let Some(read) = bytes.get(..width) else {
                    return Ok(None);
                };
                number[8 - width..].copy_from_slice(read);
                (width, u64::from_be_bytes(number))
            }
            Self::Little(width) => {
                let Some(read) = bytes.get(..width) else {
                    return Ok(None);
                };
                number[..width].copy_from_slice(read);
                (width, u64::from_le_bytes(number))
            }
            Self::Varint => return read_varint(bytes),
        };
        Ok(Some((number, width)))
    }

    /// The least number of bytes of a length.
    fn min_width(self) -> usize {
        match self {
            Self::Big(width) | Self::Little(width) => width,
            Self::Varint => 1,
        }
    }
}

fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_VARINT) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if at == MAX_VARINT - 1 && byte > 1 {
            break;
        }
        if byte < 0x80 {
            return Ok(Some((number, at + 1)));
        }
    }
    if bytes.len() < MAX_VARINT {
        return Ok(None);
    }
    Err(FrameError::Malformed {
        what: "a varint of more than 64 bits",
    })
}

/// The bytes of a length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    bytes: [u8; MAX_VARINT],
    width: usize,
}

impl Head {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.width]
    }

    /// Returns `None` when `number` is too large.
    fn new(prefix: Prefix, number: u64) -> Option<Self> {
        let mut bytes = [0; MAX_VARINT];
        let width = match prefix {
            Prefix::Big(width) | Prefix::Little(width) => {
                if width < 8 && number >> (8 * width) > 0 {
                    return None;
                }
                match prefix {
                    Prefix::Big(_) => {
                        bytes[..width].copy_from_slice(&number.to_be_bytes()[8 - width..])
                    }
                    _ => bytes[..width].copy_from_slice(&number.to_le_bytes()[..width]),
                }
                width
            }
            Prefix::Varint => {
                let (mut rest, mut at) = (number, 0);
                while rest >= 0x80 {
                    bytes[at] = rest as u8 | 0x80;
                    rest >>= 7;
                    at += 1;
                }
                bytes[at] = rest as u8;
                at + 1
            }
        };
        Some(Self { bytes, width })
    }
}

impl LengthPrefix {
    /// Makes a codec for frames of at most 1 MiB behind a length of this form.
    ///
    /// # Panics
    ///
    /// When a width is not from 1 to 8.
    pub fn new(prefix: Prefix) -> Self {
        assert!(
            (1..=8).contains(&prefix.min_width()),
            "a length has 1 to 8 bytes"
        );
        Self {
            prefix,
            offset: 0,
            adjustment: 0,
            includes_header: false,
            strip: None,
            max: DEFAULT_MAX,
        }
    }

    /// Sets the number of bytes before the length.
    #[must_use]
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// Sets a number that is added to a received length, for the number of bytes behind the length.
    #[must_use]
    pub fn adjustment(mut self, adjustment: i64) -> Self {
        self.adjustment = adjustment;
        self
    }

    /// Says that the length counts all of the frame: also itself, and the bytes before it.
    #[must_use]
    pub fn includes_header(mut self) -> Self {
        self.includes_header = true;
        self
    }

    /// Sets the number of bytes that are taken from the begin of each frame. By default these are the
    /// length and all before it.
    #[must_use]
    pub fn strip(mut self, strip: usize) -> Self {
        self.strip = Some(strip);
        self
    }

    /// Sets the maximum number of bytes behind the length. A greater one is refused as soon as it is
    /// there.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Writes a frame with its length, in one write. With an [`offset`](Self::offset) the first bytes
    /// of `payload`, this many, come before the length.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when the length has no room for this number, and
    /// when `payload` is shorter than the offset; else the [`WriteError`](tidegate::WriteError).
    /// Nothing is written then.
    pub fn write(&self, transport: &Transport, payload: &[u8]) -> io::Result<Flow> {
        let (before, head, body) = self.parts(payload)?;
        let flow = transport.write_vectored(&[
            IoSlice::new(before),
            IoSlice::new(head.bytes()),
            IoSlice::new(body),
        ])?;
        Ok(flow)
    }

    /// Returns the bytes of a frame: before the length, the length, behind it.
    pub(crate) fn parts<'p>(&self, payload: &'p [u8]) -> io::Result<(&'p [u8], Head, &'p [u8])> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let Some((before, body)) = payload.split_at_checked(self.offset) else {
            return Err(invalid(
                "a payload that is shorter than the offset of its length",
            ));
        };
        let behind = body.len() as i128 - i128::from(self.adjustment);
        // The width of a varint depends on its number, which may include the width.
        let fitting = (self.prefix.min_width()..=MAX_VARINT).find_map(|width| {
            let header = (self.offset + width) as i128 * i128::from(self.includes_header);
            let number = u64::try_from(behind + header).ok()?;
            Head::new(self.prefix, number)
                .filter(|head| head.width == width || !self.includes_header)
        });
        let head = fitting.ok_or_else(|| invalid("the length has no room for this payload"))?;
        Ok((before, head, body))
    }
}

impl Decode for LengthPrefix {
    type Frame<'a> = &'a [u8];
    type Error = FrameError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, FrameError> {
        let field = input.get(self.offset..).unwrap_or_default();
        let Some((number, width)) = self.prefix.read(field)? else {
            let least = self.offset.saturating_add(self.prefix.min_width());
            return Ok(Step::Need(least.saturating_sub(input.len())));
        };
        let header = self.offset + width;
        let included = if self.includes_header { header } else { 0 };
        let behind = i128::from(number) + i128::from(self.adjustment) - included as i128;
        if behind < 0 {
            return Err(FrameError::Malformed {
                what: "a length that is less than that of its header",
            });
        }
        let too_long = FrameError::TooLong { max: self.max };
        let behind = usize::try_from(behind).ok().filter(|&len| len <= self.max);
        let total = behind.and_then(|behind| header.checked_add(behind));
        let total = total.ok_or(too_long)?;
        let strip = self.strip.unwrap_or(header);
        if strip > total {
            return Err(FrameError::Malformed {
                what: "a frame that is shorter than the part to strip",
            });
        }
        Ok(match input.get(strip..total) {
            Some(frame) => Step::Frame(frame, total),
            None => Step::Need(total - input.len()),
        })
    }
}
