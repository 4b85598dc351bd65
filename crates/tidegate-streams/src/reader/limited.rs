//! Reads up to a separator, with a limit, and line by line.

use super::StreamReader;
use crate::error::ReadError;
use crate::read_buffer::ReadBuffer;
use crate::separators::Separators;
use bytes::Bytes;
use std::future::{Future, poll_fn};

/// A reader with another limit, for one call: see [`StreamReader::with_limit`].
#[derive(Debug)]
#[must_use = "the limit is that of a read which is called on it"]
pub struct Limited<'r> {
    pub(super) reader: &'r mut StreamReader,
    pub(super) limit: usize,
}

impl Limited<'_> {
    /// [`StreamReader::read_until`] within this limit; cancel safe as that.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn read_until<'s>(
        self,
        separators: impl Into<Separators<'s>>,
    ) -> Result<Bytes, ReadError> {
        let separators = separators.into();
        let separators = separators.as_slices();
        if separators.is_empty() || separators.iter().any(|one| one.is_empty()) {
            return Err(ReadError::NoSeparator);
        }
        let mut searched = 0;
        poll_fn(|context| {
            let find = |buffer: &ReadBuffer, from| buffer.find(separators, from, self.limit);
            let last = |rest| Err(ReadError::Incomplete(rest));
            self.reader.poll_found(context, &mut searched, find, last)
        })
        .await
    }

    /// [`StreamReader::read_line`] within this limit; cancel safe as that.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn read_line(self) -> impl Future<Output = Result<Bytes, ReadError>> {
        let mut searched = 0;
        poll_fn(move |context| {
            let last = |rest| rest;
            self.reader
                .poll_line(context, &mut searched, self.limit, last)
        })
    }
}

/// The lines of a reader: see [`StreamReader::lines`].
#[derive(Debug)]
#[must_use = "lines are read by `next`"]
pub struct Lines<'r> {
    pub(super) reader: &'r mut StreamReader,
}

impl Lines<'_> {
    /// Returns the next line, with its `\n`, or `None` at the end of the stream. Cancel safe, as
    /// [`read_line`](StreamReader::read_line).
    ///
    /// # Errors
    ///
    /// Those of `read_line`.
    #[doc(alias = "__anext__")]
    #[expect(
        clippy::should_implement_trait,
        reason = "as an async function it would have the same name and cost more"
    )]
    pub fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, ReadError>> {
        let mut searched = 0;
        poll_fn(move |context| {
            let limit = self.reader.limit();
            let last = |rest| Some(rest).filter(|rest: &Bytes| !rest.is_empty());
            self.reader.poll_line(context, &mut searched, limit, last)
        })
    }
}
