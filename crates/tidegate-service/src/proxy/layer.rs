//! The header below other layers.

use super::{ProxyError, ProxyHeader, WITHIN};
use std::time::Duration;
use tidegate::{Layer, LayerIo, Result};

/// Reads the header of the PROXY protocol below other layers, such as TLS, and leaves.
///
/// `connection_made` comes when the header is there. The protocol asks for it by
/// [`with_layer`](tidegate::Transport::with_layer). A stream that begins otherwise ends with a
/// [`ProxyError`]. One without a byte, as of a check of the server's health, ends as a connection whose peer
/// has left, which is no failure. Without TLS, [`ProxyProtocol`](crate::ProxyProtocol) makes the protocol
/// with the header.
///
/// ```
/// use tidegate::{EventLoop, ListenOptions, Protocol, Result, Transport};
/// use tidegate_service::ProxyLayer;
///
/// struct Greeter;
///
/// impl Protocol for Greeter {
///     fn connection_made(&mut self, transport: &Transport) -> Result {
///         let header = transport.with_layer(|layer: &mut ProxyLayer, _| layer.header().cloned());
///         if let Some(client) = header.flatten().as_ref().and_then(|header| header.client()) {
///             writeln!(transport, "hello, {client}")?;
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// # let event_loop = EventLoop::new()?;
/// let options = ListenOptions::new("127.0.0.1:0").layer(ProxyLayer::new);
/// event_loop.handle().create_server(options, || Greeter)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ProxyLayer {
    header: Option<ProxyHeader>,
    within: Duration,
}

impl ProxyLayer {
    /// Makes a layer that waits for a header for 5 s.
    pub fn new() -> Self {
        Self {
            header: None,
            within: WITHIN,
        }
    }

    /// Sets the time in which the header must be there.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// Returns the header, once it is there.
    pub fn header(&self) -> Option<&ProxyHeader> {
        self.header.as_ref()
    }
}

impl Default for ProxyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for ProxyLayer {
    /// Waits: the layer opens when the header is there.
    fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if let Some((header, len)) = ProxyHeader::parse(io.input())? {
            self.header = Some(header);
            io.consume(len);
            io.open();
            io.leave();
        }
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        if io.input().is_empty() {
            io.end_of_stream();
            return Ok(());
        }
        Err(ProxyError::Ended.into())
    }

    /// Not called: the layer leaves when it opens.
    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }

    fn open_limit(&self) -> Duration {
        self.within
    }
}
