//! The layer.

use crate::asked_name;
use crate::engine::{Engine, Event, Output};
use crate::info::TlsInfo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tidegate::{Below, Layer, LayerIo, Result};

/// As asyncio's `ssl_handshake_timeout`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// A layer that encrypts the stream of a connection: one end of TLS 1.2 or 1.3.
///
/// The methods of the [prelude](crate::prelude) put one on connections with the default settings.
/// This type is for others:
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// use tidegate::ListenOptions;
/// use tidegate_tls::{Tls, rustls::ServerConfig};
///
/// fn options(config: Arc<ServerConfig>) -> ListenOptions {
///     ListenOptions::new("127.0.0.1:8443").layer(move || {
///         Tls::server(config.clone()).handshake_timeout(Duration::from_secs(10))
///     })
/// }
/// ```
///
/// # How a stream ends
///
/// * [`close`](tidegate::Transport::close) and [`write_eof`](tidegate::Transport::write_eof) send a
///   close_notify (RFC 8446, section 6.1) behind the last bytes, then end the TCP stream. A peer that
///   speaks TLS 1.2 may close the connection in return, and drop what it had to send (RFC 5246,
///   section 7.2.1).
/// * The close_notify of the peer is its EOF. Bytes behind it are ignored.
/// * A stream that ends without one was cut: by the peer, or by anyone on the way. The connection ends
///   with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), after the data before it. See
///   [`truncation_is_end`](Self::truncation_is_end).
/// * [`abort`](tidegate::Transport::abort) sends no close_notify, so that the peer sees a cut.
///
/// # Errors
///
/// The error of a handshake or of a record is an [`io::Error`] with the
/// [`rustls::Error`] inside; its kind is
/// [`InvalidData`](io::ErrorKind::InvalidData). It is the reason with which the connection ends, and
/// the [cause](std::error::Error::source) in the error of a connect.
///
/// A configuration that cannot be used is [`InvalidInput`](io::ErrorKind::InvalidInput), and is told
/// when the layer is put on a connection. So is one that allows early data (RFC 8446, section 2.3):
/// anyone on the way can record such data and send it again, so it must be kept apart from other data,
/// and a stream has no way to tell them apart.
#[derive(Debug)]
pub struct Tls {
    engine: std::result::Result<Engine, Option<io::Error>>,
    phase: Phase,
    handshake_timeout: Duration,
    truncation_is_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    PeerClosed,
}

impl Tls {
    /// Makes the end that accepts the handshake. That is usually the side that accepted the connection.
    ///
    /// A server whose certificates change makes each layer of what is current:
    ///
    /// ```
    /// # use std::{cell::RefCell, rc::Rc, sync::Arc};
    /// use tidegate::ListenOptions;
    /// use tidegate_tls::{Tls, rustls::ServerConfig};
    ///
    /// fn options(current: Rc<RefCell<Arc<ServerConfig>>>) -> ListenOptions {
    ///     ListenOptions::new("127.0.0.1:8443")
    ///         .layer(move || Tls::server(current.borrow().clone()))
    /// }
    /// ```
    ///
    /// Connections that are open keep the certificate of their handshake. A resolver of certificates in
    /// one configuration ([`ResolvesServerCert`](crate::rustls::server::ResolvesServerCert)) does the
    /// same, and keeps the sessions that clients may resume.
    pub fn server(config: Arc<ServerConfig>) -> Self {
        Self::new(check_server(&config).and_then(|()| {
            let config = asked_name::noting(&config);
            Engine::server(Arc::new(config))
        }))
    }

    /// Makes the end that accepts the handshake. The configuration was checked, and notes the name that
    /// the client asks for.
    pub(crate) fn server_noting(config: Arc<ServerConfig>) -> Self {
        Self::new(Engine::server(config))
    }

