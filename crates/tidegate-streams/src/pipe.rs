//! Pipes, one half each.

use crate::error::NoEventLoop;
use crate::options::StreamOptions;
use crate::reader::StreamReader;
use crate::stream::{Incoming, StreamProtocol};
use crate::writer::StreamWriter;
use std::io;
use tidegate::{Handle, PipeEnd};

/// Reads from a pipe, FIFO, terminal or socket, on the loop that is running on this thread.
///
/// Dropping the reader closes the pipe. See [`Handle::connect_read_pipe`] for the files that it takes.
///
/// ```
/// use std::io::Write;
/// use tidegate_streams::{block_on, read_pipe, write_pipe};
///
/// # fn main() -> tidegate::Result { block_on(async {
/// let (reader, writer) = std::io::pipe()?;
/// let (mut reader, writer) = (read_pipe(reader)?, write_pipe(writer)?);
/// writer.write_all(b"one\ntwo\n").await?;
/// writer.close().await?;
/// assert_eq!(&reader.read_line().await?[..], b"one\n");
/// assert_eq!(&reader.read_to_end(1000).await?[..], b"two\n");
/// # Ok(()) })? }
/// ```
///
/// # Errors
///
/// Those of [`Handle::connect_read_pipe`]; [`NoEventLoop`].
#[doc(alias = "connect_read_pipe")]
pub fn read_pipe(end: impl Into<PipeEnd>) -> io::Result<StreamReader> {
    read_pipe_on(&Handle::current().ok_or(NoEventLoop)?, end)
}

/// Writes to a pipe, FIFO, terminal or socket, on the loop that is running on this thread.
///
/// Dropping the writer closes the pipe, once the buffered bytes were sent, and so does
/// [`write_eof`](StreamWriter::write_eof).
///
/// # Errors
///
/// Those of [`Handle::connect_write_pipe`]; [`NoEventLoop`].
#[doc(alias = "connect_write_pipe")]
pub fn write_pipe(end: impl Into<PipeEnd>) -> io::Result<StreamWriter> {
    write_pipe_on(&Handle::current().ok_or(NoEventLoop)?, end)
}

pub(crate) fn read_pipe_on(handle: &Handle, end: impl Into<PipeEnd>) -> io::Result<StreamReader> {
    let incoming = Incoming::without_writer();
    let protocol = StreamProtocol::new(incoming.clone(), None);
    let transport = handle.connect_read_pipe(end, protocol)?;
    Ok(StreamReader::new(incoming, transport))
}

pub(crate) fn write_pipe_on(handle: &Handle, end: impl Into<PipeEnd>) -> io::Result<StreamWriter> {
    let protocol = StreamProtocol::new(Incoming::new(StreamOptions::new()), None);
    Ok(StreamWriter::new(handle.connect_write_pipe(end, protocol)?))
}
