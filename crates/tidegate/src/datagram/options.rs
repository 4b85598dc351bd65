//! Options of an endpoint.

use crate::address::{Target, from_addresses};
use crate::driver::{DatagramBindOptions, DatagramOption, Datagrams, OsDatagrams};
use crate::flow::WriteLimits;
use crate::{Address, Handle};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;

/// The cap unless set: datagrams that wait for long are stale.
pub(super) const DEFAULT_CAP: usize = 1024 * 1024;

/// The network interface of a multicast group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interface {
    /// The one that the system chooses.
    Any,
    /// The one with this number (if_nametoindex(3)).
    Index(u32),
    /// The one that has this address; of IPv4 only.
    Address(Ipv4Addr),
}

/// The action when a datagram is sent while the queue is at its cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The send fails with [`BufferFull`](crate::WriteError::BufferFull), and is counted in
    /// [`DatagramStats::refused`](super::DatagramStats::refused).
    #[default]
    Refuse,
    /// The oldest datagrams are dropped, and counted in
    /// [`DatagramStats::dropped`](super::DatagramStats::dropped). For data of which only the newest counts.
    DropOldest,
}

/// The address and the settings of an endpoint; see
/// [`Handle::create_datagram_endpoint`](crate::Handle::create_datagram_endpoint).
///
/// Made from `"127.0.0.1:5353"`, `"[::1]:0"`, `"unix:/path"`, a host and a port, a [`SocketAddr`], an
/// [`Address`], or a socket of the standard library. Port 0 takes a free one. A name stands for the first
/// of its addresses that can be bound. Settings of the bind have no effect on a given socket.
///
/// ```
/// use tidegate::{DatagramOptions, WhenFull};
///
/// let server = DatagramOptions::new("127.0.0.1:0").receive_buffer(1 << 20);
/// let client = DatagramOptions::connected("127.0.0.1:5353").when_full(WhenFull::DropOldest);
/// # let _ = (server, client);
/// ```
#[derive(Debug)]
#[must_use]
pub struct DatagramOptions {
    pub(super) local: Local,
    pub(super) remote: Option<io::Result<Target>>,
    pub(super) bind: DatagramBindOptions,
    pub(super) options: Vec<DatagramOption>,
    pub(super) write_limits: WriteLimits,
    pub(super) when_full: WhenFull,
    pub(super) segmentation: bool,
}

/// Where an endpoint is bound.
#[derive(Debug)]
pub(super) enum Local {
    /// The system chooses, when something is sent.
    Unbound,
    Target(Target),
    /// A socket of the user's, and the address that it is connected to.
    Given(Datagrams, Option<Address>),
    /// The given text is no address, or the given socket none of datagrams.
    Failed(io::Error),
}

impl DatagramOptions {
    /// Binds to `local`, with the defaults. `create_datagram_endpoint` has the error of a wrong address.
    pub fn new(local: impl Into<Self>) -> Self {
        local.into()
    }

    /// Exchanges datagrams with `remote` alone, from an address that the system chooses.
    pub fn connected(remote: impl Into<Self>) -> Self {
        Self::at(Local::Unbound).remote(remote)
    }

    fn at(local: Local) -> Self {
        Self {
            local,
            remote: None,
            bind: DatagramBindOptions {
                only_v6: true,
                ..DatagramBindOptions::default()
            },
            options: Vec::new(),
            write_limits: WriteLimits::new(),
            when_full: WhenFull::Refuse,
            segmentation: true,
        }
    }

