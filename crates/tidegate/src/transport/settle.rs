//! The steps that are owed to a connection, carried out one after the other.
//!
//! [`State::next`] names the next step. A callback is never made from within a call of the user.

use super::Transport;
use super::state::State;
use super::step::Step;
use crate::{OnPause, Protocol, Result};

/// The maximum number of steps in one settling: a protocol whose callbacks always cause another
/// one must not hold the loop.
const STEPS_PER_SETTLE: usize = 32;

impl Transport {
    /// Calls the protocol on behalf of a queued closure, and delivers the callbacks that this causes.
    pub(crate) fn run_callback(
        &self,
        context: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &Self) -> Result,
    ) {
        if self.conn().is(State::CONNECTING | State::SWITCH) {
            self.settle();
        }
        if self.conn().is(State::LOST_CALLED) {
            self.conn().core().drop_value(callback);
            return;
        }
        self.call(context, callback);
        self.settle();
    }

    /// Carries out the owed steps, in the order of [`State::next`], until nothing is owed. Only the loop calls
    /// this, and never within a callback of this connection.
    pub(crate) fn settle(&self) {
        let conn = self.conn();
        if self.is_borrowed() {
            self.postpone();
            return;
        }
        for _ in 0..STEPS_PER_SETTLE {
            match conn.state.get().next(conn.spent()) {
                Step::EndNoted => self.end_noted(),
                Step::Made => self.make(),
                Step::Switch => self.switch(),
                Step::Finish => self.finish(),
                Step::Flush => self.flush_queue(),
                Step::Open => self.open_layers(),
                Step::EndLayers => self.end_layers(),
                Step::ShutdownWrite => self.shut_write(),
                Step::Close => self.begin_close(),
                Step::Pause => self.pause(),
                Step::Resume => self.resume(),
                Step::QueueRead => {
                    if conn.is(State::LAYER_FED) && !conn.is(State::NO_READ) {
                        conn.clear(State::LAYER_FED);
                        conn.set(State::READABLE);
                    }
                    conn.set(State::READ_QUEUED);
                    conn.core().push_leftover(conn.id);
                }
                Step::Postpone => {
                    self.postpone();
                    return;
                }
                Step::Rest => {
                    if conn.is(State::CLOSING) && !conn.is(State::LOST_CALLED) {
                        self.time_close();
                    }
                    return;
                }
            }
        }
        self.postpone();
    }

    fn postpone(&self) {
        let conn = self.conn();
        if !conn.is(State::DIRTY) {
            conn.set(State::DIRTY);
            conn.core().push_dirty(conn.id);
        }
    }

    /// Something was changed from outside: the loop is to look before it sleeps. Within a
    /// callback of this connection its return does that.
    pub(crate) fn touch(&self) {
        if !self.conn().is(State::RUNNING | State::LOST_CALLED) {
            self.postpone();
        }
    }

    /// From the loop's list of touched transports.
    pub(crate) fn settle_dirty(&self) {
        self.conn().clear(State::DIRTY);
        self.settle();
    }

    fn make(&self) {
        self.call("connection_made", |protocol, transport| {
            protocol.connection_made(transport)
        });
        let conn = self.conn();
        conn.clear(State::CONNECTING);
        if conn.has_extra() {
            self.made_with_layers();
        }
    }

    fn shut_write(&self) {
        let conn = self.conn();
        conn.set(State::EOF_SENT);
        let result = match conn.socket.borrow_mut().as_mut() {
            Some(socket) => socket.shutdown_write(),
            None => return,
        };
        if let Err(error) = result {
            // A reset shows as "not connected" here; the socket still has its own word for it.
            self.look_for_error();
            if !conn.is(State::ENDING) {
                self.write_failed(error);
            }
        }
    }

    fn pause(&self) {
        let conn = self.conn();
        conn.state.set(conn.state.get().telling_pause());
        let answer = self.call("pause_writing", |protocol, transport| {
            protocol.pause_writing(transport)
        });
        let stops_reading = answer == Some(OnPause::StopReading);
        conn.state.set(conn.state.get().pause_told(stops_reading));
    }

    fn resume(&self) {
        let conn = self.conn();
        conn.state.set(conn.state.get().telling_resume());
        conn.resume_tick.set(conn.core().tick());
        self.call("resume_writing", |protocol, transport| {
            protocol.resume_writing(transport)
        });
    }
}
