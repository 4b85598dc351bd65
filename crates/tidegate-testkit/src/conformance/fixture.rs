//! The fixture of a case: its connections, waits with a bound, and the checks at the end.

use super::connected::Connected;
use super::pattern::first_wrong;
use super::probe::{Endpoint, put};
use super::{Harness, Violation};
use crate::{Recorder, Seen};
use std::fmt::{Debug, Display};
use std::io;
use tidegate::{LoopStats, Transport, WriteLimits};

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Connecting,
    Accepted,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Connecting, Self::Accepted];
}

/// The minimum number of bytes that stay in a clogged writer: more than kernels pass on late.
const CLOGGED: usize = 1024 * 1024;

pub(super) struct Fixture<'a> {
    harness: &'a mut dyn Harness,
    case: &'static str,
    variant: String,
    before: Vec<[usize; 5]>,
    endpoints: Vec<Endpoint>,
}

impl<'a> Fixture<'a> {
    pub(super) fn new(
        harness: &'a mut dyn Harness,
        case: &'static str,
        variant: impl Display,
    ) -> Result<Self, Violation> {
        let mut fixture = Self {
            harness,
            case,
            variant: variant.to_string(),
            before: Vec::new(),
            endpoints: Vec::new(),
        };
        fixture.before = fixture.held();
        Ok(fixture)
    }

    fn violation(&self, rule: &str, expected: impl Into<String>, seen: String) -> Violation {
        Violation {
            case: self.case,
            variant: self.variant.clone(),
            rule: rule.to_owned(),
            expected: expected.into(),
            seen,
        }
    }

    fn works<T>(&self, result: io::Result<T>) -> Result<T, Violation> {
        result.map_err(|error| {
            let rule = "a harness connects, and runs its loops";
            self.violation(rule, "no error", error.to_string())
        })
    }

    /// Counts the things that each loop holds and a case must not leave behind.
    fn held(&self) -> Vec<[usize; 5]> {
        let held = |stats: LoopStats| {
            [
                stats.connections,
                stats.connecting,
                stats.lingering,
                stats.timers,
                stats.completions,
            ]
        };
        let handles = self.harness.handles();
        handles.iter().map(|handle| held(handle.stats())).collect()
    }

    /// Formats the present state of the endpoints.
    fn state(&self) -> String {
        let ends = self.endpoints.iter().map(|endpoint| {
            let words = endpoint.log().words().join(" ");
            match endpoint.made() {
                Some(transport) => format!("[{words}] {transport:?} {:?}", transport.stats()),
                None => format!("[{words}] without connection_made"),
            }
        });
        ends.collect::<Vec<_>>().join("; ")
    }

    /// Connects. `acting` configures the protocol of the `side`, whose endpoint is returned first.
    pub(super) fn connect(
        &mut self,
        side: Side,
        acting: impl FnOnce(Recorder) -> Recorder,
        other: impl FnOnce(Recorder) -> Recorder,
    ) -> Result<(Connected, Connected), Violation> {
        let (acting, other) = self.connect_acting(side, Endpoint::default(), acting, other)?;
        let made = {
            let other = other.clone();
            move || other.made().is_some()
        };
        self.until("connection_made comes at both ends", "both made", made)?;
        match other.made() {
            Some(transport) => Ok((
                acting,
                Connected {
                    endpoint: other,
                    transport,
                },
            )),
            None => Err(self.violation("connection_made comes", "made", self.state())),
        }
    }

