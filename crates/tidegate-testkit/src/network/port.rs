//! Sockets of datagrams: how they are bound, which datagrams are theirs, and what waits at them.

use super::kernel::EPHEMERAL_PORTS;
use super::listener::{loopback, source_ip};
use super::state::{HostId, State, addresses, os_error};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate::Address;
use tidegate::driver::{DatagramBindOptions, DatagramOption, Readiness, Received, Token};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortId(pub(super) usize);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A socket of datagrams, as the kernel of its host sees it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) host: HostId,
    pub(super) local: SocketAddr,
    pub(super) remote: Option<SocketAddr>,
    pub(super) options: DatagramBindOptions,
    pub(super) of_loop: bool,
    pub(super) token: Option<Token>,

    /// The datagrams that wait for the loop.
    pub(super) inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) inbox_bytes: usize,
    /// SO_RCVBUF and SO_SNDBUF; the link's unless set.
    pub(super) receive_buffer: Option<usize>,
    pub(super) send_buffer: Option<usize>,
    /// The bytes that the kernel has taken, and that are not on a link yet.
    pub(super) held: usize,
    /// The buffer that counted in the last send.
    pub(super) room: usize,
    /// An invented refusal: there is room again when its event happens.
    pub(super) feigns: bool,
    pub(super) watches_room: bool,
    /// SO_ERROR.
    pub(super) error: Option<i32>,
}

impl Port {
    /// Returns the readiness that epoll reports along with each change.
    pub(super) fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::new();
        if !self.inbox.is_empty() {
            readiness = readiness.with_readable();
        }
        if self.watches_room && self.has_much_room() {
            readiness = readiness.with_writable();
        }
        if self.error.is_some() {
            readiness = readiness.with_failed();
        }
        readiness
    }

    /// As Linux: half of the buffer must be free.
    pub(super) fn has_much_room(&self) -> bool {
        self.held * 2 <= self.room && !self.feigns
    }

    fn covers(&self, ip: IpAddr) -> bool {
        let own = self.local.ip();
        own.is_unspecified()
            && (own.is_ipv4() == ip.is_ipv4() || (own.is_ipv6() && !self.options.only_v6))
    }

    /// Returns whether a datagram is for this socket: a connected one hears its peer alone.
    fn hears(&self, host: HostId, from: SocketAddr, to: SocketAddr) -> bool {
        self.host == host
            && self.local.port() == to.port()
            && (self.local.ip() == to.ip() || self.covers(to.ip()))
            && self.remote.is_none_or(|remote| remote == from)
    }

    /// Returns whether it keeps another from its port.
    fn keeps_out(&self, other: &Self) -> bool {
        let (ip, other_ip) = (self.local.ip(), other.local.ip());
        let (own, others) = (self.options, other.options);
        self.host == other.host
            && self.local.port() == other.local.port()
            && (ip == other_ip || self.covers(other_ip) || other.covers(ip))
            && !(own.reuse_port && others.reuse_port)
            && !(own.reuse_address && others.reuse_address)
    }

    /// Returns an address in the form that this socket knows: one for both families sees IPv4 in IPv6.
    pub(super) fn seen(&self, mut addr: SocketAddr) -> SocketAddr {
        if let (IpAddr::V4(ip), true) = (addr.ip(), self.local.is_ipv6()) {
            addr.set_ip(ip.to_ipv6_mapped().into());
        }
        addr
    }
}

impl State {
    pub(super) fn port(&mut self, id: PortId) -> io::Result<&mut Port> {
        self.ports.get_mut(&id).ok_or_else(|| os_error(libc::EBADF))
    }

