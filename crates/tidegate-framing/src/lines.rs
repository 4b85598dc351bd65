//! Lines of text.

use crate::decode::{Decode, Step};
use crate::error::FrameError;
use crate::search;
use std::io::IoSlice;
use tidegate::{Flow, Transport, WriteError};

/// Maximum length of a line by default, as the limit of asyncio's streams.
const DEFAULT_MAX: usize = 64 * 1024;

/// Lines, without their ends.
///
/// ```
/// use tidegate_framing::{Decode, Lines, Step};
///
/// let mut lines = Lines::new();
/// assert_eq!(lines.decode(b"one\r\ntwo"), Ok(Step::Frame(&b"one"[..], 5)));
/// assert_eq!(lines.decode(b"two"), Ok(Step::Need(0)));
/// // At the end of the stream the last line needs no end.
/// assert_eq!(lines.decode_eof(b"two"), Ok(Step::Frame(&b"two"[..], 3)));
/// ```
#[derive(Debug, Clone)]
pub struct Lines {
    max: usize,
    /// The begin of the input that has no end of a line.
    searched: usize,
    skipped: u64,
    end: LineEnd,
    overlong: Overlong,
    keep_end: bool,
    /// The rest of an overlong line comes.
    skipping: bool,
    /// Nothing was searched, nothing is skipped, and any `\n` is an end: the fast way.
    plain: bool,
}

/// The end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LineEnd {
    /// `\n` or `\r\n`.
    #[default]
    Either,
    /// `\n` alone; a `\r` before it belongs to the line.
    Lf,
    /// `\r\n` alone: a `\r` or `\n` elsewhere belongs to the line. For protocols in which a server that
    /// takes a bare `\n` can be made to see other messages than its neighbours, such as SMTP.
    CrLf,
}

