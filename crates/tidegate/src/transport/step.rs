//! The decision which step is owed to a connection next.
//!
//! Pure: a [`State`] goes in, a [`Step`] comes out. Nothing else in the crate decides the order of
//! a connection's callbacks; [`settle`](super::settle) carries the steps out.

use super::state::State;

/// The next input of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing, or nothing that may be delivered now.
    Nothing,
    /// The input of layers that are opening, or that must receive before they send more, whatever stops
    /// the protocol's bytes.
    Layers,
    /// Bytes that come before those of the kernel.
    Unread,
    /// The end of the stream.
    Eof,
    /// The bytes of the kernel.
    Kernel,
    /// The bytes of the kernel, which the protocol splices.
    #[cfg(feature = "splice")]
    Spliced,
}

/// The shares of this tick that one connection has used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) resume: bool,
    pub(crate) budget: bool,
}

/// One thing that is owed to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// End the connection, as code of a layer has asked.
    EndNoted,
    /// Call `connection_made`.
    Made,
    /// Put the new protocol in its place.
    Switch,
    /// Call `connection_lost` and let go.
    Finish,
    /// Offer the buffer, or the output of layers, to the kernel.
    Flush,
    /// Go on with opening the layers.
    Open,
    /// End our side of the stream in the layers.
    EndLayers,
    /// Shut down the write side.
    ShutdownWrite,
    /// Both sides are done: close.
    Close,
    /// Call `pause_writing`.
    Pause,
    /// Lift the hold and call `resume_writing`.
    Resume,
    /// Put it on the list of reads that are owed.
    QueueRead,
    /// Look again in the next tick.
    Postpone,
    /// Nothing is owed.
    Rest,
}

impl State {
    /// Returns the input that a read would deliver.
    pub(crate) fn input(self) -> Input {
        if self.any(Self::OPENING) || self.any(Self::NO_READ) {
            if self.layers_read() {
                Input::Layers
            } else {
                Input::Nothing
            }
        } else if self.any(Self::UNREAD) {
            Input::Unread
        } else if self.any(Self::EOF_SEEN) {
            if !self.any(Self::EOF_TOLD.with(Self::WRITE_FAILED)) {
                Input::Eof
            } else if self.layers_read() {
                Input::Layers
            } else {
                Input::Nothing
            }
        } else if self.any(Self::READABLE) || self.any(Self::LAYER_FED) {
            self.input_of_kernel()
        } else {
            Input::Nothing
        }
    }

    #[cfg(feature = "splice")]
    fn input_of_kernel(self) -> Input {
        if self.any(Self::SPLICED) {
            Input::Spliced
        } else {
            Input::Kernel
        }
    }

    #[cfg(not(feature = "splice"))]
    fn input_of_kernel(self) -> Input {
        Input::Kernel
    }

    /// Whether layers read although the protocol does not.
    fn layers_read(self) -> bool {
        let to_send = self.any(Self::QUEUED.with(Self::OUTPUT)) && !self.any(Self::WRITE_FAILED);
        let starved = self.any(Self::LAYER_STARVED) && to_send;
        let ended = Self::END_NOTED.with(Self::ENDED).with(Self::LOST_CALLED);
        self.any(Self::READABLE) && (self.is_opening() || starved) && !self.any(ended)
    }

    /// Returns the step that is owed now. The order of these lines is the order of the callbacks.
    ///
    /// `spent.resume`: this tick of the loop has already delivered a resume.
    /// `spent.budget`: it has already sent what one transport may send in a tick.
    pub(crate) fn next(self, spent: Spent) -> Step {
        if let Some(step) = self.next_of_life() {
            return step;
        }
        let flushable = self.any(Self::WRITABLE) && self.any(Self::QUEUED.with(Self::OUTPUT));
        if flushable && !spent.budget {
            return Step::Flush;
        }
        if self.is_opening() && self.any(Self::OPEN_DUE) {
            return Step::Open;
        }
        let mut postponed = flushable;
        if let Some(step) = self.next_of_end() {
            return step;
        }
        if !self.any(Self::CLOSING.with(Self::WRITE_FAILED)) && !self.is_unmade() {
            if !self.any(Self::PAUSE_TOLD) {
                if self.any(Self::PAUSED.with(Self::PAUSE_MISSED)) {
                    return Step::Pause;
                }
            } else if !self.any(Self::PAUSED) {
                // It is the resume that waits: were it the pause, its hold would come too late
                // for what is read in this tick.
                if !spent.resume {
                    return Step::Resume;
                }
                postponed = true;
            }
        }
        if self.input() != Input::Nothing && !self.any(Self::READ_QUEUED) {
            return Step::QueueRead;
        }
        if postponed {
            Step::Postpone
        } else {
            Step::Rest
        }
    }

