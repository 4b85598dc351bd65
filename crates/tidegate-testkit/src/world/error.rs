//! The errors of running a world.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// The error of a run that took its maximum number of steps: something starts itself again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepLimitExceeded {
    /// The number of steps that it took.
    pub steps: u64,
    /// The world's time at the end of the run.
    pub elapsed: Duration,
}

impl fmt::Display for StepLimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, elapsed } = self;
        write!(
            f,
            "still busy after {steps} steps, at {elapsed:?}: does a timer always start itself \
             again? `advance` runs for a given time, and `step_limit` sets the number of steps"
        )
    }
}

impl Error for StepLimitExceeded {}

impl From<StepLimitExceeded> for io::Error {
    fn from(error: StepLimitExceeded) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// The error of a wait in a world where nothing is left that could complete it.
#[derive(Debug)]
pub(super) struct NothingLeft;

impl fmt::Display for NothingLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing is left in this world that could answer: no event, no timer, nothing on its way")
    }
}

impl Error for NothingLeft {}
