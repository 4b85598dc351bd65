//! Holds on reading, which users take and drop.

use super::Transport;
use super::state::State;
use std::fmt;

/// Holds reading back until it is dropped. Made by [`Transport::hold_reading`].
///
/// A connection is not [idle](crate::ListenOptions::idle_timeout) while it is held, unless its peer leaves
/// unsent bytes.
///
/// It outlives neither the connection nor its loop in any way that matters: after their end, dropping
/// it does nothing.
#[must_use = "reading goes on when it is dropped"]
pub struct ReadHold(Transport);

impl ReadHold {
    pub(crate) fn new(transport: &Transport) -> Self {
        let conn = transport.conn();
        conn.with_extra(|extra| extra.read_holds += 1);
        conn.set(State::READ_HOLD);
        Self(transport.clone())
    }
}

impl Drop for ReadHold {
    fn drop(&mut self) {
        let conn = self.0.conn();
        let left = conn.with_extra(|extra| {
            extra.read_holds -= 1;
            extra.read_holds
        });
        if left == 0 {
            conn.clear(State::READ_HOLD);
            self.0.touch();
        }
    }
}

impl fmt::Debug for ReadHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadHold").field(&self.0.id()).finish()
    }
}
