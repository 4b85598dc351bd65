//! A look at what has arrived, which takes nothing.

use super::StreamReader;
use crate::error::{LimitOverrun, ReadError};
use std::future::{Future, poll_fn};
use std::task::Context;

/// Looking ahead. Each method is cancel safe, and leaves every byte in the reader.
impl StreamReader {
    /// Returns the number of bytes that can be read without waiting.
    pub fn buffered(&self) -> usize {
        self.incoming.buffered()
    }

    /// Waits until a read would not wait: until there is a byte, or the stream has ended.
    ///
    /// After the end of the stream [`buffered`](Self::buffered) is 0. In a `select` it tells that
    /// there is something to read, and takes nothing.
    ///
    /// # Errors
    ///
    /// [`ReadError::Closed`], once all bytes that came before the end of the connection were read.
    pub fn readable(&mut self) -> impl Future<Output = Result<(), ReadError>> {
        poll_fn(|context| self.poll_some(context))
    }

    /// Waits until there are `len` bytes, and returns them without taking them.
    ///
    /// When the stream ends first, it returns those that are there: fewer than `len`. It is for a
    /// server that tells protocols apart by their first bytes. asyncio has no such method.
    ///
    /// ```
    /// # use tidegate_streams::{StreamReader, StreamWriter};
    /// async fn is_http2(reader: &mut StreamReader) -> tidegate::Result<bool> {
    ///     // RFC 9113, section 3.4.
    ///     let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    ///     Ok(reader.peek(preface.len()).await? == preface)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError::LimitOverrun`] when `len` is above the [limit](Self::limit), at once;
    /// [`ReadError::Closed`], and the bytes that were there stay to be read.
    pub async fn peek(&mut self, len: usize) -> Result<&[u8], ReadError> {
        if len > self.limit() {
            return Err(ReadError::LimitOverrun(LimitOverrun {
                consumed: self.buffered(),
                found: false,
            }));
        }
        poll_fn(|context| self.poll_ready(context, |there| there >= len)).await?;
        let len = len.min(self.buffered());
        if self.incoming.lent.get() < len {
            self.unlend();
            self.lend();
        }
        Ok(self.lent().get(..len).unwrap_or_default())
    }
}

/// For a relay or a layer, which is given what was read ahead.
impl StreamReader {
    /// Lends the bytes that are there, or the first of them.
    pub(crate) fn front(&mut self) -> &[u8] {
        if self.incoming.lent.get() == 0 {
            self.lend();
        }
        self.lent()
    }

    /// Takes what [`front`](Self::front) has lent, and returns its length.
    pub(crate) fn take_front(&mut self) -> usize {
        let len = self.incoming.lent.get();
        self.consume(len);
        len
    }

    /// Returns whether there are bytes; otherwise the task is woken when some come.
    pub(crate) fn poll_front(&mut self, context: &mut Context<'_>) -> bool {
        self.poll_some(context).is_ready() && self.buffered() > 0
    }

    /// Returns whether the connection has ended, so that its server was told, or has left its protocol.
    pub(crate) fn is_lost(&self) -> bool {
        self.incoming.lost.get()
    }
}
