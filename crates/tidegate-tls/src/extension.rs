//! Methods for the types of the core that put the layer on.

use crate::asked_name;
use crate::info::TlsInfo;
use crate::tls::{Tls, check_client, check_server};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use std::io;
use std::sync::Arc;
use tidegate::{Completion, ConnectOptions, ListenOptions, Transport};

/// TLS on the connections that a server accepts.
pub trait ListenTls: Sealed {
    /// Puts TLS on each accepted connection.
    ///
    /// A connection whose handshake fails has no callback; see
    /// [`ListenOptions::layer`](tidegate::ListenOptions::layer). A handshake has 60 s. For another
    /// time, and for certificates that change, see [`Tls`].
    ///
    /// [`create_server`](tidegate::Handle::create_server) fails with
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when the configuration allows early data.
    #[must_use]
    fn tls(self, config: Arc<ServerConfig>) -> Self;
}

impl ListenTls for ListenOptions {
    fn tls(self, config: Arc<ServerConfig>) -> Self {
        if let Err(error) = check_server(&config) {
            return self.fail_with(error);
        }
        let config = Arc::new(asked_name::noting(&config));
        self.layer(move || Tls::server_noting(config.clone()))
    }
}

/// TLS on the connection that a connect makes.
pub trait ConnectTls: Sealed {
    /// Puts TLS on the connection. The server must show a certificate for the host that the options
    /// connect to, which is a name or an IP address.
    ///
    /// Use one `Arc` for all connects: the sessions that can be resumed are kept in it.
    ///
    /// # Errors
    ///
    /// Of the connect: that of a handshake, which [`Tls`] describes, in a
    /// [`ConnectError`](tidegate::ConnectError); [`InvalidInput`](io::ErrorKind::InvalidInput) for the
    /// address of a Unix socket, for which there are no certificates, for a host that no certificate
    /// can have, and for a configuration with early data.
    #[must_use]
    fn tls(self, config: Arc<ClientConfig>) -> Self;

    /// Puts TLS on the connection, with a server that must show a certificate for `name`: the name of a
    /// host, or an IP address.
    ///
    /// # Errors
    ///
    /// Of the connect: [`InvalidInput`](io::ErrorKind::InvalidInput) for a `name` that no certificate
    /// can have, and the others of [`tls`](Self::tls).
    #[doc(alias = "server_hostname")]
    #[must_use]
    fn tls_as(self, config: Arc<ClientConfig>, name: &str) -> Self;
}

impl ConnectTls for ConnectOptions {
    fn tls(self, config: Arc<ClientConfig>) -> Self {
        match self.host() {
            Some(name) => self.tls_as(config, &name),
            None => self.fail_with(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the address has no host whose certificate could be checked: give the name of the \
                 server with tls_as",
            )),
        }
    }

    fn tls_as(self, config: Arc<ClientConfig>, name: &str) -> Self {
        match client(config, name) {
            Ok(tls) => self.layer(tls),
            Err(error) => self.fail_with(error),
        }
    }
}

/// TLS on a connection that is there already, and access to it.
pub trait TransportTls: Sealed {
    /// Begins TLS on the connection, as the end that accepts the handshake. Completes when the
    /// handshake is done.
    ///
    /// Bytes that were written before are sent as they are, later ones are encrypted. `unread`
    /// is what the protocol has received of the peer's handshake, behind the command that asked for
    /// TLS. For other settings than the defaults use
    /// [`push_layer`](tidegate::Transport::push_layer) with a [`Tls`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use tidegate::{Protocol, Result, Transport};
    /// use tidegate_tls::{prelude::*, rustls::ServerConfig};
    ///
    /// struct Session {
    ///     config: Arc<ServerConfig>,
    /// }
    ///
    /// impl Protocol for Session {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    ///         if let Some(unread) = data.strip_prefix(b"STARTTLS\r\n") {
    ///             transport.write(b"220 go ahead\r\n")?;
    ///             transport
    ///                 .start_tls_server(self.config.clone(), unread)
    ///                 .detach();
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Security
    ///
    /// Everything before was not encrypted, and anyone on the way may have put it there. Forget it, and
    /// take nothing for a command that arrived in one piece with the one that asked for TLS, unless it
    /// comes out of the layer (RFC 3207, section 4.2). Passing all of it as `unread` does this: plain
    /// text is no handshake.
    ///
    /// # Errors
    ///
    /// Of the completion: [`InvalidInput`](io::ErrorKind::InvalidInput) for a configuration with early
    /// data, which leaves the connection as it was; those of
    /// [`push_layer`](tidegate::Transport::push_layer), with the error of a handshake that fails, see
    /// [`Tls`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the completion only stops the wait.
    #[doc(alias = "start_tls")]
    fn start_tls_server(&self, config: Arc<ServerConfig>, unread: &[u8]) -> Completion<()>;

