//! Opening a connection.

use crate::error::NoEventLoop;
use crate::options::StreamOptions;
use crate::reader::StreamReader;
use crate::stream::{Incoming, StreamProtocol};
use crate::writer::StreamWriter;
use std::io;
use tidegate::{ConnectOptions, Handle};

/// Connects, on the loop that is running on this thread, and returns the two halves of the connection.
///
/// Two tasks may use them; [`Connection`](crate::Connection) puts them together again.
///
/// The address is what [`ConnectOptions`] is made from: `"127.0.0.1:8888"`, `"localhost:8888"`,
/// `"unix:/path"`, a host and a port, and more; it also has the timeout and the write limits. The
/// reader's limit is an [option](open_connection_with) of the stream, and may be
/// [set](StreamReader::set_limit) later.
///
/// # Errors
///
/// Those of [`Handle::create_connection`]; [`NoEventLoop`].
///
/// # Cancel safety
///
/// Dropping the future ends the attempt, and closes a connection that it had brought.
#[doc(alias = "open_unix_connection")]
pub async fn open_connection(
    to: impl Into<ConnectOptions>,
) -> io::Result<(StreamReader, StreamWriter)> {
    open_connection_with(to, StreamOptions::new()).await
}

/// As [`open_connection`], with options for the stream.
///
/// # Errors
///
/// As [`open_connection`].
///
/// # Cancel safety
///
/// As [`open_connection`].
pub async fn open_connection_with(
    to: impl Into<ConnectOptions>,
    options: StreamOptions,
) -> io::Result<(StreamReader, StreamWriter)> {
    let handle = Handle::current().ok_or(NoEventLoop)?;
    let incoming = Incoming::new(options);
    let protocol = StreamProtocol::new(incoming.clone(), None);
    let transport = handle.create_connection(to, protocol).await?;
    let reader = StreamReader::new(incoming, transport.clone());
    Ok((reader, StreamWriter::new(transport)))
}
