//! The trait of protocols, which users implement.

use crate::transport::Transport;
use crate::{Closed, Result};
use std::any::Any;
use std::mem;
use std::time::Duration;

/// A connection's protocol: callbacks on a plain `&mut self`, driven by the loop.
///
/// Every method has a default implementation; most protocols write two or three of them:
///
/// ```
/// use tidegate::{Closed, Protocol, Result, Transport};
///
/// /// An echo that reports the end of its connection.
/// #[derive(Default)]
/// struct Echo {
///     bytes: usize,
/// }
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         self.bytes += data.len();
///         transport.write(data)?;
///         Ok(())
///     }
///
///     fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
///         println!("{}: {} bytes, {closed}", transport.peer_addr(), self.bytes);
///     }
/// }
/// ```
///
/// # The contract
///
/// * `connection_made` comes first, exactly once, also when the connection was closed before the
///   loop came to it. Then any number of `data_received`, `pause_writing` and `resume_writing`
///   and at most one `eof_received`, which is called again only if it gave bytes
///   [back](Transport::unread), or the [end](Transport::unread_eof). `connection_lost` comes last,
///   exactly once, whatever happened; right after it the protocol is dropped.
/// * From [`close`](Transport::close) or [`abort`](Transport::abort) on, only `connection_lost`
///   comes, and always from the loop: a method that ends the connection returns first.
/// * There is one callback at a time. Callbacks that it causes on its own protocol follow as soon as it
///   has returned, with nothing in between; on other connections, in the same tick of the loop or the
///   one after.
/// * `pause_writing` and `resume_writing` strictly alternate.
/// * An `Err` or a panic ends this connection and no other. The kernel gets one chance to take what
///   was written before; the [error handler](crate::Handle::set_error_handler) is told, and
///   `connection_lost` has the error as its reason. One exception: returning the
///   [`WriteError`](crate::WriteError) that says that this same transport is already ending changes
///   nothing, so `transport.write(..)?` never turns a graceful close into an abort.
/// * An `Err` that comes of a write [refused](crate::WriteError::BufferFull) at the cap resets a TCP
///   connection, also when all bytes that were taken are sent: the peer misses the refused ones, and
///   an EOF would look complete. Unix sockets have no reset.
///
/// The names, and the order of the calls, are those of asyncio's `Protocol` and
/// `BufferedProtocol`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    label = "the trait `Protocol` is not implemented for it",
    note = "`create_connection` takes a protocol, such as `Echo`",
    note = "`create_server` takes a closure that makes protocols, such as `|| Echo`"
)]
pub trait Protocol: Any {
    /// Called once, when the connection is established. Reading starts after this method returns.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says. It also fails the
    /// [`create_connection`](crate::Handle::create_connection) that opened the connection.
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// Called with bytes that arrived. They are in the loop's read buffer, which the next read
    /// overwrites: copy what is needed later, or give it [back](Transport::unread).
    ///
    /// The default implementation discards them. So a protocol that always gives a buffer
    /// ([`get_buffer`](Protocol::get_buffer)), or that only sends, need not write this method.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let _ = (transport, data);
        Ok(())
    }

    /// Returns a buffer to read into directly, as with asyncio's `BufferedProtocol`.
    ///
    /// Called before every read. If it returns `Some`, the bytes are read into that buffer, and
    /// [`buffer_updated`](Protocol::buffer_updated) is called in place of `data_received`. If it
    /// returns `None`, as the default implementation does, the next bytes go to `data_received`.
    /// An empty buffer is an error.
    ///
    /// `size_hint` is the number of bytes that are known to be there: those given to
    /// [`set_protocol`](Transport::set_protocol) as unread, and those that a callback gave
    /// [back](Transport::unread). It is 0 for bytes of the kernel. A
    /// buffer stays unused when the call that gave it also closed, switched the protocol, stopped
    /// reading, or gave bytes back; and when there turns out to be nothing to read.
    ///
    /// ```
    /// use tidegate::{Protocol, Result, Transport};
    ///
    /// struct Echo {
    ///     buffer: Box<[u8]>,
    /// }
    ///
    /// impl Protocol for Echo {
    ///     fn get_buffer(&mut self, _: &Transport, _size_hint: usize) -> Option<&mut [u8]> {
    ///         Some(&mut self.buffer)
    ///     }
    ///
    ///     fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
    ///         transport.write(&self.buffer[..len])?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        let _ = (transport, size_hint);
        None
    }

    /// Called when the first `len` bytes of the buffer from
    /// [`get_buffer`](Protocol::get_buffer) were filled.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let _ = (transport, len);
        Ok(())
    }

    /// Called when the peer will send nothing more.
    ///
    /// [`OnEof::Close`], which the default implementation returns, closes the connection once the
    /// buffered bytes were sent, as [`close`](Transport::close) does. There is no deadline, and
    /// later writes (by a timer, or for another thread) are refused. [`OnEof::CloseWithin`] has a
    /// deadline: a peer that has ended its stream and does not read cannot hold the connection.
    /// [`OnEof::KeepOpen`] keeps our side usable until we close it or call
    /// [`write_eof`](Transport::write_eof).
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        let _ = transport;
        Ok(OnEof::Close)
    }

    /// Called when the write buffer went above its high-water mark.
    ///
    /// [`OnPause::StopReading`] holds reading back until the buffer has fallen to its low-water
    /// mark. The loop then lifts the hold, and calls `resume_writing` next. A
    /// [`pause_reading`](Transport::pause_reading) is independent of this, and the loop does not
    /// lift it: reading resumes when there is neither. When the buffer goes above the mark again
    /// before `resume_writing` was called, there is no second call: the first return value holds.
    /// When writing fails, the loop lifts the hold too, without a `resume_writing`: bytes that the peer
    /// had sent are delivered, then `connection_lost` comes.
    ///
    /// The default implementation returns `StopReading` on a connection that we accepted or
    /// adopted, and `KeepReading` on one that we opened. So a server that echoes what it reads
    /// uses bounded memory: it stops reading from a peer that does not read. If both ends stopped
    /// reading, two that send much could block each other with full buffers. So the end that
    /// opened the connection reads on, and the [cap](crate::WriteLimits) bounds its buffer.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        Ok(if transport.is_accepted() {
            OnPause::StopReading
        } else {
            OnPause::KeepReading
        })
    }

    /// Called when the write buffer has fallen to its low-water mark, after a `pause_writing`.
    ///
    /// It is not called when writing has failed or the connection is ending: then `connection_lost`
    /// comes next, behind bytes of the peer.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// Called once, when the connection has ended. `closed` says how, and how many bytes are
    /// [unsent](Closed::unsent).
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// Returns the protocol that this one wraps, so that
    /// [`with_protocol`](Transport::with_protocol) and the typed callbacks find it. A wrapper that
    /// implements [`Wrap`](crate::Wrap) need not write this method.
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        None
    }

    /// Returns the value that this protocol drives, if that is no protocol, so that
    /// [`with_protocol`](Transport::with_protocol) and the typed callbacks find it.
    ///
    /// A protocol that calls an interface of its own, such as one with a method for each request,
    /// returns the user's implementation of that interface.
    ///
    /// ```
    /// use std::any::Any;
    /// use tidegate::{Protocol, Result, Transport};
    ///
    /// trait Handler: 'static {
    ///     fn request(&mut self, request: &str) -> String;
    /// }
    ///
    /// /// Calls a handler with each request.
    /// struct Requests<H>(H);
    ///
    /// impl<H: Handler> Protocol for Requests<H> {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    ///         let reply = self.0.request(str::from_utf8(data)?);
    ///         transport.write(reply.as_bytes())?;
    ///         Ok(())
    ///     }
    ///
    ///     fn user(&mut self) -> Option<&mut dyn Any> {
    ///         Some(&mut self.0)
    ///     }
    /// }
    ///
    /// struct Greeter {
    ///     greeted: u32,
    /// }
    ///
    /// impl Handler for Greeter {
    ///     fn request(&mut self, name: &str) -> String {
    ///         self.greeted += 1;
    ///         format!("hello {name}")
    ///     }
    /// }
    ///
    /// fn forget(transport: &Transport) {
    ///     transport.call_soon(|greeter: &mut Greeter, _| {
    ///         greeter.greeted = 0;
    ///         Ok(())
    ///     });
    /// }
    /// ```
    fn user(&mut self) -> Option<&mut dyn Any> {
        None
    }

    /// Returns the bytes that this protocol was given and has not used.
    ///
    /// Called once, when another protocol takes over: the new one gets them behind the bytes of
    /// [`set_protocol`](Transport::set_protocol), and before those that were given
    /// [back](Transport::unread). A protocol that keeps a part of a message in a buffer of its own
    /// returns that buffer. The default implementation returns no bytes.
    ///
    /// A panic ends the connection, as one of any callback does.
    ///
    /// ```
    /// use tidegate::{Protocol, Result, Transport};
    ///
    /// /// Collects a line.
    /// #[derive(Default)]
    /// struct Line {
    ///     begun: Vec<u8>,
    /// }
    ///
    /// impl Protocol for Line {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    ///         self.begun.extend_from_slice(data);
    ///         if self.begun.ends_with(b"\n") {
    ///             transport.write(&self.begun)?;
    ///             self.begun.clear();
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn leftover(&mut self) -> Vec<u8> {
    ///         std::mem::take(&mut self.begun)
    ///     }
    /// }
    /// ```
    fn leftover(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Returns the name in logs and failures. Only the library can call or override it.
    #[doc(hidden)]
    fn __type_name(&self, _: Internal) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Splices the bytes that have come, and returns whether it did. A protocol around another does not pass
    /// this on: it is to see the bytes.
    #[cfg(feature = "splice")]
    #[doc(hidden)]
    fn __splice(&mut self, _: &Transport, _: Internal) -> bool {
        false
    }
}

/// An argument that users cannot name, so that they neither call nor override the method that takes
/// it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Internal;

/// The action of the loop after the peer's EOF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no other way")]
pub enum OnEof {
    /// Closes the connection, once the buffered bytes were sent.
    Close,
    /// Closes the connection as [`close_within`](Transport::close_within) does: once the buffered
    /// bytes were sent, or at the end of this time, with the rest unsent.
    CloseWithin(Duration),
    /// Keeps our side open for writing.
    KeepOpen,
}

/// Whether a connection whose writer is paused goes on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum OnPause {
    /// Holds reading back until the buffer has drained.
    StopReading,
    /// Goes on reading.
    KeepReading,
}