    /// Exchanges datagrams with `remote` alone: the kernel drops those of others, and reports refusals
    /// (connect(2)). Those of others that a bound socket got before the connect are dropped here, and counted
    /// in [`DatagramStats::strangers`](super::DatagramStats::strangers). Only the address of `remote` counts,
    /// which must be no name: resolve it first.
    pub fn remote(mut self, remote: impl Into<Self>) -> Self {
        self.remote = Some(match remote.into().local {
            Local::Target(target) => Ok(target),
            Local::Failed(error) => Err(error),
            Local::Unbound | Local::Given(..) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the remote side of an endpoint is an address, not a socket",
            )),
        });
        self
    }

    /// Sets whether other sockets may be bound to the same address (SO_REUSEADDR, socket(7)). Off unless
    /// set: another process could take datagrams away. asyncio has removed it for that reason.
    pub fn reuse_address(mut self, on: bool) -> Self {
        self.bind.reuse_address = on;
        self
    }

    /// Sets whether other sockets with this setting may be bound to the same address (SO_REUSEPORT,
    /// socket(7)). The kernel spreads the senders over them. Off unless set.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.bind.reuse_port = on;
        self
    }

    /// Sets whether an IPv6 address is for IPv6 alone (IPV6_V6ONLY, ipv6(7)); on unless set.
    pub fn v6only(mut self, on: bool) -> Self {
        self.bind.only_v6 = on;
        self
    }

    /// Sets whether datagrams may go to broadcast addresses (SO_BROADCAST, socket(7)); off unless set.
    pub fn broadcast(mut self, on: bool) -> Self {
        self.bind.broadcast = on;
        self
    }

    /// Sets the size in bytes of the kernel's buffer of received datagrams (SO_RCVBUF, socket(7)). The
    /// kernel drops those that find no room, and does not tell. It has a limit of its own.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.options.push(DatagramOption::ReceiveBuffer(bytes));
        self
    }

    /// Sets the size in bytes of the kernel's buffer of sent datagrams (SO_SNDBUF, socket(7)).
    pub fn send_buffer(mut self, bytes: u32) -> Self {
        self.options.push(DatagramOption::SendBuffer(bytes));
        self
    }

    /// Sets the watermarks and the cap of the queue. They count the bytes of each datagram, and 64 for
    /// itself. Unless set they are 64 KiB, 16 KiB, and a cap of 1 MiB, or `high` if that is more: datagrams
    /// that wait for long are stale.
    pub fn write_limits(mut self, limits: WriteLimits) -> Self {
        self.write_limits = limits;
        self
    }

    /// Sets the action at the cap; [`Refuse`](WhenFull::Refuse) unless set.
    pub fn when_full(mut self, action: WhenFull) -> Self {
        self.when_full = action;
        self
    }

    /// Sets whether the kernel may cut several datagrams out of one call (UDP_SEGMENT, udp(7)); on
    /// unless set. Their bytes on the network are the same. A kernel without it, such as Linux before 4.18, gets
    /// each datagram by itself.
    pub fn segmentation(mut self, on: bool) -> Self {
        self.segmentation = on;
        self
    }

    /// Sets whether one read may bring several datagrams of a sender (UDP_GRO, udp(7)); off unless set, here or on
    /// a given socket.
    ///
    /// The protocol is called with each of them. Those that are left when it stops reading, at most 64 KiB, are
    /// copied, and come first when it goes on. The share of a tick ends between reads, so the last read goes
    /// beyond it, by at most 127 datagrams.
    ///
    /// Bulk data costs a fraction of the processor time then, but the read of a single datagram costs more. Linux
    /// has it since 5.0; without it, and on a Unix socket, making the endpoint fails.
    #[cfg(feature = "offload")]
    pub fn coalesce(self, on: bool) -> Self {
        self.asking(DatagramOption::Coalesce, on)
    }

    /// Sets whether [`DatagramTransport::arrival`](super::DatagramTransport::arrival) has the congestion
    /// marks (IP_RECVTOS, ip(7); IPV6_RECVTCLASS, RFC 3542); off unless set. Only of UDP.
    #[cfg(feature = "offload")]
    pub fn receive_ecn(self, on: bool) -> Self {
        self.asking(DatagramOption::ReceiveEcn, on)
    }

    /// Sets whether [`DatagramTransport::arrival`](super::DatagramTransport::arrival) has the address that
    /// a datagram was sent to (IP_PKTINFO, ip(7); IPV6_RECVPKTINFO, ipv6(7)); off unless set. Only of UDP.
    #[cfg(feature = "offload")]
    pub fn receive_destination(self, on: bool) -> Self {
        self.asking(DatagramOption::ReceiveDestination, on)
    }

    #[cfg(feature = "offload")]
    fn asking(mut self, option: DatagramOption, on: bool) -> Self {
        self.options.retain(|asked| *asked != option);
        if on {
            self.options.push(option);
        }
        self
    }

    fn parsed(target: io::Result<Target>) -> Self {
        Self::at(target.map_or_else(Local::Failed, Local::Target))
    }

    fn given(socket: io::Result<(OsDatagrams, Option<Address>)>) -> Self {
        Self::at(match socket {
            Ok((socket, remote)) => Local::Given(Datagrams::Os(socket), remote),
            Err(error) => Local::Failed(error),
        })
    }
}

from_addresses!(DatagramOptions, DatagramOptions::parsed);

/// A socket that is connected has its peer as the remote address. One that receives several datagrams in one call
/// (UDP_GRO, udp(7)) goes on to do so, as with `coalesce`. That needs the feature `offload`: without it, they come as
/// one.
impl From<UdpSocket> for DatagramOptions {
    fn from(socket: UdpSocket) -> Self {
        Self::given(OsDatagrams::from_udp(socket))
    }
}

/// Its socket file, if it has one, is not ours and stays.
impl From<UnixDatagram> for DatagramOptions {
    fn from(socket: UnixDatagram) -> Self {
        Self::given(OsDatagrams::from_unix(socket))
    }
}

/// The settings of an endpoint whose socket is there.
pub(super) struct Settings {
    pub(super) handle: Handle,
    pub(super) local: Address,
    pub(super) remote: Option<Address>,
    /// The same, if the kernel spells it in another way.
    pub(super) remote_of_kernel: Option<Address>,
    pub(super) marks: crate::flow::Watermarks,
    pub(super) when_full: WhenFull,
    pub(super) segments: u8,
}
