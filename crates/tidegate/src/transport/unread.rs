//! Bytes that come to the protocol before those of the kernel: those of `set_protocol`, those that a
//! callback has given back, and those that an old protocol has left over.

use super::Transport;
use super::state::State;
use crate::{BoxError, CloseReason, Protocol, Result};
use std::error::Error;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Bytes to be delivered before those from the kernel.
#[derive(Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    at: usize,
    /// The tick in which a callback gave some of them back: they wait for the next one.
    given_back: Option<u32>,
}

/// The bytes that a callback is being given, while it runs. They are out of their place.
#[derive(Default)]
pub(super) struct Lent {
    /// The address behind the last byte that was not given back.
    end: usize,
    /// The number of bytes before that address.
    len: usize,
    /// The number of bytes behind it.
    given_back: usize,
}

impl Lent {
    fn new(data: &[u8]) -> Self {
        Self {
            end: data.as_ptr_range().end.addr(),
            len: data.len(),
            given_back: 0,
        }
    }

    /// Counts bytes that are given back, if they are a tail. Returns whether they are.
    fn give_back(&mut self, data: &[u8]) -> bool {
        // The memory of two living values does not overlap: what ends where the lent bytes end, and
        // is not longer, is a part of them.
        let is_tail = data.as_ptr_range().end.addr() == self.end && data.len() <= self.len;
        if is_tail {
            self.end -= data.len();
            self.len -= data.len();
            self.given_back += data.len();
        }
        is_tail
    }
}

impl Unread {
    pub(super) fn put_in_front(&mut self, mut bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        bytes.extend_from_slice(self.rest());
        (self.bytes, self.at) = (bytes, 0);
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Puts bytes in front, and lets nothing wait that was given back: another protocol comes.
    pub(super) fn come_next(&mut self, bytes: Vec<u8>) {
        self.put_in_front(bytes);
        self.given_back = None;
    }

    /// Puts bytes in front that a callback gives back. Those that it was lent are only counted.
    fn give_back(&mut self, data: &[u8], lent: &mut Lent, tick: u32) {
        self.given_back = Some(tick);
        if !self.rest().is_empty() || !lent.give_back(data) {
            self.put_in_front(data.to_vec());
        }
    }

    /// Puts back bytes that were delivered, without the first `used` of them. Where none are left, their memory goes.
    fn take_back(&mut self, mut delivered: Self, used: usize) {
        delivered.at += used;
        if delivered.rest().is_empty() {
            return;
        }
        if self.rest().is_empty() {
            (self.bytes, self.at) = (delivered.bytes, delivered.at);
        } else {
            self.bytes.extend_from_slice(delivered.rest());
        }
    }
}

impl Transport {
    /// Takes bytes that a callback was given and does not use now.
    pub(crate) fn give_back(&self, data: &[u8]) {
        let conn = self.conn();
        if data.is_empty() || !self.takes_back() {
            return;
        }
        if !self.give_to_layer(data) {
            let tick = conn.core().tick();
            conn.with_extra(|extra| extra.unread.give_back(data, &mut extra.lent, tick));
            conn.set(State::UNREAD);
        }
        self.touch();
    }

    /// Whether what is given back comes again.
    fn takes_back(&self) -> bool {
        let ended = State::CLOSING | State::ENDED | State::LOST_CALLED | State::END_NOTED;
        !self.conn().is(ended)
    }

    /// Lets the end of the stream come again, behind no bytes. Called within `eof_received`, else without
    /// effect.
    pub(super) fn give_back_eof(&self) {
        let conn = self.conn();
        let is_told = conn.is(State::EOF_TOLD) && !conn.is(State::KEPT_OPEN);
        if !is_told || !self.takes_back() {
            return;
        }
        let tick = conn.core().tick();
        conn.with_extra(|extra| extra.unread.given_back = Some(tick));
        conn.set(State::UNREAD);
        self.touch();
    }

    /// Frees the bytes that nobody gets any more.
    pub(super) fn drop_unread(&self) {
        let conn = self.conn();
        if conn.is(State::UNREAD) {
            conn.clear(State::UNREAD);
            conn.with_extra(|extra| extra.unread = Unread::default());
        }
    }

    /// Returns whether bytes wait that were given back or left over, or an end that was given back. For the
    /// test kit, which checks the order of callbacks.
    #[cfg(feature = "unstable-driver")]
    #[doc(hidden)]
    pub fn has_unread(&self) -> bool {
        self.conn().is(State::UNREAD)
    }

