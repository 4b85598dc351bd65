//! Two protocols that are connected with each other, and nothing else.

use crate::log::Log;
use crate::network::{Host, Network};
use crate::single_connection::single_connection;
use crate::watched::Watched;
use crate::world::{StepLimitExceeded, World, WorldBuilder};
use std::io;
use std::time::Duration;
use tidegate::{Completion, EventLoop, PanicPolicy, Protocol, Transport};

const PORT: u16 = 7;

/// Connects two protocols in memory: `a` opened the connection, `b` accepted it. Both have had
/// their `connection_made`.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::{Log, Recorder, pair};
///
/// /// Hangs up after ten minutes.
/// struct Impatient;
///
/// impl Protocol for Impatient {
///     fn connection_made(&mut self, transport: &Transport) -> Result {
///         transport.call_later(Duration::from_secs(600), |_: &mut Self, transport| {
///             transport.close();
///             Ok(())
///         });
///         Ok(())
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let log = Log::new();
/// let mut pair = pair(Recorder::new(&log), Impatient)?;
/// pair.advance(Duration::from_secs(599))?;
/// assert!(!pair.b().is_closing());
/// pair.advance(Duration::from_secs(1))?;
/// assert!(pair.b().is_closing());
/// assert_eq!(log.words(), ["made", "eof", "lost"]);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// An error of either `connection_made`.
///
/// # Panics
///
/// A panic of a protocol goes on in the call that runs the pair, so that the test fails.
pub fn pair(a: impl Protocol, b: impl Protocol) -> io::Result<Pair> {
    Pair::in_world(World::builder(), a, b)
}

/// A connection in a [`World`] with two hosts; [`pair`] makes it.
///
/// Nothing happens until the pair is run, with one of `pump`, `advance` and `run_until_idle`.
/// [`with_protocol`](Transport::with_protocol) reaches the state of a protocol, as long as it lives:
///
/// ```
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::{Log, Recorder, pair};
///
/// #[derive(Default)]
/// struct Lines(usize);
///
/// impl Protocol for Lines {
///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
///         self.0 += data.iter().filter(|byte| **byte == b'\n').count();
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut pair = pair(Recorder::new(&Log::new()), Lines::default())?;
/// pair.a().write(b"one\ntwo\nthr")?;
/// pair.pump()?;
/// assert_eq!(pair.b().with_protocol(|lines: &mut Lines, _| lines.0), Ok(2));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pair {
    // Before the logs: its end is the last that they see.
    world: World,
    a: Transport,
    b: Transport,
    hosts: [Host; 2],
    logs: [Log; 2],
}

impl Pair {
    /// Connects as [`pair`] does, in a world with a seed, faults or a slow link. With faults the connect
    /// may fail.
    ///
    /// # Errors
    ///
    /// Those of the connect, and of either `connection_made`.
    pub fn in_world(builder: WorldBuilder, a: impl Protocol, b: impl Protocol) -> io::Result<Self> {
        let mut world = builder.build();
        let strict = || EventLoop::builder().panic_policy(PanicPolicy::Propagate);
        let one = world.add_host_with("a", strict())?;
        let other = world.add_host_with("b", strict())?;
        let logs = [Log::new(), Log::new()];
        let accepted = logs[1].clone();
        let factory = single_connection(Watched::new(b, &accepted));
        let server = other.handle().create_server(other.addr(PORT), factory)?;
        let a = Watched::new(a, &logs[0]);
        let connecting = one.handle().create_connection(other.addr(PORT), a);
        let a = world.run_until(connecting)?;
        world.run_until_true(|| accepted.transport().is_some())?;
        server.close();
        world.pump()?;
        if let Some(error) = accepted.refusal() {
            return Err(io::Error::other(error));
        }
        let b = accepted
            .transport()
            .ok_or_else(|| io::Error::other("the connection was not accepted"))?;
        Ok(Self {
            world,
            a,
            b,
            hosts: [one, other],
            logs,
        })
    }

    /// Returns the end that opened the connection.
    pub fn a(&self) -> &Transport {
        &self.a
    }

    /// Returns the end that accepted it.
    pub fn b(&self) -> &Transport {
        &self.b
    }

    /// Returns the callbacks of `a`'s protocol.
    pub fn log_a(&self) -> &Log {
        &self.logs[0]
    }

    /// Returns the callbacks of `b`'s protocol.
    pub fn log_b(&self) -> &Log {
        &self.logs[1]
    }

    /// Runs everything that can happen without moving the clock.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`] when there is always more to do.
    pub fn pump(&mut self) -> Result<(), StepLimitExceeded> {
        self.world.pump()
    }

    /// Moves the clock by `by`, and runs everything that is due within that time.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`].
    pub fn advance(&mut self, by: Duration) -> Result<(), StepLimitExceeded> {
        self.world.advance(by)
    }

    /// Runs until nothing is left that could happen. The clock jumps from one event to the next.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`], as with a timer that always starts itself again: use
    /// [`advance`](Self::advance) then.
    pub fn run_until_idle(&mut self) -> Result<(), StepLimitExceeded> {
        self.world.run_until_idle()
    }

    /// Runs until a completion has completed, such as [`wait_closed`](Transport::wait_closed), and
    /// returns its result.
    ///
    /// # Errors
    ///
    /// The completion's error, or an error that nothing is left that could complete it.
    pub fn run_until<T: 'static>(&mut self, completion: Completion<T>) -> io::Result<T> {
        self.world.run_until(completion)
    }

    /// Returns the time since the pair began, by its own clock.
    pub fn elapsed(&self) -> Duration {
        self.world.elapsed()
    }

    /// Returns the hosts of `a` and of `b`, for changes of the network between them.
    pub fn hosts(&self) -> &[Host; 2] {
        &self.hosts
    }

    /// Returns the network, for faults.
    pub fn network(&self) -> &Network {
        self.world.network()
    }

    /// Returns the world of both, for its trace and for more hosts.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Resets the connection, at both ends.
    ///
    /// # Errors
    ///
    /// [`StepLimitExceeded`].
    pub fn reset(&mut self) -> Result<(), StepLimitExceeded> {
        let [one, other] = &self.hosts;
        self.world.network().reset_connections(one, other);
        self.world.pump()
    }
}
