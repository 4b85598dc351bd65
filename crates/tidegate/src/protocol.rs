//! The trait that a user implements.

use crate::transport::Transport;
use crate::{Closed, Result};
use std::any::Any;

/// A connection's protocol: callbacks on a plain `&mut self`, driven by the loop.
///
/// # The contract
///
/// * `connection_made` comes first, exactly once, also when the connection was closed before the
///   loop came to it. Then any number of `data_received`, `pause_writing` and `resume_writing`
///   and at most one `eof_received`. `connection_lost` comes last, exactly once, whatever
///   happened; right after it the protocol is dropped.
/// * From [`close`](Transport::close) or [`abort`](Transport::abort) on, only `connection_lost`
///   comes, and always from the loop: a method that ends the connection returns first.
/// * There is one callback at a time. What it brings about for its own protocol follows as soon
///   as it has returned, with nothing in between; for other connections, in the same turn of the
///   loop or the one after.
/// * `pause_writing` and `resume_writing` strictly alternate.
/// * An `Err` or a panic ends this connection and no other. The kernel gets one chance to take what
///   was written before; the [error handler](crate::Handle::set_error_handler) is told, and
///   `connection_lost` has the error as its reason. One exception: returning the
///   [`WriteError`](crate::WriteError) that says that this same transport is already ending changes
///   nothing, so `transport.write(..)?` never turns a graceful close into an abort.
///
/// The names, and the order of the calls, are those of asyncio's `Protocol` and
/// `BufferedProtocol`.
pub trait Protocol: Any {
    /// The connection is there. Reading starts after this has returned.
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// Bytes arrived. They are in the loop's read buffer, which the next read uses again: keep
    /// what is needed later.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result;

    /// The peer will send nothing more. [`OnEof::Close`], which the provided method answers,
    /// closes after what is buffered was sent, as [`close`](Transport::close) does: without a time
    /// limit, and what is written later (by a timer, or for another thread) is refused.
    /// [`OnEof::KeepOpen`] keeps our side usable until we close it or call
    /// [`write_eof`](Transport::write_eof).
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        let _ = transport;
        Ok(OnEof::Close)
    }

    /// The write buffer went above its high-water mark.
    ///
    /// [`OnPause::StopReading`] holds reading back until the buffer has fallen to its low-water
    /// mark; the loop lifts the hold by itself, and `resume_writing` comes next. A
    /// [`pause_reading`](Transport::pause_reading) is another thing, which the loop does not lift:
    /// reading goes on when there is neither. When the buffer goes above the mark again before
    /// `resume_writing` was called, there is no second call: the answer to the first holds.
    ///
    /// The provided method answers by side: `StopReading` on a connection that we accepted (or
    /// adopted), `KeepReading` on one that we opened. So a server that answers what it reads is
    /// bounded as it stands: it does not listen to a peer that leaves its answers lying. With the
    /// same answer on both ends, two of them that send much could block each other with full
    /// buffers, neither reading; so the caller's end reads on, and the
    /// [cap](crate::WriteLimits) bounds it.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        Ok(if transport.is_accepted() {
            OnPause::StopReading
        } else {
            OnPause::KeepReading
        })
    }

    /// The write buffer fell to its low-water mark.
    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// The connection ended; `closed` says how and how many bytes were lost.
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }

    /// A buffer to read into directly, as with asyncio's `BufferedProtocol`.
    ///
    /// It is asked before every read. `Some` takes the place of `data_received`: the bytes are read
    /// into it and [`buffer_updated`](Protocol::buffer_updated) says how many. `None`, which the
    /// provided method answers, has the next bytes given to `data_received`. An empty buffer is an
    /// error.
    ///
    /// `size_hint` is how many bytes are known to be there: those given to
    /// [`set_protocol`](Transport::set_protocol) as unread. It is 0 for what the kernel has. A
    /// buffer stays unused when the call that gave it also closed, switched the protocol, or
    /// stopped reading; and when there turns out to be nothing to read.
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
    ///
    ///     // Required, but not called: there always is a buffer.
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        let _ = (transport, size_hint);
        None
    }

    /// The first `len` bytes of the buffer that [`get_buffer`](Protocol::get_buffer) gave were
    /// filled.
    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let _ = (transport, len);
        Ok(())
    }

    /// The protocol that this one wraps, so that
    /// [`with_protocol`](Transport::with_protocol) and the typed callbacks find it.
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        None
    }

    /// The name in logs and failures.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Boxes the protocol, but not a box of one once more.
    #[doc(hidden)]
    fn boxed(self) -> Box<dyn Protocol>
    where
        Self: Sized,
    {
        Box::new(self)
    }
}

/// What happens after the peer's end of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum OnEof {
    /// Close, once what is buffered was sent.
    Close,
    /// Keep our side open for writing.
    KeepOpen,
}

/// Whether a paused writer goes on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum OnPause {
    /// Hold reading back until the buffer has drained.
    StopReading,
    /// Go on reading.
    KeepReading,
}

impl Protocol for Box<dyn Protocol> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        (**self).connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        (**self).data_received(transport, data)
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

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        (**self).get_buffer(transport, size_hint)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        (**self).buffer_updated(transport, len)
    }

    /// The boxed protocol itself, so that a wrapper that holds a box is looked through.
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut **self)
    }

    fn type_name(&self) -> &'static str {
        (**self).type_name()
    }

    fn boxed(self) -> Box<dyn Protocol> {
        self
    }
}

/// The `P` in a protocol or in what it wraps.
pub(crate) fn find<P: Protocol>(protocol: &mut dyn Protocol) -> Option<&mut P> {
    if (protocol as &dyn Any).is::<P>() {
        return (protocol as &mut dyn Any).downcast_mut();
    }
    find(protocol.inner()?)
}
