//! The layers of a connection, as its users see them: putting one on, and access to it.

use crate::Transport;
use crate::completion::Completion;
use crate::layer::{Layer, LayerIo};
use crate::transport::NewLayer;

/// # Layers
///
/// A [`Layer`] stands between the socket and the protocol, and changes the bytes on their way: TLS is
/// one. [`ListenOptions::layer`](crate::ListenOptions::layer) and
/// [`ConnectOptions::layer`](crate::ConnectOptions::layer) put layers on from the start.
impl Transport {
    /// Puts a layer on the connection, above those that it has. Completes when the layer is open.
    ///
    /// This is asyncio's `start_tls`. The bytes that were written before go past the layer, also
    /// those that are still buffered. Bytes that are written after it go through the layer: they are
    /// buffered until the layer is open, and count for the watermarks and the cap at once.
    ///
    /// The layer's first input is `unread`: bytes for the layer that the protocol has received
    /// already. Behind them comes what the transport itself still holds for the protocol. Until the
    /// layer is open the protocol receives nothing. The loop starts the layer, never this call.
    ///
    /// [`close`](Transport::close) waits for the layer to open if something was written since, and
    /// [`Layer::open_limit`] bounds that. With nothing to send it stops the opening: the layers below end,
    /// and the completion fails. Before `connection_made`, in code that
    /// [adopts](crate::Handle::adopt) a stream, `connection_made` waits for the layer too.
    ///
    /// # Errors
    ///
    /// Of the completion. In the first three cases the layer is dropped, and the connection is as
    /// before:
    ///
    /// * [`InvalidInput`](std::io::ErrorKind::InvalidInput): the layer's `open_limit` is zero.
    /// * [`WriteError`](crate::WriteError): a write would be refused, as while the connection is
    ///   ending, after [`write_eof`](Transport::write_eof), or within the code of one of its layers.
    /// * [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof): the peer has ended its side of the
    ///   stream.
    /// * The [`Closed`](crate::Closed) of a connection that has ended, or that ends before the layer
    ///   is open. Its reason is the layer's error if the layer has failed, and
    ///   [`TimeoutKind::Handshake`](crate::TimeoutKind::Handshake) at the limit.
    ///
    /// # Panics
    ///
    /// A panic of [`Layer::open_limit`], which this call asks, goes to the caller.
    ///
    /// # Cancel safety
    ///
    /// Dropping the completion only stops the wait.
    #[doc(alias = "start_tls")]
    pub fn push_layer(&self, layer: impl Layer, unread: &[u8]) -> Completion<()> {
        self.push(NewLayer::new(layer), unread)
    }

    /// Calls `call` with the topmost layer of type `L`, now, also after the end of the connection.
    ///
    /// Output that `call` makes is sent by the loop. A call that only reads, on a connection that waits for
    /// nothing, gives the loop nothing to do. Meanwhile the connection counts as in use by a
    /// layer: it refuses writes. A panic of `call` goes to the caller.
    ///
    /// A layer that has [left](LayerIo::leave) is found too, when none that is still there is an `L`:
    /// the one that left last. The words and the output of `call` are dropped then, as after the end
    /// of the connection.
    ///
    /// Returns `None` when the connection has had no such layer, and within the code of one of its
    /// layers. Layers that have left, and those of a connection that has ended, are dropped with its last
    /// transport, or with the loop.
    #[doc(alias = "get_extra_info")]
    pub fn with_layer<L: Layer, R>(
        &self,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R,
    ) -> Option<R> {
        self.call_with_layer(call)
    }
}
