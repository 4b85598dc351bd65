//! A layer under a stream that is there already.

use super::StreamReader;
use std::future::Future;
use std::io;
use tidegate::{Completion, Layer};

/// Layers.
impl StreamReader {
    /// Puts a layer on the connection, with the bytes that were read ahead as its first input.
    /// Completes when the layer is open.
    ///
    /// This is asyncio's `start_tls`, for any [`Layer`]; with tidegate-tls and its feature `streams`
    /// the reader has a `start_tls_server` and a `start_tls_client`. Bytes that were written before go
    /// past the layer. Bytes that are written afterwards go through it, and are buffered until it is
    /// open. [`Transport::push_layer`](tidegate::Transport::push_layer) says more. That method itself
    /// would leave behind the bytes that this reader holds.
    ///
    /// ```
    /// # use tidegate::{Layer, Result};
    /// # use tidegate_streams::{StreamReader, StreamWriter};
    /// # async fn session(mut reader: StreamReader, writer: StreamWriter, tls: impl Layer) -> Result {
    /// if &reader.read_line().await?[..] == b"STARTTLS\r\n" {
    ///     writer.write(b"220 go ahead\r\n")?;
    ///     reader.start_layer(tls).await?;
    ///     // From here on both ways go through the layer.
    ///     writer.write(b"250 welcome\r\n")?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Transport::push_layer`](tidegate::Transport::push_layer). When it refuses the layer,
    /// the bytes stay in the reader. [`InvalidInput`](io::ErrorKind::InvalidInput) for a
    /// [detached](Self::detached) reader.
    ///
    /// # Cancel safety
    ///
    /// The layer is put on at the call. Dropping the future only stops the wait.
    #[doc(alias = "start_tls")]
    pub fn start_layer<L: Layer>(
        &mut self,
        layer: L,
    ) -> impl Future<Output = io::Result<()>> + use<L> {
        let opening = self.push_layer(layer);
        async move {
            match opening {
                Some(opening) => opening.await,
                None => Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a detached reader has no connection for a layer",
                )),
            }
        }
    }

    fn push_layer(&mut self, layer: impl Layer) -> Option<Completion<()>> {
        let transport = self.transport.clone()?;
        self.unlend();
        let opening = transport.push_layer(layer, self.front());
        // The loop opens a layer, never the call: so this one was refused if it is ready.
        if !opening.is_ready() {
            self.take_front();
        }
        Some(opening)
    }
}
