//! Two streams that become one.

use crate::connection::Connection;
use crate::reader::StreamReader;
use crate::stream::{Serve, StreamProtocol};
use crate::writer::StreamWriter;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tidegate::{Completion, Relay, RelayReport, Relayed, Transport, WriteError};

/// Ties two connections together until both have ended: bytes that one peer sends, the other
/// receives.
///
/// Bytes that the readers took in and nobody has read go first. From then on the connections belong
/// to a [`Relay`]: its rules say how backpressure, half-closes, resets and ends are carried over. It
/// passes bytes from one connection to the other without waking this task.
///
/// Returns the bytes of each way, those that were read ahead among them, and how each side ended.
///
/// ```
/// use tidegate::Result;
/// use tidegate_streams::{Connection, StreamReader, StreamWriter, open_connection, relay};
///
/// /// A proxy that looks at the first line, and passes it on with all that follows.
/// async fn proxy(mut reader: StreamReader, writer: StreamWriter) -> Result {
///     let line = reader.read_line().await?;
///     let (back_reader, back_writer) = open_connection("127.0.0.1:8888").await?;
///     back_writer.write(&line)?;
///     let front = Connection::new(reader, writer);
///     let report = relay(front, Connection::new(back_reader, back_writer)).await?;
///     println!("{} bytes to the back, {} to the front", report.to_back.sent, report.to_front.sent);
///     Ok(())
/// }
/// # let _ = tidegate_streams::start_server("127.0.0.1:0", proxy);
/// ```
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for one connection twice, for the halves of two
/// connections in one [`Connection`], and for a [detached](StreamReader::detached) reader. Those of
/// [`Relay::between`]. A connection that ends is no error: the report tells how.
///
/// # Cancel safety
///
/// Dropping the future closes both connections, each after the bytes that were written to it.
pub async fn relay(front: Connection, back: Connection) -> io::Result<RelayReport> {
    let (mut front, mut back) = (Side::of(front)?, Side::of(back)?);
    if front.transport.id() == back.transport.id() {
        return Err(invalid(
            "a relay needs two connections, and was given one twice",
        ));
    }
    let servers = (front.server().await, back.server().await);
    poll_fn(|context| poll_ahead(context, &mut front, &mut back)).await;
    // Nothing was awaited since the readers were empty.
    front.leave(servers.0);
    back.leave(servers.1);
    let mut report = Relay::between(&front.transport, &back.transport).await?;
    let unsent = report.back.as_ref().map_or(0, |closed| closed.unsent());
    report.to_back = back.relayed(report.to_back, front.ahead, unsent);
    report.to_front = front.relayed(report.to_front, back.ahead, report.front.unsent());
    Ok(report)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// One of the two connections. Its halves live as long as the relay: dropping them would close it.
struct Side {
    reader: StreamReader,
    writer: StreamWriter,
    transport: Transport,
    /// The bytes that the relay's own writes began with.
    written: u64,
    /// The number of bytes that were read ahead, and passed to the other side or lost.
    ahead: u64,
    /// For room in the write buffer.
    room: Option<Completion<()>>,
}

impl Side {
    fn of(connection: Connection) -> io::Result<Self> {
        let (reader, writer) = connection.split();
        let transport = writer.transport().clone();
        if reader.transport().map(Transport::id) != Some(transport.id()) {
            return Err(invalid("a relay needs both halves of each connection"));
        }
        Ok(Self {
            written: transport.written(),
            reader,
            writer,
            transport,
            ahead: 0,
            room: None,
        })
    }

    async fn server(&self) -> Option<Rc<dyn Serve>> {
        StreamProtocol::server_of(&self.transport).await
    }

    /// The connection gets another protocol: its server is told of its end all the same.
    fn leave(&self, server: Option<Rc<dyn Serve>>) {
        if let Some(server) = server.filter(|_| !self.reader.is_lost()) {
            self.transport.wait_closed().then(move |_, closed| {
                if let Ok(closed) = closed {
                    server.lost(&closed);
                }
            });
        }
    }

    /// Writes what the other side has read ahead. Returns false when it has to wait for room.
    fn take_from(&mut self, from: &mut Self) -> bool {
        while self.room.is_none() {
            let bytes = from.reader.front();
            if bytes.is_empty() {
                return true;
            }
            match self.writer.write(bytes) {
                Err(WriteError::BufferFull { .. }) => self.room = Some(self.transport.flush()),
                // Refused for good, it is lost; the relay tells the other side so.
                Ok(_) | Err(_) => from.ahead += from.reader.take_front() as u64,
            }
        }
        false
    }

    /// Waits for room. Ready when the write may be tried again.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(room) = &mut self.room else {
            return Poll::Pending;
        };
        let flushed = Pin::new(room).poll(context);
        flushed.map(|_| self.room = None)
    }

    /// Adds the bytes that were read ahead to those that the relay passed on to this side.
    fn relayed(&self, relayed: Relayed, ahead: u64, unsent: u64) -> Relayed {
        let mut all = relayed;
        let total = relayed.sent + relayed.lost + ahead;
        let written = self.transport.written() - self.written;
        all.sent = written.saturating_sub(unsent).min(total);
        all.lost = total - all.sent;
        all
    }
}

/// Ready when nothing of either side is left that was read ahead.
fn poll_ahead(context: &mut Context<'_>, front: &mut Side, back: &mut Side) -> Poll<()> {
    loop {
        let passed = (back.take_from(front), front.take_from(back));
        if passed == (true, true) {
            return Poll::Ready(());
        }
        // Bytes that come meanwhile are passed on, or the side that is full might not be read from.
        let more = front.poll_room(context).is_ready() | back.poll_room(context).is_ready();
        let more = more
            || (passed.0 && front.reader.poll_front(context))
            || (passed.1 && back.reader.poll_front(context));
        if !more {
            return Poll::Pending;
        }
    }
}
