//! Sources of events that are no connections, as the loop sees them.

use super::core::Core;
use super::counters::LoopStats;
use crate::DatagramTransport;
use crate::driver::Readiness;
use crate::server::ServerState;
use crate::timers::TimerId;
use std::fmt;
use std::rc::Rc;

/// A source of events beside connections, such as a listener or a socket on its way to a peer.
/// A new kind of source implements this trait; the loop itself knows no kinds.
pub(crate) trait Source: fmt::Debug {
    /// Handles an event. `buffer` is the loop's read buffer.
    fn on_event(self: Rc<Self>, core: &Core, readiness: Readiness, buffer: &mut [u8]);

    /// Continues what an earlier tick left over. Called once per [`Core::push_leftover`].
    fn on_leftover(self: Rc<Self>, core: &Core, buffer: &mut [u8]) {
        let _ = (core, buffer);
    }

    /// Does what was put off to the end of a tick. Called once per [`Core::push_dirty`].
    fn on_dirty(self: Rc<Self>, core: &Core) {
        let _ = core;
    }

    /// The loop ends: begins what takes a while. Called of every source before the first [`end`](Source::end).
    fn begin_end(&self) {}

    /// Whether it ends before the connections of the loop, of which it still delivers the input.
    fn ends_first(&self) -> bool {
        false
    }

    /// Closes the descriptor and lets go of the slot. The loop calls it when it is dropped.
    fn end(self: Rc<Self>, core: &Core);

    /// Adds the source to the numbers of its loop.
    fn count(&self, stats: &mut LoopStats);

    /// A timer that the source owns was cancelled.
    fn forget_timer(&self, timer: TimerId) {
        let _ = timer;
    }

    /// Returns the source if it is an endpoint of datagrams.
    fn as_datagrams(self: Rc<Self>) -> Option<DatagramTransport> {
        None
    }

    /// Returns whether the source is left of a connection that `server` accepted.
    fn is_left_by(&self, server: &Rc<ServerState>) -> bool {
        let _ = server;
        false
    }
}
