//! How connections begin: listeners, knocks at them, and accepts.

use super::agenda::Event;
use super::endpoint::{Endpoint, EndpointId, Phase};
use super::kernel::EPHEMERAL_PORTS;
use super::state::{HostId, State, addresses, os_error};
use super::transmit::Arrival;
use crate::faults::{Fault, Faults};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tidegate::Address;
use tidegate::driver::{BindOptions, Readiness, Token};

/// A connect without a reply knocks again after one second, two, four and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The number of these repetitions (tcp_syn_retries of tcp(7)); the connect fails 64 seconds after the last.
const RETRIES: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerId(pub(super) usize);

#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) host: HostId,
    pub(super) addr: SocketAddr,
    options: BindOptions,
    pub(super) token: Option<Token>,
    /// `None` until it listens.
    backlog: Option<usize>,
    waiting: VecDeque<EndpointId>,
    of_loop: bool,
}

impl ListenerState {
    /// Returns whether a connect to this address of the host is for this listener.
    fn hears(&self, host: HostId, addr: SocketAddr) -> bool {
        self.host == host
            && self.backlog.is_some()
            && self.addr.port() == addr.port()
            && (self.addr.ip() == addr.ip() || self.covers(addr.ip()))
    }

    /// Returns whether it listens at every address of this one's family.
    fn covers(&self, ip: IpAddr) -> bool {
        let own = self.addr.ip();
        own.is_unspecified()
            && (own.is_ipv4() == ip.is_ipv4() || (own.is_ipv6() && !self.options.only_v6))
    }

    /// Returns whether it keeps another from its port.
    fn keeps_out(&self, other: &Self) -> bool {
        let (ip, other_ip) = (self.addr.ip(), other.addr.ip());
        self.host == other.host
            && self.addr.port() == other.addr.port()
            && (ip == other_ip || self.covers(other_ip) || other.covers(ip))
            && !(self.options.reuse_port && other.options.reuse_port)
    }

    /// Returns whether a connect finds no place: as on Linux, one more waits than the backlog says.
    fn is_full(&self) -> bool {
        self.backlog.is_some_and(|most| self.waiting.len() > most)
    }
}

pub(super) fn inet(address: &Address) -> io::Result<SocketAddr> {
    address.as_inet().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "a simulated world has no Unix sockets: use an IP address",
        )
    })
}

/// That of an address's family.
pub(super) fn loopback(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    }
}

/// Returns the address from which a host connects; `None` when it does not have the given one.
pub(super) fn source_ip(host: HostId, to: SocketAddr, from: Option<SocketAddr>) -> Option<IpAddr> {
    let own = addresses(host);
    let [v4, v6] = own;
    match from.map(|from| from.ip()) {
        Some(from) if from.is_ipv4() != to.is_ipv4() => None,
        Some(from) if own.contains(&from) || from.is_loopback() => Some(from),
        Some(from) if !from.is_unspecified() => None,
        _ if to.ip().is_loopback() => Some(loopback(to)),
        _ if to.is_ipv4() => Some(v4),
        _ => Some(v6),
    }
}

impl State {
    pub(super) fn bind(
        &mut self,
        host: HostId,
        addr: SocketAddr,
        options: BindOptions,
        of_loop: bool,
    ) -> io::Result<ListenerId> {
        let ip = addr.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && !addresses(host).contains(&ip) {
            return Err(os_error(libc::EADDRNOTAVAIL));
        }
        if of_loop {
            self.open_descriptor(host)?;
        }
        let mut listener = ListenerState {
            host,
            addr,
            options,
            token: None,
            backlog: None,
            waiting: VecDeque::new(),
            of_loop,
        };
        if let Err(error) = self.choose_port(&mut listener) {
            if of_loop {
                self.close_descriptor(host);
            }
            return Err(error);
        }
        let id = ListenerId(self.next_id());
        self.listeners.insert(id, listener);
        Ok(id)
    }

