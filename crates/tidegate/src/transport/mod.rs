//! Transports: the handle to a connection that a protocol writes to.
//!
//! The way of a byte: [`read`] takes it from the kernel, [`callback_frame`] calls the protocol
//! with it, [`mod@write`] takes the bytes of a reply ([`payload`]), [`flush`] offers them to the
//! kernel, and those that it refuses wait in the [buffer](crate::write_buffer).
//!
//! [`step`] decides from the [`state`] which callback is next, and [`settle`] makes it. [`start`]
//! makes a connection of a socket, [`protocol_slot`] holds its protocol, [`account`] counts its bytes for
//! the loop. [`close`] ends it,
//! [`refused`] keeps a write that the cap refused, [`linger`] waits for the peer, [`waiters`] completes
//! `drain`, `flush` and `wait_closed`, [`write_timeout`] cuts a peer that does not read, and [`idle`] a
//! connection without bytes. [`detach`] takes one out of its loop, and [`arrive`] puts it into another.
//! [`layers`] stand between the socket and the protocol. `splice` moves bytes past the protocol. [`options`], [`schedule`] and [`stats`] do the work of the
//! remaining public methods, [`unread`] those for input that comes again, and [`hold`] holds on reading.
//! All public methods are in this file, but for those in [`input`] and [`detach`], and in the files `push_layer.rs`,
//! `socket.rs` and `credentials.rs` of the crate.

mod account;
mod arrive;
mod box_cell;
mod callback_frame;
mod close;
mod conn;
mod detach;
mod flush;
mod hold;
mod id;
mod idle;
mod input;
mod layers;
mod linger;
mod options;
mod payload;
mod protocol_slot;
mod read;
mod refused;
mod schedule;
mod settle;
#[cfg(feature = "splice")]
mod splice;
mod start;
mod state;
mod stats;
mod step;
mod unread;
mod waiters;
mod write;
mod write_timeout;

use crate::callback::CallbackHandle;
use crate::completion::Completion;
use crate::event_loop::Core;
use crate::flow::{Flow, WriteLimits};
use crate::protocol::boxed;
use crate::{Address, BoxError, CloseReason, Closed, Handle, Protocol, Result, WriteError};
use bytes::Bytes;
use conn::Conn;
use payload::Payload;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

pub(crate) use arrive::Arrival;
pub(crate) use box_cell::BoxCell;
pub use hold::ReadHold;
pub use id::TransportId;
pub(crate) use idle::IdleLimit;
pub(crate) use layers::NewLayer;
pub use linger::LingerLimits;
pub use protocol_slot::WithProtocolError;
#[cfg(feature = "splice")]
pub(crate) use splice::Spliced;
pub(crate) use start::NewConnection;
pub(crate) use state::State;
pub use stats::TransportStats;
pub(crate) use step::{Input, Spent, Step};

/// One end of a connection, which a protocol writes to, pauses and closes.
///
/// Clones name the same connection. Holding one does not keep the connection alive, and dropping
/// one does nothing: the loop keeps a connection until it has ended. Every method may be called
/// from any callback, in any state, and after the end. None calls back before it returns, except
/// [`with_protocol`](Transport::with_protocol), which calls the closure it is given.
///
/// # Backpressure
///
/// [`write`](Transport::write) takes all of its bytes or none, and never blocks. Above the
/// high-water mark of the [`WriteLimits`] it returns [`Flow::Paused`], and the loop calls
/// `pause_writing`. At the cap it fails with [`WriteError::BufferFull`]. `Paused` means that the
/// kernel refused bytes, or that the transport has sent its share of this tick. Small writes of a
/// callback go out together when it returns.
///
/// # Ends
///
/// * [`close`](Transport::close) sends the buffered bytes, then ends the connection. If the peer
///   may still be sending, the loop keeps the bare socket for a while and discards its input
///   ([`LingerLimits`]). Otherwise the kernel's reset could destroy our last bytes on their way.
/// * [`abort`](Transport::abort) and [`reset`](Transport::reset) end the connection now.
/// * An end with [unsent](Closed::unsent) bytes resets a TCP connection, whatever caused it, so that
///   the peer does not take a cut stream for a complete one. So does an end that follows a write refused
///   at the cap, unless `close` brought it: the refused bytes are missing. Any other end is an EOF.
///   Unix sockets have no reset: there, a protocol that must tell has to mark its own end.
/// * A failed write ends writing only: bytes that the peer sent before are still delivered.
///
/// Every connection ends with one [`Closed`], and `sent + unsent == written`.
#[derive(Clone)]
pub struct Transport(Rc<Conn>); // For other threads: `Transport::id`.

