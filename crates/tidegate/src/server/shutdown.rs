//! The shutdown of a server: its deadlines, what waits for it, and its report.

use crate::completion::Completer;
use crate::event_loop::Core;
use crate::timers::TimerId;
use crate::{CloseReason, Closed};

/// The result of a [`Server::shutdown`](crate::Server::shutdown).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that ended within the grace.
    pub closed: usize,
    /// Connections that were cut at its end.
    pub aborted: usize,
    /// Bytes written to these connections that the kernel never got.
    pub unsent: u64,
    /// Connections of `closed` and `aborted` that waited in the backlog when the shutdown began.
    pub from_backlog: usize,
}

/// One shutdown, or several that overlap.
#[derive(Default)]
pub(super) struct Shutdown {
    timers: Vec<TimerId>,
    waiters: Vec<Completer<ShutdownReport>>,
    report: ShutdownReport,
}

impl Shutdown {
    pub(super) fn is_under_way(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(super) fn begin(&mut self, deadline: TimerId, completer: Completer<ShutdownReport>) {
        self.timers.push(deadline);
        self.waiters.push(completer);
    }

    /// Counts a connection that has ended, while the shutdown is under way. One that has left the loop has not.
    pub(super) fn count(&mut self, closed: &Closed) {
        let left = matches!(closed.reason(), CloseReason::Detached);
        if !self.is_under_way() || left {
            return;
        }
        self.report.unsent += closed.unsent();
        if matches!(closed.reason(), CloseReason::Shutdown) {
            self.report.aborted += 1;
        } else {
            self.report.closed += 1;
        }
    }

    /// Counts a connection that has begun, from the backlog.
    pub(super) fn count_from_backlog(&mut self) {
        self.report.from_backlog += usize::from(self.is_under_way());
    }

    /// Counts connections of the backlog that were aborted before they had begun.
    pub(super) fn count_never_begun(&mut self, connections: usize) {
        if self.is_under_way() {
            self.report.closed += connections;
            self.report.from_backlog += connections;
        }
    }

    /// Completes with the report.
    pub(super) fn conclude(self, core: &Core) {
        for timer in self.timers {
            core.cancel_timer(timer);
        }
        for waiting in self.waiters {
            waiting.complete(Ok(self.report));
        }
    }
}
