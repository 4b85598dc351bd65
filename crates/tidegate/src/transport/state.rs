//! The state of a connection, one word of flags, and the decision what is owed next.
//!
//! Pure: a word goes in, a step comes out. Nothing else in the crate decides in which order a
//! connection's callbacks come; [`settle`](super::settle) carries the steps out.

use crate::driver::Readiness;
use std::ops::BitOr;

/// A set of flags. Each says below when it is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u32);

impl State {
    /// From the start until `connection_made` has returned.
    pub(crate) const UNMADE: Self = Self(1 << 0);
    /// We accepted or adopted the connection; clear when we opened it.
    pub(crate) const ACCEPTED: Self = Self(1 << 1);

    /// The kernel may have bytes for us: set by an event, cleared by a short read or EAGAIN.
    pub(crate) const READABLE: Self = Self(1 << 2);
    /// After an event of a hang-up, an error or urgent data: a short read proves nothing.
    pub(crate) const READ_TO_END: Self = Self(1 << 3);
    /// The kernel has not refused bytes since its last writable event.
    pub(crate) const WRITABLE: Self = Self(1 << 4);
    /// Out of kernel memory: a timer will set READABLE and WRITABLE again.
    pub(crate) const RETRYING: Self = Self(1 << 5);

    /// `pause_reading` was called and `resume_reading` not yet.
    pub(crate) const READING_PAUSED: Self = Self(1 << 6);
    /// `pause_writing` answered `StopReading` and the buffer has not drained yet.
    pub(crate) const HELD: Self = Self(1 << 7);
    /// On the list of reads that are owed, or being read right now.
    pub(crate) const READ_QUEUED: Self = Self(1 << 8);
    /// Bytes given to `set_protocol` are still to be delivered.
    pub(crate) const UNREAD: Self = Self(1 << 9);

    /// The kernel said end of stream.
    pub(crate) const EOF_SEEN: Self = Self(1 << 10);
    /// This protocol was told of it.
    pub(crate) const EOF_TOLD: Self = Self(1 << 11);
    /// Some protocol was told of it.
    pub(crate) const EOF_DELIVERED: Self = Self(1 << 12);
    /// ... and answered `KeepOpen`.
    pub(crate) const KEPT_OPEN: Self = Self(1 << 13);

    /// Bytes wait in the transport's own buffer.
    pub(crate) const QUEUED: Self = Self(1 << 14);
    /// `write_eof` was called.
    pub(crate) const EOF_ASKED: Self = Self(1 << 15);
    /// ... and the write side was shut down.
    pub(crate) const EOF_SENT: Self = Self(1 << 16);

    /// From the crossing of the high-water mark until the fall to the low one.
    pub(crate) const PAUSED: Self = Self(1 << 17);
    /// The protocol was told to pause, and not yet to resume.
    pub(crate) const TOLD: Self = Self(1 << 18);
    /// A pause came and went untold: a pause and a resume are owed.
    pub(crate) const ROUND: Self = Self(1 << 19);

    /// `set_protocol` was called; the new one waits.
    pub(crate) const SWITCH: Self = Self(1 << 20);

    /// `close`: send what is buffered, then end.
    pub(crate) const CLOSING: Self = Self(1 << 21);
    /// The end of stream was delivered before `close`.
    pub(crate) const EOF_FIRST: Self = Self(1 << 22);
    /// Writing ended with an error; what the kernel still holds may be read.
    pub(crate) const WRITE_DEAD: Self = Self(1 << 23);
    /// Ended: `connection_lost` is next.
    pub(crate) const DEAD: Self = Self(1 << 24);
    /// `connection_lost` was called, or is being called.
    pub(crate) const LOST: Self = Self(1 << 25);

    /// A callback that the loop made is running: what is owed comes when it returns.
    pub(crate) const RUNNING: Self = Self(1 << 26);
    /// On the loop's list of transports to look at before it sleeps.
    pub(crate) const DIRTY: Self = Self(1 << 27);

    /// The last answer to `pause_writing` was `StopReading`.
    pub(crate) const STOPS: Self = Self(1 << 28);

    /// Those who wait for what was reached are being answered.
    pub(crate) const ANSWERING: Self = Self(1 << 29);

    /// A write timeout is set.
    pub(crate) const WRITE_TIMED: Self = Self(1 << 30);

    /// Somebody may wait in `drain` or `flush`.
    pub(crate) const AWAITED: Self = Self(1 << 31);

