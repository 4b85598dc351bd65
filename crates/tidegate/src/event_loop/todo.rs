//! The work that is left for a loop, as one word of flags: a tick looks only where one is set.

use std::cell::Cell;

/// A set of flags. Each is set when something is put on its list, and cleared when the list was
/// found empty, or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Todo(u8);

impl Todo {
    /// Callbacks to run.
    pub(crate) const READY: Self = Self(1 << 0);
    /// Transports to settle.
    pub(crate) const DIRTY: Self = Self(1 << 1);
    /// Reads or accepts that an earlier tick left over.
    pub(crate) const LEFTOVER: Self = Self(1 << 2);
    /// Values of the user to drop.
    pub(crate) const DEFERRED: Self = Self(1 << 3);
    /// The loop is to stop.
    pub(crate) const STOP: Self = Self(1 << 4);
    /// Timers that may come.
    pub(crate) const TIMERS: Self = Self(1 << 5);
    /// A panic that is to go on.
    pub(crate) const PANIC: Self = Self(1 << 6);
    /// Calls from other threads.
    pub(crate) const WOKEN: Self = Self(1 << 7);

    /// Without any of these a tick ends after its I/O callbacks.
    pub(crate) const AFTER_IO: Self =
        Self(Self::TIMERS.0 | Self::WOKEN.0 | Self::READY.0 | Self::DIRTY.0 | Self::DEFERRED.0);

    /// With any of these the loop must not sleep.
    pub(crate) const NOW: Self =
        Self(Self::READY.0 | Self::DIRTY.0 | Self::LEFTOVER.0 | Self::DEFERRED.0 | Self::STOP.0);
}

/// The flags of one loop.
#[derive(Debug, Default)]
pub(crate) struct TodoCell(Cell<u8>);

impl TodoCell {
    pub(crate) fn any(&self, flags: Todo) -> bool {
        self.0.get() & flags.0 != 0
    }

    pub(crate) fn set(&self, flags: Todo) {
        self.0.set(self.0.get() | flags.0);
    }

    pub(crate) fn clear(&self, flags: Todo) {
        self.0.set(self.0.get() & !flags.0);
    }

    /// Clears the flags; returns whether one was set.
    pub(crate) fn take(&self, flags: Todo) -> bool {
        let any = self.any(flags);
        if any {
            self.clear(flags);
        }
        any
    }
}
