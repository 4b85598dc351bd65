//! The record of a run: every call and every arrival, one line each.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Maximum number of bytes of a message that are shown.
const SHOWN: usize = 32;

/// The events of a world. Two runs of one seed have the same.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    lines: Vec<String>,
    hash: u64,
    events: u64,
}

impl Trace {
    /// Returns the lines; none unless the world [was told](crate::WorldBuilder::trace) to keep them.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Returns a digest of all events, kept in any case.
    ///
    /// Comparable within one build only, and with digests of the same
    /// [kind](crate::WorldBuilder::trace_lengths).
    pub fn digest(&self) -> u64 {
        self.hash
    }

    /// Returns the number of events.
    pub fn events(&self) -> u64 {
        self.events
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Keeps the trace of a world.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    trace: Trace,
    options: TraceOptions,
}

/// The settings of a recording, beside the digest of everything.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TraceOptions {
    pub(crate) keep_lines: bool,
    /// The bytes of connections do not count, only their number.
    pub(crate) only_lengths: bool,
}

impl Recording {
    pub(crate) fn new(options: TraceOptions) -> Self {
        Self {
            trace: Trace::default(),
            options,
        }
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Notes bytes of a connection. Their number is to be a part of `event`.
    pub(crate) fn note_bytes<L: fmt::Display>(
        &mut self,
        now: Duration,
        event: (&'static str, u64, u64),
        bytes: &[u8],
        line: impl FnOnce() -> L,
    ) {
        let bytes = if self.options.only_lengths {
            &[]
        } else {
            bytes
        };
        self.note(now, event, bytes, line);
    }

    /// Notes an event with its `data`; `line` is called only when lines are kept.
    pub(crate) fn note<L: fmt::Display>(
        &mut self,
        now: Duration,
        event: (&'static str, u64, u64),
        data: &[u8],
        line: impl FnOnce() -> L,
    ) {
        let mut hasher = DefaultHasher::new();
        (self.trace.hash, now, event, data).hash(&mut hasher);
        self.trace.hash = hasher.finish();
        self.trace.events += 1;
        if self.options.keep_lines {
            let line = line();
            let line = format!("{:>14.6} {line}{}", now.as_secs_f64(), Shown(data));
            self.trace.lines.push(line);
        }
    }
}

/// The beginning of a message, readable.
pub(crate) struct Shown<'d>(pub(crate) &'d [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(data) = self;
        if data.is_empty() {
            return Ok(());
        }
        let (shown, rest) = data.split_at(data.len().min(SHOWN));
        write!(f, " \"{}\"", shown.escape_ascii())?;
        if rest.is_empty() {
            Ok(())
        } else {
            write!(f, " and {} more", rest.len())
        }
    }
}