    /// Begins TLS on the connection, as the end that begins the handshake. Completes when the handshake
    /// is done.
    ///
    /// The peer must show a certificate for `name`: the name of a host, or an IP address. `unread` is
    /// empty, unless the peer speaks first. The rest is as for
    /// [`start_tls_server`](Self::start_tls_server).
    ///
    /// # Errors
    ///
    /// Of the completion: [`InvalidInput`](io::ErrorKind::InvalidInput) for a `name` that no certificate
    /// can have, and those of `start_tls_server`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the completion only stops the wait.
    #[doc(alias = "start_tls")]
    fn start_tls_client(
        &self,
        config: Arc<ClientConfig>,
        name: &str,
        unread: &[u8],
    ) -> Completion<()>;

    /// Returns what the topmost TLS of the connection has negotiated, also after the end of the
    /// connection. `None` without TLS, and before its handshake is done.
    ///
    /// The call gives the loop nothing to do, and copies no certificate.
    #[doc(alias = "get_extra_info")]
    #[doc(alias = "ssl_object")]
    fn tls(&self) -> Option<TlsInfo>;

    /// Returns copies of the certificates that the peer has shown to the topmost TLS of the connection,
    /// its own one first.
    ///
    /// Empty for a client that showed none, without TLS, and before the handshake is done. A resumed
    /// session has those of its first handshake. [`Tls::peer_certificates`] copies nothing:
    ///
    /// ```
    /// use tidegate::Transport;
    /// use tidegate_tls::Tls;
    ///
    /// fn len_of_certificate(transport: &Transport) -> Option<usize> {
    ///     transport.with_layer(|tls: &mut Tls, _| Some(tls.peer_certificates().first()?.len()))?
    /// }
    /// ```
    #[doc(alias = "getpeercert")]
    fn peer_certificates(&self) -> Vec<CertificateDer<'static>>;
}

impl TransportTls for Transport {
    fn start_tls_server(&self, config: Arc<ServerConfig>, unread: &[u8]) -> Completion<()> {
        match check_server(&config) {
            Ok(()) => self.push_layer(Tls::server(config), unread),
            Err(error) => failed(self, error),
        }
    }

    fn start_tls_client(
        &self,
        config: Arc<ClientConfig>,
        name: &str,
        unread: &[u8],
    ) -> Completion<()> {
        match client(config, name) {
            Ok(tls) => self.push_layer(tls, unread),
            Err(error) => failed(self, error),
        }
    }

    fn tls(&self) -> Option<TlsInfo> {
        self.with_layer(|tls: &mut Tls, _| tls.info()).flatten()
    }

    fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        let shown = self.with_layer(|tls: &mut Tls, _| tls.peer_certificates().to_vec());
        shown.unwrap_or_default()
    }
}

pub(crate) fn client(config: Arc<ClientConfig>, name: &str) -> io::Result<Tls> {
    check_client(&config)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|_| {
        let message = format!(
            "{name:?} is no name that a certificate can have: expected a name such as localhost, \
             127.0.0.1 or ::1"
        );
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    Ok(Tls::client(config, name))
}

fn failed(transport: &Transport, error: io::Error) -> Completion<()> {
    let (completer, completion) = transport.handle().completion();
    completer.complete(Err(error));
    completion
}

mod sealed {
    /// Only types of tidegate have these methods, so that more can be added.
    pub trait Sealed {}

    impl Sealed for tidegate::ListenOptions {}
    impl Sealed for tidegate::ConnectOptions {}
    impl Sealed for tidegate::Transport {}
}
pub(crate) use sealed::Sealed;
