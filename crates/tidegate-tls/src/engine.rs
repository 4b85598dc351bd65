//! One end of a TLS connection on rustls's unbuffered API: four functions, and nothing else of the
//! crate knows that API.
//!
//! [`Engine::drive`] uses bytes from the peer, [`Engine::encrypt`] and [`Engine::close`] make bytes
//! for it, [`Engine::info`] tells what was negotiated. A rustls with another API changes this file
//! and no other.
//!
//! The library decrypts in place and keeps nothing of its input. A handshake message that is split
//! over records stays in the input, decrypted, until its last part comes. So the functions that only
//! make bytes need the input too, and it always begins with the first byte that `drive` has not
//! consumed.

use crate::{TlsInfo, asked_name};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{AlertDescription, ClientConfig, CommonState, Error, ServerConfig};
use std::io;
use std::sync::Arc;
use std::{fmt, mem};

/// Maximum of plain bytes in a record (RFC 8446, section 5.1).
const MAX_RECORD: usize = 1 << 14;

/// Room for the bytes that encryption adds to a record: its header, a nonce and a tag, rounded up
/// (RFC 5246, section 6.2.3, and RFC 8446, section 5.2).
const RECORD_OVERHEAD: usize = 64;

/// Where an engine puts the bytes for its peer.
pub(crate) trait Output {
    /// Returns room for `len` bytes or more, behind those that are there.
    fn spare(&mut self, len: usize) -> &mut [u8];

    /// Keeps the first `len` bytes of the room.
    fn filled(&mut self, len: usize);
}

/// Why a call of [`Engine::drive`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The rest of the input cannot be used before more has come.
    Blocked,
    /// The handshake is done. Comes once, and before all data.
    Opened,
    /// The peer has ended its stream with a close_notify. The rest of the input is to be ignored.
    PeerClosed,
}

/// One end of a TLS connection.
pub(crate) enum Engine {
    Client(Session<UnbufferedClientConnection>),
    Server(Session<UnbufferedServerConnection>),
}

