//! TLS on a stream that is there already.

use crate::extension::{Sealed, client};
use crate::tls::{Tls, check_server};
use rustls::{ClientConfig, ServerConfig};
use std::future::Future;
use std::io;
use std::sync::Arc;
use tidegate_streams::StreamReader;

/// TLS on a connection that is read and written as a stream, from some point on.
///
/// For TLS from the start give [`open_connection`](tidegate_streams::open_connection) and
/// [`start_server`](tidegate_streams::start_server) options with
/// [`ConnectTls::tls`](crate::ConnectTls::tls) and [`ListenTls::tls`](crate::ListenTls::tls).
///
/// The methods are those of the reader, because it holds bytes that have arrived: those of the
/// handshake go to TLS. Bytes that were written before are sent as they are, those that are written
/// afterwards are encrypted. [`TransportTls::tls`](crate::TransportTls::tls) tells what the handshake
/// has negotiated: `writer.transport().tls()`.
///
/// A stream that ends without a close_notify was cut. Reads return the bytes that came before, then
/// [`ReadError::Closed`](tidegate_streams::ReadError::Closed), whose reason is
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
///
/// The [security](crate::TransportTls::start_tls_server) of a connection that begins without
/// TLS is that of the methods of `Transport`: forget what was said before.
pub trait StreamTls: Sealed {
    /// Begins TLS, as the end that accepts the handshake. Completes when the handshake is done.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use tidegate::Result;
    /// use tidegate_streams::{StreamReader, StreamWriter};
    /// use tidegate_tls::{prelude::*, rustls::ServerConfig};
    ///
    /// async fn session(
    ///     mut reader: StreamReader,
    ///     writer: StreamWriter,
    ///     config: Arc<ServerConfig>,
    /// ) -> Result {
    ///     if &reader.read_line().await?[..] == b"STARTTLS\r\n" {
    ///         writer.write(b"220 go ahead\r\n")?;
    ///         reader.start_tls_server(config).await?;
    ///         writer.write(b"250 encrypted\r\n")?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a configuration with early data, which leaves
    /// the connection as it was; those of
    /// [`start_layer`](tidegate_streams::StreamReader::start_layer), with the error of a handshake that
    /// fails, see [`Tls`].
    ///
    /// # Cancel safety
    ///
    /// TLS begins at the call. Dropping the future only stops the wait.
    #[doc(alias = "start_tls")]
    fn start_tls_server(
        &mut self,
        config: Arc<ServerConfig>,
    ) -> impl Future<Output = io::Result<()>> + use<Self>;

    /// Begins TLS, as the end that begins the handshake. Completes when the handshake is done.
    ///
    /// The peer must show a certificate for `name`: the name of a host, or an IP address. The rest is as
    /// for [`start_tls_server`](Self::start_tls_server).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a `name` that no certificate can have, and
    /// those of `start_tls_server`.
    ///
    /// # Cancel safety
    ///
    /// TLS begins at the call. Dropping the future only stops the wait.
    #[doc(alias = "start_tls")]
    fn start_tls_client(
        &mut self,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> impl Future<Output = io::Result<()>> + use<Self>;
}

impl Sealed for StreamReader {}

impl StreamTls for StreamReader {
    fn start_tls_server(
        &mut self,
        config: Arc<ServerConfig>,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        let tls = check_server(&config).map(|()| Tls::server(config));
        start(self, tls)
    }

    fn start_tls_client(
        &mut self,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        start(self, client(config, name))
    }
}

fn start(
    reader: &mut StreamReader,
    tls: io::Result<Tls>,
) -> impl Future<Output = io::Result<()>> + use<> {
    let opening = tls.map(|tls| reader.start_layer(tls));
    async move { opening?.await }
}