    /// Makes the end that begins the handshake. The peer must show a certificate for `name`.
    ///
    /// Use one `Arc` for all connections: the sessions that can be resumed are kept in it.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self::new(check_client(&config).and_then(|()| Engine::client(config, name)))
    }

    fn new(engine: io::Result<Engine>) -> Self {
        Self {
            engine: engine.map_err(Some),
            phase: Phase::Handshake,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            truncation_is_end: false,
        }
    }

    /// Sets the time in which the handshake must be done; 60 s unless set.
    ///
    /// It begins when the layer is put on the connection. A handshake that takes longer ends it with
    /// [`TimeoutKind::Handshake`](tidegate::TimeoutKind::Handshake). Zero is
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when the layer is put on a connection.
    #[doc(alias = "ssl_handshake_timeout")]
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Sets whether a stream that ends without a close_notify ends as if it had one; off unless set.
    ///
    /// Only for protocols that say themselves where their messages end, such as HTTP with a length:
    /// anyone on the way can cut the stream.
    #[must_use]
    pub fn truncation_is_end(mut self, on: bool) -> Self {
        self.truncation_is_end = on;
        self
    }

    /// Returns what the handshake has negotiated, or `None` before it is done.
    pub fn info(&self) -> Option<TlsInfo> {
        self.engine.as_ref().ok()?.info()
    }

    /// Returns the certificates that the peer has shown, its own one first; see
    /// [`TransportTls::peer_certificates`](crate::TransportTls::peer_certificates).
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match &self.engine {
            Ok(engine) => engine.peer_certificates(),
            Err(_) => &[],
        }
    }

    fn engine(&mut self) -> io::Result<&mut Engine> {
        self.engine.as_mut().map_err(|error| {
            let again = || io::Error::new(io::ErrorKind::InvalidInput, "TLS cannot be used here");
            error.take().unwrap_or_else(again)
        })
    }

    /// Uses all of the input, and does what the engine says.
    fn drive(&mut self, io: &mut LayerIo<'_>) -> io::Result<()> {
        loop {
            let (input, mut above, mut below) = io.parts();
            let deliver = |data: &[u8]| above.deliver(data);
            let (done, event) = self.engine()?.drive(input, deliver, &mut below);
            io.consume(done);
            match event? {
                Event::Blocked => return Ok(()),
                Event::Opened => {
                    self.phase = Phase::Open;
                    io.open();
                }
                Event::PeerClosed => {
                    self.phase = Phase::PeerClosed;
                    let ignored = io.input().len();
                    io.consume(ignored);
                    io.end_of_stream();
                    return Ok(());
                }
            }
        }
    }
}

impl Layer for Tls {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        Ok(self.drive(io)?)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, mut below) = io.parts();
        if let Ok(engine) = &mut self.engine
            && let Some(done) = engine.receive(input, |data| above.deliver(data), &mut below)
        {
            io.consume(done);
            return Ok(());
        }
        Ok(self.drive(io)?)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        let message = match self.phase {
            Phase::PeerClosed => return Ok(()),
            Phase::Open if self.truncation_is_end => {
                io.end_of_stream();
                return Ok(());
            }
            Phase::Open => "the stream ended without a close_notify: it may have been cut",
            Phase::Handshake => "the stream ended in the TLS handshake",
        };
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message).into())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let (input, _, mut below) = io.parts();
        Ok(self.engine()?.encrypt(input, data, &mut below)?)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, _, mut below) = io.parts();
        Ok(self.engine()?.close(input, &mut below)?)
    }

    fn open_limit(&self) -> Duration {
        self.handshake_timeout
    }
}

impl Output for Below<'_> {
    #[inline(always)]
    fn spare(&mut self, len: usize) -> &mut [u8] {
        Below::spare(self, len)
    }

    fn filled(&mut self, len: usize) {
        Below::filled(self, len);
    }
}

/// Returns the error of a configuration with which no server may be made.
pub(crate) fn check_server(config: &ServerConfig) -> io::Result<()> {
    match config.max_early_data_size {
        0 => Ok(()),
        _ => Err(early_data(
            "max_early_data_size of the server's configuration must be 0",
        )),
    }
}

/// Returns the error of a configuration with which no client may be made.
pub(crate) fn check_client(config: &ClientConfig) -> io::Result<()> {
    match config.enable_early_data {
        false => Ok(()),
        true => Err(early_data(
            "enable_early_data of the client's configuration must be false",
        )),
    }
}

fn early_data(setting: &str) -> io::Error {
    let message = format!("early data is not supported, as it can be replayed: {setting}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
