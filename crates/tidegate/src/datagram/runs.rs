//! Which datagrams go one by one, for the kernel has refused a run of them.
//!
//! The datagrams of a refused run go singly. The first of them is the trial: if the kernel takes it, the run was
//! refused for what it was, not for where it went. That is a [`Lesson`] of one destination: a path with a small
//! MTU, or a device that cannot cut, takes nothing from the others. One lesson is kept, so of several such
//! destinations each costs one refused call for a run at the most. A path may change, so it ends after
//! [`LESSON`] datagrams.

use super::endpoint::Endpoint;
use crate::Address;
use std::cell::Cell;
use std::io;

/// The number of datagrams that go singly before a run is tried again: a refused call is little beside theirs.
const LESSON: u32 = 1_024;

/// The datagrams at the front of the queue whose run was refused.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The number of them.
    singly: Cell<u16>,
    /// Until the first of them has gone: the length from which on datagrams are refused in runs. 0 for none.
    trial: Cell<u16>,
    /// There is a lesson.
    taught: Cell<bool>,
}

/// Datagrams to one destination, of this length or longer, go singly.
#[derive(Debug)]
pub(super) struct Lesson {
    /// `None` for the remote address.
    to: Option<Address>,
    from_length: usize,
    /// The number of datagrams for which it holds.
    left: u32,
}

impl Runs {
    /// Whether the next datagram goes singly.
    #[inline(always)]
    pub(super) fn goes_singly(&self) -> bool {
        self.singly.get() > 0
    }

    /// The kernel has refused the run of `count` datagrams at the front.
    pub(super) fn refused(&self, count: usize, segment: usize, error: &io::Error) {
        self.singly.set(count as u16);
        self.trial.set(match error.raw_os_error() {
            // Longer than the path's MTU: a run is never fragmented.
            Some(libc::EMSGSIZE | libc::EINVAL) => segment as u16,
            // A device that computes no checksums cannot cut.
            Some(libc::EIO) => 1,
            _ => 0,
        });
    }

    /// The datagram of the trial was not taken either, or was dropped.
    pub(super) fn forget_trial(&self) {
        self.trial.set(0);
    }

    /// Datagrams have left the front of the queue.
    #[inline(always)]
    pub(super) fn gone(&self, count: usize) {
        let singly = self.singly.get().saturating_sub(count as u16);
        self.singly.set(singly);
    }

    #[inline(always)]
    pub(super) fn queue_is_empty(&self) {
        self.singly.set(0);
        self.trial.set(0);
    }
}

impl Endpoint {
    /// A datagram was sent. If it was the one of a trial, a run would have been refused for being one.
    #[inline(always)]
    pub(super) fn end_trial(&self, to: Option<&Address>) {
        if self.runs.trial.get() > 0 {
            self.learn(to);
        }
    }

    #[cold]
    fn learn(&self, to: Option<&Address>) {
        let lesson = Lesson {
            to: to.cloned(),
            from_length: usize::from(self.runs.trial.take()),
            left: LESSON,
        };
        self.with_extra(|extra| extra.lesson = Some(lesson));
        self.runs.taught.set(true);
    }

    /// Returns the length from which on datagrams to `to` go singly, for one of `len` bytes that has others before it.
    #[inline(always)]
    pub(super) fn run_limit(&self, to: Option<&Address>, len: usize) -> usize {
        match self.runs.taught.get() {
            true => self.taught_limit(to, len),
            false => usize::MAX,
        }
    }

    #[cold]
    fn taught_limit(&self, to: Option<&Address>, len: usize) -> usize {
        let limit = self.with_extra(|extra| {
            let lesson = extra.lesson.as_mut().filter(|lesson| lesson.left > 0)?;
            if lesson.to.as_ref() != to {
                return Some(usize::MAX);
            }
            lesson.left -= u32::from(len >= lesson.from_length);
            Some(lesson.from_length)
        });
        self.runs.taught.set(limit.is_some());
        limit.unwrap_or(usize::MAX)
    }
}
