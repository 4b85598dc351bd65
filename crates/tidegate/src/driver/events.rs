//! The events of a poll, each with the token of its source and its readiness.

use super::os::OsEvents;
use std::iter::from_fn;
use std::ops::BitOr;

/// Names a source of events; chosen by the loop, handed back with each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct Token(pub u64);

/// The token of the event that a [`Wake`](super::Wake) causes.
pub const WAKE: Token = Token(u64::MAX);

/// The readiness of a source in an event, as a set of flags. Edge-triggered: each change is reported once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Readiness(u8);

impl Readiness {
    const READABLE: u8 = 1 << 0;
    const READ_TO_END: u8 = 1 << 1;
    const WRITABLE: u8 = 1 << 2;
    const FAILED: u8 = 1 << 3;

    /// Returns the empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds that a read, or an accept, may succeed or tell of an end.
    pub fn with_readable(self) -> Self {
        Self(self.0 | Self::READABLE)
    }

    /// Adds that a write may succeed, or that a connect has been decided.
    pub fn with_writable(self) -> Self {
        Self(self.0 | Self::WRITABLE)
    }

    /// Adds readable, and that a short read does not mean that all was read: the peer hung up,
    /// there is an error, or urgent data.
    pub fn with_read_to_end(self) -> Self {
        Self(self.0 | Self::READABLE | Self::READ_TO_END)
    }

    /// Adds that the socket may have an error to ask for.
    pub fn with_failed(self) -> Self {
        Self(self.0 | Self::FAILED)
    }

    pub(crate) fn is_readable(self) -> bool {
        self.0 & Self::READABLE != 0
    }

    pub(crate) fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    pub(crate) fn is_failed(self) -> bool {
        self.0 & Self::FAILED != 0
    }

    /// Readable, to be read to the end, writable: in this order, from the lowest bit.
    pub(crate) fn what_to_do(self) -> u8 {
        self.0 & (Self::READABLE | Self::READ_TO_END | Self::WRITABLE)
    }
}

/// Both.
impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The events of one poll. Those of the real world stay where the system put them, and are read
/// one after the other.
#[derive(Debug)]
pub struct Events {
    pub(super) os: OsEvents,
    pub(super) pushed: Vec<(Token, Readiness)>,
}

impl Events {
    pub(super) fn new(os: OsEvents) -> Self {
        let pushed = Vec::new();
        Self { os, pushed }
    }

    /// Adds one.
    pub fn push(&mut self, token: Token, readiness: Readiness) {
        self.pushed.push((token, readiness));
    }

    #[inline(always)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, Readiness)> {
        let (mut os, mut pushed) = (self.os.iter(), self.pushed.iter().copied());
        // One place to take from, unlike a chain of both.
        from_fn(move || os.next().or_else(|| pushed.next()))
    }
}

impl Extend<(Token, Readiness)> for Events {
    fn extend<I: IntoIterator<Item = (Token, Readiness)>>(&mut self, events: I) {
        self.pushed.extend(events);
    }
}