    /// The steps that come before any byte: the first and the last callback, and another protocol.
    fn next_of_life(self) -> Option<Step> {
        if self.any(Self::LOST_CALLED) {
            Some(Step::Rest)
        } else if self.any(Self::END_NOTED) {
            Some(Step::EndNoted)
        } else if self.any(Self::CONNECTING) && !self.any(Self::OPENING) {
            Some(Step::Made)
        } else if self.any(Self::SWITCH) && !self.is_unmade() {
            Some(Step::Switch)
        } else if self.any(Self::ENDED) {
            Some(Step::Finish)
        } else {
            None
        }
    }

    /// The steps that end our side of the stream, or the connection, once nothing is buffered.
    fn next_of_end(self) -> Option<Step> {
        let to_end = self.is_to_end_layers();
        let all_sent = !self.any(Self::QUEUED);
        if self.any(Self::CLOSING) {
            if all_sent && !to_end {
                return Some(Step::Finish);
            }
            return (all_sent && self.any(Self::WRITABLE)).then_some(Step::EndLayers);
        }
        if self.any(Self::WRITE_FAILED) || self.is_unmade() {
            return None;
        }
        let eof_owed = self.any(Self::EOF_ASKED) && !self.any(Self::EOF_SENT.with(Self::OPENING));
        if eof_owed && all_sent {
            if !to_end {
                return Some(Step::ShutdownWrite);
            }
            if self.any(Self::WRITABLE) {
                return Some(Step::EndLayers);
            }
        }
        (self.any(Self::EOF_SENT) && self.any(Self::KEPT_OPEN)).then_some(Step::Close)
    }