    /// Connects as [`connect`](Self::connect) does, without waiting for the other end: its
    /// `connection_made` may never come, if the acting end prevents it.
    pub(super) fn connect_acting(
        &mut self,
        side: Side,
        endpoint: Endpoint,
        acting: impl FnOnce(Recorder) -> Recorder,
        other: impl FnOnce(Recorder) -> Recorder,
    ) -> Result<(Connected, Endpoint), Violation> {
        let ends = (endpoint, Endpoint::default());
        self.endpoints.extend([ends.0.clone(), ends.1.clone()]);
        let (acting, other) = (ends.0.probe(acting), ends.1.probe(other));
        let result = match side {
            Side::Connecting => self.harness.connect(acting, other),
            Side::Accepted => self.harness.connect(other, acting),
        };
        if ends.0.made().is_none() {
            self.works(result)?;
        }
        let made = || ends.0.made().is_some();
        self.until("connection_made comes", "made", made)?;
        match ends.0.made() {
            Some(transport) => Ok((
                Connected {
                    endpoint: ends.0,
                    transport,
                },
                ends.1,
            )),
            None => Err(self.violation("connection_made comes", "made", self.state())),
        }
    }

    /// Runs the loops until `done` returns true.
    pub(super) fn until(
        &mut self,
        rule: &str,
        expected: &str,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), Violation> {
        let result = self.harness.run_until(&mut done);
        if self.works(result)? {
            Ok(())
        } else {
            Err(self.violation(rule, expected, format!("it never came: {}", self.state())))
        }
    }

