//! The agenda: the events of a world that are to come, in the order in which they happen.

use super::Network;
use super::endpoint::{EndpointId, Phase};
use super::kernel::Source;
use super::port::PortId;
use super::process::Pid;
use super::state::{END_OF_TIME, HostId, State};
use super::transmit::Arrival;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::driver::{Job, JobId, Readiness};

/// When an event happens. Events of one time are ordered by a key, which is drawn or 0, and then by
/// the order in which they were scheduled.
pub(super) type Order = (Duration, u32, u64);

pub(super) enum Event {
    /// Something comes over a wire.
    Arrival {
        path: (HostId, HostId),
        what: Arrival,
    },
    /// A connect fails, unless it has completed.
    TimedOut(EndpointId),
    /// A readiness event follows an injected refusal.
    Remind {
        source: Source,
        readiness: Readiness,
    },
    /// A socket of datagrams has `len` bytes less to send; with 0, an invented refusal is over.
    Room {
        port: PortId,
        len: usize,
    },
    Job {
        host: HostId,
        id: JobId,
    },
    Heal(HostId, HostId),
    /// A process goes on, unless a later event of it takes this one's place.
    Program {
        pid: Pid,
        turn: u64,
    },
    Call(Box<dyn FnOnce(&Network)>),
}

impl Event {
    /// Returns the host whose loop may hear of it.
    fn host(&self) -> Option<HostId> {
        match self {
            Self::Arrival { path, .. } => Some(path.1),
            Self::Job { host, .. } => Some(*host),
            _ => None,
        }
    }
}

/// The part of an event that runs code of the user, which has to wait until nothing is borrowed.
pub(crate) enum Deferred {
    Job(Job),
    Call(Box<dyn FnOnce(&Network)>),
    Program(Pid),
}

#[derive(Default)]
pub(super) struct Agenda {
    events: BTreeMap<Order, Event>,
    scheduled: u64,
}

impl Agenda {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn add(&mut self, at: Duration, key: u32, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, key, self.scheduled), event);
    }

    /// Adds an event in the place that it had before.
    pub(super) fn put_back(&mut self, order: Order, event: Event) {
        self.events.insert(order, event);
    }

    /// Returns the times, up to `last`, of the events that the loop of `host` may hear of.
    pub(super) fn times_for(&self, host: HostId, last: Duration) -> impl Iterator<Item = Duration> {
        self.events
            .iter()
            .take_while(move |((at, ..), _)| *at <= last)
            .filter(move |(_, event)| event.host() == Some(host))
            .map(|((at, ..), _)| *at)
    }
}

impl State {
    pub(super) fn schedule(&mut self, at: Duration, event: Event) {
        self.schedule_with(at, 0, event);
    }

    /// Schedules an event; `key` orders the events of one time.
    pub(super) fn schedule_with(&mut self, at: Duration, key: u32, event: Event) {
        self.agenda.add(at.min(END_OF_TIME), key, event);
    }

    /// Returns the time of the next event. Drops the events before it that are stale: they are no
    /// reason for time to pass.
    pub(crate) fn next_time(&mut self) -> Option<Duration> {
        loop {
            let (order, event) = self.agenda.events.first_key_value()?;
            let at = order.0;
            if !self.is_stale(event) {
                return Some(at);
            }
            self.agenda.events.pop_first();
        }
    }

    /// Returns whether the object of the event is gone.
    fn is_stale(&self, event: &Event) -> bool {
        let is_connecting = |id| {
            self.endpoints
                .get(id)
                .is_some_and(|endpoint| endpoint.phase == Phase::Connecting && !endpoint.orphan)
        };
        match event {
            Event::TimedOut(id)
            | Event::Arrival {
                what: Arrival::Knock { from: id, .. } | Arrival::Refusal { to: id },
                ..
            } => !is_connecting(id),
            Event::Remind { source, .. } => match source {
                Source::Endpoint(id) => self
                    .endpoints
                    .get(id)
                    .is_none_or(|endpoint| endpoint.orphan),
                Source::Listener(id) => !self.listeners.contains_key(id),
                Source::Port(id) => !self.ports.contains_key(id),
                #[cfg(feature = "signal")]
                Source::Signals(_) => false,
                Source::Pipe(id) => !self.pipes.contains_key(id),
                Source::Process(pid) => !self.processes.contains_key(pid),
            },
            Event::Room { port, .. } => !self.ports.contains_key(port),
            Event::Job { host, id } => !self.hosts[host.0].has_job(*id),
            Event::Heal(one, other) => {
                !self.wires.get(&(*one, *other)).is_some_and(|wire| wire.cut)
            }
            Event::Program { pid, turn } => {
                let process = self.processes.get(pid);
                !process.is_some_and(|process| process.is_turn(*turn))
            }
            Event::Arrival { .. } | Event::Call(_) => false,
        }
    }

    /// Takes the first event, if it is due, and carries it out. Returns the part of it that the
    /// caller has to run.
    pub(crate) fn run_next_event(&mut self) -> Option<Deferred> {
        let now = self.now();
        let first = self.agenda.events.first_entry()?;
        let order = *first.key();
        if order.0 > now {
            return None;
        }
        match first.remove() {
            Event::Job { host, id } => {
                let job = self.cancel_job(host, id)?;
                self.note(("job", host.0 as u64, id.0), &[], || {
                    format!("{host} job {}", id.0)
                });
                return Some(Deferred::Job(job));
            }
            Event::Call(call) => return Some(Deferred::Call(call)),
            Event::Program { pid, .. } => return Some(Deferred::Program(pid)),
            Event::Remind { source, readiness } => self.tell(source, readiness),
            Event::Room { port, len } => self.room_again(port, len),
            Event::Heal(one, other) => self.heal(one, other),
            Event::TimedOut(id) => self.connect_timed_out(id),
            Event::Arrival { path, what } => self.arrive(order, path, what),
        }
        None
    }

    fn connect_timed_out(&mut self, id: EndpointId) {
        let endpoint = self.endpoint(id);
        if endpoint.is_some_and(|endpoint| endpoint.phase == Phase::Connecting) {
            self.fail(id, libc::ETIMEDOUT);
        }
    }
}