impl Transport {
    #[inline]
    pub(crate) fn conn(&self) -> &Conn {
        &self.0
    }

    fn core(&self) -> &Rc<Core> {
        self.0.core()
    }
}

/// # Writing
impl Transport {
    /// Writes all of `data`, or nothing. An empty write does nothing. The write during which the connection
    /// ends is an exception: see [`WriteError::Closed`].
    ///
    /// [`Flow::Paused`] is returned from the crossing of the high-water mark until the fall to the
    /// low-water mark: the bytes were taken, and it is time to wait for `resume_writing` or
    /// [`drain`](Self::drain). The cap looks at the buffer before the write, so one write of any size
    /// is taken below it.
    ///
    /// Text is written by `write!(transport, "{text}")` or `transport.write(text.as_bytes())`.
    ///
    /// The result is a [`Flow`], which a callback does not return: its last lines are
    /// `transport.write(data)?;` and `Ok(())`.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    #[inline]
    pub fn write(&self, data: &[u8]) -> Result<Flow, WriteError> {
        self.enqueue(Payload::Slice(data))
    }

    /// Writes bytes without copying those that must wait for the kernel. The loop drops an
    /// [owner](Bytes::from_owner) of the bytes later, never within this call.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub fn write_owned(&self, data: impl Into<Bytes>) -> Result<Flow, WriteError> {
        self.enqueue(Payload::Owned(data.into()))
    }

    /// Writes any number of slices, one after the other, as one [`write`](Transport::write).
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    #[doc(alias = "writelines")]
    pub fn write_vectored(&self, slices: &[IoSlice<'_>]) -> Result<Flow, WriteError> {
        self.enqueue(Payload::slices(slices))
    }

    /// Writes the whole text as one write. The macro call `write!(transport, "...")` uses this.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; [`WriteError::Format`] when a value's own formatting fails.
    pub fn write_fmt(&self, args: fmt::Arguments<'_>) -> Result<Flow, WriteError> {
        self.enqueue_text(args)
    }

    /// Sends the buffered bytes, then ends our side of the stream. Reading goes on. A second call
    /// does nothing. When the peer has ended its side too and `eof_received` kept the connection
    /// open, the connection then ends by itself.
    ///
    /// # Errors
    ///
    /// [`WriteError::Closing`] after `close`, [`WriteError::Closed`] after the end.
    pub fn write_eof(&self) -> Result<(), WriteError> {
        self.request_eof()
    }
}

/// # Flow control
impl Transport {
    /// Returns [`Flow::Paused`] from the crossing of the high-water mark until the buffer has
    /// fallen to the low-water mark.
    pub fn flow(&self) -> Flow {
        self.conn().flow()
    }

    /// Completes when the transport is not paused: at once, or when the buffer falls to the
    /// low-water mark.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection, once it has one, before anything else.
    pub fn drain(&self) -> Completion<()> {
        self.wait_drained()
    }

    /// Completes when the kernel has all bytes that were written before this call.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection when that cannot happen any more. After the end the
    /// completion is `Ok` if the kernel got these bytes.
    pub fn flush(&self) -> Completion<()> {
        self.wait_flushed()
    }

