//! Layers: what stands between a socket and a protocol and changes the bytes on their way.

mod buffer;
mod fault;
mod io;
mod pieces;
mod shared;
mod socket;
mod through;

#[cfg(all(test, not(loom)))]
mod fuzz;
#[cfg(all(test, not(loom)))]
mod testing;
#[cfg(all(test, not(loom)))]
mod tests;

pub use io::{Above, Below, LayerIo};
pub(crate) use shared::Shared;
pub(crate) use socket::{LayeredSocket, TakenOff};

use crate::Result;
use std::any::Any;
use std::time::Duration;

/// Changes the bytes of a connection on their way between the socket and the protocol.
///
/// TLS is a layer, and so are a header in front of the stream, compression, a throttle. A layer does
/// no I/O and has no handle of the connection: the loop calls it with bytes, and it puts bytes into
/// the [`LayerIo`] that it is given. Its methods are not called from within each other.
///
/// A layer that keeps the [`Transport`](crate::Transport) it is on is a cycle: the connection owns the layer,
/// also after its end. Both are then dropped with the loop, not before. A
/// [`TransportId`](crate::TransportId) makes no cycle.
///
/// Layers stack. The one nearest to the socket is the lowest. "Above" is the protocol or the next
/// layer, "below" is the socket or the layer before.
///
/// # The contract
///
/// * [`start`](Layer::start) comes first, once, when all that is below is open. The protocol's
///   `connection_made` comes when every layer has called [`LayerIo::open`].
/// * [`receive`](Layer::receive) comes with bytes from below. It consumes what it can; the rest comes
///   again with more behind it. It is not called again before there is more, or
///   [`LayerIo::more`] asked for it.
/// * [`send`](Layer::send) comes with bytes from above, once the layer is open. Everything that
///   stands for the bytes that it takes has been put out when it returns.
/// * [`input_ended`](Layer::input_ended) comes once, when below has ended and `receive` has had
///   everything before.
/// * [`end`](Layer::end) comes at most once, when the stream from above has ended, if the layer is
///   open. No `send` follows. A layer that is not open by then is not called any more, and those below
///   it end.
/// * [`timer`](Layer::timer) comes when the time of [`LayerIo::wake_after`] is over.
/// * An `Err` ends the connection, with the error as its reason, after the bytes that were delivered
///   before. The output of the layer is still sent. A panic does the same. No method is called
///   afterwards.
/// * Last words for which the kernel has no room then are sent during the
///   [linger](crate::LingerLimits), up to 128 KiB of them.
/// * Last words are lost when there are more, when a layer below has not taken them, and when bytes of
///   the protocol were not sent. A TCP peer then sees a reset.
///
/// # The bound of its own output
///
/// Bytes from above come as far as below takes them. All other output is the layer's own, such as replies.
///
/// * On an accepted connection a layer gets no input while more than 128 KiB of its own wait. So a peer
///   that reads no replies is not read either.
/// * On a connection that we opened it gets input: of two ends that reply to each other, one must read
///   on. [`OnPause`](crate::OnPause) has the same default. An [adopted](crate::Handle::adopt)
///   stream counts as accepted: two layers that reply to each other, each on an end of one socket pair,
///   may wait for each other.
/// * With more than 1 MiB that waits, the layer has failed. A layer that makes much of its input
///   consumes a part of that in a call, and asks for [`more`](LayerIo::more).
///
/// # Example
///
/// A proxy tells the address of its client in a line before the stream. This layer reads the line and
/// leaves. From then on the connection is a plain one.
///
/// ```
/// use tidegate::{EventLoop, Layer, LayerIo, ListenOptions, Protocol, Result};
///
/// struct Header;
///
/// impl Layer for Header {
///     fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
///         Ok(()) // opens when the line is there; `connection_made` comes after it
///     }
///
///     fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
///         let input = io.input();
///         match input.iter().position(|&byte| byte == b'\n') {
///             Some(end) => {
///                 log::info!("a client behind {}", input[..end].escape_ascii());
///                 io.consume(end + 1);
///                 io.open();
///                 io.leave();
///             }
///             None if input.len() > 107 => return Err("the first line is too long".into()),
///             None => {} // called again with more behind it
///         }
///         Ok(())
///     }
///
///     fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
///         io.send(data);
///         Ok(data.len())
///     }
/// }
///
/// struct Discard;
///
/// impl Protocol for Discard {}
///
/// # fn main() -> Result {
/// let event_loop = EventLoop::new()?;
/// let options = ListenOptions::new("127.0.0.1:0").layer(|| Header);
/// event_loop.handle().create_server(options, || Discard)?;
/// # Ok(()) }
/// ```
pub trait Layer: Any {
    /// Called once, when what is below is open.
    ///
    /// The default implementation opens the layer at once.
    ///
    /// # Errors
    ///
    /// An error ends the connection: see [the contract](Layer#the-contract).
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.open();
        Ok(())
    }

    /// Called when there are bytes from below.
    ///
    /// # Errors
    ///
    /// An error ends the connection: see [the contract](Layer#the-contract).
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result;

    /// Called once, when below has ended.
    ///
    /// The default implementation ends the stream to above.
    ///
    /// # Errors
    ///
    /// An error ends the connection: see [the contract](Layer#the-contract).
    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.end_of_stream();
        Ok(())
    }

    /// Takes bytes from above, and returns the number of bytes that it took.
    ///
    /// # Errors
    ///
    /// An error ends the connection: see [the contract](Layer#the-contract).
    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize>;

    /// Called when the stream from above has ended and everything of it was sent.
    ///
    /// The default implementation does nothing.
    ///
    /// # Errors
    ///
    /// An error ends the connection: see [the contract](Layer#the-contract).
    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        let _ = io;
        Ok(())
    }

    /// Called when the time of [`LayerIo::wake_after`] is over.
    ///
    /// The default implementation does nothing.
    ///
    /// # Errors
    ///
    /// An error ends the connection: see [the contract](Layer#the-contract).
    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        let _ = io;
        Ok(())
    }

    /// Returns the time in which the layer must open.
    ///
    /// The default implementation returns 60 s, as asyncio's `ssl_handshake_timeout`.
    fn open_limit(&self) -> Duration {
        Duration::from_secs(60)
    }
}
