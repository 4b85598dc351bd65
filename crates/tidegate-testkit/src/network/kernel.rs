//! The kernel of one host: the events for its loop, its descriptors, ports and jobs.

use super::agenda::Event;
use super::endpoint::EndpointId;
use super::listener::ListenerId;
use super::pipe::PipeId;
use super::port::PortId;
use super::process::Pid;
use super::state::{HostId, State, os_error};
use crate::faults::{Fault, Faults};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::driver::{Job, JobId, Readiness, Token, Wake};

/// The first port of those that the system chooses (RFC 6335).
const FIRST_PORT: u16 = 49152;

/// The number of ports that the system chooses from.
pub(super) const EPHEMERAL_PORTS: u16 = u16::MAX - FIRST_PORT + 1;

/// Maximum time from an invented refusal to the event that makes good for it.
pub(super) const REMINDER: Duration = Duration::from_millis(10);

/// A source of events.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Endpoint(EndpointId),
    Listener(ListenerId),
    Port(PortId),
    /// The signals of a host.
    #[cfg(feature = "signal")]
    Signals(HostId),
    Pipe(PipeId),
    /// Its exit.
    Process(Pid),
}

impl From<EndpointId> for Source {
    fn from(id: EndpointId) -> Self {
        Self::Endpoint(id)
    }
}

impl From<ListenerId> for Source {
    fn from(id: ListenerId) -> Self {
        Self::Listener(id)
    }
}

impl From<PortId> for Source {
    fn from(id: PortId) -> Self {
        Self::Port(id)
    }
}

/// The kernel of one host.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Events that the next poll reports, in the order in which they came.
    events: BTreeMap<Token, Readiness>,
    order: VecDeque<Token>,
    pub(super) bell: Arc<Bell>,
    /// Open ones.
    pub(super) descriptors: usize,
    pub(super) limit: Option<usize>,
    next_port: u16,
    jobs: BTreeMap<JobId, Waiting>,
    #[cfg(feature = "signal")]
    pub(super) signals: super::signal::HostSignals,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            order: VecDeque::new(),
            bell: Arc::default(),
            descriptors: 0,
            limit: None,
            next_port: FIRST_PORT,
            jobs: BTreeMap::new(),
            #[cfg(feature = "signal")]
            signals: Default::default(),
        }
    }

    pub(super) fn has_job(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id)
    }

    /// No event of a source that is not registered any more is reported.
    pub(super) fn drop_event(&mut self, token: Token) {
        self.events.remove(&token);
        self.order.retain(|other| *other != token);
    }

    #[cfg(not(feature = "signal"))]
    fn signal_token(&self) -> Option<Token> {
        None
    }
}

/// A job that waits for its time.
pub(super) struct Waiting(Job);

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

