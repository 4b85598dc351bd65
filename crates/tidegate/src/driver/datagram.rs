//! Sockets of datagrams: the trait of one of another world, and the type that stands for both.

use super::of_another_driver;
use super::os::{Kind, OsDatagrams};
#[cfg(feature = "offload")]
use crate::Arrival;
use crate::{Address, Departure, Interface};
use std::any::Any;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// How a socket of datagrams is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct DatagramBindOptions {
    /// SO_REUSEADDR.
    pub reuse_address: bool,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub only_v6: bool,
    /// SO_BROADCAST, which connect(2) asks for.
    pub broadcast: bool,
}

/// An option of a socket of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatagramOption {
    /// SO_BROADCAST.
    Broadcast(bool),
    /// SO_SNDBUF in bytes.
    SendBuffer(u32),
    /// SO_RCVBUF in bytes.
    ReceiveBuffer(u32),
    /// IP_TTL, or IPV6_UNICAST_HOPS.
    Hops(u32),
    /// IP_TOS, or IPV6_TCLASS.
    TrafficClass(u32),
    /// IP_MULTICAST_LOOP, or IPV6_MULTICAST_LOOP.
    MulticastLoop(bool),
    /// IP_MULTICAST_TTL, or IPV6_MULTICAST_HOPS.
    MulticastHops(u32),
    /// IP_MULTICAST_IF, or IPV6_MULTICAST_IF.
    MulticastInterface(Interface),
    /// IP_ADD_MEMBERSHIP, or IPV6_JOIN_GROUP.
    Join(IpAddr, Interface),
    /// IP_DROP_MEMBERSHIP, or IPV6_LEAVE_GROUP.
    Leave(IpAddr, Interface),
    /// UDP_GRO.
    #[cfg(feature = "offload")]
    Coalesce,
    /// IP_RECVTOS, and IPV6_RECVTCLASS.
    #[cfg(feature = "offload")]
    ReceiveEcn,
    /// IP_PKTINFO, or IPV6_RECVPKTINFO.
    #[cfg(feature = "offload")]
    ReceiveDestination,
}

impl DatagramOption {
    /// Returns whether datagrams leave in another way with it.
    pub(crate) fn is_of_sent(self) -> bool {
        matches!(
            self,
            Self::Broadcast(_)
                | Self::Hops(_)
                | Self::TrafficClass(_)
                | Self::MulticastLoop(_)
                | Self::MulticastHops(_)
                | Self::MulticastInterface(_)
        )
    }
}

/// A datagram that was received, or several of one sender that came in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct Received {
    /// The number of bytes in the buffer.
    pub len: usize,
    /// The length of each datagram but the last, which may be shorter. `len` for a single one.
    pub segment: usize,
    /// The sender.
    pub from: Address,
}

impl Received {
    #[inline(always)]
    pub(crate) fn of_udp((len, from): (usize, SocketAddr)) -> Self {
        Self {
            len,
            segment: len,
            from: Address::Inet(from),
        }
    }
}

/// A datagram to send, or several to one address that go in one call.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct Transmit<'a> {
    /// The destination; `None` for a connected socket.
    pub to: Option<&'a Address>,
    /// The datagrams, one behind the other.
    pub data: &'a [u8],
    /// The length of each datagram but the last, which may be shorter. `data.len()` for a single one.
    pub segment: usize,
    /// How they leave, if not as all others do.
    pub departure: Option<&'a Departure>,
}

impl Transmit<'_> {
    /// Returns whether the call sends several datagrams.
    pub fn is_segmented(&self) -> bool {
        self.segment < self.data.len()
    }

    /// Returns whether it is one datagram that leaves as all others do.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.departure.is_none() && !self.is_segmented()
    }
}

/// A socket of datagrams of another world. Errors are those of the socket calls of the same names; a call that
/// was interrupted is made again.
pub trait DatagramSocket: Any + fmt::Debug {
    /// Takes the next datagram. One that is longer than `buffer` fills it, and the rest is lost.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received>;
    /// Sends all of the datagrams, or none.
    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<()>;
    /// Returns the maximum number of datagrams of one call.
    fn max_segments(&self) -> usize {
        1
    }
    /// The own address.
    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unnamed)
    }
    /// Sets an option.
    fn set_option(&mut self, option: DatagramOption) -> io::Result<()> {
        let _ = option;
        Ok(())
    }
}

