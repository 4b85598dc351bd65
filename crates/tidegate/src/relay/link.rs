//! The state that the two protocols of a relay share, and all of their decisions.
//!
//! The reading of one side is paused while the [`flow`](Transport::flow) of the other is paused, and
//! resumes in `resume_writing`. EOF is carried over as `write_eof`, and `eof_received` returns `KeepOpen`:
//! two EOFs end both connections by themselves.
//!
//! Most of this a user could build. These parts need the inside of the crate:
//!
//! * a reset with another reason (`reset_for`), and the report of a connect without a waiter;
//! * the guide of a connect, which knows an attempt before the kernel does (see [`route`](super::route));
//! * the tick of the last send (`taken_at`);
//! * `switches`: a side may get another protocol, and the old one is dropped only at the end of the tick;
//! * `on_write_failed`: no callback says that writing has failed while reading is stopped.
//!
//! The protocol of the back decides about a connect: its `connection_made` is success, and its drop
//! without one is failure. So nothing takes the completion before, and dropping that cancels the connect.
//!
//! The end of one side is carried over in `connection_lost`, when its reason is known: a clean end as
//! `close`, any other as `flush`, then `reset`.

use super::RelayReport;
use super::limits::Limits;
use super::route::{Arrival, Route};
#[cfg(feature = "splice")]
use super::splice::Bulk;
use crate::event_loop::Failure;
use crate::{CloseReason, Closed, Completion, Handle, Transport, WriteError};
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time that the last bytes have to arrive before a reset. A reset destroys the bytes that the kernel
/// has not got through to the peer, and their number cannot be asked for without `unsafe` code.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Front,
    Back,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Front, Self::Back];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }
}

pub(super) type OnEnd = Box<dyn FnOnce(&Handle, &RelayReport)>;
pub(super) type OnBackEnd = Box<dyn FnOnce(&Transport)>;

/// The state that both protocols share. No borrow in here lasts while anything else is called.
#[derive(Default)]
pub(super) struct Link {
    pub(super) front: End,
    pub(super) back: End,
    pub(super) connecting: RefCell<Option<Completion<Transport>>>,
    /// Why there is no back.
    pub(super) unconnected: OnceCell<Arc<io::Error>>,
    pub(super) arrival: OnceCell<Arrival>,
    /// Where attempts at the back went.
    pub(super) routes: RefCell<Vec<Route>>,
    pub(super) limits: Limits,
    pub(super) on_back_end: RefCell<Option<OnBackEnd>>,
    pub(super) on_end: RefCell<Option<OnEnd>>,
}

/// One side.
#[derive(Default)]
pub(super) struct End {
    pub(super) transport: OnceCell<Transport>,
    pub(super) closed: OnceCell<Closed>,
    /// Its peer will send nothing more.
    pub(super) eof: Cell<bool>,
    /// The protocol is gone, with or without `connection_lost`.
    gone: Cell<bool>,
    /// The protocols that the transport was given when ours came.
    switches: Cell<u64>,
    /// The relay has paused its reading.
    stopped: Cell<bool>,
    watched: Cell<bool>,
    /// How it is to end, once the other side has.
    leaving: Cell<Option<Leaving>>,
    pub(super) received: Cell<u64>,
    /// The number of the other side's bytes that its transport took, and the time of the last.
    pub(super) taken: Cell<u64>,
    pub(super) taken_at: Cell<Option<Instant>>,
    /// Bytes of the other side that its transport did not take yet.
    held: RefCell<Vec<u8>>,
    #[cfg(feature = "splice")]
    pub(super) bulk: Bulk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Close,
    Reset,
}

impl Link {
    pub(super) fn end(&self, side: Side) -> &End {
        match side {
            Side::Front => &self.front,
            Side::Back => &self.back,
        }
    }