    /// Makes a socket that is bound to `local` and connected to `remote`, as far as they are given.
    pub(super) fn bind_port(
        &mut self,
        host: HostId,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
        options: DatagramBindOptions,
        of_loop: bool,
    ) -> io::Result<PortId> {
        let remote = remote.map(destination);
        let any = match local.or(remote) {
            Some(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        let mut local = local.unwrap_or(SocketAddr::new(any, 0));
        let ip = local.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && !addresses(host).contains(&ip) {
            return Err(os_error(libc::EADDRNOTAVAIL));
        }
        if let Some(remote) = remote {
            // As connect(2) does, it settles the own address.
            let from = self.source(host, local, remote, options)?;
            local.set_ip(from);
        }
        if of_loop {
            self.open_descriptor(host)?;
        }
        let mut port = Port {
            host,
            local,
            remote,
            options,
            of_loop,
            token: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            receive_buffer: None,
            send_buffer: None,
            held: 0,
            room: 0,
            feigns: false,
            watches_room: false,
            error: None,
        };
        if let Err(error) = self.choose_datagram_port(&mut port) {
            if of_loop {
                self.close_descriptor(host);
            }
            return Err(error);
        }
        let local = port.local;
        let id = PortId(self.next_id());
        self.ports.insert(id, port);
        self.note(("bind", id.0 as u64, u64::from(local.port())), &[], || {
            format!("{host} {id} is bound to {local}")
        });
        Ok(id)
    }

    /// Finds a free port for 0, and that another one is free.
    fn choose_datagram_port(&mut self, port: &mut Port) -> io::Result<()> {
        let any = port.local.port() == 0;
        let tries = if any { usize::from(EPHEMERAL_PORTS) } else { 1 };
        for _ in 0..tries {
            if any {
                let next = self.next_port(port.host);
                port.local.set_port(next);
            }
            if !self.ports.values().any(|other| other.keeps_out(port)) {
                return Ok(());
            }
        }
        Err(os_error(libc::EADDRINUSE))
    }

    /// Returns the address from which a socket sends.
    pub(super) fn source(
        &self,
        host: HostId,
        local: SocketAddr,
        to: SocketAddr,
        options: DatagramBindOptions,
    ) -> io::Result<IpAddr> {
        let plain = destination(to);
        if is_broadcast(plain) && !options.broadcast {
            return Err(os_error(libc::EACCES));
        }
        if local.is_ipv4() && plain.is_ipv6() {
            return Err(os_error(libc::EAFNOSUPPORT));
        }
        let own = local.ip();
        let bound = (!own.is_unspecified()).then_some(local);
        if local.is_ipv6() && plain.is_ipv4() && (bound.is_some() || options.only_v6) {
            return Err(os_error(libc::ENETUNREACH));
        }
        if own.is_loopback() && !is_broadcast(plain) && self.who_has(host, plain.ip()) != Some(host)
        {
            return Err(os_error(libc::EINVAL));
        }
        source_ip(host, plain, bound).ok_or_else(|| os_error(libc::EADDRNOTAVAIL))
    }

    pub(super) fn port_addr(&self, id: PortId) -> io::Result<SocketAddr> {
        let port = self.ports.get(&id);
        port.map(|port| port.local)
            .ok_or_else(|| os_error(libc::EBADF))
    }

    pub(super) fn register_port(&mut self, id: PortId, token: Token) -> io::Result<()> {
        let port = self.port(id)?;
        port.token = Some(token);
        let ready = port.readiness();
        if ready != Readiness::new() {
            self.tell(id, ready);
        }
        Ok(())
    }

    /// As epoll_ctl(2), which reports at once what is there.
    pub(super) fn watch_room(&mut self, id: PortId, on: bool) -> io::Result<()> {
        let port = self.port(id)?;
        port.watches_room = on;
        if on && port.has_much_room() {
            self.tell(id, Readiness::new().with_writable());
        }
        Ok(())
    }

    pub(super) fn set_port_option(&mut self, id: PortId, option: DatagramOption) -> io::Result<()> {
        let port = self.port(id)?;
        match option {
            DatagramOption::SendBuffer(bytes) => port.send_buffer = Some(bytes.max(1) as usize),
            DatagramOption::ReceiveBuffer(bytes) => {
                port.receive_buffer = Some(bytes.max(1) as usize);
            }
            DatagramOption::Broadcast(on) => port.options.broadcast = on,
            DatagramOption::Join(..) | DatagramOption::Leave(..) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a simulated world has no multicast",
                ));
            }
            // They change nothing that a world has.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn close_port(&mut self, id: PortId) {
        let Some(port) = self.ports.remove(&id) else {
            return;
        };
        if port.of_loop {
            self.close_descriptor(port.host);
        }
        self.note(("close", id.0 as u64, 0), &[], || format!("{id} close"));
    }