    /// Any of these refuses a write.
    pub(crate) const NO_WRITE: Self = Self(
        Self::CLOSING.0 | Self::EOF_ASKED.0 | Self::WRITE_DEAD.0 | Self::DEAD.0 | Self::LOST.0,
    );
    /// Any of these stops reading.
    pub(crate) const NO_READ: Self = Self(
        Self::UNMADE.0
            | Self::READING_PAUSED.0
            | Self::HELD.0
            | Self::SWITCH.0
            | Self::CLOSING.0
            | Self::DEAD.0
            | Self::LOST.0,
    );
    /// With none of these, [`State::next`] has nothing but reads to ask for.
    pub(crate) const OWED: Self = Self(
        Self::UNMADE.0
            | Self::SWITCH.0
            | Self::QUEUED.0
            | Self::EOF_ASKED.0
            | Self::PAUSED.0
            | Self::TOLD.0
            | Self::ROUND.0
            | Self::CLOSING.0
            | Self::WRITE_DEAD.0
            | Self::DEAD.0,
    );
    /// With none of these, there is nothing to read.
    pub(crate) const TO_READ: Self = Self(Self::READABLE.0 | Self::UNREAD.0 | Self::EOF_SEEN.0);
    /// Of these just [`READABLE`](Self::READABLE) is set when there is nothing to do but to read.
    const PLAIN_READ: Self = Self(Self::OWED.0 | Self::NO_READ.0 | Self::TO_READ.0);
    /// With none of these, bytes that the kernel has taken are only counted.
    pub(crate) const WATCHED: Self = Self(Self::PAUSED.0 | Self::WRITE_TIMED.0 | Self::AWAITED.0);
    /// Of these just [`RUNNING`](Self::RUNNING) is set while small writes are gathered.
    const GATHERING: Self =
        Self(Self::NO_WRITE.0 | Self::QUEUED.0 | Self::PAUSED.0 | Self::RUNNING.0);
    /// Why the connection is ending, in every form.
    pub(crate) const ENDING: Self =
        Self(Self::CLOSING.0 | Self::WRITE_DEAD.0 | Self::DEAD.0 | Self::LOST.0);

    pub(crate) const EMPTY: Self = Self(0);

    /// What an event sets: [`READABLE`](Self::READABLE), [`READ_TO_END`](Self::READ_TO_END) and
    /// [`WRITABLE`](Self::WRITABLE), which stand side by side for it.
    pub(crate) fn of(readiness: Readiness) -> Self {
        Self(u32::from(readiness.what_to_do()) << Self::READABLE.0.trailing_zeros())
    }

    pub(crate) fn any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    pub(crate) fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    pub(crate) fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// What a read would deliver.
    pub(crate) fn input(self) -> Input {
        if self.any(Self::NO_READ) {
            Input::Nothing
        } else if self.any(Self::UNREAD) {
            Input::Unread
        } else if self.any(Self::EOF_SEEN) {
            if self.any(Self::EOF_TOLD.with(Self::WRITE_DEAD)) {
                Input::Nothing
            } else {
                Input::Eof
            }
        } else if self.any(Self::READABLE) {
            Input::Kernel
        } else {
            Input::Nothing
        }
    }

    /// Whether [`input`](Self::input) is the kernel's, and nothing is owed before it.
    pub(crate) fn is_plain_read(self) -> bool {
        self.0 & Self::PLAIN_READ.0 == Self::READABLE.0
    }

    /// Whether small writes are gathered: those of a running callback, with nothing before them.
    pub(crate) fn is_gathering(self) -> bool {
        self.0 & Self::GATHERING.0 == Self::RUNNING.0
    }

