//! The network of a simulated world: hosts, the links between them, and faults.

mod agenda;
mod child;
mod datagram;
mod datagram_peer;
mod driver;
mod endpoint;
mod host;
mod kernel;
mod link;
mod listener;
mod names;
mod peer;
mod pipe;
mod port;
mod process;
mod program;
#[cfg(feature = "signal")]
mod signal;
mod state;
mod transmit;

use crate::faults::{Fault, FaultCounts, Faults};
use crate::trace::{Trace, TraceOptions};
use agenda::Event;
use endpoint::{EndpointId, Phase};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tidegate::driver::{BindOptions, DatagramBindOptions, UnixFileOptions};

pub(crate) use agenda::Deferred;
pub(crate) use driver::SimulatedDriver;
pub(crate) use pipe::Input;
pub(crate) use process::Pid;
pub(crate) use state::{END_OF_TIME, HostId, State, WorldId, addresses};

pub use datagram_peer::DatagramPeer;
pub use host::Host;
pub use link::Link;
pub use peer::{Peer, PeerListener};
pub use program::InstalledProgram;

/// The host that [`Peer`]s live on.
const OUTSIDE: HostId = HostId(0);

/// The network of a [`World`](crate::World), for changes while it runs. Clones are the same network;
/// closures that run in the world may keep one.
///
/// # Panics
///
/// A [`Host`] of another world is a mistake of the test: every method that takes a host panics for it.
#[derive(Debug, Clone)]
pub struct Network(Rc<RefCell<State>>);

impl Network {
    pub(crate) fn new(seed: u64, faults: &Faults, link: Link, trace: TraceOptions) -> Self {
        let mut state = State::new(seed, faults, link, trace);
        state.add_outside();
        Self(Rc::new(RefCell::new(state)))
    }

