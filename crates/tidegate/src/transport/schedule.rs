//! Callbacks that a connection's protocol gets later, and timers that die with the connection.

use super::Transport;
use super::state::State;
use crate::callback::{CallbackHandle, OnTransport, Once, Run};
use crate::timers::TimerId;
use crate::{Handle, Protocol, Result};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Transport {
    pub(super) fn schedule<P: Protocol>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let run: Rc<dyn Run> = OnTransport::new(self, "call_soon", call);
        let handle = CallbackHandle::new(self.core(), &run, None);
        self.core().push_ready(run);
        handle
    }

    pub(super) fn schedule_after<P: Protocol>(
        &self,
        delay: Duration,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let timed = OnTransport::new(self, "call_later", call);
        let run: Rc<dyn Run> = timed.clone();
        let core = self.core();
        if self.is_lost() || core.is_closed() {
            let handle = CallbackHandle::new(core, &run, None);
            core.bury_call(&*run);
            return handle;
        }
        let deadline = core.clock().checked_add(delay);
        let timer = core.start_timer(deadline, run.clone());
        timed.set_timer(timer);
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
            self.core().bury_call(&*before);
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
