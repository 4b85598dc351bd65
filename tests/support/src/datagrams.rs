//! Endpoints of datagrams in tests: a protocol that records its callbacks, and plain sockets as peers.

use crate::{BOUND, TempDir, has_ipv6};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    Address, Closed, DatagramError, DatagramOptions, DatagramProtocol, DatagramTransport,
    EventLoop, OnPause, Result,
};

/// The wire under an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests list all of them")]
pub enum Datagrams {
    /// UDP on IPv4.
    V4,
    /// UDP on IPv6.
    V6,
    /// Unix sockets.
    Unix,
}

impl Datagrams {
    /// Every wire that this machine has.
    pub fn each() -> impl Iterator<Item = Self> {
        let all = [Self::V4, Self::V6, Self::Unix];
        all.into_iter()
            .filter(|wire| *wire != Self::V6 || has_ipv6())
    }

    /// Those of UDP.
    pub fn of_udp() -> impl Iterator<Item = Self> {
        Self::each().filter(|wire| *wire != Self::Unix)
    }

    /// Options for a new address in `dir`.
    pub fn local(self, dir: &TempDir, name: &str) -> DatagramOptions {
        match self {
            Self::V4 => "127.0.0.1:0".into(),
            Self::V6 => "[::1]:0".into(),
            Self::Unix => Address::Unix(dir.path(name)).into(),
        }
    }
}

/// A plain socket of datagrams, with a bound on every wait.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "tests list all of them")]
pub enum DatagramPeer {
    /// Of UDP.
    Udp(UdpSocket),
    /// Of Unix.
    Unix(UnixDatagram),
}

impl DatagramPeer {
    /// Binds one.
    #[track_caller]
    pub fn new(wire: Datagrams, dir: &TempDir, name: &str) -> Self {
        match wire {
            Datagrams::V4 => Self::udp("127.0.0.1:0"),
            Datagrams::V6 => Self::udp("[::1]:0"),
            Datagrams::Unix => {
                let socket = ok(UnixDatagram::bind(dir.path(name)));
                ok(socket.set_read_timeout(Some(BOUND)));
                Self::Unix(socket)
            }
        }
    }

    #[track_caller]
    fn udp(at: &str) -> Self {
        let socket = ok(UdpSocket::bind(at));
        ok(socket.set_read_timeout(Some(BOUND)));
        Self::Udp(socket)
    }

    /// Its address.
    #[track_caller]
    pub fn address(&self) -> Address {
        match self {
            Self::Udp(socket) => Address::Inet(ok(socket.local_addr())),
            Self::Unix(socket) => {
                let addr = ok(socket.local_addr());
                addr.as_pathname()
                    .map_or(Address::Unnamed, |path| Address::Unix(path.to_owned()))
            }
        }
    }

    /// Sends a datagram.
    #[track_caller]
    pub fn send_to(&self, data: &[u8], to: &Address) {
        let sent = self.try_send_to(data, to);
        assert_eq!(ok(sent), data.len());
    }

    /// Sends a datagram, or not.
    pub fn try_send_to(&self, data: &[u8], to: &Address) -> io::Result<usize> {
        match (self, to) {
            (Self::Udp(socket), Address::Inet(to)) => socket.send_to(data, to),
            (Self::Unix(socket), Address::Unix(path)) => socket.send_to(data, path),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Waits for a datagram.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        let len = match self {
            Self::Udp(socket) => ok(socket.recv(&mut buffer)),
            Self::Unix(socket) => ok(socket.recv(&mut buffer)),
        };
        buffer.truncate(len);
        buffer
    }
}

/// A callback, as it was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the callbacks")]
#[expect(clippy::exhaustive_enums, reason = "tests list all of them")]
pub enum Heard {
    Made,
    Datagram(Vec<u8>, Address),
    /// The error's text, the address and the length.
    Error(String, Option<Address>, Option<usize>),
    Pause,
    Resume,
    Lost(Closed),
}

/// The action on a datagram.
type OnDatagram = Box<dyn FnMut(&DatagramTransport, &[u8], &Address) -> Result>;

/// Notes its callbacks. The test sets the action on a datagram.
#[derive(Clone, Default)]
pub struct DatagramRecorder {
    heard: Rc<RefCell<Vec<Heard>>>,
    action: Rc<RefCell<Option<OnDatagram>>>,
    keeps_reading: bool,
}

impl DatagramRecorder {
    /// Sets the action on a datagram.
    #[must_use]
    pub fn on_datagram(
        self,
        action: impl FnMut(&DatagramTransport, &[u8], &Address) -> Result + 'static,
    ) -> Self {
        self.action.replace(Some(Box::new(action)));
        self
    }

