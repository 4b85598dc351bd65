//! Protocols that wrap another one.

use crate::protocol::Protocol;
use crate::transport::Transport;
use crate::{Closed, OnEof, OnPause, Result};
use std::any::Any;

/// A protocol around another one: forwards every callback that it does not write itself.
///
/// Each type that implements it is a [`Protocol`]. [`with_protocol`](Transport::with_protocol) and the
/// typed callbacks find the wrapped protocol too. Wrappers compose in any order.
///
/// ```
/// use tidegate::{Protocol, Result, Transport, Wrap};
///
/// /// Counts the bytes that a protocol receives.
/// struct Counted<P> {
///     protocol: P,
///     bytes: usize,
/// }
///
/// impl<P: Protocol> Wrap for Counted<P> {
///     type Inner = P;
///
///     fn wrapped(&mut self) -> &mut P {
///         &mut self.protocol
///     }
///
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         self.bytes += data.len();
///         self.protocol.data_received(transport, data)
///     }
/// }
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         transport.write(data)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// # use tidegate::EventLoop;
/// # let event_loop = EventLoop::new()?;
/// # let handle = event_loop.handle();
/// handle.create_server("127.0.0.1:0", || Counted { protocol: Echo, bytes: 0 })?;
/// # Ok(()) }
/// ```
///
/// # Which bytes a wrapper passes on
///
/// A wrapper passes on the bytes that it is given, unchanged: all of them, or a tail. Then a protocol
/// inside may give some [back](Transport::unread), and they come again through the wrapper. So the
/// wrapper above counts bytes that are given back each time that they come.
///
/// A wrapper that keeps bytes for later returns them from [`leftover`](Wrap::leftover). Code that
/// changes bytes is a [`Layer`](crate::Layer), under the transport: bytes that are given back do not
/// go through it again.
pub trait Wrap: 'static {
    /// The type of the protocol inside.
    type Inner: Protocol;

    /// Returns the protocol inside.
    fn wrapped(&mut self) -> &mut Self::Inner;

    /// As [`Protocol::connection_made`].
    ///
    /// # Errors
    ///
    /// Those of the protocol inside.
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.wrapped().connection_made(transport)
    }

    /// As [`Protocol::data_received`].
    ///
    /// # Errors
    ///
    /// Those of the protocol inside.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.wrapped().data_received(transport, data)
    }

    /// As [`Protocol::get_buffer`].
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        self.wrapped().get_buffer(transport, size_hint)
    }

    /// As [`Protocol::buffer_updated`].
    ///
    /// # Errors
    ///
    /// Those of the protocol inside.
    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        self.wrapped().buffer_updated(transport, len)
    }

    /// As [`Protocol::eof_received`].
    ///
    /// # Errors
    ///
    /// Those of the protocol inside.
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.wrapped().eof_received(transport)
    }

    /// As [`Protocol::pause_writing`].
    ///
    /// # Errors
    ///
    /// Those of the protocol inside.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.wrapped().pause_writing(transport)
    }

    /// As [`Protocol::resume_writing`].
    ///
    /// # Errors
    ///
    /// Those of the protocol inside.
    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.wrapped().resume_writing(transport)
    }

    /// As [`Protocol::connection_lost`].
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.wrapped().connection_lost(transport, closed);
    }

    /// As [`Protocol::leftover`].
    fn leftover(&mut self) -> Vec<u8> {
        self.wrapped().leftover()
    }

    /// As [`Protocol::user`].
    fn user(&mut self) -> Option<&mut dyn Any> {
        self.wrapped().user()
    }
}

// A type that is no protocol is most often one whose trait was forgotten, and no wrapper.
#[diagnostic::do_not_recommend]
impl<W: Wrap> Protocol for W {
    #[inline]
    fn connection_made(&mut self, transport: &Transport) -> Result {
        Wrap::connection_made(self, transport)
    }

    #[inline]
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        Wrap::data_received(self, transport, data)
    }

    #[inline]
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        Wrap::get_buffer(self, transport, size_hint)
    }

    #[inline]
    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        Wrap::buffer_updated(self, transport, len)
    }

    #[inline]
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        Wrap::eof_received(self, transport)
    }

    #[inline]
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        Wrap::pause_writing(self, transport)
    }

    #[inline]
    fn resume_writing(&mut self, transport: &Transport) -> Result {
        Wrap::resume_writing(self, transport)
    }

    #[inline]
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        Wrap::connection_lost(self, transport, closed);
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(self.wrapped())
    }

    fn leftover(&mut self) -> Vec<u8> {
        Wrap::leftover(self)
    }

    fn user(&mut self) -> Option<&mut dyn Any> {
        Wrap::user(self)
    }
}
