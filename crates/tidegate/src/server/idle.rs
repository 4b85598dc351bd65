//! The sweep that finds the idle connections of a server.
//!
//! One timer for the server, while it has connections. `transport/idle.rs` has what a look is.

use super::state::ServerState;
use crate::timers::TimerId;
use crate::transport::{IdleLimit, Transport};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Idle {
    limit: Option<IdleLimit>,
    timer: Cell<Option<TimerId>>,
}

impl Idle {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit: limit.map(IdleLimit::of),
            timer: Cell::new(None),
        }
    }
}

impl ServerState {
    /// The first connection begins.
    pub(super) fn start_sweeps(self: &Rc<Self>) {
        if let Some(limit) = self.idle.limit {
            self.sweep_later(limit);
        }
    }

    /// The last connection has ended.
    pub(super) fn stop_sweeps(&self) {
        if let Some(timer) = self.idle.timer.take() {
            self.handle().core().cancel_timer(timer);
        }
    }

    fn sweep_later(self: &Rc<Self>, limit: IdleLimit) {
        let server = Rc::downgrade(self);
        let timer = self.handle().core().after(limit.step, move |_| {
            if let Some(server) = server.upgrade() {
                server.sweep(limit);
            }
        });
        self.idle.timer.set(Some(timer));
    }

    fn sweep(self: &Rc<Self>, limit: IdleLimit) {
        self.idle.timer.set(None);
        let core = self.handle().core();
        let is_idle =
            |transport: &&Transport| transport.belongs_to(self) && transport.is_idle_in(limit);
        let registry = core.registry.borrow();
        let idle: Vec<_> = registry.connections().filter(is_idle).cloned().collect();
        drop(registry);
        for transport in idle {
            transport.end_if_idle();
        }
        // Code of layers may have run the loop.
        if self.has_begun() && self.idle.timer.get().is_none() {
            self.sweep_later(limit);
        }
    }
}