    /// One that returns each datagram.
    pub fn echo() -> Self {
        Self::default().on_datagram(|transport, data, from| {
            transport.send_to(data, from)?;
            Ok(())
        })
    }

    /// One that reads on while it is paused.
    #[must_use]
    pub fn keeps_reading(mut self) -> Self {
        self.keeps_reading = true;
        self
    }

    /// Everything so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.borrow().clone()
    }

    /// The datagrams so far.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.borrow();
        let datagrams = heard.iter().filter_map(|heard| match heard {
            Heard::Datagram(data, _) => Some(data.clone()),
            _ => None,
        });
        datagrams.collect()
    }

    /// The errors so far.
    pub fn errors(&self) -> Vec<(String, Option<Address>, Option<usize>)> {
        let heard = self.heard.borrow();
        let errors = heard.iter().filter_map(|heard| match heard {
            Heard::Error(text, to, len) => Some((text.clone(), to.clone(), *len)),
            _ => None,
        });
        errors.collect()
    }

    /// How it ended.
    pub fn closed(&self) -> Option<Closed> {
        match self.heard.borrow().last() {
            Some(Heard::Lost(closed)) => Some(closed.clone()),
            _ => None,
        }
    }

    fn note(&self, heard: Heard) {
        let mut all = self.heard.borrow_mut();
        assert!(
            !matches!(all.last(), Some(Heard::Lost(_))),
            "{heard:?} after connection_lost"
        );
        assert_eq!(heard == Heard::Made, all.is_empty(), "{heard:?} in {all:?}");
        all.push(heard);
    }
}

impl fmt::Debug for DatagramRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heard.fmt(f)
    }
}

impl DatagramProtocol for DatagramRecorder {
    fn connection_made(&mut self, _: &DatagramTransport) -> Result {
        self.note(Heard::Made);
        Ok(())
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        self.note(Heard::Datagram(data.to_vec(), from.clone()));
        match &mut *self.action.borrow_mut() {
            Some(action) => action(transport, data, from),
            None => Ok(()),
        }
    }

    fn error_received(&mut self, _: &DatagramTransport, error: &DatagramError) -> Result {
        let text = error.error().to_string();
        self.note(Heard::Error(text, error.to().cloned(), error.len()));
        Ok(())
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        self.note(Heard::Pause);
        if self.keeps_reading || transport.remote_addr().is_some() {
            return Ok(OnPause::KeepReading);
        }
        Ok(OnPause::StopReading)
    }

    fn resume_writing(&mut self, _: &DatagramTransport) -> Result {
        self.note(Heard::Resume);
        Ok(())
    }

    fn connection_lost(&mut self, _: &DatagramTransport, closed: &Closed) {
        self.note(Heard::Lost(closed.clone()));
    }
}

/// Asks for the echo of numbers, each second anew for those that have not come, and closes when all have.
#[derive(Debug)]
pub struct Asker {
    to: Address,
    /// The numbers whose echo has not come.
    missing: Vec<u8>,
    done: Rc<Cell<bool>>,
}

impl Asker {
    /// One that asks for the numbers up to `count`.
    pub fn new(to: SocketAddr, count: u8, done: &Rc<Cell<bool>>) -> Self {
        Self {
            to: to.into(),
            missing: (0..count).collect(),
            done: done.clone(),
        }
    }

    fn ask(&mut self, transport: &DatagramTransport) -> Result {
        for number in &self.missing {
            transport.send_to(&[*number; 10], &self.to)?;
        }
        let later = Duration::from_secs(1);
        transport.call_later(later, |this: &mut Self, transport| this.ask(transport));
        Ok(())
    }
}

impl DatagramProtocol for Asker {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.ask(transport)
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        assert_eq!((data, from), (&[data[0]; 10][..], &self.to));
        self.missing.retain(|number| *number != data[0]);
        if self.missing.is_empty() {
            self.done.set(true);
            transport.close();
        }
        Ok(())
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, _: &Closed) {
        assert_accounted(transport);
    }
}

/// Makes an endpoint whose protocol the test keeps a copy of.
#[track_caller]
pub fn endpoint(
    event_loop: &EventLoop,
    options: impl Into<DatagramOptions>,
    protocol: &DatagramRecorder,
) -> DatagramTransport {
    let made = event_loop
        .handle()
        .create_datagram_endpoint(options, protocol.clone());
    ok(made)
}

/// Checks that every datagram that was taken is somewhere.
#[track_caller]
pub fn assert_accounted(transport: &DatagramTransport) {
    let stats = transport.stats();
    let places = stats.sent + stats.failed + stats.dropped + stats.queued;
    assert_eq!(stats.taken, places, "{stats:?}");
}

#[track_caller]
fn ok<T>(result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
