//! Loopback addresses that treat a connect in different ways, and names for them.

use crate::{BOUND, Peer};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidegate::Address;

/// The IPv6 loopback address.
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// 127.0.0.`last`.
pub const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Whether this machine can use ::1; says so when it cannot.
pub fn has_ipv6() -> bool {
    let has = std::net::TcpListener::bind((V6, 0)).is_ok();
    if !has {
        println!("no ::1 on this machine: what needs it was left out");
    }
    has
}

/// The treatment of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match it")]
pub enum Fate {
    /// It listens: connects stand, and wait to be accepted.
    Good,
    /// Nobody listens, and nobody else can take the port.
    Refusing,
    /// Its backlog is full: connects get no reply.
    Hanging,
}

/// A host at a loopback address.
#[derive(Debug)]
pub struct Host {
    socket: Socket,
    addr: SocketAddr,
    /// Fill the backlog as long as they live.
    _fillers: Vec<TcpStream>,
}

impl Host {
    /// One of that kind, at a free port.
    #[track_caller]
    pub fn new(fate: Fate, ip: IpAddr) -> Self {
        match Self::try_new(fate, ip) {
            Ok(host) => host,
            Err(error) => panic!("a {fate:?} host at {ip}: {error}"),
        }
    }

    fn try_new(fate: Fate, ip: IpAddr) -> io::Result<Self> {
        let addr = SocketAddr::new(ip, 0);
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.bind(&addr.into())?;
        let addr = socket.local_addr()?.as_socket();
        let addr = addr.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut fillers = Vec::new();
        match fate {
            Fate::Good => socket.listen(128)?,
            Fate::Refusing => {}
            Fate::Hanging => {
                socket.listen(0)?;
                // Linux takes one. The last try shows that there is no more room.
                let mut patience = BOUND;
                while let Ok(filler) = TcpStream::connect_timeout(&addr, patience) {
                    patience = Duration::from_millis(30);
                    fillers.push(filler);
                    assert!(fillers.len() < 64, "the backlog never fills");
                }
            }
        }
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            addr,
            _fillers: fillers,
        })
    }

    /// A host that accepts.
    #[track_caller]
    pub fn good(ip: IpAddr) -> Self {
        Self::new(Fate::Good, ip)
    }

    /// A host that refuses.
    #[track_caller]
    pub fn refusing(ip: IpAddr) -> Self {
        Self::new(Fate::Refusing, ip)
    }

    /// A host that does not reply.
    #[track_caller]
    pub fn hanging(ip: IpAddr) -> Self {
        Self::new(Fate::Hanging, ip)
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it is, as the library says it.
    pub fn address(&self) -> Address {
        Address::Inet(self.addr)
    }

    /// The connection that has waited longest, and where it comes from, if there is one.
    pub fn accept(&self) -> Option<(Peer, SocketAddr)> {
        match self.socket.accept() {
            Ok((socket, from)) => Some((Peer::new(socket), from.as_socket()?)),
            Err(_) => None,
        }
    }

    /// As [`accept`](Host::accept), of one that must be there.
    #[track_caller]
    pub fn accepted(&self) -> (Peer, SocketAddr) {
        match self.accept() {
            Some(accepted) => accepted,
            None => panic!("nobody has connected to {}", self.addr),
        }
    }

    /// Returns the number of sockets of this machine that wait for a reply of an IPv4 host (proc_net(5)).
    #[track_caller]
    pub fn waiting_for_it(&self) -> usize {
        const SYN_SENT: &str = "02";
        let SocketAddr::V4(addr) = self.addr else {
            panic!("{} is not in the table of IPv4", self.addr)
        };
        let ip = u32::from_ne_bytes(addr.ip().octets());
        let remote = format!("{ip:08X}:{:04X}", addr.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        assert!(table.contains("rem_address"), "no table of TCP sockets");
        let rows = table.lines().map(|line| line.split_whitespace());
        rows.filter(|row| {
            let fields: Vec<_> = row.clone().take(4).collect();
            fields.len() == 4 && fields[2] == remote && fields[3] == SYN_SENT
        })
        .count()
    }
}

type Answer = io::Result<Vec<SocketAddr>>;

/// A resolver that knows the names it is given, and no others.
pub fn knows<const N: usize>(
    names: [(&str, Vec<SocketAddr>); N],
) -> impl Fn(&str, u16) -> Answer + Send + Sync + 'static {
    let names = names.map(|(name, addresses)| (name.to_owned(), addresses));
    move |host, _| match names.iter().find(|(name, _)| name == host) {
        Some((_, addresses)) => Ok(addresses.clone()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
    }
}

/// Holds threads up until the test opens it; also when it is dropped.
#[derive(Debug, Default)]
pub struct Gate(Arc<Entrance>);

#[derive(Debug, Default)]
struct Entrance {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entered: Vec<String>,
    open: bool,
}

impl Entrance {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, done: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + BOUND;
        let mut state = self.lock();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain at a gate: {state:?}");
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A resolver that waits at the gate with names that begin with `slow`, then returns the result of
    /// `then`.
    pub fn before(
        &self,
        then: impl Fn(&str, u16) -> Answer + Send + Sync + 'static,
    ) -> impl Fn(&str, u16) -> Answer + Send + Sync + 'static {
        let entrance = self.0.clone();
        move |host, port| {
            entrance.lock().entered.push(host.to_owned());
            entrance.changed.notify_all();
            if host.starts_with("slow") {
                entrance.wait_until(|state| state.open);
            }
            then(host, port)
        }
    }

    /// The names that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.0.lock().entered.clone()
    }

    /// Waits until `asked` names were asked for.
    pub fn wait_for(&self, asked: usize) {
        self.0.wait_until(|state| state.entered.len() >= asked);
    }

    /// Lets everybody through.
    pub fn open(&self) {
        self.0.lock().open = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}
