//! Sockets of datagrams of the system: UDP and Unix.

use super::address::{address_of, explained, socket_address};
#[cfg(feature = "offload")]
use super::control_messages;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::segmentation;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::send_control::Control;
use super::unix_path::SocketFile;
#[cfg(feature = "offload")]
use crate::Arrival;
use crate::driver::{DatagramBindOptions, DatagramOption, Received, Transmit, UnixFileOptions};
use crate::{Address, Interface};
use mio::Interest;
use socket2::{Domain, InterfaceIndexOrAddress, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;

/// The maximum number of datagrams that one call sends (UDP_MAX_SEGMENTS of Linux, since 4.18).
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_SEGMENTS: usize = 64;

#[derive(Debug)]
pub(crate) enum Kind {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// A bound, or connected, socket of datagrams.
#[derive(Debug)]
pub(crate) struct OsDatagrams {
    pub(in crate::driver) kind: Kind,
    v6: bool,
    /// It is of IPv6, and speaks IPv4 too.
    both: bool,
    /// A copy of the descriptor may be open elsewhere.
    shared: bool,
    /// The traffic class, as far as it is known.
    class: u8,
    /// Rare: boxed to keep the others small.
    file: Option<Box<SocketFile>>,
    /// How the last datagrams arrived, from when control messages were asked for.
    #[cfg(feature = "offload")]
    pub(in crate::driver) arrival: Option<Box<Arrival>>,
}

impl OsDatagrams {
    /// Makes a socket that is bound to `local` and connected to `remote`, as far as they are given.
    pub(super) fn bind(
        local: Option<&Address>,
        remote: Option<&Address>,
        options: DatagramBindOptions,
    ) -> io::Result<Self> {
        let example = match local.or(remote) {
            Some(address) => socket_address(address)?,
            None => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into(),
        };
        let socket = Socket::new(example.domain(), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        let unix = example.domain() == Domain::UNIX;
        let v6 = example.domain() == Domain::IPV6;
        if options.reuse_address {
            socket.set_reuse_address(true)?;
        }
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if v6 {
            socket.set_only_v6(options.only_v6)?;
        }
        if options.broadcast {
            socket.set_broadcast(true)?;
        }
        let mut file = None;
        match local {
            Some(local @ Address::Unix(path)) => {
                let addr = socket_address(local)?;
                let unix = UnixFileOptions::default();
                let bound = SocketFile::bind(&socket, &addr, path, unix, Type::DGRAM)?;
                file = Some(Box::new(bound));
            }
            Some(local) => socket
                .bind(&socket_address(local)?)
                .map_err(|error| explained(error, local))?,
            None if !unix && remote.is_none() => socket.bind(&example)?,
            None => {}
        }
        let connected = match remote {
            Some(remote) => socket
                .connect(&socket_address(remote)?)
                .map_err(|error| explained(error, remote)),
            None => Ok(()),
        };
        let kind = if unix {
            Kind::Unix(socket.into())
        } else {
            Kind::Udp(socket.into())
        };
        let bound = Self {
            kind,
            v6,
            both: v6 && !options.only_v6,
            shared: false,
            class: 0,
            file,
            #[cfg(feature = "offload")]
            arrival: None,
        };
        connected.map(|()| bound)
    }

    /// Takes over a socket of the standard library. Returns the address that it is connected to, too.
    pub(crate) fn from_udp(socket: UdpSocket) -> io::Result<(Self, Option<Address>)> {
        socket.set_nonblocking(true)?;
        let v6 = socket.local_addr()?.is_ipv6();
        let remote = socket.peer_addr().ok().map(Address::Inet);
        let options = SockRef::from(&socket);
        let both = v6 && !options.only_v6()?;
        let class = match v6 {
            true => options.tclass_v6(),
            false => options.tos_v4(),
        };
        let class = class.unwrap_or(0) as u8;
        #[cfg(feature = "offload")]
        let coalesces = control_messages::coalesces(&socket);
        let mut given = Self::given(Kind::Udp(socket), v6);
        (given.both, given.class) = (both, class);
        #[cfg(feature = "offload")]
        if coalesces {
            given.arrival = Some(Box::default());
        }
        Ok((given, remote))
    }

    /// As [`from_udp`](Self::from_udp).
    pub(crate) fn from_unix(socket: UnixDatagram) -> io::Result<(Self, Option<Address>)> {
        socket.set_nonblocking(true)?;
        let remote = SockRef::from(&socket).peer_addr().ok();
        let remote = remote.map(|addr| address_of(&addr));
        Ok((Self::given(Kind::Unix(socket), false), remote))
    }

    pub(crate) fn connect(&mut self, remote: &Address) -> io::Result<()> {
        let connected = self.socket().connect(&socket_address(remote)?);
        connected.map_err(|error| explained(error, remote))
    }

    fn given(kind: Kind, v6: bool) -> Self {
        Self {
            kind,
            v6,
            both: false,
            shared: true,
            class: 0,
            file: None,
            #[cfg(feature = "offload")]
            arrival: None,
        }
    }

    fn socket(&self) -> SockRef<'_> {
        match &self.kind {
            Kind::Udp(socket) => SockRef::from(socket),
            Kind::Unix(socket) => SockRef::from(socket),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        match &self.kind {
            Kind::Udp(socket) => socket.as_raw_fd(),
            Kind::Unix(socket) => socket.as_raw_fd(),
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Sets an option that both families have, for those that the socket speaks.
    fn of_each_family(
        &self,
        v4: impl FnOnce() -> io::Result<()>,
        v6: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.v6 {
            v6()?;
        }
        if !self.v6 || self.both {
            v4()?;
        }
        Ok(())
    }

    /// Returns the events that the loop wants of it. With room for output watched, the kernel reports each
    /// datagram that leaves.
    pub(super) fn interest(watch_room: bool) -> Interest {
        if watch_room {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        }
    }

    /// Receives from one of Unix, or with control messages.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let socket = match &self.kind {
            Kind::Unix(socket) => socket,
            #[cfg(feature = "offload")]
            Kind::Udp(socket) => {
                let arrival = self.arrival.get_or_insert_default();
                return control_messages::receive(socket, self.v6, buffer, arrival);
            }
            #[cfg(not(feature = "offload"))]
            Kind::Udp(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let (len, from) = socket.recv_from(buffer)?;
        let path = from.as_pathname();
        let path = path.map(|path| Address::Unix(path.to_owned()));
        Ok(Received {
            len,
            segment: len,
            from: path.unwrap_or(Address::Unnamed),
        })
    }

    #[cfg(feature = "offload")]
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn send(&mut self, transmit: Transmit<'_>) -> io::Result<()> {
        if !transmit.is_plain() {
            return self.send_with_control(transmit);
        }
        let Transmit { to, data, .. } = transmit;
        let sent = match (&self.kind, to) {
            (Kind::Udp(socket), None) => socket.send(data),
            (Kind::Unix(socket), None) => socket.send(data),
            (Kind::Unix(socket), Some(Address::Unix(path))) => socket.send_to(data, path),
            (_, Some(to)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{to} is no address of this kind of endpoint"),
            )),
        };
        sent.map(|_| ())
    }

    /// Tells the kernel how to cut the bytes into datagrams (UDP_SEGMENT, udp(7)), and how these leave.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn send_with_control(&mut self, transmit: Transmit<'_>) -> io::Result<()> {
        let control = Control::of(&transmit, self.v6, self.class);
        let to = transmit.to.map(socket_address).transpose()?;
        let bytes = [io::IoSlice::new(transmit.data)];
        let mut message = socket2::MsgHdr::new()
            .with_buffers(&bytes)
            .with_control(control.as_bytes());
        if let Some(to) = &to {
            message = message.with_addr(to);
        }
        self.socket().sendmsg(&message, 0).map(|_| ())
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn send_with_control(&mut self, _: Transmit<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn max_segments(&self) -> usize {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if matches!(self.kind, Kind::Udp(_)) && segmentation::is_known() {
            return MAX_SEGMENTS;
        }
        1
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.socket().local_addr().map(|addr| address_of(&addr))
    }

    pub(crate) fn remote_addr(&self) -> Option<Address> {
        let addr = self.socket().peer_addr().ok()?;
        Some(address_of(&addr))
    }

    pub(crate) fn set_option(&mut self, option: DatagramOption) -> io::Result<()> {
        let socket = self.socket();
        match option {
            DatagramOption::SendBuffer(bytes) => socket.set_send_buffer_size(bytes as usize),
            DatagramOption::ReceiveBuffer(bytes) => socket.set_recv_buffer_size(bytes as usize),
            _ if matches!(self.kind, Kind::Unix(_)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix socket has no such option: it is one of UDP",
            )),
            DatagramOption::Broadcast(on) => socket.set_broadcast(on),
            DatagramOption::Hops(hops) => self.of_each_family(
                || socket.set_ttl_v4(hops),
                || socket.set_unicast_hops_v6(hops),
            ),
            DatagramOption::TrafficClass(class) => {
                self.of_each_family(|| socket.set_tos_v4(class), || socket.set_tclass_v6(class))?;
                self.class = class as u8;
                Ok(())
            }
            DatagramOption::MulticastLoop(on) => self.of_each_family(
                || socket.set_multicast_loop_v4(on),
                || socket.set_multicast_loop_v6(on),
            ),
            DatagramOption::MulticastHops(hops) => self.of_each_family(
                || socket.set_multicast_ttl_v4(hops),
                || socket.set_multicast_hops_v6(hops),
            ),
            DatagramOption::MulticastInterface(at) => match at {
                Interface::Any => self.of_each_family(
                    || socket.set_multicast_if_v4(&Ipv4Addr::UNSPECIFIED),
                    || socket.set_multicast_if_v6(0),
                ),
                Interface::Index(index) if self.v6 => socket.set_multicast_if_v6(index),
                Interface::Address(address) if !self.v6 || self.both => {
                    socket.set_multicast_if_v4(&address)
                }
                _ => Err(wrong_interface(at, self.v6)),
            },
            DatagramOption::Join(IpAddr::V4(group), at) => {
                socket.join_multicast_v4_n(&group, &of_v4(at))
            }
            DatagramOption::Leave(IpAddr::V4(group), at) => {
                socket.leave_multicast_v4_n(&group, &of_v4(at))
            }
            DatagramOption::Join(IpAddr::V6(group), at) => {
                socket.join_multicast_v6(&group, index_of(at)?)
            }
            DatagramOption::Leave(IpAddr::V6(group), at) => {
                socket.leave_multicast_v6(&group, index_of(at)?)
            }
            #[cfg(feature = "offload")]
            DatagramOption::Coalesce
            | DatagramOption::ReceiveEcn
            | DatagramOption::ReceiveDestination => {
                control_messages::ask(&socket, self.v6, option)?;
                self.arrival.get_or_insert_default();
                Ok(())
            }
        }
    }
}

impl Drop for OsDatagrams {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.remove_at_end();
        }
    }
}

fn of_v4(at: Interface) -> InterfaceIndexOrAddress {
    match at {
        Interface::Any => InterfaceIndexOrAddress::Index(0),
        Interface::Index(index) => InterfaceIndexOrAddress::Index(index),
        Interface::Address(address) => InterfaceIndexOrAddress::Address(address),
    }
}

fn index_of(at: Interface) -> io::Result<u32> {
    match at {
        Interface::Any => Ok(0),
        Interface::Index(index) => Ok(index),
        Interface::Address(_) => Err(wrong_interface(at, true)),
    }
}

fn wrong_interface(at: Interface, v6: bool) -> io::Error {
    let give = if v6 {
        "an IPv6 endpoint names an interface by its index"
    } else {
        "an IPv4 endpoint chooses the interface of what it sends by an address of it"
    };
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{at:?} is no interface here: {give}"),
    )
}