    /// Runs until nothing is left to do.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        let result = self.harness.settle();
        self.works(result)
    }

    pub(super) fn has_resets(&self) -> bool {
        self.harness.has_resets()
    }

    pub(super) fn same<T: PartialEq + Debug>(
        &self,
        rule: &str,
        expected: T,
        seen: T,
    ) -> Result<(), Violation> {
        if expected == seen {
            Ok(())
        } else {
            let seen = format!("{seen:?}, with {}", self.state());
            Err(self.violation(rule, format!("{expected:?}"), seen))
        }
    }

    pub(super) fn holds(&self, rule: &str, expected: &str, so: bool) -> Result<(), Violation> {
        if so {
            Ok(())
        } else {
            Err(self.violation(rule, expected, self.state()))
        }
    }

    /// A call that must not fail.
    pub(super) fn done<T, E: Display>(
        &self,
        rule: &str,
        result: Result<T, E>,
    ) -> Result<T, Violation> {
        result.map_err(|error| self.violation(rule, "no error", error.to_string()))
    }

    /// Writes the pattern; it must be taken.
    pub(super) fn put(&self, connected: &Connected, len: usize) -> Result<(), Violation> {
        let rule = "an open transport takes writes below its cap";
        self.done(rule, put(&connected.transport, len))?;
        Ok(())
    }

    /// Writes to a peer that does not read, until much stays behind, and then sets the limits.
    pub(super) fn clog(
        &mut self,
        connected: &Connected,
        limits: WriteLimits,
    ) -> Result<(), Violation> {
        let rule = "a peer that does not read stops the writer";
        // No pause before the end, however late the kernel takes some.
        let none = WriteLimits::new()
            .with_cap(usize::MAX)
            .with_high(usize::MAX);
        self.done(rule, connected.transport.set_write_limits(none))?;
        for _ in 0..64 {
            while connected.transport.write_buffer_size() < CLOGGED {
                self.put(connected, CLOGGED / 4)?;
                // The loop around this one bounds the bytes that a transport without end takes.
                if connected.transport.write_buffer_size() == 0 {
                    break;
                }
            }
            self.settle()?;
            if connected.transport.write_buffer_size() >= CLOGGED {
                return self.done(rule, connected.transport.set_write_limits(limits));
            }
        }
        Err(self.violation(rule, "buffered bytes", self.state()))
    }

    /// Waits until everything has ended, and checks the rules of every connection.
    pub(super) fn finish(mut self) -> Result<(), Violation> {
        let ends = self.endpoints.clone();
        let lost = || {
            ends.iter()
                .all(|endpoint| endpoint.made().is_none() || endpoint.is_lost())
        };
        self.until("connection_lost comes at both ends", "lost", lost)?;
        self.check_nothing_is_left()?;
        for pair in self.endpoints.chunks(2) {
            for (endpoint, peer) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                self.check_callbacks(endpoint)?;
                if let Some(transport) = endpoint.made() {
                    self.check_end(endpoint, &transport)?;
                    self.check_bytes(endpoint, peer)?;
                }
            }
        }
        Ok(())
    }

    fn check_nothing_is_left(&mut self) -> Result<(), Violation> {
        let handles = self.harness.handles();
        let before = self.before.clone();
        let left = || {
            handles.iter().zip(&before).all(|(handle, before)| {
                let now = handle.stats();
                now.connections <= before[0]
                    && now.connecting <= before[1]
                    && now.lingering <= before[2]
                    && now.timers <= before[3]
                    && now.completions <= before[4]
            })
        };
        let result = self.harness.run_until(&mut { left });
        if self.works(result)? {
            return Ok(());
        }
        let rule = "an ended connection leaves nothing in its loop";
        let expected =
            format!("connections, connecting, lingering, timers, completions {before:?}");
        Err(self.violation(rule, expected, format!("{:?}", self.held())))
    }

    fn check_callbacks(&self, endpoint: &Endpoint) -> Result<(), Violation> {
        let violations = endpoint.violations();
        if !violations.is_empty() {
            let rule = "callbacks come one at a time: made, then data, pause and resume in turn, \
                at most one eof, lost";
            return Err(self.violation(rule, "that order", violations.join("; ")));
        }
        if endpoint.made().is_none() {
            return Ok(());
        }
        let rule = "connection_lost comes exactly once";
        self.same(rule, 1, endpoint.count(&Seen::Lost))?;
        let rule = "a protocol is dropped, once, after connection_lost";
        self.same(rule, 1, endpoint.log().dropped())
    }

    fn check_end(&self, endpoint: &Endpoint, transport: &Transport) -> Result<(), Violation> {
        let told = endpoint.closed().map(|closed| closed.to_string());
        let rule = "connection_lost, closed, and a later write and drain tell the same";
        self.same(
            rule,
            told.clone(),
            transport.closed().map(|it| it.to_string()),
        )?;
        let written = transport.written();
        let refusal = match transport.write(b"late") {
            Ok(_) => None,
            Err(error) => error.closed().map(ToString::to_string),
        };
        self.same(rule, told, refusal)?;
        self.same(
            "a refused write is not counted",
            written,
            transport.written(),
        )?;
        let unsent = endpoint.closed().map(|closed| closed.unsent());
        let rule = "what was written is sent or unsent";
        self.same(rule, Some(written - transport.sent()), unsent)?;
        let rule = "an ended connection is closing, and its loop no longer knows it";
        let known = transport.handle().transport(transport.id()).is_some();
        self.same(rule, (true, false), (transport.is_closing(), known))
    }

    fn check_bytes(&self, endpoint: &Endpoint, peer: &Endpoint) -> Result<(), Violation> {
        let data = endpoint.log().data();
        let rule = "bytes arrive as they were written, in order";
        self.same(rule, None, first_wrong(&data))?;
        let Some(from) = peer.made() else {
            return Ok(());
        };
        let (received, sent) = (data.len() as u64, from.sent());
        let rule = "no more arrives than was sent";
        self.holds(rule, "received <= sent", received <= sent)?;
        if endpoint.log().has(&Seen::Eof) {
            let rule = "an end of stream comes after every byte that was sent";
            self.same(rule, sent, received)?;
        }
        Ok(())
    }
}

impl Drop for Fixture<'_> {
    fn drop(&mut self) {
        let open = self.endpoints.iter().filter(|endpoint| !endpoint.is_lost());
        let open: Vec<_> = open.filter_map(Endpoint::made).collect();
        if open.is_empty() {
            return;
        }
        // The case failed; its open connections must not disturb the next.
        for transport in open {
            transport.abort();
        }
        let _ = self.harness.settle();
    }
}
