//! Transports: the handle to a connection that a protocol writes to.
//!
//! The way of a byte: [`read`] takes it from the kernel to the protocol; [`mod@write`] takes what
//! the protocol answers through the [buffer](crate::write_buffer) back; [`deliver`] makes every
//! callback; [`state`] decides in which order they come; [`close`] ends it, [`linger`] waits for
//! the peer, [`write_timeout`] not for ever. [`options`], [`schedule`] and [`stats`] are the rest
//! of the public handle.

mod close;
mod conn;
mod deliver;
mod id;
mod linger;
mod options;
mod read;
mod schedule;
mod state;
mod stats;
mod waiters;
mod write;
mod write_timeout;

use crate::completion::Completion;
use crate::driver::{Socket, SocketOption};
use crate::event_loop::{Core, Grave, Slot, add};
use crate::flow::{Flow, Watermarks};
use crate::server::ServerState;
use crate::{Address, CloseReason, Closed, Handle, Protocol, WriteError, protocol};
use bytes::Bytes;
use conn::{Conn, Next};
use state::State;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;
use write::Payload;

pub use id::TransportId;
pub use stats::TransportStats;

/// One end of a connection: what a protocol writes to, pauses and closes.
///
/// Clones name the same connection. Holding one does not keep the connection alive, and dropping
/// one does nothing: the loop keeps a connection until it has ended. Every method may be called
/// from any callback, in any state, also after the end, and none calls back before it returns
/// (but for [`with_protocol`](Transport::with_protocol), which calls the closure it is given).
///
/// # Writing and backpressure
///
/// [`write`](Transport::write) takes all of its bytes or nothing and never blocks. Above the
/// high-water mark of the [`WriteLimits`](crate::WriteLimits) it answers [`Flow::Paused`] and the
/// protocol gets `pause_writing`; at the cap it fails with [`WriteError::BufferFull`]. `Paused`
/// means that the kernel refused bytes, or that this turn of the loop has sent what one transport
/// may send. Small writes of a callback go out together when it returns.
///
/// # Ending
///
/// * [`close`](Transport::close) sends what is buffered, then ends. If the peer may still be
///   sending, the loop keeps the bare socket a moment and discards its input, up to 1 s, so that
///   the kernel's reset does not destroy our last bytes on their way.
/// * [`abort`](Transport::abort) and [`reset`](Transport::reset) end it now.
/// * A failed write ends writing only: what the peer sent before is still delivered.
///
/// Whatever happens, one [`Closed`] is told to all, and `sent + unsent == written`.
#[derive(Clone)]
pub struct Transport(Rc<Conn>);

/// What is needed to make a connection of a socket.
pub(crate) struct NewConnection {
    pub(crate) socket: Socket,
    pub(crate) peer: Address,
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) accepted: bool,
    pub(crate) marks: Watermarks,
    pub(crate) server: Option<Rc<ServerState>>,
}

impl Transport {
    pub(crate) fn new(handle: &Handle, id: TransportId, new: NewConnection) -> Self {
        let side = if new.accepted {
            State::ACCEPTED
        } else {
            State::EMPTY
        };
        Self(Rc::new(Conn {
            state: Cell::new(side | State::UNMADE | State::WRITABLE),
            pauses: Cell::new(0),
            id,
            written: Cell::new(0),
            sent: Cell::new(0),
            received: Cell::new(0),
            marks: Cell::new(new.marks),
            round_tick: Cell::new(0),
            read_tick: Cell::new(0),
            budget: Cell::new((0, 0)),
            handle: handle.clone(),
            protocol: RefCell::new(Some(new.protocol)),
            socket: RefCell::new(Some(new.socket)),
            queue: RefCell::new(None),
            extra: RefCell::new(None),
            peer: new.peer,
            local: OnceCell::new(),
            server: new.server,
        }))
    }

