//! Callbacks that a connection's protocol gets later, and timers that end with the connection.

use super::Transport;
use super::state::State;
use crate::callback::{CallbackHandle, Once, Run};
use crate::completion::Completion;
use crate::event_loop::Failure;
use crate::repeating::{Every, Next};
use crate::timers::TimerId;
use crate::{CloseReason, Handle, Result, TransportId, WithProtocolError, protocol};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Transport {
    pub(super) fn schedule<P: 'static>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let run: Rc<dyn Run> = OnTransport::to(Target::of(self, "call_soon"), call);
        let handle = CallbackHandle::new(self.core(), &run, None);
        self.core().push_ready(run);
        handle
    }

    pub(super) fn schedule_after<P: 'static>(
        &self,
        delay: Duration,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let timed = OnTransport::to(Target::of(self, "call_later"), call);
        let run: Rc<dyn Run> = timed.clone();
        let core = self.core();
        if self.is_lost() || core.is_closed() {
            let handle = CallbackHandle::new(core, &run, None);
            core.defer_drop_call(&*run);
            return handle;
        }
        let deadline = core.clock().checked_add(delay);
        let timer = core.start_timer(deadline, run.clone());
        timed.set_timer(timer);
        self.conn().with_extra(|extra| extra.timers.insert(timer));
        CallbackHandle::new(core, &run, Some(timer)).owned_by(self.id())
    }

    pub(super) fn schedule_every<P: 'static>(
        &self,
        period: Duration,
        mut call: impl FnMut(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let core = self.core();
        let target = Target::of(self, "call_every");
        let every = Every::new(
            core,
            period,
            Some(target.id),
            move |handle: &Handle| match handle.transport(target.id) {
                Some(transport) if transport.is_borrowed() => Next::Retry,
                Some(transport) if transport.is_early() => Next::Early,
                Some(transport) if target.run(&transport, &mut call) => Next::Again,
                _ => Next::End,
            },
        );
        let run: Rc<dyn Run> = every.clone();
        if self.is_lost() || core.is_closed() {
            let handle = CallbackHandle::new(core, &run, None);
            core.defer_drop_call(&*run);
            return handle;
        }
        let timer = every.start(core);
        self.conn().with_extra(|extra| extra.timers.insert(timer));
        CallbackHandle::new(core, &run, Some(timer)).owned_by(self.id())
    }

    /// Has the loop run `call` once writing has failed while reading may go on: no callback of the
    /// protocol tells that when reading is stopped. Dropped at the end of the connection; one for
    /// each connection, the last.
    pub(crate) fn on_write_failed(&self, call: impl FnOnce(&Handle) + 'static) {
        let conn = self.conn();
        if conn.is(State::ENDED | State::LOST_CALLED) {
            return;
        }
        let run: Rc<dyn Run> = Once::new("a failed write", call);
        if conn.is(State::WRITE_FAILED) {
            self.core().push_ready(run);
            return;
        }
        let before = conn.with_extra(|extra| extra.write_failed.replace(run));
        if let Some(before) = before {
            self.core().defer_drop_call(&*before);
        }
    }

    /// A timer of the library's own, which dies with the connection.
    pub(crate) fn timer_at(
        &self,
        deadline: Instant,
        call: impl FnOnce(&Self) + 'static,
    ) -> TimerId {
        let id = self.id();
        let own: Rc<Cell<Option<TimerId>>> = Rc::default();
        let timer = self.core().start_timer(
            Some(deadline),
            Once::new("a timer", {
                let own = own.clone();
                move |handle: &Handle| {
                    if let Some(transport) = handle.transport(id) {
                        if let Some(timer) = own.take() {
                            transport.forget_timer(timer);
                        }
                        call(&transport);
                    }
                }
            }),
        );
        own.set(Some(timer));
        self.conn().with_extra(|extra| extra.timers.insert(timer));
        timer
    }

    pub(crate) fn forget_timer(&self, timer: TimerId) {
        self.conn().with_extra(|extra| extra.timers.remove(&timer));
    }
}

