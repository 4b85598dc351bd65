//! For the tests under load: how much of it the process may open, and data drawn from a seed.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Descriptors of every process beside its connections: standard streams, loops, listeners, and
/// those of the test runner.
const OTHERS: usize = 64;

/// Raises the soft limit on descriptors to the hard one; returns the number of the `wanted`
/// connections that fit, at this number of descriptors each.
#[track_caller]
pub fn that_fit(wanted: usize, descriptors_each: usize) -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        panic!("the limit on descriptors: {error}");
    }
    let limit = maximum.map_or(usize::MAX, |maximum| maximum as usize);
    let fit = limit.saturating_sub(OTHERS) / descriptors_each;
    assert!(fit >= 100, "{limit} descriptors are not enough");
    if fit < wanted {
        println!("scaled down from {wanted} connections to {fit}: the limit is {limit}");
    }
    wanted.min(fit)
}

/// How many descriptors this process has open, the one that reads the folder included.
#[track_caller]
pub fn descriptors() -> usize {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.count(),
        Err(error) => panic!("/proc/self/fd: {error}"),
    }
}

/// The processor time that this thread has used: other work on the machine does not lengthen it.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A generator of numbers: the same seed gives the same run everywhere.
#[derive(Debug, Clone)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Starts from the seed that `TIDEGATE_SEED` gives, or always the same one; prints it.
    #[track_caller]
    pub fn from_environment() -> Self {
        let seed = match std::env::var("TIDEGATE_SEED") {
            Ok(seed) => match seed.parse() {
                Ok(seed) => seed,
                Err(error) => panic!("TIDEGATE_SEED={seed}: {error}"),
            },
            Err(_) => 1,
        };
        println!("TIDEGATE_SEED={seed}");
        Self::new(seed)
    }

    /// Returns any number.
    pub fn any(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Returns a number from 0 up to and without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// Returns `true` with this chance, in percent.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// Returns a number from 1 to `most`, each order of magnitude as often as the others.
    pub fn magnitude(&mut self, most: f64) -> usize {
        most.powf(self.0.f64()) as usize
    }

    /// Returns random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }
}
