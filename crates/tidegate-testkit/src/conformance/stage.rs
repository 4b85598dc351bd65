//! Where a case plays: its connections, waiting with a bound, and the checks at the end.

use super::pattern::first_wrong;
use super::probe::{End, put};
use super::{Harness, Violation};
use crate::{Recorder, Seen};
use std::fmt::{Debug, Display};
use std::io;
use tidegate::{Snapshot, Transport, WriteLimits};

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Connecting,
    Accepted,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Connecting, Self::Accepted];
}

/// How much stays behind in a clogged writer at least: more than kernels pass on late.
const CLOGGED: usize = 1024 * 1024;

pub(super) struct Stage<'a> {
    harness: &'a mut dyn Harness,
    case: &'static str,
    scene: String,
    before: Vec<[usize; 5]>,
    ends: Vec<End>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        harness: &'a mut dyn Harness,
        case: &'static str,
        scene: impl Display,
    ) -> Result<Self, Violation> {
        let mut stage = Self {
            harness,
            case,
            scene: scene.to_string(),
            before: Vec::new(),
            ends: Vec::new(),
        };
        stage.before = stage.held();
        Ok(stage)
    }

    fn violation(&self, rule: &str, expected: impl Into<String>, seen: String) -> Violation {
        Violation {
            case: self.case,
            scene: self.scene.clone(),
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

    /// What each loop holds that a case must not leave behind.
    fn held(&self) -> Vec<[usize; 5]> {
        let held = |snapshot: Snapshot| {
            [
                snapshot.connections,
                snapshot.connecting,
                snapshot.lingering,
                snapshot.timers,
                snapshot.completions,
            ]
        };
        let handles = self.harness.handles();
        handles
            .iter()
            .map(|handle| held(handle.snapshot()))
            .collect()
    }

    /// What the ends look like now.
    fn state(&self) -> String {
        let ends = self.ends.iter().map(|end| {
            let words = end.log().words().join(" ");
            match end.made() {
                Some(transport) => format!("[{words}] {transport:?} {:?}", transport.stats()),
                None => format!("[{words}] without connection_made"),
            }
        });
        ends.collect::<Vec<_>>().join("; ")
    }

    /// Connects; `acting` is what the protocol of the `side` does. That end comes first.
    pub(super) fn connect(
        &mut self,
        side: Side,
        acting: impl FnOnce(Recorder) -> Recorder,
        other: impl FnOnce(Recorder) -> Recorder,
    ) -> Result<(Stand, Stand), Violation> {
        let (acting, other) = self.connect_acting(side, End::default(), acting, other)?;
        let made = {
            let other = other.clone();
            move || other.made().is_some()
        };
        self.until("connection_made comes at both ends", "both made", made)?;
        match other.made() {
            Some(transport) => Ok((
                acting,
                Stand {
                    end: other,
                    transport,
                },
            )),
            None => Err(self.violation("connection_made comes", "made", self.state())),
        }
    }

    /// As [`connect`](Self::connect), without waiting for the other end: what the acting one does
    /// in `connection_made` may keep the other from ever being made.
    pub(super) fn connect_acting(
        &mut self,
        side: Side,
        end: End,
        acting: impl FnOnce(Recorder) -> Recorder,
        other: impl FnOnce(Recorder) -> Recorder,
    ) -> Result<(Stand, End), Violation> {
        let ends = (end, End::default());
        self.ends.extend([ends.0.clone(), ends.1.clone()]);
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
                Stand {
                    end: ends.0,
                    transport,
                },
                ends.1,
            )),
            None => Err(self.violation("connection_made comes", "made", self.state())),
        }
    }

    /// Runs until it is so.
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
    pub(super) fn put(&self, stand: &Stand, len: usize) -> Result<(), Violation> {
        let rule = "an open transport takes writes below its cap";
        self.done(rule, put(&stand.transport, len))?;
        Ok(())
    }

    /// Writes to a peer that does not read, until much stays behind, and then sets the limits.
    pub(super) fn clog(&mut self, stand: &Stand, limits: WriteLimits) -> Result<(), Violation> {
        let rule = "a peer that does not read stops the writer";
        // No pause before the end, however late the kernel takes some.
        let none = WriteLimits::new()
            .with_cap(usize::MAX)
            .with_high(usize::MAX);
        self.done(rule, stand.transport.set_write_limits(none))?;
        for _ in 0..64 {
            while stand.transport.write_buffer_size() < CLOGGED {
                self.put(stand, CLOGGED / 4)?;
                // The loop around this one bounds what a transport without end takes.
                if stand.transport.write_buffer_size() == 0 {
                    break;
                }
            }
            self.settle()?;
            if stand.transport.write_buffer_size() >= CLOGGED {
                return self.done(rule, stand.transport.set_write_limits(limits));
            }
        }
        Err(self.violation(rule, "buffered bytes", self.state()))
    }

    /// Waits until everything has ended, and checks what holds for every connection.
    pub(super) fn finish(mut self) -> Result<(), Violation> {
        let ends = self.ends.clone();
        let lost = || ends.iter().all(|end| end.made().is_none() || end.is_lost());
        self.until("connection_lost comes at both ends", "lost", lost)?;
        self.check_nothing_is_left()?;
        for pair in self.ends.chunks(2) {
            for (end, peer) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                self.check_callbacks(end)?;
                if let Some(transport) = end.made() {
                    self.check_end(end, &transport)?;
                    self.check_bytes(end, peer)?;
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
                let now = handle.snapshot();
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

    fn check_callbacks(&self, end: &End) -> Result<(), Violation> {
        let violations = end.violations();
        if !violations.is_empty() {
            let rule = "callbacks come one at a time: made, then data, pause and resume in turn, \
                at most one eof, lost";
            return Err(self.violation(rule, "that order", violations.join("; ")));
        }
        if end.made().is_none() {
            return Ok(());
        }
        let rule = "connection_lost comes exactly once";
        self.same(rule, 1, end.count(&Seen::Lost))?;
        let rule = "a protocol is dropped, once, after connection_lost";
        self.same(rule, 1, end.log().dropped())
    }

    fn check_end(&self, end: &End, transport: &Transport) -> Result<(), Violation> {
        let told = end.closed().map(|closed| closed.to_string());
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
        let unsent = end.closed().map(|closed| closed.unsent());
        let rule = "what was written is sent or unsent";
        self.same(rule, Some(written - transport.sent()), unsent)?;
        let rule = "an ended connection is closing, and its loop no longer knows it";
        let known = transport.handle().transport(transport.id()).is_some();
        self.same(rule, (true, false), (transport.is_closing(), known))
    }

    fn check_bytes(&self, end: &End, peer: &End) -> Result<(), Violation> {
        let data = end.log().data();
        let rule = "bytes arrive as they were written, in order";
        self.same(rule, None, first_wrong(&data))?;
        let Some(from) = peer.made() else {
            return Ok(());
        };
        let (received, sent) = (data.len() as u64, from.sent());
        let rule = "no more arrives than was sent";
        self.holds(rule, "received <= sent", received <= sent)?;
        if end.log().has(&Seen::Eof) {
            let rule = "an end of stream comes after every byte that was sent";
            self.same(rule, sent, received)?;
        }
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let open = self.ends.iter().filter(|end| !end.is_lost());
        let open: Vec<_> = open.filter_map(End::made).collect();
        if open.is_empty() {
            return;
        }
        // The case failed; what it has open is not to disturb the next.
        for transport in open {
            transport.abort();
        }
        let _ = self.harness.settle();
    }
}

/// An end of a connection that was made.
#[derive(Debug, Clone)]
pub(super) struct Stand {
    pub(super) end: End,
    pub(super) transport: Transport,
}

impl Stand {
    /// Whether so many bytes have come, or none will any more.
    pub(super) fn got(&self, bytes: u64) -> impl Fn() -> bool + 'static {
        let end = self.end.clone();
        move || end.received() >= bytes || end.is_lost()
    }

    /// Whether something was seen, or nothing will be any more.
    pub(super) fn saw(&self, what: Seen) -> impl Fn() -> bool + 'static {
        let end = self.end.clone();
        move || end.log().has(&what) || end.is_lost()
    }

    pub(super) fn lost(&self) -> impl Fn() -> bool + 'static {
        let end = self.end.clone();
        move || end.is_lost()
    }

    /// The callbacks in one word each, without pause and resume: when they come is up to how much
    /// the harness takes at once.
    pub(super) fn words(&self) -> String {
        self.words_but(|word| word == "pause" || word == "resume")
    }

    /// The calls of flow control alone.
    pub(super) fn flow_words(&self) -> String {
        self.words_but(|word| word != "pause" && word != "resume")
    }

    /// All callbacks.
    pub(super) fn all_words(&self) -> String {
        self.words_but(|_| false)
    }

    fn words_but(&self, leave_out: impl Fn(&str) -> bool) -> String {
        let mut words = self.end.log().words();
        words.retain(|word| !leave_out(word));
        words.join(" ")
    }
}
