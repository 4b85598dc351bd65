//! How connections begin: listeners, knocks at them, and accepts.

use super::end::{End, EndId, Phase};
use super::state::{Happening, HostId, State, addresses, os_error};
use crate::faults::{Fault, Faults};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::Address;
use tidegate::driver::{BindOptions, Readiness, Token};

/// A connect that nobody answers knocks again after one second, two, four and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);

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
    waiting: VecDeque<EndId>,
    of_loop: bool,
}

impl ListenerState {
    fn hears(&self, host: HostId, addr: SocketAddr) -> bool {
        let ip = self.addr.ip();
        let every = ip.is_unspecified()
            && (ip.is_ipv4() == addr.is_ipv4() || (ip.is_ipv6() && !self.options.only_v6));
        self.host == host
            && self.backlog.is_some()
            && self.addr.port() == addr.port()
            && (ip == addr.ip() || every)
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

impl State {
    pub(super) fn bind(
        &mut self,
        host: HostId,
        mut addr: SocketAddr,
        options: BindOptions,
        of_loop: bool,
    ) -> io::Result<ListenerId> {
        let ip = addr.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && !addresses(host).contains(&ip) {
            return Err(os_error(libc::EADDRNOTAVAIL));
        }
        if addr.port() == 0 {
            addr.set_port(self.next_port(host));
        }
        let taken = self.listeners.values().any(|other| {
            other.host == host
                && other.addr == addr
                && !(other.options.reuse_port && options.reuse_port)
        });
        if taken {
            return Err(os_error(libc::EADDRINUSE));
        }
        if of_loop {
            self.open_descriptor(host)?;
        }
        let next = self
            .listeners
            .keys()
            .next_back()
            .map_or(0, |last| last.0 + 1);
        let id = ListenerId(next);
        self.listeners.insert(
            id,
            ListenerState {
                host,
                addr,
                options,
                token: None,
                backlog: None,
                waiting: VecDeque::new(),
                of_loop,
            },
        );
        Ok(id)
    }

    pub(super) fn listen(&mut self, id: ListenerId, backlog: usize, token: Option<Token>) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.backlog = Some(backlog.max(1));
            listener.token = token;
        }
    }