    /// Finds a free port for 0, and that another one is free.
    fn choose_port(&mut self, listener: &mut ListenerState) -> io::Result<()> {
        let any = listener.addr.port() == 0;
        let tries = if any { usize::from(EPHEMERAL_PORTS) } else { 1 };
        for _ in 0..tries {
            if any {
                let port = self.next_port(listener.host);
                listener.addr.set_port(port);
            }
            if !self
                .listeners
                .values()
                .any(|other| other.keeps_out(listener))
            {
                return Ok(());
            }
        }
        Err(os_error(libc::EADDRINUSE))
    }

    pub(super) fn listen(&mut self, id: ListenerId, backlog: usize, token: Option<Token>) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.backlog = Some(backlog);
            listener.token = token;
        }
    }

    pub(super) fn listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        let listener = self.listeners.get(&id);
        listener
            .map(|listener| listener.addr)
            .ok_or_else(|| os_error(libc::EBADF))
    }

    /// Closes it; connections that wait to be accepted are reset.
    pub(super) fn close_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.remove(&id) else {
            return;
        };
        if listener.of_loop {
            self.close_descriptor(listener.host);
        }
        for end in listener.waiting {
            self.drop_unaccepted(end);
        }
    }

    fn drop_unaccepted(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoint(id) {
            endpoint.orphan = true;
            self.send_reset(id);
        }
    }

    pub(super) fn accept(&mut self, id: ListenerId) -> io::Result<(EndpointId, SocketAddr)> {
        let listener = self
            .listeners
            .get(&id)
            .ok_or_else(|| os_error(libc::EBADF))?;
        let (host, of_loop) = (listener.host, listener.of_loop);
        let Some(&first) = listener.waiting.front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if of_loop {
            if self.dice.strikes(Fault::Interrupted) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.dice.strikes(Fault::AcceptAgain) {
                self.remind(id, Readiness::new().with_readable());
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.open_descriptor(host)?;
        }
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.waiting.pop_front();
        }
        if of_loop && self.dice.strikes(Fault::AcceptAborted) {
            self.close_descriptor(host);
            self.drop_unaccepted(first);
            return Err(os_error(libc::ECONNABORTED));
        }
        let endpoint = self
            .endpoint(first)
            .ok_or_else(|| os_error(libc::ECONNABORTED))?;
        endpoint.of_loop = of_loop;
        let remote = endpoint.remote;
        self.note(("accept", first.0 as u64, 0), &[], || {
            format!("{host} accepts {first}")
        });
        Ok((first, remote))
    }

    pub(super) fn connect(
        &mut self,
        host: HostId,
        mut to: SocketAddr,
        from: Option<SocketAddr>,
        of_loop: bool,
    ) -> io::Result<EndpointId> {
        if to.ip().is_unspecified() {
            to.set_ip(loopback(to));
        }
        let ip = source_ip(host, to, from).ok_or_else(|| os_error(libc::EADDRNOTAVAIL))?;
        if of_loop {
            if self.dice.strikes(Fault::ConnectUnreachable) {
                return Err(os_error(libc::EHOSTUNREACH));
            }
            self.open_descriptor(host)?;
        }
        let port = match from.map_or(0, |from| from.port()) {
            0 => self.next_port(host),
            port => port,
        };
        let local = SocketAddr::new(ip, port);
        let peer_host = self.who_has(host, to.ip());
        let mut endpoint = Endpoint::new(host, peer_host.unwrap_or(host), local, to);
        endpoint.of_loop = of_loop;
        let id = self.add_endpoint(endpoint);
        self.note(("connect", id.0 as u64, u64::from(to.port())), &[], || {
            format!("{host} {id} connects from {local} to {to}")
        });
        match peer_host {
            Some(peer) if !(of_loop && self.dice.strikes(Fault::ConnectTimedOut)) => {
                self.send_apart((host, peer), Arrival::Knock { from: id, tries: 0 });
            }
            _ => {
                let at = self.now() + Faults::CONNECT_TIMEOUT;
                self.schedule(at, Event::TimedOut(id));
            }
        }
        Ok(id)
    }

    /// A connect arrives at the host that has the address.
    pub(super) fn knock(&mut self, from: EndpointId, tries: u32) {
        let Some(endpoint) = self.endpoint(from) else {
            return;
        };
        if endpoint.phase != Phase::Connecting || endpoint.orphan {
            return;
        }
        let (host, peer_host, of_loop) = (endpoint.host, endpoint.peer_host, endpoint.of_loop);
        let (local, remote) = (endpoint.local, endpoint.remote);
        let Some(listener) = self.listener_at(peer_host, remote) else {
            self.send_apart((peer_host, host), Arrival::Refusal { to: from });
            return;
        };
        if self
            .listeners
            .get(&listener)
            .is_some_and(ListenerState::is_full)
        {
            self.knock_again(from, tries);
            return;
        }
        if of_loop && self.dice.strikes(Fault::ConnectRefused) {
            self.send_apart((peer_host, host), Arrival::Refusal { to: from });
            return;
        }
        let there = self.wire(host, peer_host).link.clone();
        let back = self.wire(peer_host, host).link.clone();
        let mut accepted = Endpoint::new(peer_host, host, remote, local);
        accepted.phase = Phase::Open;
        accepted.peer = Some(from);
        // Until it is accepted.
        accepted.of_loop = false;
        accepted.send_buffer = back.send_buffer;
        accepted.receive_buffer = there.receive_buffer;
        let accepted = self.add_endpoint(accepted);
        let welcome = Arrival::Welcome {
            from: accepted,
            to: from,
        };
        self.put_on_wire(accepted, 0, welcome);
        if let Some(endpoint) = self.endpoint(from) {
            endpoint.peer = Some(accepted);
            endpoint.send_buffer = there.send_buffer;
            endpoint.receive_buffer = back.receive_buffer;
        }
        if let Some(listener) = self.listeners.get_mut(&listener) {
            listener.waiting.push_back(accepted);
        }
        self.tell(listener, Readiness::new().with_readable());
    }

    /// Returns the listener there: rather one at that address than at every one, and by chance where
    /// several share a port.
    fn listener_at(&mut self, host: HostId, addr: SocketAddr) -> Option<ListenerId> {
        let hearing = self.listeners.iter();
        let hearing = hearing.filter(|(_, listener)| listener.hears(host, addr));
        let ids = |exact: bool| {
            let hearing = hearing.clone();
            let such = hearing.filter(move |(_, own)| (own.addr.ip() == addr.ip()) == exact);
            such.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let mut ids = [ids(true), ids(false)];
        let ids = ids.iter_mut().find(|ids| !ids.is_empty())?;
        let chosen = match ids.len() {
            1 => 0,
            several => self.dice.below(several),
        };
        Some(ids[chosen])
    }

    pub(super) fn knock_again(&mut self, from: EndpointId, tries: u32) {
        let Some(endpoint) = self.endpoint(from) else {
            return;
        };
        let path = (endpoint.host, endpoint.peer_host);
        let at = self.now() + FIRST_RETRY * 2_u32.saturating_pow(tries);
        let next = if tries < RETRIES {
            let tries = tries + 1;
            let what = Arrival::Knock { from, tries };
            Event::Arrival { path, what }
        } else {
            Event::TimedOut(from)
        };
        self.schedule(at, next);
    }

    /// The reply to a connect has arrived: the connection stands, unless it was cancelled.
    pub(super) fn welcomed(&mut self, accepted: EndpointId, to: EndpointId) {
        match self.endpoint(to) {
            Some(endpoint) if endpoint.phase == Phase::Connecting => endpoint.phase = Phase::Open,
            _ => {
                self.answer_with_reset(accepted);
                return;
            }
        }
        self.note(("open", to.0 as u64, 0), &[], || {
            format!("{to} is connected")
        });
        self.tell(to, Readiness::new().with_writable());
    }
}
