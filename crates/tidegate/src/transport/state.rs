//! The state of a connection: one word of flags, and the masks that test several at once.
//!
//! Pure. [`step`](super::step) derives from the word which callback is owed next.

use crate::driver::Readiness;
use std::ops::BitOr;

/// A set of flags. Each says below when it is set.
///
/// Flags that a mask joins with others lie in the low 31 bits: a test of those is one instruction,
/// because its mask fits a sign-extended operand of 32 bits. The flags above are tested alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

impl State {
    /// From the start until `connection_made` has returned.
    pub(crate) const CONNECTING: Self = Self(1 << 0);

    /// The kernel may have bytes for us: set by an event, cleared by a short read or EAGAIN.
    pub(crate) const READABLE: Self = Self(1 << 1);
    /// After an event of a hang-up, an error or urgent data: a short read proves nothing.
    pub(crate) const READ_TO_END: Self = Self(1 << 2);
    /// The kernel has not refused bytes since its last writable event.
    pub(crate) const WRITABLE: Self = Self(1 << 3);

    /// `pause_reading` was called and `resume_reading` not yet.
    pub(crate) const READING_PAUSED: Self = Self(1 << 4);
    /// `pause_writing` returned `StopReading` and the buffer has not drained yet.
    pub(crate) const HELD: Self = Self(1 << 5);
    /// On the list of reads that are owed, or being read right now.
    pub(crate) const READ_QUEUED: Self = Self(1 << 6);
    /// Bytes are to be delivered before those of the kernel: of `set_protocol`, given back by a callback,
    /// or left over by an old protocol. With no bytes, `eof_received` gave the end back.
    pub(crate) const UNREAD: Self = Self(1 << 7);

    /// The kernel reported EOF.
    pub(crate) const EOF_SEEN: Self = Self(1 << 8);
    /// `eof_received` was called on this protocol.
    pub(crate) const EOF_TOLD: Self = Self(1 << 9);
    /// A `ReadHold` lasts.
    pub(crate) const READ_HOLD: Self = Self(1 << 10);

    /// Bytes wait in the transport's own buffer.
    pub(crate) const QUEUED: Self = Self(1 << 11);
    /// `write_eof` was called.
    pub(crate) const EOF_ASKED: Self = Self(1 << 12);
    /// No byte has come since the last look for idle connections. Low, so that a read clears it with
    /// `READABLE` at one go.
    pub(crate) const SILENT: Self = Self(1 << 13);

    /// From the crossing of the high-water mark until the fall to the low one.
    pub(crate) const PAUSED: Self = Self(1 << 14);
    /// `pause_writing` was called, and its `resume_writing` not yet.
    pub(crate) const PAUSE_TOLD: Self = Self(1 << 15);
    /// A pause began and ended before `pause_writing` was called: both callbacks are owed.
    pub(crate) const PAUSE_MISSED: Self = Self(1 << 16);
    /// The socket has layers.
    pub(crate) const LAYERED: Self = Self(1 << 17);

    /// `set_protocol` was called; the new one waits.
    pub(crate) const SWITCH: Self = Self(1 << 18);

    /// `close` was called: the buffered bytes are sent, then the connection ends.
    pub(crate) const CLOSING: Self = Self(1 << 19);
    /// Writing ended with an error; bytes that the kernel still holds may be read.
    pub(crate) const WRITE_FAILED: Self = Self(1 << 20);
    /// The connection has ended: `connection_lost` is next.
    pub(crate) const ENDED: Self = Self(1 << 21);
    /// `connection_lost` was called, or is being called.
    pub(crate) const LOST_CALLED: Self = Self(1 << 22);

    /// A callback that the loop made is running: what is owed comes when it returns.
    pub(crate) const RUNNING: Self = Self(1 << 23);
    /// On the loop's list of transports to look at before it sleeps.
    pub(crate) const DIRTY: Self = Self(1 << 24);