    pub(super) fn listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        let listener = self.listeners.get(&id);
        listener
            .map(|listener| listener.addr)
            .ok_or_else(|| os_error(libc::EBADF))
    }

    /// Closes it; what waits to be accepted is reset.
    pub(super) fn close_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.remove(&id) else {
            return;
        };
        if listener.of_loop {
            let kernel = self.host(listener.host);
            kernel.descriptors = kernel.descriptors.saturating_sub(1);
        }
        for end in listener.waiting {
            self.drop_unaccepted(end);
        }
    }

    fn drop_unaccepted(&mut self, id: EndId) {
        if let Some(end) = self.end(id) {
            end.orphan = true;
            self.send_reset(id);
        }
    }

    pub(super) fn accept(&mut self, id: ListenerId) -> io::Result<(EndId, SocketAddr)> {
        let listener = self
            .listeners
            .get(&id)
            .ok_or_else(|| os_error(libc::EBADF))?;
        let (host, token, of_loop) = (listener.host, listener.token, listener.of_loop);
        let Some(&first) = listener.waiting.front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if of_loop {
            if self.dice.strikes(Fault::Interrupted) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.dice.strikes(Fault::AcceptAgain) {
                self.remind_listener(host, token);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.open_descriptor(host)?;
        }
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.waiting.pop_front();
        }
        if of_loop && self.dice.strikes(Fault::AcceptAborted) {
            let kernel = self.host(host);
            kernel.descriptors = kernel.descriptors.saturating_sub(1);
            self.drop_unaccepted(first);
            return Err(os_error(libc::ECONNABORTED));
        }
        let end = self
            .end(first)
            .ok_or_else(|| os_error(libc::ECONNABORTED))?;
        end.of_loop = of_loop;
        let remote = end.remote;
        self.note(("accept", first.0 as u64, 0), &[], || {
            format!("{host} accepts {first}")
        });
        Ok((first, remote))
    }

    pub(super) fn connect(
        &mut self,
        host: HostId,
        to: SocketAddr,
        from: Option<SocketAddr>,
        of_loop: bool,
    ) -> io::Result<EndId> {
        let own = addresses(host);
        let [v4, v6] = own;
        let ip = match from {
            Some(from) if from.is_ipv4() != to.is_ipv4() => {
                return Err(os_error(libc::EADDRNOTAVAIL));
            }
            Some(from) if own.contains(&from.ip()) || from.ip().is_loopback() => from.ip(),
            Some(from) if !from.ip().is_unspecified() => {
                return Err(os_error(libc::EADDRNOTAVAIL));
            }
            _ if to.ip().is_loopback() => to.ip(),
            _ if to.is_ipv4() => v4,
            _ => v6,
        };
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
        let mut end = End::new(host, peer_host.unwrap_or(host), local, to);
        end.of_loop = of_loop;
        let id = self.add_end(end);
        self.note(("connect", id.0 as u64, u64::from(to.port())), &[], || {
            format!("{host} {id} connects from {local} to {to}")
        });
        match peer_host {
            Some(peer) if !(of_loop && self.dice.strikes(Fault::ConnectTimedOut)) => {
                let at = self.arrival(host, peer, 0);
                self.schedule(at, Happening::Knock { from: id, tries: 0 });
            }
            _ => {
                let at = self.now() + Faults::CONNECT_TIMEOUT;
                self.schedule(
                    at,
                    Happening::Refusal {
                        to: id,
                        errno: libc::ETIMEDOUT,
                    },
                );
            }
        }
        Ok(id)
    }

    /// A connect arrives at the host that has the address.
    pub(super) fn knock(&mut self, from: EndId, tries: u32) {
        let Some(end) = self.end(from) else { return };
        if end.phase != Phase::Connecting || end.orphan {
            return;
        }
        let (host, peer_host, of_loop) = (end.host, end.peer_host, end.of_loop);
        let (local, remote) = (end.local, end.remote);
        let listener = self
            .listeners
            .iter_mut()
            .find(|(_, listener)| listener.hears(peer_host, remote))
            .map(|(id, listener)| {
                let full = listener
                    .backlog
                    .is_some_and(|most| listener.waiting.len() >= most);
                (*id, full)
            });
        if self.wire(host, peer_host).cut || listener.is_some_and(|(_, full)| full) {
            self.knock_again(from, tries);
            return;
        }
        let refused = of_loop && self.dice.strikes(Fault::ConnectRefused);
        let Some((listener, _)) = listener.filter(|_| !refused) else {
            let at = self.arrival(peer_host, host, 0);
            self.schedule(
                at,
                Happening::Refusal {
                    to: from,
                    errno: libc::ECONNREFUSED,
                },
            );
            return;
        };
        let mut accepted = End::new(peer_host, host, remote, local);
        accepted.phase = Phase::Open;
        accepted.peer = Some(from);
        accepted.of_loop = false;
        accepted.send_buffer = self.wire(peer_host, host).link.send_buffer;
        accepted.receive_buffer = self.wire(host, peer_host).link.receive_buffer;
        let accepted = self.add_end(accepted);
        self.put_on_wire(
            accepted,
            0,
            Happening::Welcome {
                from: accepted,
                to: from,
            },
        );
        let (send_buffer, receive_buffer) = (
            self.wire(host, peer_host).link.send_buffer,
            self.wire(peer_host, host).link.receive_buffer,
        );
        if let Some(end) = self.end(from) {
            end.peer = Some(accepted);
            end.send_buffer = send_buffer;
            end.receive_buffer = receive_buffer;
        }
        if let Some(listener) = self.listeners.get_mut(&listener) {
            listener.waiting.push_back(accepted);
            if let Some(token) = listener.token {
                self.tell_token(peer_host, token, Readiness::new().with_readable());
            }
        }
    }

    fn knock_again(&mut self, from: EndId, tries: u32) {
        let pause = FIRST_RETRY * 2_u32.saturating_pow(tries);
        let waited = pause.saturating_sub(FIRST_RETRY);
        if waited + pause > Faults::CONNECT_TIMEOUT {
            self.reset_arrived(from, libc::ETIMEDOUT);
            return;
        }
        let at = self.now() + pause;
        self.schedule(
            at,
            Happening::Knock {
                from,
                tries: tries + 1,
            },
        );
    }

    /// The answer to a connect is here: the connection stands, unless it was given up.
    pub(super) fn welcomed(&mut self, accepted: EndId, to: EndId) {
        match self.end(to) {
            Some(end) if end.phase == Phase::Connecting => end.phase = Phase::Open,
            Some(_) => return,
            None => {
                self.reset_back(accepted);
                return;
            }
        }
        self.note(("open", to.0 as u64, 0), &[], || {
            format!("{to} is connected")
        });
        self.tell(to, Readiness::new().with_writable());
    }
}