/// A socket of datagrams, real or of another world.
#[derive(Debug)]
#[allow(private_interfaces, reason = "the real ones are made in here only")]
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum Datagrams {
    /// A real one.
    Os(OsDatagrams),
    /// One of another world.
    Foreign(Box<dyn DatagramSocket>),
}

impl Datagrams {
    /// Wraps one of another world.
    pub fn foreign(socket: impl DatagramSocket) -> Self {
        Self::Foreign(Box::new(socket))
    }

    /// Returns the socket as the type of the driver that made it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for one that another driver made.
    pub fn of<S: DatagramSocket>(&mut self) -> io::Result<&mut S> {
        match self {
            Self::Os(_) => Err(of_another_driver()),
            Self::Foreign(socket) => {
                let socket: &mut dyn Any = &mut **socket;
                socket.downcast_mut().ok_or_else(of_another_driver)
            }
        }
    }

    /// Connects a given socket.
    pub(crate) fn connect(&mut self, remote: &Address) -> io::Result<()> {
        match self {
            Self::Os(socket) => socket.connect(remote),
            Self::Foreign(_) => Err(of_another_driver()),
        }
    }

    /// Returns the socket if it is one of UDP: as a rule. The engine has a way of its own for it.
    #[inline(always)]
    pub(crate) fn udp(socket: &Option<Self>) -> Option<&UdpSocket> {
        // In one pattern: it is one comparison then.
        match socket {
            Some(Self::Os(OsDatagrams {
                kind: Kind::Udp(socket),
                ..
            })) => Some(socket),
            _ => None,
        }
    }

    /// As [`udp`](Self::udp), if each receive brings one datagram without control messages.
    #[inline(always)]
    pub(crate) fn plain_udp(socket: &Option<Self>) -> Option<&UdpSocket> {
        match socket {
            Some(Self::Os(OsDatagrams {
                kind: Kind::Udp(socket),
                #[cfg(feature = "offload")]
                    arrival: None,
                ..
            })) => Some(socket),
            _ => None,
        }
    }

    /// Returns how the datagrams arrived that the last call received, as far as that was asked for.
    #[cfg(feature = "offload")]
    pub(crate) fn arrival(&self) -> Arrival {
        match self {
            Self::Os(socket) => socket.arrival(),
            Self::Foreign(_) => Arrival::default(),
        }
    }

    /// Receives from one that is no [`plain_udp`](Self::plain_udp). An interrupted call is not made again in here.
    #[inline(never)]
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Os(socket) => socket.receive(buffer),
            Self::Foreign(socket) => socket.receive(buffer),
        }
    }

    /// Sends what is not one datagram from a [`udp`](Self::udp) to an address of IP. An interrupted call is not
    /// made again in here.
    #[inline(never)]
    pub(crate) fn send(&mut self, transmit: Transmit<'_>) -> io::Result<()> {
        match self {
            Self::Os(socket) => socket.send(transmit),
            Self::Foreign(socket) => socket.send(transmit),
        }
    }

    pub(crate) fn max_segments(&self) -> usize {
        match self {
            Self::Os(socket) => socket.max_segments(),
            Self::Foreign(socket) => socket.max_segments(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Os(socket) => socket.local_addr(),
            Self::Foreign(socket) => socket.local_addr(),
        }
    }

    /// Returns the address that it is connected to, as the kernel spells it.
    pub(crate) fn remote_addr(&self) -> Option<Address> {
        match self {
            Self::Os(socket) => socket.remote_addr(),
            Self::Foreign(_) => None,
        }
    }

    pub(crate) fn set_option(&mut self, option: DatagramOption) -> io::Result<()> {
        match self {
            Self::Os(socket) => socket.set_option(option),
            Self::Foreign(socket) => socket.set_option(option),
        }
    }
}
