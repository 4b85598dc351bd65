//! Waiters for datagrams to go, for room, or for the end.

use super::DatagramTransport;
use super::endpoint::Endpoint;
use crate::completion::{Completer, Completion};
use crate::flow::Flow;
use crate::transport::State;
use crate::{Closed, Handle};
use std::io;
use std::mem;

impl DatagramTransport {
    pub(super) fn wait_drained(&self) -> Completion<()> {
        let endpoint = self.endpoint();
        if self.flow() == Flow::Open && endpoint.closed().is_none() {
            return Completion::ready(&endpoint.handle, Ok(()));
        }
        self.wait(|extra, completer| Completer::push_live(&mut extra.drains, completer))
    }

    pub(super) fn wait_flushed(&self) -> Completion<()> {
        let endpoint = self.endpoint();
        let target = endpoint.numbers.taken.get();
        if endpoint.gone() >= target && endpoint.closed().is_none() {
            return Completion::ready(&endpoint.handle, Ok(()));
        }
        self.wait(|extra, completer| {
            if extra.flushes.len() == extra.flushes.capacity() {
                extra.flushes.retain(|(_, waiting)| !waiting.is_cancelled());
            }
            extra.flushes.push_back((target, completer));
        })
    }

    pub(super) fn wait_writable(&self) -> Completion<()> {
        let endpoint = self.endpoint();
        if endpoint.takes_now() && endpoint.closed().is_none() {
            return Completion::ready(&endpoint.handle, Ok(()));
        }
        let completion = self
            .wait(|extra, completer| Completer::push_live(&mut extra.writable_waits, completer));
        self.touch();
        completion
    }

    pub(super) fn wait_lost(&self) -> Completion<Closed> {
        let endpoint = self.endpoint();
        if endpoint.is(State::LOST_CALLED)
            && let Some(closed) = endpoint.closed()
        {
            return Completion::ready(&endpoint.handle, Ok(closed));
        }
        let (completer, completion) = Completion::pair(&endpoint.handle);
        endpoint.with_extra(|extra| Completer::push_live(&mut extra.closes, completer));
        completion
    }

    fn wait(
        &self,
        push: impl FnOnce(&mut super::endpoint::Extra, Completer<()>),
    ) -> Completion<()> {
        let endpoint = self.endpoint();
        let handle: &Handle = &endpoint.handle;
        if let Some(closed) = endpoint.closed() {
            return Completion::ready(handle, Err(closed.into()));
        }
        let (completer, completion) = Completion::pair(handle);
        endpoint.with_extra(|extra| push(extra, completer));
        endpoint.set(State::AWAITED);
        completion
    }

    /// Completes the waiters whose condition holds. Wakers run in here: nothing is borrowed.
    pub(super) fn complete_waiters(&self) {
        let endpoint = self.endpoint();
        if !endpoint.is(State::AWAITED) {
            return;
        }
        let (open, takes_now, gone) = (
            self.flow() == Flow::Open,
            endpoint.takes_now(),
            endpoint.gone(),
        );
        let (reached, left) = endpoint.with_extra(|extra| {
            let mut reached = Vec::new();
            if open {
                reached.append(&mut extra.drains);
            }
            while extra
                .flushes
                .front()
                .is_some_and(|(target, _)| *target <= gone)
            {
                reached.extend(extra.flushes.pop_front().map(|(_, flush)| flush));
            }
            if takes_now {
                reached.append(&mut extra.writable_waits);
            }
            let writable = !extra.writable_waits.is_empty();
            let left = writable || !extra.drains.is_empty() || !extra.flushes.is_empty();
            (reached, left.then_some(writable))
        });
        match left {
            None => endpoint.clear(State::AWAITED),
            // The next tick has a budget of its own, and no event tells of that.
            Some(true) if endpoint.budget() == 0 => self.postpone(),
            Some(_) => {}
        }
        for completer in reached {
            completer.complete(Ok(()));
        }
    }

    /// The endpoint has ended: completes the waiters that have what they wait for, and fails the others.
    pub(super) fn end_waiters(&self, closed: &Closed) {
        let endpoint = self.endpoint();
        let all = endpoint.gone();
        let (gone, flushes, drains, writable_waits, closes) = endpoint.with_extra(|extra| {
            let gone = extra.gone_at_end.unwrap_or(all);
            let flushes = mem::take(&mut extra.flushes);
            let (drains, writable_waits) = (
                mem::take(&mut extra.drains),
                mem::take(&mut extra.writable_waits),
            );
            (
                gone,
                flushes,
                drains,
                writable_waits,
                mem::take(&mut extra.closes),
            )
        });
        let failed = || Err(io::Error::from(closed.clone()));
        for (target, flush) in flushes {
            flush.complete(if target <= gone { Ok(()) } else { failed() });
        }
        let drained = gone == all && self.flow() == Flow::Open;
        for drain in drains {
            drain.complete(if drained { Ok(()) } else { failed() });
        }
        for writable in writable_waits {
            writable.complete(failed());
        }
        for waiting in closes {
            waiting.complete(Ok(closed.clone()));
        }
    }
}

impl Endpoint {
    /// The number of datagrams that were taken and wait no more.
    pub(super) fn gone(&self) -> u64 {
        self.numbers.taken.get() - self.queued() as u64
    }
}
