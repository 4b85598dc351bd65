//! The use of a connection: the server sends a number of bytes on a stream, and the client checks them.

use quinn_proto::{Connection, Dir, ReadError, Side, StreamId, WriteError};
use std::io;
use std::sync::LazyLock;
use tidegate::{BoxError, Completer, Result};

/// The most bytes of one write.
const PIECE: usize = 16 * 1024;

/// The content repeats after this many bytes: a prime, so that no missing packet goes unnoticed.
const PERIOD: usize = 251;

static CONTENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..PERIOD + PIECE).map(|at| (at % PERIOD) as u8).collect());

/// Returns the content at `at`, as far as it goes in one piece.
fn piece(at: u64, len: u64) -> &'static [u8] {
    let start = (at % PERIOD as u64) as usize;
    &CONTENT[start..start + len.min(PIECE as u64) as usize]
}

pub(crate) struct Transfer {
    len: u64,
    done: Option<Completer<u64>>,
    stream: Option<StreamId>,
    /// The number of bytes so far.
    at: u64,
}

impl Transfer {
    /// The server's has the number of bytes to send, and the client's is told of those that came.
    pub(crate) fn new(len: u64, done: Option<Completer<u64>>) -> Self {
        Self {
            len,
            done,
            stream: None,
            at: 0,
        }
    }

    /// Goes on as far as the connection lets it. Returns whether a client has everything.
    pub(crate) fn advance(&mut self, connection: &mut Connection) -> Result<bool> {
        let side = connection.side();
        self.stream = self.stream.or_else(|| match side {
            Side::Client => connection.streams().accept(Dir::Uni),
            Side::Server => connection.streams().open(Dir::Uni),
        });
        match (self.stream, side) {
            (Some(id), Side::Client) => self.receive(connection, id),
            (Some(id), Side::Server) => self.send(connection, id).map(|()| false),
            (None, _) => Ok(false),
        }
    }

    pub(crate) fn fail(&mut self, error: BoxError) {
        log::debug!("a connection after {} bytes: {error}", self.at);
        if let Some(done) = self.done.take() {
            done.complete(Err(io::Error::other(error)));
        }
    }

    fn send(&mut self, connection: &mut Connection, id: StreamId) -> Result {
        let mut stream = connection.send_stream(id);
        while self.at < self.len {
            match stream.write(piece(self.at, self.len - self.at)) {
                Ok(len) => self.at += len as u64,
                Err(WriteError::Blocked) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        // From the second time on it fails: the stream is finished.
        let _ = stream.finish();
        Ok(())
    }

    /// Returns whether the stream has ended.
    fn receive(&mut self, connection: &mut Connection, id: StreamId) -> Result<bool> {
        let mut stream = connection.recv_stream(id);
        let mut chunks = stream.read(true)?;
        let ended = loop {
            match chunks.next(PIECE) {
                Ok(Some(chunk)) if chunk.bytes == piece(self.at, chunk.bytes.len() as u64) => {
                    self.at += chunk.bytes.len() as u64;
                }
                Ok(Some(_)) => return Err(format!("wrong bytes after {}", self.at).into()),
                Ok(None) => break true,
                Err(ReadError::Blocked) => break false,
                Err(error) => return Err(error.into()),
            }
        };
        // Whether that makes something to send is asked anyway.
        let _ = chunks.finalize();
        if let Some(done) = self.done.take_if(|_| ended) {
            done.complete(Ok(self.at));
        }
        Ok(ended)
    }
}
