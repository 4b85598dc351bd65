//! The report of a relay: how it ended, and the fate of its bytes.

use super::link::{Link, Side};
use crate::{Closed, Handle};
use std::io;
use std::sync::Arc;

/// The report of a relay that ended; see [`Relay::on_end`](super::Relay::on_end) and
/// [`Relay::between`](super::Relay::between).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayReport {
    /// How the front ended.
    pub front: Closed,
    /// How the back ended. If there never was one, the error of the connect, or
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the front ended first.
    pub back: Result<Closed, Arc<io::Error>>,
    /// From the front to the back.
    pub to_back: Relayed,
    /// From the back to the front.
    pub to_front: Relayed,
}

impl RelayReport {
    /// Returns whether both sides ended [cleanly](Closed::is_clean) and nothing was lost.
    pub fn is_clean(&self) -> bool {
        let back = self.back.as_ref().is_ok_and(Closed::is_clean);
        self.front.is_clean() && back && self.to_back.lost == 0 && self.to_front.lost == 0
    }
}

/// The bytes of one direction of a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// Bytes received from the one side, and in the kernel for the other.
    pub sent: u64,
    /// Bytes received from the one side, and never in the kernel for the other: unsent ones, and those
    /// that were read and not written to it.
    pub lost: u64,
}

impl Link {
    /// Reports, once both sides have ended.
    pub(super) fn report(&self, handle: &Handle) {
        let Some(front) = self.front.closed.get() else {
            return;
        };
        let back = match (self.back.closed.get(), self.unconnected.get()) {
            (Some(closed), _) => Ok(closed.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => return,
        };
        self.limits.stop(handle);
        let report = RelayReport {
            front: front.clone(),
            back,
            to_back: self.relayed(Side::Front),
            to_front: self.relayed(Side::Back),
        };
        let on_end = self.on_end.take();
        if let Some(call) = on_end {
            call(handle, &report);
        }
    }

    /// Returns how many bytes of `side` were sent and lost.
    fn relayed(&self, side: Side) -> Relayed {
        let to = self.end(side.other());
        let unsent = to.closed.get().map_or(0, Closed::unsent);
        let sent = to.taken.get().saturating_sub(unsent);
        Relayed {
            sent,
            lost: self.end(side).received.get() - sent,
        }
    }
}
