//! The trait of protocols on endpoints of datagrams, which users implement.

use super::{DatagramError, DatagramTransport};
use crate::protocol::Internal;
use crate::{Address, Closed, OnPause, Result};
use std::any::{Any, TypeId};

/// The callbacks of an endpoint of datagrams; only `datagram_received` is required.
///
/// The loop calls one callback of an endpoint at a time, and never from within a call of the user. So a
/// protocol is a plain `&mut self`.
///
/// * `connection_made` is the first callback, and `connection_lost` the last.
/// * An `Err` of a callback goes to the [error handler](crate::Handle::set_error_handler), and the
///   endpoint goes on: a datagram of one peer must not end the service of all. The exception is
///   `connection_made`, whose `Err` ends the endpoint.
/// * A panic ends the endpoint, for the protocol may be half changed.
/// * An error that says that the endpoint is ending, such as that of a send after
///   [`close`](DatagramTransport::close), is no failure.
///
/// ```
/// use tidegate::{Address, DatagramProtocol, DatagramTransport, Result};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(
///         &mut self,
///         transport: &DatagramTransport,
///         data: &[u8],
///         from: &Address,
///     ) -> Result {
///         transport.send_to(data, from)?;
///         Ok(())
///     }
/// }
/// ```
pub trait DatagramProtocol: Any {
    /// Called once, before every other callback.
    ///
    /// # Errors
    ///
    /// An error ends the endpoint.
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// Called with each datagram, whole; an empty one is one. `from` is the sender, which for a Unix
    /// socket without a path is [`Unnamed`](Address::Unnamed), and cannot be sent to.
    ///
    /// # Errors
    ///
    /// An error is reported, and the endpoint goes on.
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result;

    /// Called after the last datagram of a batch, for work that is done once for several datagrams.
    ///
    /// A batch is all that the endpoint receives in one tick: at most 64 datagrams, and the rest of the last read.
    /// Datagrams that this callback sends leave together with the replies to the last sender. It is not called
    /// without a datagram, nor when the endpoint is ending. netty's `channelReadComplete` is the model. The default
    /// implementation does nothing, and costs nothing.
    ///
    /// # Errors
    ///
    /// An error is reported, and the endpoint goes on.
    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        // From now on it is not called.
        transport.ignores_batches(TypeId::of::<Self>());
        Ok(())
    }

    /// Called when the system reports an error of one datagram, sent or received. The endpoint goes on.
    ///
    /// Of errors that come faster than the protocol is called, 64 wait. The rest are counted in
    /// [`DatagramStats::errors_left_out`](super::DatagramStats::errors_left_out). The default
    /// implementation does nothing.
    ///
    /// # Errors
    ///
    /// An error is reported, and the endpoint goes on.
    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        let _ = (transport, error);
        Ok(())
    }

    /// Called when the queue has gone above the high-water mark.
    ///
    /// The default implementation returns [`StopReading`](OnPause::StopReading) without a remote
    /// address, so a server that replies to what it receives is bounded. With a remote address it
    /// returns [`KeepReading`](OnPause::KeepReading): two ends that both stopped would wait for each other.
    ///
    /// # Errors
    ///
    /// An error is reported, and the endpoint goes on and keeps reading.
    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        Ok(match transport.remote_addr() {
            None => OnPause::StopReading,
            Some(_) => OnPause::KeepReading,
        })
    }

    /// Called when the queue has fallen to the low-water mark.
    ///
    /// # Errors
    ///
    /// An error is reported, and the endpoint goes on.
    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// Called once, after every other callback, with how the endpoint ended.
    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// Returns the protocol that this one wraps, so that
    /// [`with_protocol`](DatagramTransport::with_protocol) and the typed callbacks find it.
    fn inner(&mut self) -> Option<&mut dyn DatagramProtocol> {
        None
    }

    /// Returns the name in logs and failures. Only the library can call or override it.
    #[doc(hidden)]
    fn __type_name(&self, _: Internal) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// Returns the `P` in a protocol, or in the protocols that it wraps.
pub(super) fn find<P: DatagramProtocol>(protocol: &mut dyn DatagramProtocol) -> Option<&mut P> {
    if (protocol as &dyn Any).is::<P>() {
        return (protocol as &mut dyn Any).downcast_mut();
    }
    find(protocol.inner()?)
}
