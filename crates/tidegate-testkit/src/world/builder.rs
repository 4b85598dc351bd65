use super::World;
use crate::faults::Faults;
use crate::network::{Link, Network};
use crate::trace::TraceOptions;

/// The default maximum number of steps in one run: enough for any test that ends.
const STEPS: u64 = 10_000_000;

/// Settings of a [`World`].
#[derive(Debug, Clone)]
#[must_use]
pub struct WorldBuilder {
    seed: u64,
    faults: Faults,
    link: Link,
    trace: TraceOptions,
    steps: u64,
}

impl Default for WorldBuilder {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Faults::none(),
            link: Link::new(),
            trace: TraceOptions::default(),
            steps: STEPS,
        }
    }
}

impl WorldBuilder {
    /// Sets the seed of everything that is left to chance; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the faults; none unless set.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets the link between any two hosts, and between a host and itself, unless
    /// [set](Network::set_link) for them.
    pub fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Keeps the lines of the [`Trace`](crate::Trace); only its digest unless set.
    pub fn trace(mut self, keep: bool) -> Self {
        self.trace.keep_lines = keep;
        self
    }

    /// Leaves the bytes of connections out of the [`Trace`](crate::Trace): its digest and its lines tell
    /// their number only. Off unless set.
    ///
    /// This is for code that draws random bytes, as TLS does: two runs of one seed send other bytes, and
    /// everything else that happens may be the same. With rustls it is, on two conditions. All
    /// certificates are Ed25519, for signatures with ECDSA vary in length. And the `time_provider` of
    /// each configuration asks the world's [clock](World::clock), for the age of a session decides
    /// whether it is resumed:
    ///
    /// ```
    /// use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
    /// use std::time::Duration;
    /// use tidegate_testkit::{Clock, World};
    ///
    /// #[derive(Debug)]
    /// struct WorldTime(Clock);
    ///
    /// impl TimeProvider for WorldTime {
    ///     fn current_time(&self) -> Option<UnixTime> {
    ///         // The year 2026, in which the certificates of the test are valid.
    ///         let start = Duration::from_secs(1_767_225_600);
    ///         Some(UnixTime::since_unix_epoch(start + self.0.elapsed()))
    ///     }
    /// }
    ///
    /// let world = World::builder().trace_lengths(true).build();
    /// let time = WorldTime(world.clock());
    /// # assert!(time.current_time().is_some());
    /// ```
    pub fn trace_lengths(mut self, only_lengths: bool) -> Self {
        self.trace.only_lengths = only_lengths;
        self
    }

    /// Sets the maximum number of steps in one run; ten million unless set. A step is a tick of one
    /// loop, or one arrival.
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.steps = steps;
        self
    }

    /// Makes the world, without hosts.
    pub fn build(self) -> World {
        let network = Network::new(self.seed, &self.faults, self.link, self.trace);
        World::over(network, self.seed, self.steps)
    }
}