    #[inline]
    pub(crate) fn is_input_wanted(&self) -> bool {
        self.conn().state.get().wants_input()
    }

    /// Gives bytes to a layer that was put on in mid-stream and is not open: they are older than it, so
    /// they did not come through it. Returns whether there is one.
    fn give_to_layer(&self, data: &[u8]) -> bool {
        let conn = self.conn();
        if data.is_empty() || !conn.is(State::OPENING) || conn.is(State::CONNECTING) {
            return false;
        }
        let given = conn.layered(|layered| layered.put_unread_in_front(data));
        if given.is_some() {
            conn.set(State::OPEN_DUE);
        } else {
            // Within the code of a layer. The protocol behind it must not get them.
            let error = "bytes were given back within the code of a layer";
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            self.note_end(CloseReason::Io(Arc::new(error)), false);
        }
        true
    }

    /// Whether a callback of this tick has given back bytes that come next.
    pub(super) fn has_yielded(&self) -> bool {
        let conn = self.conn();
        let given_back = conn
            .extra
            .with(|extra| extra.as_ref().and_then(|extra| extra.unread.given_back));
        given_back == Some(conn.core().tick())
    }

    /// Delivers unread bytes as if they had just been read.
    pub(super) fn deliver_unread(&self) {
        let conn = self.conn();
        let unread = conn.with_extra(|extra| mem::take(&mut extra.unread));
        conn.clear(State::UNREAD);
        if unread.rest().is_empty() {
            // The end was given back: it is the next input.
            return;
        }
        let mut given = 0;
        self.call("data_received", |protocol, transport| {
            transport.give(protocol, unread.rest(), &mut given)
        });
        let is_empty = conn.with_extra(|extra| {
            let lent = mem::take(&mut extra.lent);
            extra.unread.take_back(unread, given - lent.given_back);
            extra.unread.rest().is_empty()
        });
        if is_empty {
            return;
        }
        conn.set(State::UNREAD);
        if conn.is(State::OPENING) && !conn.is(State::CONNECTING) {
            // The callback has put a layer on: what follows is the layer's.
            let unread = conn.with_extra(|extra| mem::take(&mut extra.unread));
            conn.clear(State::UNREAD);
            conn.layered(|layered| layered.add_unread(unread.rest()));
        }
    }

    /// Counts the given bytes also when the callback fails: an error that only says that writing is over
    /// does not end reading.
    fn give(&self, protocol: &mut dyn Protocol, data: &[u8], given: &mut usize) -> Result {
        let conn = self.conn();
        let stopped = || conn.is(State::NO_FILL);
        match self.named("get_buffer", || protocol.get_buffer(self, data.len())) {
            _ if stopped() => Ok(()),
            Some([]) => Err(self.empty_buffer()),
            Some(own) => {
                let len = own.len().min(data.len());
                own[..len].copy_from_slice(&data[..len]);
                *given = len;
                self.update_buffer(protocol, len)
            }
            None => {
                *given = data.len();
                conn.with_extra(|extra| extra.lent = Lent::new(data));
                protocol.data_received(self, data)
            }
        }
    }

    /// Returns what `set_protocol` brought to its new protocol, with what the old one left over behind it.
    /// Called with the old one in its place.
    pub(super) fn with_leftover(&self, mut unread: Vec<u8>) -> Vec<u8> {
        let conn = self.conn();
        let Ok(mut slot) = conn.protocol.try_borrow_mut() else {
            return unread;
        };
        let Some(old) = slot.as_deref_mut() else {
            return unread;
        };
        let left = catch_unwind(AssertUnwindSafe(|| old.leftover()));
        drop(slot);
        match left {
            Ok(left) if self.give_to_layer(&left) => {}
            Ok(left) => unread.extend(left),
            Err(payload) => {
                if let Some(fault) = self.fault_of(Err(payload)) {
                    self.callback_failed("leftover", fault);
                }
            }
        }
        unread
    }

    #[cold]
    pub(super) fn empty_buffer(&self) -> BoxError {
        self.core().read_callback.set(Some("get_buffer"));
        EmptyBuffer.into()
    }
}

#[derive(Debug)]
struct EmptyBuffer;

impl fmt::Display for EmptyBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("get_buffer gave an empty buffer: give one with room, or None")
    }
}

impl Error for EmptyBuffer {}