    /// Makes a closure that calls `call` later, unless the relay is gone by then. A wait for a side that
    /// leaves may take long, and must not keep the relay meanwhile.
    pub(super) fn later(
        self: &Rc<Self>,
        call: impl FnOnce(&Rc<Self>, &Handle) + 'static,
    ) -> impl FnOnce(&Handle) + 'static {
        let link = Rc::downgrade(self);
        move |handle| {
            if let Some(link) = link.upgrade() {
                call(&link, handle);
            }
        }
    }

    // The way of a byte.

    /// Passes bytes that were received from `side` to the other.
    pub(super) fn pass(self: &Rc<Self>, side: Side, data: &[u8]) {
        let to = self.end(side.other());
        if to.has_left() {
            return;
        }
        let Some(transport) = to.transport.get().filter(|_| !to.holds()) else {
            to.held.borrow_mut().extend_from_slice(data);
            self.steer(side);
            return;
        };
        let before = transport.written();
        let written = transport.write(data);
        // A write that fails may have been taken: the error came too late. One that succeeds may wake a
        // task that writes too.
        let taken = (transport.written() - before).min(data.len() as u64);
        to.taken.set(to.taken.get() + taken);
        to.taken_at.set(Some(transport.handle().now()));
        match written {
            Ok(flow) if !flow.is_paused() => {}
            Err(WriteError::BufferFull { .. }) => {
                // Never with the default limits. Below the high-water mark, or written by others: no
                // resume will come.
                to.held.borrow_mut().extend_from_slice(data);
                let retry = self.later(move |link, _| link.retry(side));
                transport.flush().then(move |handle, _| retry(handle));
                self.steer(side);
            }
            // Refused for good: the end of the connection that was written to settles the rest.
            Ok(_) | Err(_) => self.steer(side),
        }
    }

    /// Carries over the end of the stream, once all before it is written.
    pub(super) fn pass_eof(&self, side: Side) {
        let to = self.end(side.other());
        if let Some(transport) = to.transport.get()
            && !to.holds()
            && !to.has_left()
        {
            // Refused when it is ending anyway.
            let _ = transport.write_eof();
        }
    }

    /// The stream of `side` has ended.
    pub(super) fn ended(self: &Rc<Self>, side: Side, handle: &Handle) {
        self.end(side).eof.set(true);
        self.note_half_closed(handle);
        if side == Side::Back {
            self.tell_back_end();
        }
        self.pass_eof(side);
    }

    /// Tells the front that the back has ended, the first time. Returns whether it did.
    fn tell_back_end(&self) -> bool {
        let call = self.on_back_end.take();
        let front = self.front.transport.get();
        let Some((call, front)) = call.zip(front.filter(|_| !self.front.is_over())) else {
            return false;
        };
        // A panic must not keep the end from the front.
        let core = front.handle().core();
        core.guard("on_back_end of a relay", || call(front));
        true
    }

    /// There may be room for the bytes that were held back from `side`.
    fn retry(self: &Rc<Self>, side: Side) {
        let to = self.end(side.other());
        let held = to.held.take();
        if !held.is_empty() {
            self.pass(side, &held);
        }
        if to.holds() {
            return;
        }
        if self.end(side).eof.get() {
            self.pass_eof(side);
        }
        self.steer(side);
        self.conclude(side.other());
    }

    /// Reads from `side`, or stops reading: it is read only while the other side can take bytes.
    pub(super) fn steer(self: &Rc<Self>, side: Side) {
        let end = self.end(side);
        let Some(transport) = end.transport.get() else {
            return;
        };
        if end.is_over() {
            return;
        }
        let stop = self.must_stop(side);
        let stopped = end.stopped.replace(stop);
        if stop {
            // Each time: other code may have resumed it.
            transport.pause_reading();
            // Of a side that is not read no callback tells that writing has failed.
            self.watch(side);
        } else if stopped {
            transport.resume_reading();
        }
    }

    fn must_stop(&self, side: Side) -> bool {
        if self.end(side).leaving.get().is_some() {
            // Its bytes are lost; but were it not read, it might not read the bytes that we still hold for
            // it, and never end.
            return false;
        }
        let to = self.end(side.other());
        let Some(transport) = to.transport.get() else {
            return true;
        };
        if to.holds() {
            return true;
        }
        // One that can take nothing any more stops no reading: bytes for it are lost, and the end of
        // `side` is noticed. But while it closes, its end is near.
        (transport.flow().is_paused() || transport.is_closing()) && transport.closed().is_none()
    }

    pub(super) fn watch(self: &Rc<Self>, side: Side) {
        let end = self.end(side);
        if let Some(transport) = end.transport.get()
            && !end.is_over()
            && !end.watched.replace(true)
        {
            transport.on_write_failed(self.later(move |link, _| link.write_failed(side)));
        }
    }

    fn write_failed(self: &Rc<Self>, side: Side) {
        if side == Side::Front && self.back.transport.get().is_none() {
            // Reset while the back is being connected.
            if let Some(front) = self.front.transport.get()
                && !self.front.is_over()
            {
                front.reset();
            }
        }
        if side == Side::Back {
            self.tell_back_end();
        }
        if let Some(transport) = self.end(side).transport.get() {
            self.note_half_closed(transport.handle());
        }
        self.steer(side.other());
    }

    // Connecting.

    pub(super) fn connected(self: &Rc<Self>, back: &Transport) {
        self.back.join(back);
        let connecting = self.connecting.take();
        if let Some(connecting) = connecting {
            connecting.detach();
        }
        self.start_limits(back.handle());
        #[cfg(feature = "splice")]
        self.splice_all();
        self.retry(Side::Front);
    }

    fn refused(&self, handle: &Handle, error: io::Error) {
        let error = Arc::new(error);
        let reason = CloseReason::Io(error.clone());
        if self.unconnected.set(error).is_err() {
            return;
        }
        let Some(front) = self.front.transport.get() else {
            return;
        };
        let mut failure = Failure::new("connecting the back of a relay", reason.clone());
        failure = failure
            .of_transport(front)
            .of_protocol(front.protocol_name());
        let was_closed = self.tell_back_end() && front.is_closing();
        if !was_closed && !self.front.is_over() {
            front.reset_for(reason);
        }
        if self.on_end.borrow().is_none() {
            handle.core().report(failure);
        }
    }

    // The end.

    pub(super) fn lost(self: &Rc<Self>, side: Side, handle: &Handle, closed: &Closed) {
        let _ = self.end(side).closed.set(closed.clone());
        self.end(side).held.take();
        self.note_half_closed(handle);
        if side == Side::Back {
            self.forget_routes(handle);
            self.tell_back_end();
        }
        if self.back.transport.get().is_none() {
            let connecting = self.connecting.take();
            drop(connecting);
            self.unconnected.get_or_init(|| {
                let message = "the front ended before its back was connected";
                Arc::new(io::Error::new(io::ErrorKind::ConnectionAborted, message))
            });
        }
        let other = self.end(side.other());
        if other.transport.get().is_some() && !other.is_over() {
            other.leaving.set(Some(if closed.is_clean() {
                Leaving::Close
            } else {
                Leaving::Reset
            }));
            self.steer(side.other());
            self.conclude(side.other());
        }
        self.report(handle);
    }

    /// Ends `side`, if it is to end, once it has all that was received for it.
    fn conclude(self: &Rc<Self>, side: Side) {
        let end = self.end(side);
        let settled = !end.holds() && !end.is_over();
        let Some(transport) = end.transport.get().filter(|_| settled) else {
            return;
        };
        match end.leaving.get() {
            None => {}
            Some(Leaving::Close) => {
                // Closing ends reading, on which it may depend that the rest is taken.
                let close = self.later(move |link, _| link.close(side));
                transport.flush().then(move |handle, _| close(handle));
            }
            Some(Leaving::Reset) => {
                let full = transport.write_buffer_size() > 0;
                let cut = self.later(move |link, handle| {
                    if full {
                        link.end(side).taken_at.set(Some(handle.now()));
                    }
                    link.cut(side);
                });
                transport.flush().then(move |handle, _| cut(handle));
            }
        }
    }

    fn close(&self, side: Side) {
        let end = self.end(side);
        if let Some(transport) = end.transport.get().filter(|_| !end.is_over()) {
            transport.close();
        }
    }

    /// Resets `side`, all of whose bytes are in the kernel.
    fn cut(self: &Rc<Self>, side: Side) {
        let end = self.end(side);
        let Some(transport) = end.transport.get().filter(|_| !end.is_over()) else {
            return;
        };
        let may_wait = transport.peer_addr().as_inet().is_some() && transport.closed().is_none();
        let deadline = end.taken_at.take().map(|taken_at| taken_at + GRACE);
        match deadline.filter(|deadline| may_wait && *deadline > transport.handle().now()) {
            Some(deadline) => {
                let cut = self.later(move |link, _| link.cut(side));
                transport.timer_at(deadline, move |transport| cut(transport.handle()));
            }
            None => transport.reset(),
        }
    }

    /// The protocol of `side` is dropped.
    pub(super) fn dropped(self: &Rc<Self>, side: Side) {
        let end = self.end(side);
        end.gone.set(true);
        if end.closed.get().is_some() {
            return;
        }
        // A back that is dropped before it is made could not be connected, and the completion
        // says why. For a front, dropping the completion cancels the connect.
        let connecting = self.connecting.take();
        if side == Side::Back
            && let Some(connecting) = connecting
        {
            let link = self.clone();
            connecting.then(move |handle, connected| {
                if let Err(error) = connected {
                    link.refused(handle, error);
                }
            });
            return;
        }
        // It has another protocol. So may the other side, whose own is dropped a moment later.
        if let Some(other) = self.end(side.other()).transport.get()
            && end.transport.get().is_some()
        {
            other.handle().call_soon(self.later(move |link, _| {
                let other = link.end(side.other());
                if let Some(transport) = other.transport.get()
                    && !other.is_over()
                {
                    transport.close();
                }
            }));
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(front) = self.front.transport.get() {
            self.forget_routes(front.handle());
            self.limits.stop(front.handle());
        }
    }
}

impl End {
    /// The relay is its protocol from now on.
    pub(super) fn join(&self, transport: &Transport) {
        // The same one, when it was known before.
        let _ = self.transport.set(transport.clone());
        self.switches.set(transport.switches());
    }

    /// One of its directions has ended.
    pub(super) fn has_ended(&self) -> bool {
        let transport = self.transport.get();
        self.eof.get() || transport.is_some_and(|it| it.closed().is_some())
    }

    pub(super) fn is_over(&self) -> bool {
        self.closed.get().is_some() || self.has_left()
    }

    /// It has another protocol, or will have once the running callback has returned.
    pub(super) fn has_left(&self) -> bool {
        let transport = self.transport.get();
        self.gone.get() || transport.is_some_and(|it| it.switches() != self.switches.get())
    }

    pub(super) fn holds(&self) -> bool {
        !self.held.borrow().is_empty()
    }
}
