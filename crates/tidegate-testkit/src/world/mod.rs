//! A simulated world: loops, each a host of one network, and the clock that they share.

mod builder;
mod error;

use crate::clock::Clock;
use crate::faults::FaultCounts;
use crate::network::{Deferred, END_OF_TIME, Host, HostId, Network, SimulatedDriver};
use crate::trace::Trace;
use crate::unreported_violations::ReportOnDrop;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Completion, EventLoop, EventLoopBuilder};
use tidegate_streams::spawn_on;

pub use builder::WorldBuilder;
use error::NothingLeft;
pub use error::StepLimitExceeded;

/// Hosts, each an unchanged [`EventLoop`], on a simulated network with a clock of its own.
///
/// Nothing here waits: ten minutes take as long as their callbacks. The hosts run in an order that is
/// drawn from the seed, so a run is a function of the seed and of the test's own calls.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::World;
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         transport.write(data)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut world = World::new();
/// let host = world.add_host("echo.test")?;
/// host.handle().create_server(host.addr(7), || Echo)?;
/// let peer = world.network().dial(host.addr(7))?;
/// world.run_until_idle()?;
/// peer.send(b"hello")?;
/// world.run_until_idle()?;
/// assert_eq!(peer.take(), b"hello");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct World {
    hosts: Vec<Running>,
    network: Network,
    seed: u64,
    steps: u64,
    /// Of a step; kept for its memory.
    ready: Vec<usize>,
    /// The last field: the violations that it reports are found while the others are dropped.
    _report: ReportOnDrop,
}

/// A host with its loop.
#[derive(Debug)]
struct Running {
    id: HostId,
    event_loop: EventLoop,
    /// Until then it does not get to run.
    kept_until: Duration,
    /// It has waited, and is not kept again before it has run: else it might never.
    was_kept: bool,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Makes a world without hosts, where nothing goes wrong and bytes take no time.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder, for other settings.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    fn over(network: Network, seed: u64, steps: u64) -> Self {
        Self {
            network,
            seed,
            steps,
            hosts: Vec::new(),
            ready: Vec::new(),
            _report: ReportOnDrop::new(),
        }
    }

    /// Adds a host, whose name resolves to its addresses.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) when the world knows the name, in upper or lower
    /// case: that of another host, also one that has ended, `localhost`, and `peer`, which is the host of
    /// [peers](Network::dial).
    pub fn add_host(&mut self, name: &str) -> io::Result<Host> {
        self.add_host_with(name, EventLoop::builder())
    }

    /// Adds a host with settings of its loop. The world sets the driver and the resolver.
    ///
    /// # Errors
    ///
    /// Those of [`add_host`](Self::add_host) and of [`EventLoopBuilder::build`].
    pub fn add_host_with(&mut self, name: &str, builder: EventLoopBuilder) -> io::Result<Host> {
        let id = self.network.add_host(name)?;
        let event_loop = builder
            .driver(SimulatedDriver::new(&self.network, id))
            .resolver(self.network.resolver())
            .build()?;
        let handle = event_loop.handle().clone();
        self.hosts.push(Running {
            id,
            event_loop,
            kept_until: Duration::ZERO,
            was_kept: false,
        });
        Ok(Host::new(id, self.network.world(), name, handle))
    }

    /// Ends a host: its loop is dropped, and the kernel closes its sockets. Its addresses stay, without
    /// listeners. Nothing happens to a host of another world, or a second time.
    pub fn end_host(&mut self, host: &Host) {
        let at = self
            .hosts
            .iter()
            .position(|own| own.event_loop.handle() == host.handle());
        if let Some(at) = at {
            drop(self.hosts.remove(at));
        }
    }

    /// Returns the network, for faults and for peers.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the seed, which decides everything that is left to chance.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the time since the world began, by its own clock.
    pub fn elapsed(&self) -> Duration {
        self.network.elapsed()
    }

    /// Returns the world's clock, for code that cannot ask the world.
    pub fn clock(&self) -> Clock {
        self.network.with(|state| state.clock())
    }

    /// Returns the trace of all events so far.
    pub fn trace(&self) -> Trace {
        self.network.trace()
    }

    /// Returns how often each fault has struck.
    pub fn fault_counts(&self) -> FaultCounts {
        self.network.fault_counts()
    }

    /// Runs everything that can happen without moving the clock.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`] when there is always more to do.
    pub fn pump(&mut self) -> Result<(), StepLimitExceeded> {
        self.run(|world| world.step().is_some())
    }

    /// Runs until nothing is on its way any more: every byte has arrived, and every connect and job
    /// has completed. The clock moves only as far as the network needs. Later timers do not fire.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`].
    pub fn settle(&mut self) -> Result<(), StepLimitExceeded> {
        self.run(|world| {
            if world.step().is_none() {
                return false;
            }
            let next = world.network.with(|state| state.next_time());
            next.is_none_or(|next| {
                world.set_now(next);
                false
            })
        })
    }