/// Ends the sleep of a host from any thread.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Bell {
    pub(super) fn rang(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl State {
    pub(super) fn next_port(&mut self, host: HostId) -> u16 {
        let kernel = self.host(host);
        let port = kernel.next_port;
        kernel.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    /// Opens a descriptor, unless there is none left.
    pub(super) fn open_descriptor(&mut self, host: HostId) -> io::Result<()> {
        let kernel = &mut self.hosts[host.0];
        let full = kernel
            .limit
            .is_some_and(|limit| kernel.descriptors >= limit);
        if full {
            self.dice.count(Fault::NoDescriptor);
        }
        if full || self.dice.strikes(Fault::NoDescriptor) {
            return Err(os_error(libc::EMFILE));
        }
        self.host(host).descriptors += 1;
        Ok(())
    }

    pub(super) fn close_descriptor(&mut self, host: HostId) {
        let kernel = self.host(host);
        kernel.descriptors = kernel.descriptors.saturating_sub(1);
    }

    pub(super) fn start_job(&mut self, host: HostId, id: JobId, job: Job) {
        let mut at = self.now();
        if self.dice.strikes(Fault::SlowJob) {
            at += self.dice.within(Duration::ZERO, Faults::SLOW_JOB);
        }
        self.host(host).jobs.insert(id, Waiting(job));
        self.schedule(at, Event::Job { host, id });
    }

    pub(super) fn cancel_job(&mut self, host: HostId, id: JobId) -> Option<Job> {
        self.host(host).jobs.remove(&id).map(|job| job.0)
    }

    pub(super) fn close_jobs(&mut self, host: HostId) -> Vec<Job> {
        let jobs = std::mem::take(&mut self.host(host).jobs);
        jobs.into_values().map(|job| job.0).collect()
    }

    /// Puts an event of a change at a source, with everything else that is ready there, as epoll does. A
    /// source without a token has none: unregistered, closed, or in a test's hand.
    pub(super) fn tell(&mut self, source: impl Into<Source>, changed: Readiness) {
        let (watch, ready) = match source.into() {
            Source::Endpoint(id) => {
                let Some(endpoint) = self.endpoint(id) else {
                    return;
                };
                (endpoint.watch, endpoint.readiness())
            }
            Source::Listener(id) => {
                let Some(listener) = self.listeners.get(&id) else {
                    return;
                };
                let watch = listener.token.map(|token| (listener.host, token));
                (watch, Readiness::new())
            }
            Source::Port(id) => {
                let Some(port) = self.ports.get(&id) else {
                    return;
                };
                let watch = port.token.map(|token| (port.host, token));
                (watch, port.readiness())
            }
            #[cfg(feature = "signal")]
            Source::Signals(host) => {
                let token = self.hosts[host.0].signal_token();
                let watch = token.map(|token| (host, token));
                (watch, Readiness::new())
            }
            Source::Pipe(id) => {
                let Some(pipe) = self.pipes.get(&id) else {
                    return;
                };
                let watch = pipe.token.map(|token| (pipe.host, token));
                (watch, pipe.readiness())
            }
            Source::Process(pid) => {
                let Some(process) = self.processes.get(&pid) else {
                    return;
                };
                let watch = process.token.map(|token| (process.host, token));
                (watch, process.readiness())
            }
        };
        let Some((host, token)) = watch else { return };
        let kernel = self.host(host);
        let told = match kernel.events.entry(token) {
            Entry::Vacant(entry) => {
                kernel.order.push_back(token);
                entry.insert(Readiness::new())
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        *told = *told | ready | changed;
    }

    /// Tells of a source again, a little later.
    pub(super) fn remind(&mut self, source: impl Into<Source>, readiness: Readiness) {
        let at = self.now() + self.dice.within(Duration::ZERO, REMINDER);
        let source = source.into();
        self.schedule(at, Event::Remind { source, readiness });
    }

    /// Returns whether a poll of this host would report something.
    pub(crate) fn is_roused(&self, host: HostId) -> bool {
        let kernel = &self.hosts[host.0];
        !kernel.order.is_empty() || kernel.bell.rang()
    }

    /// Takes the events that a poll reports.
    pub(super) fn take_events(&mut self, host: HostId) -> Vec<(Token, Readiness)> {
        let kernel = &mut self.hosts[host.0];
        let mut count = kernel.order.len();
        if count > 1 && self.dice.strikes(Fault::FewEvents) {
            count = 1 + self.dice.below(count - 1);
        }
        let mut taken = Vec::new();
        for token in kernel.order.drain(..count) {
            let readiness = kernel.events.remove(&token).unwrap_or_default();
            taken.push((token, readiness));
        }
        if count > 1 && self.dice.strikes(Fault::Reorder) {
            for n in (1..count).rev() {
                let other = self.dice.below(n + 1);
                taken.swap(n, other);
            }
        }
        if self.dice.strikes(Fault::SpuriousEvent)
            && let Some(token) = self.some_token(host)
        {
            let any = Readiness::new().with_readable().with_writable();
            let readiness = match self.dice.below(4) {
                0 => Readiness::new().with_readable(),
                1 => Readiness::new().with_writable(),
                2 => any.with_read_to_end(),
                _ => any.with_failed(),
            };
            taken.push((token, readiness));
        }
        taken
    }

    /// The loop of a stream's events gets none of them any more.
    pub(super) fn unwatch(&mut self, id: EndpointId) {
        let watch = self.endpoint(id).and_then(|endpoint| endpoint.watch.take());
        if let Some((host, token)) = watch {
            self.host(host).drop_event(token);
        }
    }

    fn some_token(&mut self, host: HostId) -> Option<Token> {
        let watches = self.endpoints.values().filter_map(|end| end.watch);
        let ends = watches.filter(|(watching, _)| *watching == host);
        let listeners = self.listeners.values();
        let listeners = listeners.filter(|listener| listener.host == host);
        let ports = self.ports.values().filter(|port| port.host == host);
        let pipes = self.pipes.values().filter(|pipe| pipe.host == host);
        let processes = self.processes.values();
        let processes = processes.filter(|process| process.host == host);
        let tokens: Vec<_> = ends
            .map(|(_, token)| token)
            .chain(listeners.filter_map(|listener| listener.token))
            .chain(ports.filter_map(|port| port.token))
            .chain(self.hosts[host.0].signal_token())
            .chain(pipes.filter_map(|pipe| pipe.token))
            .chain(processes.filter_map(|process| process.token))
            .collect();
        if tokens.is_empty() {
            return None;
        }
        let at = self.dice.below(tokens.len());
        Some(tokens[at])
    }
}
