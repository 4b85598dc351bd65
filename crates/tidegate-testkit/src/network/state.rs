//! The state that the hosts of a world share: the clock, the agenda of events, and the sockets.

use super::agenda::{Agenda, Event};
use super::endpoint::{Endpoint, EndpointId};
use super::kernel::Kernel;
use super::link::{Link, Wire};
use super::listener::{ListenerId, ListenerState};
use super::names::Names;
use super::pipe::{Pipe, PipeId};
use super::port::{Port, PortId};
use super::process::{Pid, Process};
use super::program::Installed;
use crate::clock::Clock;
use crate::faults::{Dice, Fault, FaultCounts, Faults};
use crate::trace::{Recording, Trace, TraceOptions};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostId(pub(crate) usize);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// The end of time: a thousand years, with which no clock of a system overflows.
pub(crate) const END_OF_TIME: Duration = Duration::from_secs(31_556_952_000);

/// Maximum number of arrivals for which a host waits, when they are to gather.
const CROWD: usize = 8;

/// One for each world of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorldId(u64);

impl WorldId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) struct State {
    id: WorldId,
    start: Instant,
    now: Duration,
    /// Shows `now` to others.
    clock: Clock,
    pub(super) dice: Dice,
    recording: Recording,
    pub(super) hosts: Vec<Kernel>,
    pub(super) endpoints: BTreeMap<EndpointId, Endpoint>,
    /// The number of ends and listeners so far.
    made: usize,
    pub(super) listeners: BTreeMap<ListenerId, ListenerState>,
    pub(super) ports: BTreeMap<PortId, Port>,
    pub(super) pipes: BTreeMap<PipeId, Pipe>,
    pub(super) programs: BTreeMap<(HostId, String), Installed>,
    pub(super) processes: BTreeMap<Pid, Process>,
    /// The number of processes so far.
    pub(super) started: u32,
    /// The number of datagrams for which a receiver had no room.
    pub(super) datagrams_dropped: u64,
    pub(super) wires: BTreeMap<(HostId, HostId), Wire>,
    usual: Link,
    pub(super) agenda: Agenda,
    /// The world is gone: nothing is to happen any more.
    over: bool,
    pub(super) names: Arc<Mutex<Names>>,
}

impl State {
    pub(super) fn new(seed: u64, faults: &Faults, link: Link, trace: TraceOptions) -> Self {
        Self {
            id: WorldId::next(),
            start: Instant::now(),
            now: Duration::ZERO,
            clock: Clock::default(),
            dice: Dice::new(seed, faults),
            recording: Recording::new(trace),
            hosts: Vec::new(),
            endpoints: BTreeMap::new(),
            made: 0,
            listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            pipes: BTreeMap::new(),
            programs: BTreeMap::new(),
            processes: BTreeMap::new(),
            started: 0,
            datagrams_dropped: 0,
            wires: BTreeMap::new(),
            usual: link,
            agenda: Agenda::default(),
            over: false,
            names: Arc::new(Mutex::new(Names::new(Dice::new(!seed, faults)))),
        }
    }

    pub(super) fn world(&self) -> WorldId {
        self.id
    }

    // Hosts.

    /// The host that peers live on, which is the first.
    pub(super) fn add_outside(&mut self) {
        self.push_host("peer");
    }

