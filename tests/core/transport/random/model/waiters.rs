//! The waiters, and their true results.

use super::{Model, same};
use crate::transport::random::ops::{How, What};
use std::io;
use std::time::{Duration, Instant};
use tidegate::{Closed, Completion, Transport};

#[derive(Debug)]
pub(crate) struct Waiter {
    what: What,
    how: How,
    since: Instant,
    /// Of `flush`: what `sent` must reach.
    target: u64,
    /// Of `drain`: it was not paused, or else the falls so far.
    open: bool,
    falls: u32,
    sure_falls: u32,
    answers: u32,
}

/// A completion that a case keeps; dropped later, or asked at the end.
#[derive(Debug)]
pub(crate) enum Kept {
    Unit(usize, Completion<()>),
    Closed(usize, Completion<Closed>),
}

impl Model {
    pub(crate) fn add_waiter(&mut self, what: What, how: How) -> usize {
        self.waiters.push(Waiter {
            what,
            how,
            since: Instant::now(),
            target: self.written,
            open: !self.paused && self.closed.is_none(),
            falls: self.falls,
            sure_falls: self.sure_falls,
            answers: 0,
        });
        self.waiters.len() - 1
    }

    pub(crate) fn answered(
        &mut self,
        transport: &Transport,
        index: usize,
        answer: io::Result<Option<Closed>>,
    ) {
        self.observe(transport);
        self.note(format!("   waiter {index}: {answer:?}"));
        let waiter = &mut self.waiters[index];
        waiter.answers += 1;
        let once = waiter.answers == 1;
        let closed = answer.as_ref().err().and_then(Closed::of);
        let holds = match (waiter.what, &answer, &closed) {
            (_, Err(error), None) => {
                let limit = match waiter.how {
                    How::ThenWithin(limit) => Duration::from_millis(limit),
                    _ => Duration::MAX,
                };
                error.kind() == io::ErrorKind::TimedOut && waiter.since.elapsed() >= limit
            }
            (What::Flush, Ok(_), _) => self.sent >= waiter.target,
            (What::Drain, Ok(_), _) => waiter.open || self.falls > waiter.falls,
            (What::Closed, Ok(told), _) => match (told, &self.closed) {
                (Some(told), Some(fixed)) => {
                    (self.lost.is_some() || self.is_unmade()) && same(told, fixed)
                }
                _ => false,
            },
            (What::Closed, Err(_), Some(_)) => false,
            (What::Open, Ok(_), _) => true,
            (what, Err(_), Some(told)) => {
                let fixed = self.closed.as_ref();
                let lost = match what {
                    What::Flush => self.sent < waiter.target,
                    What::Open => true,
                    _ => !waiter.open && self.sure_falls == waiter.sure_falls,
                };
                lost && fixed.is_some_and(|fixed| same(told, fixed))
            }
        };
        self.expect(once, "a waiter is answered once");
        self.expect(holds, "a waiter's answer is true");
    }

    /// The loop has nothing to do: all that is owed has come.
    pub(crate) fn check_settled(&mut self, transport: &Transport) {
        self.observe(transport);
        self.check_settled_budget(transport);
        let opens = self.has_first_layers && !self.made;
        if !self.is_ended() && !opens {
            let got = self.wire.received().len() as u64;
            let counted = got <= self.sent + self.wire.slack(true);
            self.expect(counted, "what the peer has counts as sent");
            self.expect(self.next.is_none(), "the switch was made");
            self.expect(!self.must_pause, "the pause was told");
            self.expect(self.told == self.paused, "pause and resume were told");
            let mut done = self.eof_kept && self.eof_asked && self.buffered() == 0;
            // The ends of layers wait for room in the kernel too.
            done &= self.wire.is_plain();
            self.expect(!done, "both sides are done: it closes");
        }
        let dead = self.closed.is_some() && !self.is_write_dead();
        self.expect(!dead || self.lost.is_some(), "connection_lost came");
        for index in 0..self.waiters.len() {
            let waiter = &self.waiters[index];
            let due = match waiter.what {
                What::Drain => !self.paused || self.closed.is_some(),
                What::Flush => self.sent >= waiter.target || self.closed.is_some(),
                What::Closed | What::Open => self.lost.is_some(),
            };
            let answered = waiter.answers == 1;
            let holds = waiter.how != How::Then || answered || !due;
            self.expect(holds, "whoever can be answered was answered");
        }
    }

    /// After all: every waiter that was not dropped has completed.
    pub(crate) fn check_waiters(&mut self) {
        let unanswered = self.waiters.iter().any(|waiter| {
            matches!(waiter.how, How::Then | How::ThenWithin(_) | How::Keep) && waiter.answers != 1
        });
        self.expect(!unanswered, "every waiter was answered");
    }

    /// A completion was dropped: it does not complete.
    pub(crate) fn forget_waiter(&mut self, index: usize) {
        self.waiters[index].how = How::Drop;
    }
}