impl Engine {
    pub(crate) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        match UnbufferedClientConnection::new(config, name) {
            Ok(connection) => Ok(Self::Client(Session::new(connection))),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    /// Tells the name that the client asked for if `config` [notes](asked_name::noting) it.
    pub(crate) fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        match UnbufferedServerConnection::new(config) {
            Ok(connection) => Ok(Self::Server(Session::new(connection))),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    /// Uses what came from the peer, up to the next event. Returns how many bytes of the input are
    /// done with, and the event.
    ///
    /// Plain bytes go to `plain`. Replies go to `out`, the alert that tells the peer of an error among
    /// them. An event other than [`Event::Blocked`] asks for another call with the rest of the input.
    pub(crate) fn drive(
        &mut self,
        input: &mut [u8],
        plain: impl FnMut(&[u8]),
        out: &mut impl Output,
    ) -> (usize, io::Result<Event>) {
        match self {
            Self::Client(session) => session.drive(input, plain, out),
            Self::Server(session) => session.drive(input, plain, out),
        }
    }

    /// As [`drive`](Self::drive), for the usual input: whole records with data, after the handshake.
    /// Returns how many bytes of the input are done with. `None` asks for a call of `drive` with the same
    /// input, which goes on.
    #[inline(always)]
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        plain: impl FnMut(&[u8]),
        out: &mut impl Output,
    ) -> Option<usize> {
        match self {
            Self::Client(session) => session.receive(input, plain, out),
            Self::Server(session) => session.receive(input, plain, out),
        }
    }

    /// Puts `data` into `out`, encrypted. Returns how many of its bytes: all, or none before the
    /// handshake is done.
    pub(crate) fn encrypt(
        &mut self,
        input: &mut [u8],
        data: &[u8],
        out: &mut impl Output,
    ) -> io::Result<usize> {
        match self {
            Self::Client(session) => session.encrypt(input, data, out),
            Self::Server(session) => session.encrypt(input, data, out),
        }
    }

    /// Puts a close_notify into `out`, once the handshake is done.
    pub(crate) fn close(&mut self, input: &mut [u8], out: &mut impl Output) -> io::Result<()> {
        match self {
            Self::Client(session) => session.close(input, out),
            Self::Server(session) => session.close(input, out),
        }
    }

    /// Returns what was negotiated, once the handshake is done.
    pub(crate) fn info(&self) -> Option<TlsInfo> {
        match self {
            Self::Client(session) => session.info(),
            Self::Server(session) => session.info(),
        }
    }

    /// Returns the certificates that the peer has shown, once the handshake is done.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Client(session) => session.peer_certificates(),
            Self::Server(session) => session.peer_certificates(),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// The two kinds of connection of the library, which differ in a type parameter.
pub(crate) trait Connection {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// A connection of the library, and what it tells once only.
pub(crate) struct Session<C> {
    connection: C,
    /// Bytes at the front of the input that are done with, before `drive` has returned their number.
    done: usize,
    opened: bool,
    peer_closed: bool,
    failed: Option<Error>,
    /// The name that the client of this server asked for.
    asked_name: Option<Box<str>>,
}

impl<C: Connection> Session<C> {
    fn new(connection: C) -> Self {
        Self {
            connection,
            done: 0,
            opened: false,
            peer_closed: false,
            failed: None,
            asked_name: None,
        }
    }

    #[inline(always)]
    fn receive(
        &mut self,
        input: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        out: &mut impl Output,
    ) -> Option<usize> {
        let is_usual = self.opened && !self.peer_closed && self.failed.is_none();
        if is_usual && self.step(input, &mut plain, out) {
            return Some(mem::take(&mut self.done));
        }
        None
    }

    fn drive(
        &mut self,
        input: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        out: &mut impl Output,
    ) -> (usize, io::Result<Event>) {
        let event = loop {
            if let Some(error) = &self.failed {
                break Err(invalid_data(error.clone()));
            }
            if self.peer_closed {
                break Ok(Event::PeerClosed);
            }
            let blocked = self.step(input, &mut plain, out);
            if !self.opened && !self.connection.state().is_handshaking() {
                self.opened = true;
                break Ok(Event::Opened);
            }
            if blocked {
                break Ok(Event::Blocked);
            }
        };
        (mem::take(&mut self.done), event)
    }

    /// Carries out what the library wants next. Returns whether it wants more input.
    #[inline(always)]
    fn step(
        &mut self,
        input: &mut [u8],
        plain: &mut impl FnMut(&[u8]),
        out: &mut impl Output,
    ) -> bool {
        let end = input.len();
        let status = self.connection.process(&mut input[self.done..]);
        self.done += status.discard;
        if !self.opened {
            self.asked_name = asked_name::take().or(self.asked_name.take());
        }
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) if self.opened => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            self.done += record.discard;
                            plain(record.payload);
                        }
                        Err(error) => {
                            self.failed = Some(error);
                            return false;
                        }
                    }
                }
                // Saves the call that would find no more.
                return self.done == end && !self.connection.state().wants_write();
            }
            // The data waits in the connection until the caller knows that the handshake is done.
            Ok(ConnectionState::ReadTraffic(traffic)) => {
                drop(traffic);
                return self.connection.state().is_handshaking();
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
            // Early data is refused where a configuration is taken.
            Ok(_) => return true,
            Err(error) => self.fail(error, input, out),
        }
        false
    }

    /// Notes the error, and puts the alert into `out` that tells the peer of it.
    ///
    /// The library is called only while it has something to send: after an error it would find the
    /// same one in the input again.
    #[cold]
    fn fail(&mut self, error: Error, input: &mut [u8], out: &mut impl Output) {
        let mut is_told = false;
        while self.connection.state().wants_write() {
            let UnbufferedStatus { discard, state } =
                self.connection.process(&mut input[self.done..]);
            self.done += discard;
            let Ok(ConnectionState::EncodeTlsData(data)) = state else {
                break;
            };
            encode(data, out);
            is_told = true;
        }
        // For some errors the library sends none. Without a version there are no keys either.
        if !is_told && self.connection.state().protocol_version().is_none() {
            put_alert(&error, out);
        }
        self.failed = Some(error);
    }

    fn encrypt(
        &mut self,
        input: &mut [u8],
        data: &[u8],
        out: &mut impl Output,
    ) -> io::Result<usize> {
        let records = data.len().div_ceil(MAX_RECORD);
        let room = data.len() + records * RECORD_OVERHEAD;
        let written = self.write(input, room, out, |traffic, room| {
            traffic.encrypt(data, room)
        })?;
        Ok(if written { data.len() } else { 0 })
    }

    fn close(&mut self, input: &mut [u8], out: &mut impl Output) -> io::Result<()> {
        self.write(input, RECORD_OVERHEAD, out, |traffic, room| {
            traffic.queue_close_notify(room)
        })?;
        Ok(())
    }

    /// Calls `put` with room for `len` bytes, and again if it asks for more. Returns whether the
    /// handshake is far enough for that.
    fn write(
        &mut self,
        input: &mut [u8],
        len: usize,
        out: &mut impl Output,
        put: impl FnMut(&mut WriteTraffic<'_, C::Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<bool> {
        if self.failed.is_none() {
            let written = self.try_write(input, len, out, put);
            match written {
                Ok(written) => return Ok(written),
                Err(error) => self.fail(error, input, out),
            }
        }
        let error = self.failed.clone().unwrap_or(Error::HandshakeNotComplete);
        Err(invalid_data(error))
    }

    fn try_write(
        &mut self,
        input: &mut [u8],
        mut len: usize,
        out: &mut impl Output,
        mut put: impl FnMut(&mut WriteTraffic<'_, C::Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<bool, Error> {
        loop {
            let status = self.connection.process(&mut input[self.done..]);
            self.done += status.discard;
            match status.state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    match put(&mut traffic, out.spare(len)) {
                        Ok(written) => {
                            out.filled(written);
                            return Ok(true);
                        }
                        Err(EncryptError::InsufficientSize(InsufficientSizeError {
                            required_size,
                        })) => len = required_size,
                        Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Ok(false),
            }
        }
    }

    fn info(&self) -> Option<TlsInfo> {
        let state = self.connection.state();
        self.opened.then(|| TlsInfo {
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            version: state.protocol_version(),
            cipher_suite: state.negotiated_cipher_suite().map(|suite| suite.suite()),
            handshake: state.handshake_kind(),
            server_name: self.asked_name.as_deref().map(str::to_owned),
        })
    }

    fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        let known = self.connection.state().peer_certificates();
        known.filter(|_| self.opened).unwrap_or_default()
    }
}

/// Puts bytes of the handshake, or an alert, into `out`.
fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut impl Output) {
    let mut len = 0;
    loop {
        match data.encode(out.spare(len)) {
            Ok(written) => return out.filled(written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                len = required_size;
            }
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}

/// Puts a fatal alert into `out` that is not encrypted (RFC 8446, sections 5.1 and 6). An alert of the
/// peer gets none.
fn put_alert(error: &Error, out: &mut impl Output) {
    let description = match error {
        Error::AlertReceived(_) => return,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        _ => AlertDescription::UnexpectedMessage,
    };
    let alert = [21, 3, 3, 0, 2, 2, description.into()];
    out.spare(alert.len())[..alert.len()].copy_from_slice(&alert);
    out.filled(alert.len());
}

fn invalid_data(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