impl Protocol for Box<dyn Protocol> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        (**self).connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        (**self).data_received(transport, data)
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        (**self).get_buffer(transport, size_hint)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        (**self).buffer_updated(transport, len)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        (**self).eof_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        (**self).pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        (**self).resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        (**self).connection_lost(transport, closed);
    }

    /// The boxed protocol itself, so that a wrapper that holds a box is looked through.
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut **self)
    }

    fn user(&mut self) -> Option<&mut dyn Any> {
        (**self).user()
    }

    fn leftover(&mut self) -> Vec<u8> {
        (**self).leftover()
    }

    fn __type_name(&self, internal: Internal) -> &'static str {
        (**self).__type_name(internal)
    }

    #[cfg(feature = "splice")]
    fn __splice(&mut self, transport: &Transport, internal: Internal) -> bool {
        (**self).__splice(transport, internal)
    }
}

/// Boxes a protocol; a box of one is returned as it is.
pub(crate) fn boxed<P: Protocol>(mut protocol: P) -> Box<dyn Protocol> {
    if let Some(boxed) = (&mut protocol as &mut dyn Any).downcast_mut::<Box<dyn Protocol>>() {
        return mem::replace(boxed, Box::new(Discard));
    }
    Box::new(protocol)
}

/// Discards what arrives. It has no size, so a box of it allocates nothing.
struct Discard;

impl Protocol for Discard {}

/// Returns the `P` in a protocol, in what it drives, or in the protocols that it wraps.
pub(crate) fn find<P: 'static>(protocol: &mut dyn Protocol) -> Option<&mut P> {
    if (protocol as &dyn Any).is::<P>() {
        return (protocol as &mut dyn Any).downcast_mut();
    }
    if protocol.user().is_some_and(|user| user.is::<P>()) {
        return protocol.user()?.downcast_mut();
    }
    find(protocol.inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named;

    impl Protocol for Named {}

    #[test]
    fn a_box_of_a_protocol_is_not_boxed_again() {
        let once = boxed(Named);
        let address: *const dyn Protocol = &*once;
        let twice = boxed(once);
        assert!(std::ptr::addr_eq(address, &*twice));
        assert!((&*twice as &dyn Any).is::<Named>());
    }

    #[test]
    fn a_boxed_protocol_has_the_name_of_its_type() {
        let name = boxed(Named).__type_name(Internal);
        assert!(name.ends_with("Named"), "{name}");
    }
}
