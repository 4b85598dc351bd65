use super::World;
use crate::faults::Faults;
use crate::network::{Link, Network};

/// The default maximum number of steps in one run: enough for any test that ends.
const STEPS: u64 = 10_000_000;

/// Settings of a [`World`].
#[derive(Debug, Clone)]
#[must_use]
pub struct WorldBuilder {
    seed: u64,
    faults: Faults,
    link: Link,
    trace: bool,
    steps: u64,
}

impl Default for WorldBuilder {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Faults::none(),
            link: Link::new(),
            trace: false,
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
        self.trace = keep;
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