    /// Calls with the state. `call` runs no code of the user.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut State) -> R) -> R {
        call(&mut self.0.borrow_mut())
    }

    pub(crate) fn world(&self) -> WorldId {
        self.with(|state| state.world())
    }

    #[track_caller]
    fn id_of(&self, host: &Host) -> HostId {
        host.id_in(self.world())
    }

    pub(crate) fn add_host(&self, name: &str) -> io::Result<HostId> {
        self.with(|state| state.add_host(name))
    }

    /// Returns the resolver of a host's loop.
    pub(crate) fn resolver(
        &self,
    ) -> impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static {
        let names = self.with(|state| state.names.clone());
        move |name, port| {
            let mut names = names
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            names.resolve(name, port)
        }
    }

    // Time.

    /// Returns the time since the world began, by its own clock.
    pub fn elapsed(&self) -> Duration {
        self.with(|state| state.now())
    }

    /// Runs `call` after `delay`, in the world's time; never, if the world is dropped before.
    pub fn after(&self, delay: Duration, call: impl FnOnce(&Self) + 'static) {
        if self.with(|state| state.is_over()) {
            return;
        }
        self.with(|state| {
            let at = state.now().saturating_add(delay);
            state.schedule(at, Event::Call(Box::new(call)));
        });
    }

    // Hosts and names.

    /// Has a name resolve to these addresses, tried in this order. The names of hosts resolve to
    /// their IPv6 and their IPv4 address, and `localhost` is each host for itself.
    pub fn set_name(&self, name: &str, addresses: &[IpAddr]) {
        self.with(|state| state.names().add(name, addresses));
    }

    /// Sets the maximum number of sockets of a host; open ones stay. `None` is no limit. The descriptors
    /// of the loop itself do not count.
    #[track_caller]
    pub fn limit_descriptors(&self, host: &Host, most: Option<usize>) {
        let host = self.id_of(host);
        self.with(|state| state.host(host).limit = most);
    }

    /// Returns the number of sockets that a host has open, its ends of pipes included.
    #[track_caller]
    pub fn descriptors(&self, host: &Host) -> usize {
        let host = self.id_of(host);
        self.with(|state| state.host(host).descriptors)
    }

    /// Returns the number of ends of connections, those that only the kernel still knows included.
    pub fn sockets(&self) -> usize {
        self.with(|state| state.endpoints.len())
    }

    /// Returns the number of listeners.
    pub fn listeners(&self) -> usize {
        self.with(|state| state.listeners.len())
    }

    /// Returns the number of sockets of datagrams.
    pub fn datagram_sockets(&self) -> usize {
        self.with(|state| state.ports.len())
    }

    /// Returns the number of datagrams so far that a socket had no room for:
    /// [`Link::receive_buffer`], or the socket's own.
    pub fn datagrams_dropped(&self) -> u64 {
        self.with(|state| state.datagrams_dropped)
    }

    // Peers.

    /// Connects a [`Peer`] to an address in the world. The result is under way: run the world.
    ///
    /// # Errors
    ///
    /// None at present; [`Peer::connected`] has the error of a connect.
    pub fn dial(&self, addr: SocketAddr) -> io::Result<Peer> {
        let id = self.with(|state| state.connect(OUTSIDE, addr, None, false))?;
        Ok(Peer::new(self, id))
    }

    /// Listens with a hand-held listener at a port of the host on which peers live; 0 takes a free
    /// one.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn listen(&self, port: u16) -> io::Result<PeerListener> {
        let options = BindOptions {
            reuse_port: false,
            only_v6: false,
            unix: UnixFileOptions::default(),
        };
        let [v4, _] = addresses(OUTSIDE);
        let (id, addr) = self.with(|state| {
            let id = state.bind(OUTSIDE, SocketAddr::new(v4, port), options, false)?;
            state.listen(id, usize::MAX, None);
            Ok::<_, io::Error>((id, state.listener_addr(id)?))
        })?;
        Ok(PeerListener::new(self, id, addr))
    }

    /// Binds a hand-held socket of datagrams to a port of the host on which peers live; 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub fn bind_datagrams(&self, port: u16) -> io::Result<DatagramPeer> {
        let [v4, _] = addresses(OUTSIDE);
        let at = SocketAddr::new(v4, port);
        let (id, addr) = self.with(|state| {
            let id = state.bind_port(
                OUTSIDE,
                Some(at),
                None,
                DatagramBindOptions::default(),
                false,
            )?;
            Ok::<_, io::Error>((id, state.port_addr(id)?))
        })?;
        Ok(DatagramPeer::new(self, id, addr))
    }

    // Links.

    /// Sets the link between two hosts, in one direction, from now on.
    #[track_caller]
    pub fn set_link(&self, from: &Host, to: &Host, link: Link) {
        let from = self.id_of(from);
        let to = self.id_of(to);
        self.with(|state| state.wire(from, to).link = link);
    }

    /// Sets the link from a host to the [`Peer`]s and [`DatagramPeer`]s, from now on.
    #[track_caller]
    pub fn set_link_to_peers(&self, from: &Host, link: Link) {
        let from = self.id_of(from);
        self.with(|state| state.wire(from, OUTSIDE).link = link);
    }

    /// Cuts two hosts off from each other until they are [healed](Self::heal). Sent bytes wait, as
    /// retransmissions would. Datagrams that would arrive meanwhile are lost.
    #[track_caller]
    pub fn partition(&self, one: &Host, other: &Host) {
        let one = self.id_of(one);
        let other = self.id_of(other);
        self.with(|state| state.cut(one, other));
    }

    /// Ends a partition.
    #[track_caller]
    pub fn heal(&self, one: &Host, other: &Host) {
        let one = self.id_of(one);
        let other = self.id_of(other);
        self.with(|state| state.heal(one, other));
    }

    /// Ends all partitions.
    pub fn heal_all(&self) {
        self.with(|state| {
            for (one, other) in state.cut_wires() {
                state.heal(one, other);
            }
        });
    }

    /// Holds everything that is sent from now on until this time is over.
    #[track_caller]
    pub fn stall(&self, from: &Host, to: &Host, time: Duration) {
        let from = self.id_of(from);
        let to = self.id_of(to);
        self.with(|state| {
            let until = state.now().saturating_add(time);
            let wire = state.wire(from, to);
            wire.busy_until = wire.busy_until.max(until);
        });
    }

    /// Resets every connection between two hosts, at both ends, and returns their number. Connects that are
    /// under way are refused.
    #[track_caller]
    pub fn reset_connections(&self, one: &Host, other: &Host) -> usize {
        let one = self.id_of(one);
        let other = self.id_of(other);
        self.with(|state| {
            let ids = state.endpoints_between(one, other);
            // An end that has none on the other side yet, or no more, is one too.
            let pairs: BTreeSet<_> = ids
                .iter()
                .map(|&(id, peer)| peer.map_or(id, |peer| peer.min(id)))
                .collect();
            for (id, _) in ids {
                state.reset_arrived(id);
            }
            pairs.len()
        })
    }

    // Faults.

    /// Sets the faults from now on; `Faults::none()` ends them all.
    pub fn set_faults(&self, faults: &Faults) {
        self.with(|state| state.set_faults(faults));
    }

    /// Makes a fault strike the next `times` times that it could.
    pub fn force(&self, fault: Fault, times: u32) {
        self.with(|state| state.force(fault, times));
    }

    /// Returns how often each fault has struck.
    pub fn fault_counts(&self) -> FaultCounts {
        self.with(|state| state.fault_counts())
    }

    // The record.

    /// Returns the trace of all events so far.
    pub fn trace(&self) -> Trace {
        self.with(|state| state.trace().clone())
    }

    /// Writes a line of the test's own into the trace.
    pub fn note(&self, text: &str) {
        self.with(|state| state.note(("note", 0, 0), text.as_bytes(), || ""));
    }
}

impl State {
    /// Those that are not over, each with the one on the other side.
    fn endpoints_between(
        &self,
        one: HostId,
        other: HostId,
    ) -> Vec<(EndpointId, Option<EndpointId>)> {
        let between = self.endpoints.iter().filter(|(_, endpoint)| {
            let path = (endpoint.host, endpoint.peer_host);
            (path == (one, other) || path == (other, one))
                && endpoint.phase != Phase::Dead
                && !endpoint.is_over()
        });
        between.map(|(id, endpoint)| (*id, endpoint.peer)).collect()
    }
}