    /// Puts it under the loop.
    pub(crate) fn start(handle: &Handle, new: NewConnection) -> io::Result<Self> {
        let core = handle.core();
        let mut registry = core.registry.borrow_mut();
        let transport = registry.insert(Slot::Connection, |id| Self::new(handle, id, new));
        drop(registry);
        if let Err(error) = transport.register() {
            let gone = core.registry.borrow_mut().remove(transport.id());
            drop(gone);
            if let Some(protocol) = transport.conn().protocol.take() {
                core.bury(Grave::Protocol(protocol));
            }
            return Err(error);
        }
        Ok(transport)
    }

    #[inline]
    pub(crate) fn conn(&self) -> &Conn {
        &self.0
    }

    fn core(&self) -> &Rc<Core> {
        self.0.core()
    }

    // Writing.

    /// Takes all of `data`, or nothing. An empty write is no write.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    #[inline]
    pub fn write(&self, data: &[u8]) -> Result<Flow, WriteError> {
        self.enqueue(Payload::Slice(data))
    }

    /// As [`write`](Transport::write), but what must wait for the kernel is not copied: the bytes
    /// themselves are kept. An [owner](Bytes::from_owner) of them is dropped by the loop, never
    /// within this call.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub fn write_owned(&self, data: impl Into<Bytes>) -> Result<Flow, WriteError> {
        self.enqueue(Payload::Owned(data.into()))
    }

    /// As one [`write`](Transport::write) of the slices one after the other. There may be any
    /// number of them, and empty ones among them.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    #[doc(alias = "writelines")]
    pub fn write_vectored(&self, slices: &[IoSlice<'_>]) -> Result<Flow, WriteError> {
        self.enqueue(Payload::slices(slices))
    }

    /// What makes `write!(transport, "...")` work; one write of the whole text.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; [`WriteError::Format`] when a value's own formatting fails.
    pub fn write_fmt(&self, args: fmt::Arguments<'_>) -> Result<Flow, WriteError> {
        if let Some(text) = args.as_str() {
            return self.write(text.as_bytes());
        }
        let mut text = String::new();
        match fmt::write(&mut text, args) {
            Ok(()) => self.write(text.as_bytes()),
            Err(fmt::Error) => Err(WriteError::Format {
                transport: self.id(),
            }),
        }
    }

    /// Sends what is buffered, then ends our side of the stream; reading goes on. A second call
    /// does nothing. When the peer has ended its side too and `eof_received` kept the connection
    /// open, it ends by itself.
    ///
    /// # Errors
    ///
    /// [`WriteError::Closing`] after `close`, [`WriteError::Closed`] after the end.
    pub fn write_eof(&self) -> Result<(), WriteError> {
        let conn = self.conn();
        if conn.is(State::ENDING) {
            return Err(conn.refusal());
        }
        conn.set(State::EOF_ASKED);
        self.touch();
        Ok(())
    }

    /// Whether the transport wants more bytes: paused from the crossing of the high-water mark
    /// until the fall to the low one.
    pub fn flow(&self) -> Flow {
        self.conn().flow()
    }

    /// Bytes that writes have taken so far.
    pub fn written(&self) -> u64 {
        self.conn().written.get()
    }

    /// Bytes that the kernel has taken so far.
    pub fn sent(&self) -> u64 {
        self.conn().sent.get()
    }

    /// Bytes that wait here for the kernel; a counter, not a sum.
    pub fn write_buffer_size(&self) -> usize {
        if self
            .conn()
            .is(State::WRITE_DEAD | State::DEAD | State::LOST)
        {
            return 0;
        }
        self.conn().buffered() as usize
    }

    /// Completes when the transport is not paused: at once, or at the fall to the low-water mark.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection, once it has one, before anything else.
    pub fn drain(&self) -> Completion<()> {
        self.wait_drained()
    }

    /// Completes when the kernel has all that was written before this call.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection when that cannot happen any more. After the end it is `Ok`
    /// all the same if the kernel got these bytes.
    pub fn flush(&self) -> Completion<()> {
        self.wait_flushed()
    }

    // Ending.

    /// Completes, never with an error of the connection, after `connection_lost`.
    pub fn wait_closed(&self) -> Completion<Closed> {
        self.wait_lost()
    }

    /// Ends when everything that is buffered has been sent, however long that takes, and reads no
    /// more from now on. See [`close_within`](Transport::close_within) for a deadline.
    pub fn close(&self) {
        self.begin_close();
    }

    /// As [`close`](Transport::close), but what is not sent by then is lost and the connection
    /// ends with [`CloseReason::Timeout`]; the peer sees that as after [`abort`](Transport::abort).
    /// Of several deadlines the earliest holds; it may be set after `close` too.
    pub fn close_within(&self, limit: Duration) {
        self.close_by(limit);
    }

    /// Ends now. What is buffered is lost, and counted as unsent. The peer sees an end of stream,
    /// which may look like any other, or a reset: see [`reset`](Transport::reset).
    pub fn abort(&self) {
        self.end(CloseReason::LocalAbort);
    }

    /// As [`abort`](Transport::abort), and a TCP peer sees a reset.
    pub fn reset(&self) {
        self.reset_for(CloseReason::LocalAbort);
    }

    /// As [`reset`](Transport::reset), with another reason.
    pub(crate) fn reset_for(&self, reason: CloseReason) {
        if self.is_lost() {
            // In `connection_lost` the kernel may still have bytes that count as sent.
            return;
        }
        if let Some(socket) = self.conn().socket.borrow_mut().as_mut() {
            // It fails on a socket that was reset already.
            let _ = socket.set_option(SocketOption::ResetOnClose);
        }
        self.end(reason);
    }

    /// Whether it is ending or has ended: from `close`, `abort` or an error on.
    pub fn is_closing(&self) -> bool {
        self.conn().is(State::ENDING)
    }

    /// How the connection ended, from the moment that this is fixed: before `connection_lost`
    /// after `abort` or an error, at `connection_lost` after `close`.
    pub fn closed(&self) -> Option<Closed> {
        self.conn().closed()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.conn().is(State::LOST)
    }

    // Reading.

    /// Stops reading: no `data_received` and no `eof_received` until
    /// [`resume_reading`](Transport::resume_reading), also when called within `data_received`.
    /// Nothing is lost, and a reset by the peer is still noticed: writes and
    /// [`closed`](Transport::closed) tell.
    pub fn pause_reading(&self) {
        self.conn().set(State::READING_PAUSED);
    }

    /// Goes on reading, with what is there already first.
    pub fn resume_reading(&self) {
        self.conn().clear(State::READING_PAUSED);
        self.touch();
    }

    /// Whether bytes that arrive are delivered: neither paused, nor held by
    /// [`StopReading`](crate::OnPause::StopReading), nor ending.
    pub fn is_reading(&self) -> bool {
        let passing = State::UNMADE | State::SWITCH;
        !self.conn().is(State::NO_READ.without(passing)) && !self.conn().is(State::EOF_TOLD)
    }

    // The protocol.

    /// Gives the connection another protocol, once the running callback has returned. The new one
    /// goes on where the old one was, without a `connection_made`. It is told of a pause that
    /// lasts (`pause_writing`), then reads `unread` before what the kernel has, and is told of an
    /// end of stream that has come already (`eof_received`). The old one is not called again; the
    /// loop drops it.
    ///
    /// Of several calls within one callback the last protocol wins, and their `unread` is joined
    /// in order. Otherwise the new `unread` is read before one that nobody has read yet.
    ///
    /// # Errors
    ///
    /// [`Closed`] in `connection_lost` and after it. While the connection is ending before that,
    /// it is accepted, and the new protocol gets `connection_lost` alone.
    pub fn set_protocol(&self, protocol: impl Protocol, unread: &[u8]) -> Result<(), Closed> {
        let conn = self.conn();
        let protocol = protocol.boxed();
        if conn.is(State::LOST) {
            self.core().bury(Grave::Protocol(protocol));
            return Err(conn
                .closed()
                .unwrap_or_else(|| Closed::new(CloseReason::LocalClose, 0)));
        }
        let in_callback = conn.is(State::RUNNING);
        let replaced = conn.with_extra(|extra| match &mut extra.next {
            Some(next) if in_callback && next.in_callback => {
                next.unread.extend_from_slice(unread);
                Some(std::mem::replace(&mut next.protocol, protocol))
            }
            next => {
                let replaced = next.replace(Next {
                    protocol,
                    unread: unread.to_vec(),
                    in_callback,
                })?;
                // It would have come to its turn without us: ours goes in front of its bytes.
                extra.unread.put_in_front(replaced.unread);
                Some(replaced.protocol)
            }
        });
        if let Some(replaced) = replaced {
            self.core().bury(Grave::Protocol(replaced));
        }
        conn.with_extra(|extra| extra.switches += 1);
        conn.set(State::SWITCH);
        self.touch();
        Ok(())
    }

    /// How often [`set_protocol`](Transport::set_protocol) was called: tells an old protocol, which
    /// lives on for a moment, that there is a new one.
    pub(crate) fn switches(&self) -> u64 {
        let extra = self.conn().extra.borrow();
        extra.as_ref().map_or(0, |extra| extra.switches)
    }

    /// Calls `call` with the protocol, now, if that is a `P` (or
    /// [wraps](Protocol::inner) one). `None` within the protocol's own callbacks, after the end,
    /// and for another type. A panic of `call` goes to the caller.
    pub fn with_protocol<P: Protocol, R>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> R,
    ) -> Option<R> {
        let conn = self.conn();
        if conn.is(State::LOST | State::RUNNING) {
            return None;
        }
        // Before `connection_made` the one in place is the one that will get it.
        if conn.is(State::SWITCH) && !conn.is(State::UNMADE) && !self.is_borrowed() {
            self.switch();
            self.touch();
        }
        let mut slot = conn.protocol.try_borrow_mut().ok()?;
        let found = protocol::find::<P>(slot.as_deref_mut()?)?;
        let answer = call(found, self);
        drop(slot);
        if self.core().is_closed() {
            // The loop was dropped meanwhile, and could not tell a protocol that was in use.
            self.settle();
        }
        Some(answer)
    }

    pub(crate) fn protocol_name(&self) -> Option<&'static str> {
        let slot = self.conn().protocol.try_borrow().ok()?;
        slot.as_ref().map(|protocol| (**protocol).type_name())
    }

    // Facts.

    /// The peer's address.
    pub fn peer_addr(&self) -> &Address {
        &self.conn().peer
    }

    /// Our own address; [`Address::Unnamed`] when it is first asked for after the end.
    pub fn local_addr(&self) -> &Address {
        self.conn().local.get_or_init(|| {
            let socket = self.conn().socket.borrow();
            let addr = socket.as_ref().and_then(|socket| socket.local_addr().ok());
            Box::new(addr.unwrap_or(Address::Unnamed))
        })
    }

    /// Whether the connection was accepted by a server (or adopted), not opened by us.
    pub fn is_accepted(&self) -> bool {
        self.conn().is(State::ACCEPTED)
    }

    /// Names the connection within its loop. It may be sent to other threads, which a transport may
    /// not: see [`RemoteHandle`](crate::RemoteHandle).
    pub fn id(&self) -> TransportId {
        self.conn().id
    }

    /// The loop that drives it.
    pub fn handle(&self) -> &Handle {
        &self.conn().handle
    }

    pub(crate) fn belongs_to(&self, server: &Rc<ServerState>) -> bool {
        self.conn()
            .server
            .as_ref()
            .is_some_and(|own| Rc::ptr_eq(own, server))
    }

    /// Tells the kernel to report events of it; once in its life.
    pub(crate) fn register(&self) -> io::Result<()> {
        let core = self.core();
        add(&core.counters.registrations, 1);
        match self.conn().socket.borrow_mut().as_mut() {
            Some(socket) => {
                core.with_driver(|driver| driver.as_dyn().register(socket, self.id().token()))
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The end of the loop.
    pub(crate) fn shut_down(&self) {
        self.end(CloseReason::Shutdown);
        self.settle();
    }
}

/// The kernel had no memory for a call; nothing is wrong with the connection.
fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