    /// Moves the clock by `by`, and runs everything that is due within that time, each at its time.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`].
    pub fn advance(&mut self, by: Duration) -> Result<(), StepLimitExceeded> {
        let until = self.elapsed().saturating_add(by);
        self.run(|world| match world.step() {
            None => false,
            Some(next) => match next.filter(|next| *next <= until) {
                Some(next) => {
                    world.set_now(next);
                    false
                }
                None => {
                    world.set_now(until);
                    true
                }
            },
        })
    }

    /// Runs until nothing is left that could happen: no event, no timer, nothing on its way. The
    /// clock jumps from one event to the next.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`], as with a timer that always starts itself again: use
    /// [`advance`](Self::advance) then.
    pub fn run_until_idle(&mut self) -> Result<(), StepLimitExceeded> {
        self.run_until_true(|| false).map(|_| ())
    }

    /// Runs until `done` returns true; calls it before each step. Returns false when nothing is left
    /// that could happen.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`].
    pub fn run_until_true(
        &mut self,
        mut done: impl FnMut() -> bool,
    ) -> Result<bool, StepLimitExceeded> {
        let mut is_done = false;
        self.run(|world| {
            if done() {
                is_done = true;
                return true;
            }
            match world.step() {
                None => false,
                Some(None) => true,
                Some(Some(next)) => {
                    world.set_now(next);
                    false
                }
            }
        })?;
        Ok(is_done)
    }

    /// Runs until a completion has completed, and returns its result.
    ///
    /// # Errors
    ///
    /// The completion's error, or an error that nothing is left that could complete it.
    pub fn run_until<T: 'static>(&mut self, completion: Completion<T>) -> io::Result<T> {
        let answer: Rc<RefCell<Option<io::Result<T>>>> = Rc::default();
        let kept = answer.clone();
        completion.then(move |_, result| {
            kept.replace(Some(result));
        });
        self.run_until_true(|| answer.borrow().is_some())?;
        answer
            .take()
            .unwrap_or_else(|| Err(io::Error::other(NothingLeft)))
    }

    /// Runs a future as a task of a host until it has ended; for code on `tidegate-streams`.
    ///
    /// # Errors
    ///
    /// When nothing is left that could end it, its host is gone, or is of another world.
    ///
    /// # Panics
    ///
    /// A panic of the future goes on here.
    pub fn block_on<F>(&mut self, host: &Host, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        if !host.is_of(self.network.world()) {
            let message = format!("the host {:?} is of another world", host.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (completer, completion) = host.handle().completion();
        let task = spawn_on(host.handle(), future);
        // Detached: its end is the result.
        drop(spawn_on(host.handle(), async move {
            completer.complete(Ok(task.await));
        }));
        match self.run_until(completion)? {
            Ok(output) => Ok(output),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Calls `step` until it returns true.
    fn run(&mut self, mut step: impl FnMut(&mut Self) -> bool) -> Result<(), StepLimitExceeded> {
        for _ in 0..self.steps {
            if step(self) {
                return Ok(());
            }
        }
        Err(StepLimitExceeded {
            steps: self.steps,
            elapsed: self.elapsed(),
        })
    }

    fn set_now(&self, now: Duration) {
        self.network.with(|state| state.set_now(now));
    }

    /// Does one thing that is due, and returns `None`. When nothing is due, returns the time of the
    /// next thing, if there is one.
    fn step(&mut self) -> Option<Option<Duration>> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let now = self.elapsed();
        let mut next = self.network.with(|state| state.next_time());
        let due = next.is_some_and(|at| at <= now);
        for (n, host) in self.hosts.iter().enumerate() {
            let roused = self.network.with(|state| state.is_roused(host.id));
            let timeout = if roused {
                Some(Duration::ZERO)
            } else {
                host.event_loop.poll_timeout()
            };
            let Some(timeout) = timeout else { continue };
            let at = now.saturating_add(timeout).max(host.kept_until);
            if at <= now {
                ready.push(n);
            } else if at <= END_OF_TIME {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        let count = ready.len() + usize::from(due);
        let result = if count == 0 {
            Some(next)
        } else {
            let chosen = self.network.with(|state| {
                state.roll();
                state.choose(count)
            });
            match ready.get(chosen) {
                Some(&host) => self.run_host(host),
                None => self.run_next_event(),
            }
            None
        };
        self.ready = ready;
        result
    }

    fn run_host(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        if !host.was_kept {
            let until = self.network.with(|state| state.keep_from_running(host.id));
            if let Some(until) = until {
                host.kept_until = until.min(END_OF_TIME);
                host.was_kept = true;
                return;
            }
        }
        host.was_kept = false;
        // A simulated poll has no error but EINTR, of which the loop knows.
        let _ = host.event_loop.run_once(None);
    }

    fn run_next_event(&self) {
        match self.network.with(|state| state.run_next_event()) {
            Some(Deferred::Job(job)) => job(),
            Some(Deferred::Call(call)) => call(&self.network),
            Some(Deferred::Program(pid)) => self.network.run_process(pid),
            None => {}
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The loops first: values in them may still ask the network for something.
        self.hosts.clear();
        drop(self.network.with(|state| state.finish()));
    }
}
