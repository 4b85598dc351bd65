//! Both halves in one value, for libraries that want it so.

use crate::reader::StreamReader;
use crate::writer::StreamWriter;

/// A reader and a writer in one. It and the halves have the asynchronous traits of the ecosystem:
/// those of futures-io, and with features those of tokio and hyper.
///
/// Through these traits, writing waits while the transport is paused and otherwise takes all it is
/// given; flushing waits until the kernel has everything; closing (or shutting down) flushes and
/// then ends our side of the stream. Dropping it closes the connection, as dropping the writer does.
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

    /// Takes them apart.
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}