/// The treatment of a line that is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overlong {
    /// The line is an error, [`FrameError::TooLong`].
    #[default]
    Error,
    /// The line is left out, and [counted](Lines::skipped). Its rest has a
    /// [`frame_timeout`](crate::Framed::frame_timeout) of its own.
    Skip,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// Makes a codec for lines of at most 64 KiB that end with `\n` or `\r\n`.
    pub fn new() -> Self {
        Self {
            max: DEFAULT_MAX,
            searched: 0,
            skipped: 0,
            end: LineEnd::Either,
            overlong: Overlong::Error,
            keep_end: false,
            skipping: false,
            plain: true,
        }
    }

    /// Sets how lines end.
    #[must_use]
    pub fn end(mut self, end: LineEnd) -> Self {
        self.end = end;
        self.begin();
        self
    }

    /// Sets the maximum length of a line, in bytes without its end.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Sets the treatment of longer lines.
    #[must_use]
    pub fn overlong(mut self, overlong: Overlong) -> Self {
        self.overlong = overlong;
        self
    }

    /// Sets whether frames have the ends of their lines, as when lines are passed on unchanged.
    #[must_use]
    pub fn keep_end(mut self, keep: bool) -> Self {
        self.keep_end = keep;
        self
    }

    /// Returns the number of lines that [`Overlong::Skip`] has left out. A line counts as soon as it is
    /// known to be too long.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Writes a line and its end, in one write: `\r\n` for [`LineEnd::CrLf`], else `\n`.
    ///
    /// `line` is not searched for further ends, so text of others may have to be.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. Nothing is written then.
    pub fn write(&self, transport: &Transport, line: &[u8]) -> Result<Flow, WriteError> {
        transport.write_vectored(&[IoSlice::new(line), IoSlice::new(self.end_bytes())])
    }

    pub(crate) fn end_bytes(&self) -> &'static [u8] {
        match self.end {
            LineEnd::CrLf => b"\r\n",
            LineEnd::Either | LineEnd::Lf => b"\n",
        }
    }

    /// The next input begins with a line, or has not begun.
    fn begin(&mut self) {
        self.searched = 0;
        self.skipping = false;
        self.plain = self.end != LineEnd::CrLf;
    }

    /// Returns the length of the first line, without and with its end.
    fn find_end(&self, input: &[u8]) -> Option<(usize, usize)> {
        let mut from = self.searched;
        loop {
            let at = from + search::find(b'\n', input.get(from..)?)?;
            let has_cr = at > 0 && input[at - 1] == b'\r';
            match self.end {
                LineEnd::CrLf if !has_cr => from = at + 1,
                LineEnd::Lf => return Some((at, at + 1)),
                LineEnd::CrLf | LineEnd::Either => return Some((at - usize::from(has_cr), at + 1)),
            }
        }
    }

    fn frame(&self, content: usize, end: usize) -> Step<usize> {
        Step::Frame(if self.keep_end { end } else { content }, end)
    }

    /// As `decode`, in every state. A frame is the first bytes, this many.
    #[cold]
    fn decode_any(&mut self, input: &[u8]) -> Result<Step<usize>, FrameError> {
        if input.is_empty() {
            return Ok(Step::Need(0));
        }
        if let Some((content, end)) = self.find_end(input) {
            let skipping = self.skipping;
            self.begin();
            return match skipping {
                true => Ok(Step::Skip(end)),
                false if content > self.max => self.too_long(end),
                false => Ok(self.frame(content, end)),
            };
        }
        // The last byte may be half an end.
        let half_end = usize::from(self.end == LineEnd::CrLf && input.ends_with(b"\r"));
        if self.skipping {
            return Ok(Step::Skip(input.len() - half_end));
        }
        if input.len() > self.max.saturating_add(1) {
            let step = self.too_long(input.len() - half_end);
            (self.skipping, self.plain, self.searched) = (true, false, 0);
            return step;
        }
        self.searched = input.len();
        self.plain = false;
        Ok(Step::Need(0))
    }

    fn too_long(&mut self, skip: usize) -> Result<Step<usize>, FrameError> {
        if self.overlong == Overlong::Error {
            return Err(FrameError::TooLong { max: self.max });
        }
        self.skipped += 1;
        Ok(Step::Skip(skip))
    }

    /// As `decode_eof`, with the length of a frame.
    #[cold]
    fn decode_last(&mut self, input: &[u8]) -> Result<Step<usize>, FrameError> {
        let step = self.decode_any(input)?;
        if step != Step::Need(0) && step != Step::Skip(0) || input.is_empty() {
            return Ok(step);
        }
        let skipping = self.skipping;
        self.begin();
        match skipping {
            true => Ok(Step::Skip(input.len())),
            false if input.len() > self.max => self.too_long(input.len()),
            false => Ok(self.frame(input.len(), input.len())),
        }
    }
}

/// Lends the frame, of which `step` has the length.
fn lend(input: &[u8], step: Step<usize>) -> Step<&[u8]> {
    match step {
        Step::Frame(len, taken) => Step::Frame(&input[..len], taken),
        Step::Skip(len) => Step::Skip(len),
        Step::Need(missing) => Step::Need(missing),
    }
}

impl Decode for Lines {
    type Frame<'a> = &'a [u8];
    type Error = FrameError;

    #[inline(always)]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, FrameError> {
        if self.plain
            && let Some(at) = search::find(b'\n', input)
            && at <= self.max
        {
            let has_cr = || self.end == LineEnd::Either && input[..at].ends_with(b"\r");
            let len = match self.keep_end {
                true => at + 1,
                false => at - usize::from(has_cr()),
            };
            return Ok(Step::Frame(&input[..len], at + 1));
        }
        let step = self.decode_any(input)?;
        Ok(lend(input, step))
    }

    fn decode_eof<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, FrameError> {
        let step = self.decode_last(input)?;
        Ok(lend(input, step))
    }

    fn skipping(&self) -> Option<u64> {
        self.skipping.then_some(self.skipped)
    }

    fn restart(&mut self) {
        self.begin();
    }
}