    /// Returns the socket there: rather a connected one, then one at that address, then one at every
    /// address. Of several that share a port, each sender has its own (SO_REUSEPORT); else the last one bound
    /// counts (SO_REUSEADDR).
    pub(super) fn port_at(&self, host: HostId, from: SocketAddr, to: SocketAddr) -> Option<PortId> {
        let hearing = self.ports.iter();
        let hearing = hearing.filter(|(_, port)| port.hears(host, from, to));
        let rank = |port: &Port| (port.remote.is_some(), port.local.ip() == to.ip());
        let best = hearing.clone().map(|(_, port)| rank(port)).max()?;
        let best: Vec<_> = hearing.filter(|(_, port)| rank(port) == best).collect();
        let shared = best.iter().all(|(_, port)| port.options.reuse_port);
        let chosen = if shared {
            usize::from(from.port()) % best.len()
        } else {
            best.len() - 1
        };
        best.get(chosen).map(|(id, _)| **id)
    }
}

impl Port {
    /// Takes the first datagram, whole.
    pub(super) fn take_one(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let first = self.inbox.pop_front()?;
        self.inbox_bytes -= cost(first.1.len());
        Some(first)
    }

    /// Takes the first datagram, and up to `most` of its sender and of its length, the last maybe shorter.
    pub(super) fn take(&mut self, buffer: &mut [u8], most: usize) -> Received {
        let mut received = Received {
            len: 0,
            segment: 0,
            from: Address::Unnamed,
        };
        for n in 0..most {
            if n > 0 && !self.goes_on(&received, buffer.len()) {
                break;
            }
            let Some((from, data)) = self.take_one() else {
                break;
            };
            let room = &mut buffer[received.len..];
            let len = data.len().min(room.len());
            room[..len].copy_from_slice(&data[..len]);
            received.len += len;
            if n == 0 {
                received.segment = len;
                received.from = from.into();
            } else if len < received.segment {
                break;
            }
        }
        received
    }

    /// Returns whether the next datagram may come in the call that received these.
    fn goes_on(&self, received: &Received, room: usize) -> bool {
        self.inbox.front().is_some_and(|(from, data)| {
            received.from == Address::Inet(*from)
                && (1..=received.segment).contains(&data.len())
                // A full buffer would tell of a datagram that is cut off.
                && received.len + data.len() < room
        })
    }

    /// Returns whether one call could bring two datagrams.
    pub(super) fn may_come_together(&self, room: usize) -> bool {
        let mut waiting = self.inbox.iter();
        let (Some((from, first)), Some((next, second))) = (waiting.next(), waiting.next()) else {
            return false;
        };
        from == next
            && (1..=first.len()).contains(&second.len())
            && first.len() + second.len() < room
    }
}

/// The part of a receive buffer that a datagram takes: some, also when it is empty.
pub(super) fn cost(len: usize) -> usize {
    len.max(1)
}

/// Returns whether an address stands for every host.
pub(super) fn is_broadcast(to: SocketAddr) -> bool {
    to.ip() == Ipv4Addr::BROADCAST
}

/// Returns the address that a datagram to this one goes to: one of IPv4 that is written as one of IPv6 is itself.
pub(super) fn destination(mut to: SocketAddr) -> SocketAddr {
    to.set_ip(to.ip().to_canonical());
    if to.ip().is_unspecified() {
        to.set_ip(loopback(to));
    }
    to
}