    /// Returns the [`BufferFull`](WriteError::BufferFull) of the last write, if that was refused at
    /// the cap. Returns `None` when a later write was taken, and while the connection is ending.
    ///
    /// The peer misses the refused bytes. An end other than a [`close`](Transport::close) is then a
    /// cut, and resets a TCP connection.
    pub fn refused_write(&self) -> Option<WriteError> {
        self.open_refusal()
    }

    /// Returns the number of bytes that wait for the kernel in this process; a counter, not a sum.
    pub fn write_buffer_size(&self) -> usize {
        self.conn().waiting_bytes()
    }
}

/// # Ending
impl Transport {
    /// Stops reading, sends the buffered bytes however long that takes, then ends the connection.
    /// See [`close_within`](Transport::close_within) for a deadline.
    pub fn close(&self) {
        self.begin_close();
    }

    /// Closes as [`close`](Transport::close) does, but with a deadline: bytes that are still buffered
    /// after `limit` are dropped, unsent, and the reason is [`CloseReason::Timeout`].
    ///
    /// A TCP peer then sees a reset, a peer of a Unix socket an EOF, as after
    /// [`abort`](Transport::abort). Of several deadlines the earliest holds. A deadline may be set
    /// after `close` too.
    pub fn close_within(&self, limit: Duration) {
        self.close_by(limit);
    }

    /// Ends the connection now. Buffered bytes are dropped, unsent.
    ///
    /// If bytes are unsent, or the last write was [refused](Transport::refused_write), a TCP peer sees
    /// a reset. The reset may also destroy what the kernel had not got through to it. Otherwise it
    /// sees an EOF, and all bytes before it. Unix sockets have no reset: there the peer sees an EOF
    /// in both cases, so data must mark its own end.
    ///
    /// asyncio's `abort` is a plain close(2), and a cut stream looks complete to any peer.
    pub fn abort(&self) {
        self.end(CloseReason::LocalAbort);
    }

    /// Ends the connection as [`abort`](Transport::abort) does; a TCP peer sees a reset, also when
    /// all bytes are in the kernel. The reason is then [`CloseReason::LocalAbort`], also after a
    /// [`close`](Transport::close) that has not ended yet.
    pub fn reset(&self) {
        self.reset_for(CloseReason::LocalAbort);
    }

    /// Ends the connection as an `Err` of one of its callbacks does. For code that is no callback of
    /// it, such as a task.
    ///
    /// The kernel gets one chance to take the buffered bytes. The reason is
    /// [`CloseReason::Callback`] with this error, and nothing is reported. An error that only says
    /// that this very connection is already ending ([`Protocol`]) changes nothing, nor does a call
    /// after the end.
    #[doc(alias = "_fatal_error")]
    pub fn fail(&self, error: impl Into<BoxError>) {
        self.fail_with(error.into());
    }

    /// Returns whether the connection is ending or has ended: from `close`, `abort` or an error
    /// on.
    pub fn is_closing(&self) -> bool {
        self.conn().is(State::ENDING)
    }

    /// Returns how the connection ended, or `None` while it is open. After `abort` or an error it
    /// is set at once; after `close`, when `connection_lost` is called.
    pub fn closed(&self) -> Option<Closed> {
        self.conn().closed()
    }

    /// Completes after `connection_lost`, with the [`Closed`] of the connection as its value.
    ///
    /// # Errors
    ///
    /// None of the connection; [`LoopClosed`](crate::LoopClosed) when the loop ends before.
    pub fn wait_closed(&self) -> Completion<Closed> {
        self.wait_lost()
    }
}