    /// The kernel takes nothing, and the write timeout runs.
    pub(crate) const STALL_TIMED: Self = Self(1 << 25);
    /// A `drain` or a `flush` may be waiting.
    pub(crate) const AWAITED: Self = Self(1 << 26);

    /// A layer is not open yet.
    pub(crate) const OPENING: Self = Self(1 << 27);
    /// Output of the layers' own waits for the kernel.
    pub(crate) const OUTPUT: Self = Self(1 << 28);
    /// Code of a layer is running: the socket is out of its cell.
    pub(crate) const IN_LAYER: Self = Self(1 << 29);
    /// Code of a layer has ended the connection: it ends when that code has returned.
    pub(crate) const END_NOTED: Self = Self(1 << 30);

    /// The bytes that the kernel has are to be spliced, and not read. The mask that joins it is only compared,
    /// which takes no operand with a sign.
    pub(crate) const SPLICED: Self = Self(1 << 31);

    /// We accepted or adopted the connection; clear when we opened it.
    pub(crate) const ACCEPTED: Self = Self(1 << 32);
    /// Out of kernel memory: a timer will set READABLE and WRITABLE again.
    pub(crate) const RETRYING: Self = Self(1 << 33);
    /// `eof_received` was called on some protocol.
    pub(crate) const EOF_DELIVERED: Self = Self(1 << 34);
    /// `eof_received` was called before `close`.
    pub(crate) const EOF_BEFORE_CLOSE: Self = Self(1 << 35);
    /// Waiters that have what they wait for are being completed.
    pub(crate) const COMPLETING: Self = Self(1 << 36);
    /// `reset` ended the connection, or came after its end and before `connection_lost`.
    pub(crate) const RESET: Self = Self(1 << 37);
    /// `pause_writing` returned `StopReading` when it was last called.
    pub(crate) const HOLDS_READING: Self = Self(1 << 38);
    /// The layers that are opening are to be called, whatever the kernel has.
    pub(crate) const OPEN_DUE: Self = Self(1 << 39);
    /// The layers have ended our side of the stream, and the kernel has all that they said.
    pub(crate) const LAYERS_ENDED: Self = Self(1 << 40);
    /// A timer of the layers' own runs.
    pub(crate) const LAYER_TIMED: Self = Self(1 << 41);
    /// Layers send no more before they have received something.
    pub(crate) const LAYER_STARVED: Self = Self(1 << 42);
    /// Layers hold bytes for the protocol, that were read while reading was stopped.
    pub(crate) const LAYER_FED: Self = Self(1 << 43);

    /// While others open: a layer is open that has not left, or has output that waits.
    pub(crate) const LAYER_OPEN: Self = Self(1 << 45);

    /// Output of layers is in the account of the loop.
    pub(crate) const OUTPUT_COUNTED: Self = Self(1 << 46);
    /// The write side was shut down because of `write_eof`.
    pub(crate) const EOF_SENT: Self = Self(1 << 47);
    /// In these bits a number: the looks for idle connections in a row without a byte.
    const SILENT_LOOKS: Self = Self(0b111 << 48);

    /// `eof_received` of this protocol returned `KeepOpen`.
    pub(crate) const KEPT_OPEN: Self = Self(1 << 44);
    /// Bytes in a pipe are the front of the transport's own buffer.
    pub(crate) const PIPED: Self = Self(1 << 51);