    /// Whether there is no `connection_made` yet.
    fn is_unmade(self) -> bool {
        self.any(Self::CONNECTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Spent = Spent {
        resume: false,
        budget: false,
    };

    #[test]
    fn the_order_of_what_is_owed_is_this_table() {
        use Step::*;
        type S = State;
        let all_owed = S::CONNECTING
            | S::SWITCH
            | S::ENDED
            | S::QUEUED
            | S::WRITABLE
            | S::EOF_ASKED
            | S::PAUSED
            | S::READABLE;
        let table = [
            (S::EMPTY, Rest),
            (all_owed, Made),
            (all_owed.without(S::CONNECTING), Switch),
            (all_owed.without(S::CONNECTING | S::SWITCH), Finish),
            (
                all_owed.without(S::CONNECTING | S::SWITCH | S::ENDED),
                Flush,
            ),
            (S::EOF_ASKED | S::PAUSED | S::READABLE, ShutdownWrite),
            (S::EOF_ASKED | S::QUEUED, Rest),
            (
                S::EOF_ASKED | S::EOF_SENT | S::KEPT_OPEN | S::EOF_TOLD,
                Close,
            ),
            (S::EOF_ASKED | S::EOF_SENT, Rest),
            (S::PAUSED | S::QUEUED | S::READABLE, Pause),
            (S::PAUSE_MISSED, Pause),
            (S::PAUSE_MISSED | S::PAUSE_TOLD, Resume),
            (S::PAUSE_TOLD | S::HELD, Resume),
            (S::PAUSE_TOLD | S::PAUSED | S::QUEUED, Rest),
            (S::READABLE, QueueRead),
            (S::READABLE | S::READ_QUEUED, Rest),
            (S::READABLE | S::HELD, Rest),
            (S::READABLE | S::READING_PAUSED, Rest),
            (S::READABLE | S::READ_HOLD, Rest),
            (S::UNREAD, QueueRead),
            (S::UNREAD | S::READ_HOLD, Rest),
            (S::EOF_SEEN, QueueRead),
            (S::EOF_SEEN | S::READABLE | S::EOF_TOLD, Rest),
            (S::EOF_SEEN | S::WRITE_FAILED, Rest),
            (S::WRITE_FAILED | S::READABLE, QueueRead),
            (S::WRITE_FAILED | S::EOF_ASKED, Rest),
            (S::CLOSING, Finish),
            (S::CLOSING | S::QUEUED, Rest),
            (S::CLOSING | S::QUEUED | S::WRITABLE, Flush),
            (S::CLOSING | S::QUEUED | S::PAUSED | S::READABLE, Rest),
            (S::CLOSING | S::QUEUED | S::PAUSE_TOLD, Rest),
            (all_owed | S::LOST_CALLED, Rest),
        ];
        for (state, expected) in table {
            assert_eq!(state.next(FRESH), expected, "{state:?}");
        }
    }

    #[test]
    fn layers_open_before_all_but_the_end_and_end_behind_what_is_buffered() {
        use Step::*;
        type S = State;
        let opening = S::LAYERED | S::OPENING;
        let unmade = opening | S::CONNECTING;
        let closing = S::LAYERED | S::CLOSING;
        let starved = S::LAYERED | S::LAYER_STARVED | S::QUEUED;
        let eof = S::LAYERED | S::EOF_ASKED;
        let table = [
            (unmade, Rest),
            (unmade | S::OPEN_DUE, Open),
            (unmade | S::READABLE, QueueRead),
            (unmade | S::READABLE | S::READING_PAUSED, QueueRead),
            (unmade | S::READABLE | S::SWITCH | S::PAUSED, QueueRead),
            (unmade | S::ENDED, Finish),
            (unmade | S::CLOSING, Finish),
            (unmade | S::CLOSING | S::QUEUED, Rest),
            (unmade | S::OUTPUT | S::WRITABLE, Flush),
            (unmade | S::OUTPUT, Rest),
            (unmade | S::EOF_ASKED, Rest),
            (S::LAYERED | S::CONNECTING, Made),
            (opening | S::SWITCH | S::OPEN_DUE, Switch),
            (opening | S::OPEN_DUE | S::QUEUED | S::WRITABLE, Flush),
            (opening | S::PAUSED | S::QUEUED, Pause),
            (
                opening | S::HELD | S::CLOSING | S::QUEUED | S::READABLE,
                QueueRead,
            ),
            (opening | S::READABLE | S::READ_QUEUED, Rest),
            (opening | S::EOF_ASKED, Rest),
            (opening | S::CLOSING, Finish),
            (opening | S::CLOSING | S::LAYER_OPEN, Rest),
            (opening | S::CLOSING | S::QUEUED | S::OPEN_DUE, Open),
            (opening | S::CLOSING | S::LAYER_OPEN | S::OPEN_DUE, Rest),
            (opening | S::CLOSING | S::LAYER_OPEN | S::READABLE, Rest),
            (
                opening | S::CLOSING | S::LAYER_OPEN | S::WRITABLE,
                EndLayers,
            ),
            (
                opening | S::CLOSING | S::LAYER_OPEN | S::LAYERS_ENDED,
                Finish,
            ),
            (opening | S::UNREAD, Rest),
            (opening | S::ENDED | S::READABLE, Finish),
            (S::LAYERED | S::OUTPUT | S::WRITABLE | S::PAUSED, Flush),
            (S::LAYERED | S::OUTPUT | S::READABLE, QueueRead),
            (starved | S::READABLE, QueueRead),
            (starved | S::READABLE | S::HELD, QueueRead),
            (
                starved | S::READABLE | S::READING_PAUSED | S::CLOSING,
                QueueRead,
            ),
            (starved | S::HELD, Rest),
            (starved.without(S::QUEUED) | S::READABLE | S::HELD, Rest),
            (
                starved.without(S::QUEUED) | S::OUTPUT | S::READABLE | S::HELD,
                QueueRead,
            ),
            (starved | S::READABLE | S::EOF_SEEN | S::EOF_TOLD, QueueRead),
            (starved | S::EOF_SEEN | S::EOF_TOLD, Rest),
            (
                starved | S::OUTPUT | S::WRITE_FAILED | S::READABLE | S::HELD,
                Rest,
            ),
            (S::LAYERED | S::LAYER_FED, QueueRead),
            (S::LAYERED | S::LAYER_FED | S::HELD, Rest),
            (closing | S::WRITABLE, EndLayers),
            (closing, Rest),
            (closing | S::QUEUED, Rest),
            (closing | S::LAYERS_ENDED, Finish),
            (eof | S::WRITABLE, EndLayers),
            (eof | S::QUEUED, Rest),
            (eof | S::LAYERS_ENDED, ShutdownWrite),
            (eof | S::PAUSE_TOLD, Resume),
            (S::END_NOTED | S::OUTPUT | S::WRITABLE, EndNoted),
            (S::END_NOTED | S::LOST_CALLED, Rest),
        ];
        for (state, expected) in table {
            assert_eq!(state.next(FRESH), expected, "{state:?}");
        }
    }

    #[test]
    fn a_step_whose_share_of_the_tick_is_used_up_waits_for_the_next() {
        type S = State;
        let resume = Spent {
            resume: true,
            ..FRESH
        };
        let budget = Spent {
            budget: true,
            ..FRESH
        };
        let queued = S::QUEUED | S::WRITABLE;
        let table = [
            (S::PAUSE_TOLD, resume, Step::Postpone),
            (
                S::PAUSE_TOLD | S::HELD | S::READABLE,
                resume,
                Step::Postpone,
            ),
            (S::PAUSE_TOLD | S::READABLE, resume, Step::QueueRead),
            (S::PAUSED | S::READABLE, resume, Step::Pause),
            (S::PAUSE_MISSED, resume, Step::Pause),
            (queued, budget, Step::Postpone),
            (queued | S::CLOSING, budget, Step::Postpone),
            (queued | S::PAUSED, budget, Step::Pause),
            (S::QUEUED, budget, Step::Rest),
        ];
        for (state, spent, expected) in table {
            assert_eq!(state.next(spent), expected, "{state:?} {spent:?}");
        }
    }

    #[test]
    fn input_is_wanted_unless_reading_is_stopped_or_a_pause_is_untold() {
        type S = State;
        let table = [
            (S::EMPTY, true),
            (S::RUNNING | S::READ_QUEUED | S::READABLE, true),
            (S::READING_PAUSED, false),
            (S::READ_HOLD, false),
            (S::HELD, false),
            (S::OPENING, false),
            (S::SWITCH, false),
            (S::CLOSING, false),
            (S::ENDED, false),
            (S::END_NOTED, false),
            (S::LOST_CALLED, false),
            (S::WRITE_FAILED, true),
            (S::EOF_ASKED, true),
            (S::PAUSED, false),
            (S::PAUSED | S::PAUSE_TOLD, true),
            (S::PAUSED | S::PAUSE_TOLD | S::HELD, false),
            (S::PAUSE_MISSED, true),
        ];
        for (state, expected) in table {
            assert_eq!(state.wants_input(), expected, "{state:?}");
        }
    }

    #[cfg(feature = "splice")]
    #[test]
    fn bytes_of_the_kernel_alone_are_spliced() {
        type S = State;
        let table = [
            (S::READABLE, Input::Kernel),
            (S::READABLE | S::SPLICED, Input::Spliced),
            (S::SPLICED, Input::Nothing),
            (S::READABLE | S::SPLICED | S::UNREAD, Input::Unread),
            (S::READABLE | S::SPLICED | S::READ_HOLD, Input::Nothing),
        ];
        for (state, expected) in table {
            assert_eq!(state.input(), expected, "{state:?}");
            assert_eq!(state.is_plain_read(), expected == Input::Kernel);
        }
    }

    #[test]
    fn a_state_without_owed_or_readable_flags_rests() {
        let quiet = [
            State::ACCEPTED,
            State::WRITABLE,
            State::RUNNING,
            State::DIRTY,
        ];
        for flag in quiet {
            assert!(!flag.any(State::OWED | State::TO_READ));
            assert_eq!(flag.next(FRESH), Step::Rest);
        }
    }
}
