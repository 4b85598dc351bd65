//! Endpoints of datagrams in tests: the record of their callbacks, and plain sockets as peers.

use crate::{BOUND, TempDir, has_ipv6};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    Address, Closed, DatagramOptions, DatagramProtocol, DatagramTransport, EventLoop, OnPause,
    Result,
};
use tidegate_testkit::{DatagramRecorder, Log, Seen};

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

/// An error of a datagram: its text, the address and the length.
pub type HeardError = (String, Option<Address>, Option<usize>);

/// The action on a datagram.
type OnDatagram = Box<dyn FnMut(&DatagramTransport, &[u8], &Address) -> Result>;

/// The record of an endpoint's [protocol](Self::protocol). The test sets the action on a datagram. A clone is the same.
#[derive(Clone, Default)]
pub struct Heard {
    log: Log,
    errors: Rc<RefCell<Vec<HeardError>>>,
    action: Rc<RefCell<Option<OnDatagram>>>,
    keeps_reading: bool,
}

impl Heard {
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

    /// The protocol, for one endpoint.
    pub fn protocol(&self) -> DatagramRecorder {
        let (errors, action) = (self.errors.clone(), self.action.clone());
        let recorder = DatagramRecorder::new(&self.log)
            .on_datagram(
                move |transport, data, from| match &mut *action.borrow_mut() {
                    Some(action) => action(transport, data, from),
                    None => Ok(()),
                },
            )
            .on_error(move |_, error| {
                let text = error.error().to_string();
                let heard = (text, error.to().cloned(), error.len());
                errors.borrow_mut().push(heard);
                Ok(())
            });
        if self.keeps_reading {
            return recorder.on_pause(|_| Ok(OnPause::KeepReading));
        }
        recorder
    }

    /// Everything so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen()
    }

    /// The datagrams so far.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        self.log.datagrams()
    }

    /// The errors so far.
    pub fn errors(&self) -> Vec<HeardError> {
        self.errors.borrow().clone()
    }

    /// How it ended.
    pub fn closed(&self) -> Option<Closed> {
        self.log.is_lost().then(|| self.log.closed())
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen().fmt(f)
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

/// Makes an endpoint whose callbacks the test hears of.
#[track_caller]
pub fn endpoint(
    event_loop: &EventLoop,
    options: impl Into<DatagramOptions>,
    heard: &Heard,
) -> DatagramTransport {
    let handle = event_loop.handle();
    ok(handle.create_datagram_endpoint(options, heard.protocol()))
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
