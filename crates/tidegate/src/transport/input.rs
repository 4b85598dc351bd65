//! The methods of `Transport` that stop reading, and those for input that a protocol does not use now.

use super::state::State;
use super::{ReadHold, Transport};

/// # Reading
impl Transport {
    /// Stops reading: no `data_received` and no `eof_received` until
    /// [`resume_reading`](Transport::resume_reading), also when called within `data_received`.
    ///
    /// Nothing is discarded. A reset by the peer is still noticed: by writes, and by
    /// [`closed`](Transport::closed).
    pub fn pause_reading(&self) {
        self.conn().set(State::READING_PAUSED);
    }

    /// Resumes reading; bytes that have arrived meanwhile come first.
    pub fn resume_reading(&self) {
        self.conn().clear(State::READING_PAUSED);
        self.touch();
    }

    /// Returns whether bytes that arrive are delivered: reading is neither paused, nor held by
    /// [`StopReading`](crate::OnPause::StopReading) or a [`ReadHold`], nor ending.
    pub fn is_reading(&self) -> bool {
        self.conn().is_reading()
    }
}

/// # Input for later
///
/// One callback may bring several messages, and a part of one. A protocol that stops in the middle of
/// them gives the rest back, and goes on with it later.
impl Transport {
    /// Gives back bytes that the running callback was given and does not use now.
    ///
    /// They come before all else that is still to be received: before the kernel's bytes, and before
    /// the end of the stream. Of several calls in one callback the later one goes in front.
    ///
    /// * While reading is on, they come again in the next tick of the loop. Other connections come
    ///   in between.
    /// * While reading is stopped, they come when it goes on.
    /// * After [`set_protocol`](Transport::set_protocol) the new protocol gets them, behind the bytes
    ///   of that call, and without waiting for a tick. After [`detach`](Transport::detach) the protocol
    ///   in the next loop does.
    /// * After [`eof_received`](crate::Protocol::eof_received) too: that is called again behind them, and
    ///   only its last result counts.
    /// * After [`push_layer`](Transport::push_layer) they are input of the layer: the peer sent them
    ///   before the layer was open, so they did not come through it. Of several layers that is the
    ///   first. Once it has had later input, they end the connection with
    ///   [`InvalidData`](std::io::ErrorKind::InvalidData).
    /// * After [`close`](Transport::close), [`abort`](Transport::abort) and the end, the call does
    ///   nothing. After a failed write it works.
    ///
    /// The bytes are copied once. A tail of bytes that come again may be given back once more, and stays
    /// where it is. The [stats](Transport::stats) count each byte as received once.
    ///
    /// Do not give back a part of a message to wait for the rest: nothing is read before it, so the part
    /// comes again alone. A protocol keeps it, and returns it from
    /// [`leftover`](crate::Protocol::leftover).
    ///
    /// This protocol replies to one command a tick, however many arrive together:
    ///
    #[doc = include_str!("../../docs/transport/unread.md")]
    #[doc(alias = "unshift")]
    pub fn unread(&self, data: &[u8]) {
        self.give_back(data);
    }

    /// Gives the end of the stream back: [`eof_received`](crate::Protocol::eof_received), which is running,
    /// is called again.
    ///
    /// For a protocol that has more messages at the end than it uses now, and no bytes to give
    /// [back](Transport::unread). While reading is on, the end comes again in the next tick of the loop.
    /// While reading is stopped, it comes when reading goes on. Only the result of the last call counts.
    ///
    /// After [`set_protocol`](Transport::set_protocol) the new protocol gets the end. Outside
    /// `eof_received`, and after [`close`](Transport::close), [`abort`](Transport::abort) and the end of the
    /// connection, the call does nothing.
    pub fn unread_eof(&self) {
        self.give_back_eof();
    }

    /// Returns whether a protocol that makes several messages of what it was given is to go on with the
    /// next.
    ///
    /// It is `false` as soon as a message has caused one of these, within the callback too:
    ///
    /// * [`pause_reading`](Transport::pause_reading), or a [`ReadHold`];
    /// * [`close`](Transport::close), [`abort`](Transport::abort), or another end;
    /// * [`set_protocol`](Transport::set_protocol), [`push_layer`](Transport::push_layer), or
    ///   [`detach`](Transport::detach);
    /// * the crossing of the high-water mark, until `pause_writing` was called. After it has
    ///   returned [`KeepReading`](crate::OnPause::KeepReading) it is `true` again, also while the
    ///   transport is paused.
    ///
    /// The protocol then gives the rest [back](Transport::unread) and returns. So a server that sends
    /// a long reply to each short request is bounded: it stops in the middle of a batch.
    ///
    #[doc = include_str!("../../docs/transport/wants_input.md")]
    #[inline]
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.is_input_wanted()
    }

    /// Holds reading back until the returned value is dropped.
    ///
    /// Any number of holds may last at a time. They are apart from
    /// [`pause_reading`](Transport::pause_reading), and from the loop's own hold while the writer is
    /// paused: reading goes on when there is none of the three. So code that limits a connection, such
    /// as a wrapper, cannot undo the pause of a protocol, nor the protocol the code's.
    ///
    #[doc = include_str!("../../docs/transport/hold_reading.md")]
    pub fn hold_reading(&self) -> ReadHold {
        ReadHold::new(self)
    }
}
