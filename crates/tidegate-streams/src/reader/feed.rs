//! A reader without a connection, which a test feeds.

use super::StreamReader;
use crate::options::StreamOptions;
use crate::stream::Incoming;
use std::fmt;
use std::rc::Rc;

/// Feeds a [detached](StreamReader::detached) reader: the end that gives it its bytes.
///
/// Dropping it ends the stream, as [`eof`](Self::eof) does.
pub struct Feed {
    incoming: Rc<Incoming>,
}

impl StreamReader {
    /// Returns a reader that belongs to no connection, and what feeds it; for tests of code that
    /// reads.
    ///
    /// It needs no event loop: any executor can poll its reads.
    ///
    /// ```
    /// use tidegate_streams::{ReadError, StreamOptions, StreamReader, block_on};
    ///
    /// /// The code under test.
    /// async fn greeting(reader: &mut StreamReader) -> Result<String, ReadError> {
    ///     let line = reader.read_line().await?;
    ///     Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    /// }
    ///
    /// # fn main() -> std::io::Result<()> { block_on(async {
    /// let (mut reader, feed) = StreamReader::detached(StreamOptions::new());
    /// feed.data(b"hel");
    /// feed.data(b"lo\n");
    /// assert_eq!(greeting(&mut reader).await.unwrap(), "hello");
    /// feed.eof();
    /// assert_eq!(greeting(&mut reader).await.unwrap(), "");
    /// # }) }
    /// ```
    #[doc(alias = "feed_data")]
    #[doc(alias = "feed_eof")]
    pub fn detached(options: StreamOptions) -> (Self, Feed) {
        let incoming = Incoming::new(options);
        let reader = Self {
            incoming: incoming.clone(),
            transport: None,
            lent: None,
        };
        (reader, Feed { incoming })
    }
}

impl Feed {
    /// Appends bytes to what the reader can read; asyncio's `feed_data`.
    ///
    /// It takes them whatever the limit is; [`is_full`](Self::is_full) tells when a connection would
    /// not be read any more. Bytes after the end of the stream, or for a reader that was dropped, are
    /// discarded.
    #[doc(alias = "feed_data")]
    pub fn data(&self, data: &[u8]) {
        self.incoming.feed(data);
    }

    /// Ends the stream; asyncio's `feed_eof`.
    #[doc(alias = "feed_eof")]
    pub fn eof(&self) {
        self.incoming.end();
    }

    /// Returns whether the reader is above twice its limit, and would stop reading from a peer; see
    /// [the limit](StreamReader#the-limit).
    pub fn is_full(&self) -> bool {
        self.incoming.is_full()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.eof();
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("reader", &self.incoming)
            .finish()
    }
}