    /// What is owed now. The order of these lines is the order of the callbacks.
    ///
    /// `spent.round`: this turn of the loop has already delivered a resume.
    /// `spent.budget`: it has already sent what one transport may send in a turn.
    pub(crate) fn next(self, spent: Spent) -> Step {
        if self.any(Self::LOST) {
            return Step::Rest;
        }
        if self.any(Self::UNMADE) {
            return Step::Made;
        }
        if self.any(Self::SWITCH) {
            return Step::Switch;
        }
        if self.any(Self::DEAD) {
            return Step::Finish;
        }
        let flushable = self.any(Self::QUEUED) && self.any(Self::WRITABLE);
        if flushable && !spent.budget {
            return Step::Flush;
        }
        let mut postponed = flushable;
        if self.any(Self::CLOSING) {
            if !self.any(Self::QUEUED) {
                return Step::Finish;
            }
        } else if !self.any(Self::WRITE_DEAD) {
            if self.any(Self::EOF_ASKED) && !self.any(Self::EOF_SENT.with(Self::QUEUED)) {
                return Step::ShutdownWrite;
            }
            if self.any(Self::EOF_SENT) && self.any(Self::KEPT_OPEN) {
                return Step::Close;
            }
            if !self.any(Self::TOLD) {
                if self.any(Self::PAUSED.with(Self::ROUND)) {
                    return Step::Pause;
                }
            } else if !self.any(Self::PAUSED) {
                // It is the resume that waits: were it the pause, its hold would come too late
                // for what is read in this turn.
                if !spent.round {
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
}

impl BitOr for State {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

/// What a connection has to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Or nothing may be delivered now.
    Nothing,
    /// What `set_protocol` was given.
    Unread,
    /// The end of the stream.
    Eof,
    /// What the kernel has.
    Kernel,
}

/// What this turn of the loop has already used up for one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) round: bool,
    pub(crate) budget: bool,
}

/// One thing that is owed to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Call `connection_made`.
    Made,
    /// Put the new protocol in its place.
    Switch,
    /// Call `connection_lost` and let go.
    Finish,
    /// Offer the buffer to the kernel.
    Flush,
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
    /// Look again in the next turn.
    Postpone,
    /// Nothing is owed.
    Rest,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 32] = [
            "unmade",
            "accepted",
            "readable",
            "read-to-end",
            "writable",
            "retrying",
            "reading-paused",
            "held",
            "read-queued",
            "unread",
            "eof-seen",
            "eof-told",
            "eof-delivered",
            "kept-open",
            "queued",
            "eof-asked",
            "eof-sent",
            "paused",
            "told",
            "round",
            "switch",
            "closing",
            "eof-first",
            "write-dead",
            "dead",
            "lost",
            "running",
            "dirty",
            "stops",
            "answering",
            "write-timed",
            "awaited",
        ];
        let mut set = f.debug_set();
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Spent = Spent {
        round: false,
        budget: false,
    };

    #[test]
    fn the_order_of_what_is_owed_is_this_table() {
        use Step::*;
        type S = State;
        let all_owed = S::UNMADE
            | S::SWITCH
            | S::DEAD
            | S::QUEUED
            | S::WRITABLE
            | S::EOF_ASKED
            | S::PAUSED
            | S::READABLE;
        let table = [
            (S::EMPTY, Rest),
            (all_owed, Made),
            (all_owed.without(S::UNMADE), Switch),
            (all_owed.without(S::UNMADE | S::SWITCH), Finish),
            (all_owed.without(S::UNMADE | S::SWITCH | S::DEAD), Flush),
            (S::EOF_ASKED | S::PAUSED | S::READABLE, ShutdownWrite),
            (S::EOF_ASKED | S::QUEUED, Rest),
            (
                S::EOF_ASKED | S::EOF_SENT | S::KEPT_OPEN | S::EOF_TOLD,
                Close,
            ),
            (S::EOF_ASKED | S::EOF_SENT, Rest),
            (S::PAUSED | S::QUEUED | S::READABLE, Pause),
            (S::ROUND, Pause),
            (S::ROUND | S::TOLD, Resume),
            (S::TOLD | S::HELD, Resume),
            (S::TOLD | S::PAUSED | S::QUEUED, Rest),
            (S::READABLE, QueueRead),
            (S::READABLE | S::READ_QUEUED, Rest),
            (S::READABLE | S::HELD, Rest),
            (S::READABLE | S::READING_PAUSED, Rest),
            (S::UNREAD, QueueRead),
            (S::EOF_SEEN, QueueRead),
            (S::EOF_SEEN | S::READABLE | S::EOF_TOLD, Rest),
            (S::EOF_SEEN | S::WRITE_DEAD, Rest),
            (S::WRITE_DEAD | S::READABLE, QueueRead),
            (S::WRITE_DEAD | S::EOF_ASKED, Rest),
            (S::CLOSING, Finish),
            (S::CLOSING | S::QUEUED, Rest),
            (S::CLOSING | S::QUEUED | S::WRITABLE, Flush),
            (S::CLOSING | S::QUEUED | S::PAUSED | S::READABLE, Rest),
            (S::CLOSING | S::QUEUED | S::TOLD, Rest),
            (all_owed | S::LOST, Rest),
        ];
        for (state, expected) in table {
            assert_eq!(state.next(FRESH), expected, "{state:?}");
        }
    }

    #[test]
    fn what_a_turn_has_used_up_waits_for_the_next() {
        type S = State;
        let round = Spent {
            round: true,
            ..FRESH
        };
        let budget = Spent {
            budget: true,
            ..FRESH
        };
        let queued = S::QUEUED | S::WRITABLE;
        let table = [
            (S::TOLD, round, Step::Postpone),
            (S::TOLD | S::HELD | S::READABLE, round, Step::Postpone),
            (S::TOLD | S::READABLE, round, Step::QueueRead),
            (S::PAUSED | S::READABLE, round, Step::Pause),
            (S::ROUND, round, Step::Pause),
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
