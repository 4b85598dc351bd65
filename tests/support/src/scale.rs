//! For the tests under load: how much of it the process may open, and data drawn from a seed.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What every process has open beside its connections: standard streams, loops, listeners, and
/// what the test runner keeps.
const OTHERS: usize = 64;

/// Raises the soft limit on descriptors to the hard one; answers how many of `wanted`
/// connections fit, at so many descriptors each.
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

/// A small generator (splitmix64): the same seed gives the same run everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
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
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to and without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.any() % end as u64) as usize
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.any().to_le_bytes());
        words.flatten().take(len).collect()
    }
}