    /// Any of these refuses a write.
    pub(crate) const NO_WRITE: Self = Self(
        Self::CLOSING.0
            | Self::EOF_ASKED.0
            | Self::WRITE_FAILED.0
            | Self::ENDED.0
            | Self::LOST_CALLED.0
            | Self::IN_LAYER.0
            | Self::END_NOTED.0,
    );
    /// Any of these stops reading for a time.
    pub(crate) const STOPPED: Self =
        Self(Self::READING_PAUSED.0 | Self::HELD.0 | Self::READ_HOLD.0);
    /// Any of these stops reading.
    pub(crate) const NO_READ: Self = Self(
        Self::CONNECTING.0
            | Self::OPENING.0
            | Self::STOPPED.0
            | Self::SWITCH.0
            | Self::CLOSING.0
            | Self::ENDED.0
            | Self::LOST_CALLED.0
            | Self::END_NOTED.0,
    );
    /// With any of these after `get_buffer`, its buffer is not used: reading has stopped, or other bytes
    /// come first.
    pub(crate) const NO_FILL: Self = Self(Self::NO_READ.0 | Self::UNREAD.0);
    /// With none of these, a protocol that has more input goes on with it.
    const MAY_STOP: Self = Self(Self::NO_READ.0 | Self::PAUSED.0);
    /// With none of these, [`State::next`] has nothing but reads to ask for.
    pub(crate) const OWED: Self = Self(
        Self::CONNECTING.0
            | Self::OPENING.0
            | Self::SWITCH.0
            | Self::OUTPUT.0
            | Self::QUEUED.0
            | Self::EOF_ASKED.0
            | Self::PAUSED.0
            | Self::PAUSE_TOLD.0
            | Self::PAUSE_MISSED.0
            | Self::CLOSING.0
            | Self::WRITE_FAILED.0
            | Self::ENDED.0
            | Self::END_NOTED.0,
    );
    /// With none of these, there is nothing to read.
    pub(crate) const TO_READ: Self = Self(Self::READABLE.0 | Self::UNREAD.0 | Self::EOF_SEEN.0);
    /// Of these just [`READABLE`](Self::READABLE) is set when there is nothing to do but to read.
    const PLAIN_READ: Self =
        Self(Self::OWED.0 | Self::NO_READ.0 | Self::TO_READ.0 | Self::SPLICED.0);
    /// With none of these, bytes that the kernel has taken are only counted.
    pub(crate) const WATCHED: Self = Self(Self::PAUSED.0 | Self::STALL_TIMED.0 | Self::AWAITED.0);
    /// Of these just [`RUNNING`](Self::RUNNING) is set while small writes are gathered.
    const GATHERING: Self =
        Self(Self::NO_WRITE.0 | Self::QUEUED.0 | Self::PAUSED.0 | Self::RUNNING.0);
    /// Of these just [`WRITABLE`](Self::WRITABLE) is set when gathered writes go to the kernel as they
    /// are.
    const PLAIN_WRITE: Self = Self(Self::WRITABLE.0 | Self::LAYERED.0);
    /// Of these just [`WRITABLE`](Self::WRITABLE) is set when what is buffered may be offered.
    const OFFERABLE: Self = Self(Self::WRITABLE.0 | Self::IN_LAYER.0);
    /// The connection is ending, or has ended.
    pub(crate) const ENDING: Self = Self(
        Self::CLOSING.0
            | Self::WRITE_FAILED.0
            | Self::ENDED.0
            | Self::LOST_CALLED.0
            | Self::END_NOTED.0,
    );

    pub(crate) const EMPTY: Self = Self(0);

