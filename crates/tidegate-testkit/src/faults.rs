//! The faults of a simulated world: their kinds, their probabilities, and their counts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $at_ease:literal;)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns whether a call that fails so is made again until it succeeds: it would never end if
            /// this always struck.
            fn strikes_again(self) -> bool {
                matches!(
                    self,
                    Self::Interrupted
                        | Self::ReadAgain
                        | Self::WriteAgain
                        | Self::AcceptAgain
                        | Self::NoMemory
                        | Self::NoDescriptor
                        | Self::Partition
                )
            }

            fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns the probability in [`Faults::all`].
            fn usual(self) -> f64 {
                match self {
                    $(Self::$name => $at_ease,)*
                }
            }
        }
    };
}

faults! {
    /// A read takes less than there is; down to one byte.
    ShortRead = "short read", 0.1;
    /// A write takes less than there is room for; down to one byte.
    ShortWrite = "short write", 0.1;
    /// A read, of datagrams too, is refused with EAGAIN though there is something; an event follows.
    ReadAgain = "EAGAIN on read", 0.03;
    /// A write, of datagrams too, is refused with EAGAIN though there is room; an event follows.
    WriteAgain = "EAGAIN on write", 0.03;
    /// An accept is refused with EAGAIN though a connection waits; an event follows.
    AcceptAgain = "EAGAIN on accept", 0.1;
    /// A read, write, accept or poll ends with EINTR.
    Interrupted = "EINTR", 0.03;
    /// An event for a socket to which nothing has happened.
    SpuriousEvent = "spurious event", 0.05;
    /// A poll reports a part of the events, and the rest the next time.
    FewEvents = "events held back", 0.05;
    /// A host does not get to run for up to [a second](Faults::SLOW_HOST), while events pile up.
    SlowHost = "host kept from running", 0.002;
    /// A host gets to run only after more events have come for it, of those due within
    /// [a tenth of a second](Faults::CROWD): its next tick has several events.
    Crowd = "events that gather", 0.2;
    /// Events of the same time come in another order.
    Reorder = "reordered", 0.1;
    /// A segment is stuck for up to [five seconds](Faults::STALL), and so are those behind it.
    Stall = "stalled segment", 0.01;
    /// A connection is reset, at both ends, when a segment of it arrives.
    Reset = "reset", 0.001;
    /// A reset destroys bytes that had arrived before it, as it does on some systems.
    ResetDiscards = "reset that discards", 0.3;
    /// A connect fails at once: EHOSTUNREACH.
    ConnectUnreachable = "unreachable", 0.02;
    /// A connect is refused though somebody listens: ECONNREFUSED.
    ConnectRefused = "refused connect", 0.03;
    /// A connect gets no reply: ETIMEDOUT, after [two minutes](Faults::CONNECT_TIMEOUT).
    ConnectTimedOut = "timed out connect", 0.02;
    /// A name is not resolved.
    ResolveFailed = "failed resolution", 0.05;
    /// A job, the resolution of a name among them, takes up to
    /// [ten seconds](Faults::SLOW_JOB).
    SlowJob = "slow job", 0.2;
    /// A connection was reset before it was accepted: ECONNABORTED.
    AcceptAborted = "ECONNABORTED on accept", 0.03;
    /// An accept, bind, connect or start of a program finds no descriptor: EMFILE. Also counts the refusals of a host's
    /// [limit](crate::Network::limit_descriptors).
    NoDescriptor = "EMFILE", 0.02;
    /// A read or a write finds no memory: ENOBUFS.
    NoMemory = "ENOBUFS", 0.002;
    /// Two hosts cannot reach each other for up to [half a minute](Faults::PARTITION).
    Partition = "partition", 0.0002;
    /// A datagram is lost.
    DatagramLost = "lost datagram", 0.05;
    /// A datagram arrives twice.
    DatagramDoubled = "doubled datagram", 0.02;
    /// A datagram arrives up to [half a second](Faults::LATE) later, and others overtake it.
    DatagramLate = "late datagram", 0.05;
    /// Datagrams of one sender and one length come in one call, as with UDP_GRO (udp(7)).
    DatagramsTogether = "datagrams in one call", 0.2;
    /// A call that sends several datagrams fails with EIO, as with a network card that cuts none.
    NoSegmentation = "EIO on segmentation", 0.02;
    /// A [program](crate::Program) does not get to run for up to [a second](Faults::SLOW_PROGRAM).
    SlowProgram = "program kept from running", 0.02;
    /// The clock jumps forward by up to [ten minutes](Faults::CLOCK_JUMP).
    ClockJump = "clock jump", 0.0002;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// Maximum number of times in a row that a fault strikes a call which is made again until it succeeds.
const IN_A_ROW: u32 = 9;

/// The probability of each fault, each time that it could strike.
///
/// `Partition` and `ClockJump` may strike at each step of the world, `SlowHost` and `Crowd` when a host
/// is to run and did not just wait for one of them, the others at each call or arrival of their kind.
///
/// A call that is refused is made again until it is not, so [`Interrupted`](Fault::Interrupted),
/// [`ReadAgain`](Fault::ReadAgain), [`WriteAgain`](Fault::WriteAgain),
/// [`AcceptAgain`](Fault::AcceptAgain), [`NoMemory`](Fault::NoMemory) and
/// [`NoDescriptor`](Fault::NoDescriptor), and [`Partition`](Fault::Partition) too, strike nine
/// times in a row at most and then not once, however likely or forced they are.
///
/// ```
/// use tidegate_testkit::{Fault, Faults};
///
/// let faults = Faults::none()
///     .with(Fault::ShortRead, 0.5)
///     .with(Fault::Reset, 0.01);
/// assert_eq!(faults.probability(Fault::ShortRead), 0.5);
/// assert_eq!(faults.probability(Fault::Stall), 0.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults(BTreeMap<Fault, f64>);

impl Faults {
    /// The longest stall of a segment.
    pub const STALL: Duration = Duration::from_secs(5);
    /// The longest time that a host does not get to run.
    pub const SLOW_HOST: Duration = Duration::from_secs(1);
    /// The longest time that a program does not get to run.
    pub const SLOW_PROGRAM: Duration = Duration::from_secs(1);
    /// The longest time that a host waits for more events to gather.
    pub const CROWD: Duration = Duration::from_millis(100);
    /// The longest partition that a seed makes.
    pub const PARTITION: Duration = Duration::from_secs(30);
    /// The farthest jump of the clock that a seed makes.
    pub const CLOCK_JUMP: Duration = Duration::from_secs(600);
    /// The longest time that a datagram is late.
    pub const LATE: Duration = Duration::from_millis(500);
    /// The longest time that a slow job waits.
    pub const SLOW_JOB: Duration = Duration::from_secs(10);
    /// The time after which a connect without a reply has failed: Linux's six repetitions.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

    /// Returns no faults: nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns all faults, each now and then; most are so rare that most connections live through them.
    pub fn all() -> Self {
        let mut all = Self::none();
        for &fault in Fault::ALL {
            all = all.with(fault, fault.usual());
        }
        all
    }

    /// Sets the probability of a fault. Values are clamped to 0..=1; NaN counts as 0.
    #[must_use]
    pub fn with(mut self, fault: Fault, probability: f64) -> Self {
        let probability = if probability > 0.0 {
            probability.min(1.0)
        } else {
            0.0
        };
        self.0.insert(fault, probability);
        self
    }

    /// Returns the probability of a fault.
    pub fn probability(&self, fault: Fault) -> f64 {
        self.0.get(&fault).copied().unwrap_or(0.0)
    }
}

/// The faults of a world, as it draws them.
#[derive(Debug)]
pub(crate) struct Dice {
    rng: fastrand::Rng,
    chances: Vec<f64>,
    /// The number of times that each strikes for sure.
    forced: Vec<u32>,
    struck: Vec<u64>,
    /// The number of times that each has struck in a row.
    in_a_row: Vec<u32>,
}

impl Dice {
    pub(crate) fn new(seed: u64, faults: &Faults) -> Self {
        let count = Fault::ALL.len();
        let mut dice = Self {
            rng: fastrand::Rng::with_seed(seed),
            chances: vec![0.0; count],
            forced: vec![0; count],
            struck: vec![0; count],
            in_a_row: vec![0; count],
        };
        dice.set(faults);
        dice
    }

    pub(crate) fn set(&mut self, faults: &Faults) {
        for (chance, &fault) in self.chances.iter_mut().zip(Fault::ALL) {
            *chance = faults.probability(fault);
        }
    }

    pub(crate) fn force(&mut self, fault: Fault, times: u32) {
        self.forced[fault as usize] = times;
    }

    /// Returns whether a fault strikes now.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let at = fault as usize;
        let strikes = if fault.strikes_again() && self.in_a_row[at] >= IN_A_ROW {
            false
        } else if self.forced[at] > 0 {
            self.forced[at] -= 1;
            true
        } else {
            // No number is drawn for a fault that never strikes.
            self.chances[at] > 0.0 && self.rng.f64() < self.chances[at]
        };
        if strikes {
            self.count(fault);
            self.in_a_row[at] = self.in_a_row[at].saturating_add(1);
        } else {
            self.in_a_row[at] = 0;
        }
        strikes
    }

    /// Returns whether a fault could strike now at all.
    pub(crate) fn may_strike(&self, fault: Fault) -> bool {
        let at = fault as usize;
        self.forced[at] > 0 || self.chances[at] > 0.0
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        self.struck[fault as usize] += 1;
    }

    pub(crate) fn fault_counts(&self) -> FaultCounts {
        FaultCounts(
            Fault::ALL
                .iter()
                .copied()
                .zip(self.struck.iter().copied())
                .collect(),
        )
    }

    /// Draws a number less than `below`, which is not 0.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.rng.usize(..below)
    }

    /// Draws one of `least..=most`; small ones as likely as large ones, in orders of magnitude.
    pub(crate) fn some_of(&mut self, least: usize, most: usize) -> usize {
        let bits = (most / least.max(1)).max(1).ilog2() + 1;
        let scale = self.rng.u32(..=bits);
        let top = most.min(least.saturating_mul(1 << scale));
        self.rng.usize(least..=top.max(least))
    }

    pub(crate) fn within(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most
            .saturating_sub(least)
            .as_nanos()
            .min(u128::from(u64::MAX)) as u64;
        if span == 0 {
            return least;
        }
        least.saturating_add(Duration::from_nanos(self.rng.u64(..=span)))
    }

    pub(crate) fn any(&mut self) -> u32 {
        self.rng.u32(..)
    }
}

/// Counts how often each fault struck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultCounts(BTreeMap<Fault, u64>);

impl FaultCounts {
    /// Returns how often a fault struck.
    pub fn times(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// Returns an iterator over all faults and their counts, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.0.iter().map(|(fault, times)| (*fault, *times))
    }

    /// Adds the counts of another world.
    pub fn add(&mut self, other: &Self) {
        for (fault, times) in other.iter() {
            *self.0.entry(fault).or_default() += times;
        }
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (fault, times)) in self.iter().enumerate() {
            let line = if n == 0 { "" } else { "\n" };
            write!(f, "{line}{fault:<24} {times:>12}")?;
        }
        Ok(())
    }
}