/// # The protocol
impl Transport {
    /// Replaces the connection's protocol, once the running callback has returned.
    ///
    /// The new protocol goes on where the old one was, without a `connection_made`. It is told of
    /// a pause that lasts (`pause_writing`). Then it reads `unread`, the
    /// [`leftover`](Protocol::leftover) of the old protocol, bytes that were given
    /// [back](Transport::unread), and the bytes of the kernel. It is told of an EOF that has come
    /// already (`eof_received`). The old protocol is not called again; the loop drops it.
    ///
    /// Of several calls within one callback the last protocol wins, and their `unread` bytes are
    /// joined in order. Otherwise the new `unread` comes before unread bytes that are left.
    ///
    /// # Errors
    ///
    /// [`Closed`] in `connection_lost` and after it. While the connection is ending before that,
    /// the new protocol is accepted, and gets `connection_lost` alone.
    pub fn set_protocol(&self, protocol: impl Protocol, unread: &[u8]) -> Result<(), Closed> {
        self.replace_protocol(boxed(protocol), unread)
    }

    /// Calls `call` with the protocol, now, if that is a `P`, [wraps](Protocol::inner) one, or
    /// [drives](Protocol::user) one.
    ///
    /// A panic of `call` goes to the caller.
    ///
    #[doc = include_str!("../../docs/transport/with_protocol.md")]
    ///
    /// # Errors
    ///
    /// [`WithProtocolError`]: within the protocol's own callbacks, after the end, and for a
    /// protocol of another type. `call` is then dropped, not called.
    pub fn with_protocol<P: 'static, R>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> R,
    ) -> Result<R, WithProtocolError> {
        self.call_with_protocol(call)
    }
}

/// # Callbacks and timers
impl Transport {
    /// Runs `call` as a callback of this connection's protocol, in this tick of the loop or the
    /// next.
    ///
    /// It is dropped without having run when the connection has ended by then, or its protocol is
    /// no `P` and neither [wraps](Protocol::inner) nor [drives](Protocol::user) one. If [`set_protocol`](Transport::set_protocol) was
    /// called meanwhile, that is expected: `call` was for the protocol before. Otherwise the
    /// [error handler](Handle::set_error_handler) gets a [`WithProtocolError`].
    ///
    #[doc = include_str!("../../docs/transport/call_soon.md")]
    pub fn call_soon<P: 'static>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        self.schedule(call)
    }

    /// Runs `call` after `delay`, as [`call_soon`](Transport::call_soon) does. The timer is
    /// cancelled at the end of the connection.
    ///
    #[doc = include_str!("../../docs/transport/call_later.md")]
    pub fn call_later<P: 'static>(
        &self,
        delay: Duration,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        self.schedule_after(delay, call)
    }

    /// Runs `call` again and again, a `period` apart, as [`Handle::call_every`] does.
    ///
    /// Each run is a callback of this connection's protocol: an `Err` or a panic ends the
    /// connection. The timer is cancelled at the end of the connection, and when the protocol is
    /// no `P`, as [`call_soon`](Transport::call_soon) describes.
    pub fn call_every<P: 'static>(
        &self,
        period: Duration,
        call: impl FnMut(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        self.schedule_every(period, call)
    }
}

/// # Facts
impl Transport {
    /// Returns the peer's address.
    pub fn peer_addr(&self) -> &Address {
        &self.conn().peer
    }

    /// Returns our own address; [`Address::Unnamed`] when first called after the end.
    pub fn local_addr(&self) -> &Address {
        self.conn().local_addr()
    }

    /// Returns whether a server accepted the connection, or it was adopted; `false` if we opened
    /// it.
    pub fn is_accepted(&self) -> bool {
        self.conn().is(State::ACCEPTED)
    }

    /// Returns the id that names the connection within its loop. Unlike a transport, it may be
    /// sent to other threads: see [`RemoteHandle`](crate::RemoteHandle).
    pub fn id(&self) -> TransportId {
        self.conn().id
    }

    /// Returns a handle to the loop that drives the connection.
    pub fn handle(&self) -> &Handle {
        &self.conn().handle
    }