    pub(super) fn add_host(&mut self, name: &str) -> io::Result<HostId> {
        if self.names().knows(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{name}: there is such a name in this world"),
            ));
        }
        Ok(self.push_host(name))
    }

    fn push_host(&mut self, name: &str) -> HostId {
        let id = HostId(self.hosts.len());
        self.hosts.push(Kernel::new());
        let [v4, v6] = addresses(id);
        self.names().add(name, &[v6, v4]);
        id
    }

    pub(super) fn host(&mut self, id: HostId) -> &mut Kernel {
        &mut self.hosts[id.0]
    }

    /// Returns the host that has this address, seen from a host.
    pub(super) fn who_has(&self, from: HostId, ip: IpAddr) -> Option<HostId> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        let ids = (0..self.hosts.len()).map(HostId);
        ids.into_iter().find(|id| addresses(*id).contains(&ip))
    }

    pub(super) fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    // Time.

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(crate) fn set_now(&mut self, now: Duration) {
        self.now = self.now.max(now.min(END_OF_TIME));
        self.clock.set(self.now);
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Ends the world. Returns the events that will not happen, and the programs, for the caller to drop when nothing
    /// is borrowed: their closures may hold the network and peers.
    pub(crate) fn finish(&mut self) -> impl Sized + use<> {
        self.over = true;
        let held = self
            .wires
            .values_mut()
            .map(|wire| std::mem::take(&mut wire.held));
        let held: Vec<_> = held.collect();
        let programs = std::mem::take(&mut self.programs);
        let processes = std::mem::take(&mut self.processes);
        (std::mem::take(&mut self.agenda), held, programs, processes)
    }

    // Links.

    pub(super) fn wire(&mut self, from: HostId, to: HostId) -> &mut Wire {
        let usual = &self.usual;
        self.wires.entry((from, to)).or_insert_with(|| Wire {
            link: usual.clone(),
            ..Wire::default()
        })
    }

    pub(super) fn cut(&mut self, one: HostId, other: HostId) {
        self.wire(one, other).cut = true;
        self.wire(other, one).cut = true;
        let what = ("cut", one.0 as u64, other.0 as u64);
        self.note(what, &[], || format!("{one} and {other} are parted"));
    }

    pub(super) fn heal(&mut self, one: HostId, other: HostId) {
        let what = ("heal", one.0 as u64, other.0 as u64);
        self.note(what, &[], || format!("{one} and {other} meet again"));
        for (from, to) in [(one, other), (other, one)] {
            let wire = self.wire(from, to);
            wire.cut = false;
            // In its old place: before all that was sent after it.
            for (order, what) in std::mem::take(&mut wire.held) {
                let path = (from, to);
                self.agenda.put_back(order, Event::Arrival { path, what });
            }
        }
    }

    pub(super) fn cut_wires(&self) -> Vec<(HostId, HostId)> {
        let cut = self.wires.iter().filter(|(_, wire)| wire.cut);
        cut.map(|(ends, _)| *ends)
            .filter(|(one, other)| one <= other)
            .collect()
    }

    // Sockets.

    pub(super) fn endpoint(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&id)
    }

    pub(super) fn add_endpoint(&mut self, endpoint: Endpoint) -> EndpointId {
        let id = EndpointId(self.next_id());
        self.endpoints.insert(id, endpoint);
        id
    }

    /// Returns an id that is never given twice: a segment for an end that is gone reaches nothing else.
    pub(super) fn next_id(&mut self) -> usize {
        self.made += 1;
        self.made - 1
    }

    // The seed's work.

    /// Rolls the dice for the faults that may strike at each step of the world.
    pub(crate) fn roll(&mut self) {
        let count = self.hosts.len();
        if count > 1 && self.dice.strikes(Fault::Partition) {
            let one = self.dice.below(count);
            let other = (one + 1 + self.dice.below(count - 1)) % count;
            let (one, other) = (HostId(one), HostId(other));
            // One that a test has made is the test's to end.
            if !self.wire(one, other).cut {
                self.cut(one, other);
                let until = self.now + self.dice.within(Duration::ZERO, Faults::PARTITION);
                self.schedule(until, Event::Heal(one, other));
            }
        }
        if self.dice.strikes(Fault::ClockJump) {
            let jump = self.dice.within(Duration::ZERO, Faults::CLOCK_JUMP);
            self.set_now(self.now + jump);
            self.note(("jump", 0, 0), &[], || "the clock jumps");
        }
    }

    /// Rolls the dice for the faults of a host that is about to run. Returns the time until which a
    /// fault keeps it from running.
    pub(crate) fn keep_from_running(&mut self, host: HostId) -> Option<Duration> {
        if self.dice.strikes(Fault::SlowHost) {
            return Some(self.now + self.dice.within(Duration::ZERO, Faults::SLOW_HOST));
        }
        if !self.dice.may_strike(Fault::Crowd) {
            return None;
        }
        let most = self.now.saturating_add(Faults::CROWD);
        let coming = self.agenda.times_for(host, most);
        let coming: Vec<_> = coming.take(CROWD).collect();
        if coming.is_empty() || !self.dice.strikes(Fault::Crowd) {
            return None;
        }
        let last = coming[self.dice.below(coming.len())];
        // A host that may run at the same time could be first.
        Some(last.max(self.now) + Duration::from_nanos(1))
    }

    pub(crate) fn choose(&mut self, among: usize) -> usize {
        self.dice.below(among)
    }

    pub(super) fn set_faults(&mut self, faults: &Faults) {
        self.dice.set(faults);
        self.names().dice.set(faults);
    }

    pub(super) fn force(&mut self, fault: Fault, times: u32) {
        if fault == Fault::ResolveFailed {
            self.names().dice.force(fault, times);
        } else {
            self.dice.force(fault, times);
        }
    }

    pub(super) fn fault_counts(&self) -> FaultCounts {
        let mut struck = self.dice.fault_counts();
        struck.add(&self.names().dice.fault_counts());
        struck
    }

    // The record.

    pub(super) fn trace(&self) -> &Trace {
        self.recording.trace()
    }

    pub(super) fn note<L: fmt::Display>(
        &mut self,
        event: (&'static str, u64, u64),
        data: &[u8],
        line: impl FnOnce() -> L,
    ) {
        self.recording.note(self.now, event, data, line);
    }

    /// Notes bytes of a connection.
    pub(super) fn note_bytes<L: fmt::Display>(
        &mut self,
        event: (&'static str, u64, u64),
        bytes: &[u8],
        line: impl FnOnce() -> L,
    ) {
        self.recording.note_bytes(self.now, event, bytes, line);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("now", &self.now)
            .field("hosts", &self.hosts.len())
            .field("sockets", &self.endpoints.len())
            .field("listeners", &self.listeners.len())
            .field("to_happen", &self.agenda.len())
            .finish_non_exhaustive()
    }
}

/// The IPv4 and the IPv6 address of a host.
pub(crate) fn addresses(HostId(n): HostId) -> [IpAddr; 2] {
    let n = n as u32 + 1;
    let [_, a, b, c] = n.to_be_bytes();
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, (n >> 16) as u16, n as u16);
    [Ipv4Addr::new(10, a, b, c).into(), v6.into()]
}

pub(super) fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