impl<T: 'static> Completion<T> {
    /// Runs `call` with the result as a callback of `transport`'s protocol, if that is still a `P` then.
    ///
    /// When the connection has ended first, `call` is dropped without having run, and a connection that
    /// was the result is closed. Between [`abort`](Transport::abort) and `connection_lost` it may still
    /// run, as any callback of the connection may; its writes are then refused.
    ///
    /// An error that `call` returns ends the connection, as one of any callback does.
    ///
    /// ```
    /// use tidegate::{Protocol, Result, Transport};
    ///
    /// /// Replies with the length of a file, which a thread asks for.
    /// struct Lengths;
    ///
    /// impl Protocol for Lengths {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    ///         let path = String::from_utf8_lossy(data).trim().to_owned();
    ///         transport
    ///             .handle()
    ///             .run_in_executor(move || std::fs::metadata(path))
    ///             .then_on(transport, |_: &mut Self, transport, found| {
    ///                 writeln!(transport, "{}", found??.len())?;
    ///                 Ok(())
    ///             });
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn then_on<P: 'static>(
        self,
        transport: &Transport,
        call: impl FnOnce(&mut P, &Transport, io::Result<T>) -> Result + 'static,
    ) {
        let target = Target::of(transport, "then_on");
        self.schedule(move |answer| {
            let call =
                move |this: &mut P, transport: &Transport| call(this, transport, answer.take());
            OnTransport::to(target, call)
        });
    }
}

/// The protocol that a callback is for.
#[derive(Clone, Copy)]
pub(super) struct Target {
    id: TransportId,
    context: &'static str,
    /// The number of calls of `set_protocol` when the callback was scheduled.
    switches: u64,
}

impl Target {
    pub(super) fn of(transport: &Transport, context: &'static str) -> Self {
        Self {
            id: transport.id(),
            context,
            switches: transport.switches(),
        }
    }

    /// Runs `call` as a callback of the protocol, and reports a protocol of another type unless
    /// it came by `set_protocol` since. Returns whether `call` ran.
    pub(super) fn run<P: 'static>(
        self,
        transport: &Transport,
        call: impl FnOnce(&mut P, &Transport) -> Result,
    ) -> bool {
        let mut ran = false;
        let mut mismatch = None;
        transport.run_callback(self.context, |protocol, transport| {
            match protocol::find::<P>(protocol) {
                Some(found) => {
                    ran = true;
                    call(found, transport)
                }
                None => {
                    mismatch = Some(WithProtocolError::other_type::<P>(protocol));
                    Ok(())
                }
            }
        });
        if let Some(mismatch) = mismatch
            && transport.switches() == self.switches
            && !transport.conn().is(State::ENDED | State::LOST_CALLED)
        {
            let reason = CloseReason::Callback(Arc::new(mismatch));
            let failure = Failure::new(self.context, reason)
                .of_transport(transport)
                .of_protocol(transport.protocol_name());
            transport.core().report(failure);
        }
        ran
    }
}

/// A closure for the protocol of one connection: dropped when the connection has ended, or has a
/// protocol of another type by then.
pub(crate) struct OnTransport<P, F> {
    target: Target,
    timer: Cell<Option<TimerId>>,
    call: RefCell<Option<F>>,
    protocol: PhantomData<fn(P)>,
}

impl<P, F> OnTransport<P, F>
where
    P: 'static,
    F: FnOnce(&mut P, &Transport) -> Result + 'static,
{
    fn to(target: Target, call: F) -> Rc<Self> {
        Rc::new(Self {
            target,
            timer: Cell::new(None),
            call: RefCell::new(Some(call)),
            protocol: PhantomData,
        })
    }

    pub(crate) fn set_timer(&self, id: TimerId) {
        self.timer.set(Some(id));
    }
}

impl<P, F> Run for OnTransport<P, F>
where
    P: 'static,
    F: FnOnce(&mut P, &Transport) -> Result + 'static,
{
    fn run(self: Rc<Self>, handle: &Handle) {
        let transport = handle.transport(self.target.id);
        if transport.as_ref().is_some_and(Transport::is_borrowed) {
            handle.core().push_ready(self);
            return;
        }
        if let Some(transport) = &transport
            && transport.is_early()
        {
            transport.keep_early(self);
            return;
        }
        let call = self.call.take();
        let Some(call) = call else { return };
        let Some(transport) = transport else {
            handle.core().drop_value(call);
            return;
        };
        if let Some(timer) = self.timer.take() {
            transport.forget_timer(timer);
        }
        self.target.run(&transport, call);
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        let call = self.call.take()?;
        Some(Box::new(call))
    }
}
