//! Jobs: work that a driver has done off the loop.

use std::fmt;
use std::io;

/// A job: it reports by itself, its panics included.
pub type Job = Box<dyn FnOnce() + Send>;

/// Names a job of a loop; later ones have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct JobId(pub u64);

/// The result of starting a job.
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum JobStart {
    /// It runs, or waits to.
    Taken,
    /// For the loop to run.
    Inline(Job),
    /// It cannot run.
    Refused(Job, io::Error),
}

impl fmt::Debug for JobStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("Taken"),
            Self::Inline(_) => f.write_str("Inline"),
            Self::Refused(_, error) => f.debug_tuple("Refused").field(error).finish(),
        }
    }
}