    /// Returns the number of bytes that writes have taken so far.
    pub fn written(&self) -> u64 {
        self.conn().written.get()
    }

    /// Returns the number of bytes that the kernel has taken so far.
    pub fn sent(&self) -> u64 {
        self.conn().sent.get()
    }

    /// Returns the numbers of this connection so far.
    pub fn stats(&self) -> TransportStats {
        TransportStats::of(self)
    }
}

/// # Options
impl Transport {
    /// Sets the watermarks and the cap. They hold at once: a pause or a resume that this causes
    /// is delivered.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) unless `low <= high <= cap` and `cap > 0`;
    /// nothing changes then.
    pub fn set_write_limits(&self, limits: WriteLimits) -> io::Result<()> {
        self.change_write_limits(limits)
    }

    /// Returns the limits that were set. A [write budget](crate::EventLoopBuilder::write_budget) may lower the
    /// marks in force.
    pub fn write_limits(&self) -> WriteLimits {
        self.conn().marks.get().limits()
    }

    /// Ends the connection with [`TimeoutKind::Write`](crate::TimeoutKind::Write) when bytes are
    /// buffered here and the kernel takes none of them for `limit`. `None` means
    /// never. Without a call the one of the server's or the connect's options holds, or none.
    ///
    /// The buffered bytes are then unsent, and a TCP peer sees a reset, as after
    /// [`abort`](Transport::abort). asyncio has no such limit. Any byte the kernel accepts
    /// restarts the timer, so `limit` is not a deadline for one write. Kernels report free space
    /// late, in steps of up to several hundred kilobytes: choose a limit in which an acceptable
    /// slow peer reads that much.
    ///
    /// * Nothing is timed while nothing is buffered, so an idle connection is not cut.
    /// * After [`write_eof`](Transport::write_eof) and [`close`](Transport::close) the limit still
    ///   holds, while the rest is being sent. Of it and the deadline of
    ///   [`close_within`](Transport::close_within) the earlier one ends the connection.
    /// * Before a connection is cut, its buffered bytes are offered to the kernel once more. So
    ///   none is cut because the loop was busy with others.
    /// * A change holds at once, also for bytes that the kernel refuses already. A new limit counts
    ///   from the last byte that the kernel took, or, where there was no limit, from now.
    /// * [`Duration::ZERO`] ends the connection in the first tick that finds the kernel full;
    ///   [`Duration::MAX`] never does. After the end of the connection the call does nothing.
    /// * A limit costs nothing until the kernel refuses bytes, and no memory if it is of whole
    ///   milliseconds.
    ///
    /// The kernel takes bytes until its own buffers are full, at this end and at the peer's:
    /// hundreds of kilobytes to some megabytes. Only then does the time begin, so a peer that is
    /// sent less than that is not noticed. Nor does the limit tell a peer that vanished from one
    /// that does not read. TCP has options that see both:
    /// [`set_user_timeout`](Transport::set_user_timeout), for bytes that the peer has not
    /// acknowledged or has no window for; and [`set_keepalive`](Transport::set_keepalive), which
    /// finds a peer that vanished while nothing was under way.
    ///
    #[doc = include_str!("../../docs/transport/set_write_timeout.md")]
    pub fn set_write_timeout(&self, limit: Option<Duration>) {
        self.limit_stalls(limit);
    }

    /// Sets how long, and for how many bytes, the loop discards the peer's input after a
    /// [`close`](Transport::close): see [`LingerLimits`].
    ///
    /// The limits of the server or of the [`ConnectOptions`](crate::ConnectOptions) hold until then.
    /// A call after `connection_lost` does nothing.
    pub fn set_linger_limits(&self, limits: LingerLimits) {
        self.conn().with_extra(|extra| extra.linger = Some(limits));
    }

    /// Returns the limits in force.
    pub fn linger_limits(&self) -> LingerLimits {
        self.conn().linger_limits()
    }
}
