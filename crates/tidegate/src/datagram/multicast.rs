//! Options of an endpoint's socket, multicast groups among them.

use super::{DatagramTransport, Interface};
use crate::driver::DatagramOption;
use std::io;
use std::net::IpAddr;

/// # Multicast and options
///
/// Each method fails with the system's error, with [`InvalidInput`](io::ErrorKind::InvalidInput) on a
/// Unix socket, and with the [`Closed`](crate::Closed) of an endpoint that has ended.
///
/// The kernel sends a datagram with the options that hold then, not with those of its `send_to`. So the queue is
/// offered before an option of sent datagrams changes. Those that the kernel refuses, or that are beyond this
/// tick's share, leave with the new option. [`flush`](Self::flush) completes when none of them wait. On an endpoint of
/// both families ([`v6only(false)`](crate::DatagramOptions::v6only)) an option is set for both.
#[allow(clippy::missing_errors_doc, reason = "the heading has them")]
impl DatagramTransport {
    /// Joins a multicast group on an interface (IP_ADD_MEMBERSHIP, ip(7); IPV6_JOIN_GROUP, ipv6(7)).
    pub fn join_multicast(&self, group: IpAddr, on: Interface) -> io::Result<()> {
        self.set_option(DatagramOption::Join(group, on))
    }

    /// Leaves a multicast group.
    pub fn leave_multicast(&self, group: IpAddr, on: Interface) -> io::Result<()> {
        self.set_option(DatagramOption::Leave(group, on))
    }

    /// Sets whether this machine's members get what is sent to a group; on unless set.
    pub fn set_multicast_loop(&self, on: bool) -> io::Result<()> {
        self.set_option(DatagramOption::MulticastLoop(on))
    }

    /// Sets the number of routers that a datagram to a group may pass; 1 unless set.
    pub fn set_multicast_hops(&self, hops: u32) -> io::Result<()> {
        self.set_option(DatagramOption::MulticastHops(hops))
    }

    /// Sets the interface that datagrams to groups leave by. IPv6 names it by its index, IPv4 by an address of
    /// it. An endpoint of both families takes one of each.
    pub fn set_multicast_interface(&self, interface: Interface) -> io::Result<()> {
        self.set_option(DatagramOption::MulticastInterface(interface))
    }

    /// Sets the number of routers that a datagram to one host may pass (IP_TTL, IPV6_UNICAST_HOPS).
    pub fn set_hops(&self, hops: u32) -> io::Result<()> {
        self.set_option(DatagramOption::Hops(hops))
    }

    /// Sets the traffic class (IP_TOS, IPV6_TCLASS; RFC 2474).
    pub fn set_traffic_class(&self, class: u32) -> io::Result<()> {
        self.set_option(DatagramOption::TrafficClass(class))
    }

    /// Sets whether datagrams may go to broadcast addresses (SO_BROADCAST, socket(7)).
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.set_option(DatagramOption::Broadcast(on))
    }

    fn set_option(&self, option: DatagramOption) -> io::Result<()> {
        let endpoint = self.endpoint();
        if let Some(closed) = endpoint.closed() {
            return Err(closed.into());
        }
        if option.is_of_sent() {
            self.offer();
            self.touch();
        }
        match endpoint.socket.borrow_mut().as_mut() {
            Some(socket) => socket.set_option(option),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