    /// Returns the flags that an event sets: [`READABLE`](Self::READABLE),
    /// [`READ_TO_END`](Self::READ_TO_END) and [`WRITABLE`](Self::WRITABLE), which stand side by side for it.
    pub(crate) fn of(readiness: Readiness) -> Self {
        Self(u64::from(readiness.what_to_do()) << Self::READABLE.0.trailing_zeros())
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

    /// Whether [`input`](Self::input) is the kernel's, and nothing is owed before it.
    pub(crate) fn is_plain_read(self) -> bool {
        self.0 & Self::PLAIN_READ.0 == Self::READABLE.0
    }

    /// Whether the next [`input`](Self::input) is the kernel's, without looking at what layers have.
    pub(crate) fn has_kernel_input_alone(self) -> bool {
        let all = Self::NO_READ.with(Self::TO_READ);
        self.0 & all.0 == Self::READABLE.0
    }

    /// Whether nothing is owed but to offer the queue, and nothing is left to read.
    pub(crate) fn owes_queue_alone(self) -> bool {
        self.0 & Self::PLAIN_READ.0 == Self::QUEUED.0
    }

    /// Whether a protocol that has more input is to go on with it.
    #[inline]
    pub(crate) fn wants_input(self) -> bool {
        !self.any(Self::MAY_STOP) || self.is_paused_and_reads()
    }

    /// Whether the protocol was told of the pause, and reads on.
    #[cold]
    fn is_paused_and_reads(self) -> bool {
        !self.any(Self::NO_READ) && self.any(Self::PAUSE_TOLD)
    }

    /// Returns the state when the buffer has gone above the high-water mark.
    pub(crate) fn paused(self) -> Self {
        let paused = self.with(Self::PAUSED);
        if self.any(Self::PAUSE_TOLD) && self.any(Self::HOLDS_READING) {
            // The resume of the pause before was not delivered yet: its return value holds.
            paused.with(Self::HELD)
        } else {
            paused
        }
    }

    /// Returns the state when the buffer has fallen to the low-water mark.
    pub(crate) fn resumed(self) -> Self {
        let resumed = self.without(Self::PAUSED);
        if self.any(Self::PAUSE_TOLD) {
            resumed
        } else {
            resumed.with(Self::PAUSE_MISSED)
        }
    }

    /// Returns the state for the time in which `pause_writing` runs.
    pub(crate) fn telling_pause(self) -> Self {
        self.without(Self::PAUSE_MISSED).with(Self::PAUSE_TOLD)
    }

    /// Returns the state when `pause_writing` has returned, and whether it stops reading.
    pub(crate) fn pause_told(self, stops_reading: bool) -> Self {
        let told = self.without(Self::HOLDS_READING.with(Self::HELD));
        match (stops_reading, self.any(Self::PAUSED)) {
            (true, true) => told.with(Self::HOLDS_READING.with(Self::HELD)),
            (true, false) => told.with(Self::HOLDS_READING),
            (false, _) => told,
        }
    }

    /// Returns the state for the time in which `resume_writing` runs.
    pub(crate) fn telling_resume(self) -> Self {
        self.without(Self::PAUSE_TOLD.with(Self::HELD))
    }

    /// Returns the number of looks for idle connections in a row without a byte.
    pub(crate) fn silent_looks(self) -> u8 {
        ((self.0 & Self::SILENT_LOOKS.0) >> Self::SILENT_LOOKS.0.trailing_zeros()) as u8
    }

    /// Returns the state after a look for idle connections.
    pub(crate) fn silent_for(self, looks: u8) -> Self {
        let looks = Self(u64::from(looks) << Self::SILENT_LOOKS.0.trailing_zeros());
        debug_assert!(!looks.any(Self(!Self::SILENT_LOOKS.0)), "{looks:?}");
        self.without(Self::SILENT_LOOKS)
            .with(looks)
            .with(Self::SILENT)
    }

    /// Whether layers that are open have still to end our side of the stream.
    pub(crate) fn is_to_end_layers(self) -> bool {
        let open = !self.any(Self::OPENING) || self.any(Self::LAYER_OPEN);
        self.any(Self::LAYERED) && open && !self.any(Self::LAYERS_ENDED)
    }

    /// Whether layers go on with opening. The end of our side of the stream stops them: a close with nothing
    /// to send does not wait for them.
    pub(crate) fn is_opening(self) -> bool {
        self.any(Self::OPENING) && (!self.any(Self::CLOSING) || self.any(Self::QUEUED))
    }

    /// Whether gathered writes go to the kernel as they are: it takes bytes, and there are no layers.
    pub(crate) fn is_plain_write(self) -> bool {
        self.0 & Self::PLAIN_WRITE.0 == Self::WRITABLE.0
    }

    /// Whether what is buffered may be offered: the socket takes bytes, and is in its place.
    pub(crate) fn is_offerable(self) -> bool {
        self.0 & Self::OFFERABLE.0 == Self::WRITABLE.0
    }

    /// Whether something is buffered, and may be offered.
    pub(crate) fn is_to_offer(self) -> bool {
        let all = Self::OFFERABLE.with(Self::QUEUED);
        self.0 & all.0 == Self::QUEUED.with(Self::WRITABLE).0
    }

    /// Whether small writes are gathered: those of a running callback, with nothing before them.
    pub(crate) fn is_gathering(self) -> bool {
        self.0 & Self::GATHERING.0 == Self::RUNNING.0
    }
}

/// The masks that join flags lie in the low 31 bits.
const _: () = {
    let reading = State::OWED.0 | State::NO_READ.0 | State::TO_READ.0;
    let writing = State::NO_WRITE.0 | State::GATHERING.0 | State::WATCHED.0;
    let layered = State::PLAIN_WRITE.0 | State::OFFERABLE.0;
    assert!((reading | writing | layered | State::MAY_STOP.0).leading_zeros() > 32);
};

impl BitOr for State {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

/// The flags by name, for logs.
const NAMES: [(State, &str); 49] = [
    (State::CONNECTING, "connecting"),
    (State::READABLE, "readable"),
    (State::READ_TO_END, "read-to-end"),
    (State::WRITABLE, "writable"),
    (State::READING_PAUSED, "reading-paused"),
    (State::HELD, "held"),
    (State::READ_QUEUED, "read-queued"),
    (State::UNREAD, "unread"),
    (State::EOF_SEEN, "eof-seen"),
    (State::EOF_TOLD, "eof-told"),
    (State::READ_HOLD, "read-hold"),
    (State::SILENT, "silent"),
    (State::QUEUED, "queued"),
    (State::EOF_ASKED, "eof-asked"),
    (State::EOF_SENT, "eof-sent"),
    (State::PAUSED, "paused"),
    (State::PAUSE_TOLD, "pause-told"),
    (State::PAUSE_MISSED, "pause-missed"),
    (State::LAYERED, "layered"),
    (State::SWITCH, "switch"),
    (State::CLOSING, "closing"),
    (State::WRITE_FAILED, "write-failed"),
    (State::ENDED, "ended"),
    (State::LOST_CALLED, "lost-called"),
    (State::RUNNING, "running"),
    (State::DIRTY, "dirty"),
    (State::STALL_TIMED, "stall-timed"),
    (State::AWAITED, "awaited"),
    (State::OPENING, "opening"),
    (State::OUTPUT, "output"),
    (State::IN_LAYER, "in-layer"),
    (State::END_NOTED, "end-noted"),
    (State::ACCEPTED, "accepted"),
    (State::RETRYING, "retrying"),
    (State::EOF_DELIVERED, "eof-delivered"),
    (State::EOF_BEFORE_CLOSE, "eof-before-close"),
    (State::COMPLETING, "completing"),
    (State::RESET, "reset"),
    (State::HOLDS_READING, "holds-reading"),
    (State::OPEN_DUE, "open-due"),
    (State::LAYERS_ENDED, "layers-ended"),
    (State::LAYER_OPEN, "layer-open"),
    (State::LAYER_TIMED, "layer-timed"),
    (State::LAYER_STARVED, "layer-starved"),
    (State::LAYER_FED, "layer-fed"),
    (State::KEPT_OPEN, "kept-open"),
    (State::OUTPUT_COUNTED, "output-counted"),
    (State::SPLICED, "spliced"),
    (State::PIPED, "piped"),
];

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut set = f.debug_set();
        for (flag, name) in NAMES {
            if self.any(flag) {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}
