//! The way of a connection's bytes: a socket, or TLS on a socket.

use super::Plan;
use crate::carrier::Carrier;
use crate::tls;
use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Where connections go, and whether over TLS. Sessions that are resumed are of one target.
pub(super) struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    silence: Duration,
}

impl Target {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            address: plan.address,
            tls: (plan.carrier == Carrier::Tls).then(|| tls::client_config(plan.handshake)),
            silence: plan.silence,
        }
    }

    fn session(&self) -> Option<Box<ClientConnection>> {
        let config = self.tls.as_ref()?;
        Some(Box::new(tls::session(config)))
    }

    /// Connects, and waits until the handshake is complete.
    pub(super) fn connect(&self) -> io::Result<Stream> {
        let mut socket = std::net::TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        let mut session = self.session();
        if let Some(session) = &mut session {
            socket.set_read_timeout(Some(self.silence))?;
            session.complete_io(&mut socket)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Stream {
            socket: TcpStream::from_std(socket),
            session,
        })
    }

    /// Starts to connect. The handshake is made by the reads and writes that follow.
    pub(super) fn start(&self) -> io::Result<Stream> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        Ok(Stream {
            socket,
            session: self.session(),
        })
    }
}

/// A connection's bytes.
pub(super) struct Stream {
    pub(super) socket: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Reads into the buffer. `wire` is room for what is still encrypted, of any content.
    ///
    /// Fewer bytes than there is room for mean that nothing is left for now, as with a socket. 0 is
    /// the end of the stream: over TLS a close_notify, and an end without one is an error.
    pub(super) fn read(&mut self, buffer: &mut [u8], wire: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.socket.read(buffer);
        };
        let mut len = match session.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Ok(0) => return Ok(0),
            read => read?,
        };
        let mut has_ended = false;
        while len < buffer.len() && !has_ended {
            // No more than there is room for: rustls keeps no more than a record beyond that.
            let room = wire.len().min(buffer.len() - len);
            let arrived = match self.socket.read(&mut wire[..room]) {
                Err(_) if len > 0 => break,
                read => read?,
            };
            let mut rest = &wire[..arrived];
            loop {
                // Of 0 bytes it learns that the stream has ended.
                session.read_tls(&mut rest)?;
                let state = session
                    .process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                has_ended = arrived == 0 || state.peer_has_closed();
                len += session.reader().read(&mut buffer[len..]).unwrap_or(0);
                if rest.is_empty() {
                    break;
                }
            }
            // The client's part of a handshake.
            would_block_is_fine(send(session, &mut self.socket))?;
            if arrived < room && len > 0 {
                break;
            }
        }
        if len > 0 {
            return Ok(len);
        }
        session.reader().read(buffer)
    }

    /// Writes. Over TLS bytes that are taken can still wait in the session: see
    /// [`flush`](Self::flush).
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.socket.write(bytes);
        };
        send(session, &mut self.socket)?;
        let len = session.writer().write(bytes)?;
        would_block_is_fine(send(session, &mut self.socket))?;
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(len)
    }

    /// Sends what waits in the session.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            Some(session) => would_block_is_fine(send(session, &mut self.socket)),
            None => Ok(()),
        }
    }

    /// Whether bytes wait in the session.
    #[cfg(test)]
    pub(super) fn keeps_bytes(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.wants_write())
    }

    /// Ends the sending side, of which nothing waits any more.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            send(session, &mut self.socket)?;
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Whether the handshake has resumed an earlier session.
    pub(super) fn has_resumed(&self) -> bool {
        let session = self.session.as_ref();
        session.and_then(|session| session.handshake_kind()) == Some(HandshakeKind::Resumed)
    }
}

fn send(session: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(socket)?;
    }
    Ok(())
}

fn would_block_is_fine(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        sent => sent,
    }
}
