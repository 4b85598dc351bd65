//! Both halves in one value, as the traits of other crates need it.

use crate::reader::StreamReader;
use crate::writer::StreamWriter;

/// A reader and a writer in one, with the asynchronous traits of other crates.
///
/// It and the halves have those of futures-io, and with features those of tokio and hyper. Through these
/// traits, a write waits while the transport is paused and otherwise takes all bytes. A flush waits until
/// the kernel has everything. Closing (or shutting down) flushes and then ends our side of the stream.
///
/// Dropping it closes the connection, as dropping the writer does.
///
/// ```
/// use tidegate_streams::{Connection, open_connection};
///
/// # async fn example() -> std::io::Result<()> {
/// let (reader, writer) = open_connection("127.0.0.1:8888").await?;
/// let connection = Connection::new(reader, writer);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Connection {
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

impl Connection {
    /// Puts the halves together: those of one connection, or a reader and a writer of two.
    pub fn new(reader: StreamReader, writer: StreamWriter) -> Self {
        Self { reader, writer }
    }

    /// Returns the halves.
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}
