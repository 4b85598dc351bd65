//! Control messages of received datagrams (recvmsg(2), cmsg(3)): the length of those that came in one call,
//! their ECN and their destination address.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use elsewhere::{ask, coalesces, receive};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::{ask, coalesces, receive};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use crate::driver::{DatagramOption, Received};
    use crate::{Address, Arrival, Ecn};
    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, getsockopt, recvmsg,
        setsockopt, sockopt,
    };
    use socket2::Socket;
    use std::io::{self, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::os::fd::{AsRawFd, RawFd};

    /// Room for the control messages of one call, aligned as cmsg(3) demands. Those that [`ask`] asks for take
    /// 88 bytes; a given socket may have options of its own.
    #[repr(align(8))]
    struct Room([u8; 256]);

    /// Has the kernel send a control message with what it receives.
    pub(in super::super) fn ask(
        socket: &Socket,
        v6: bool,
        option: DatagramOption,
    ) -> io::Result<()> {
        match option {
            DatagramOption::Coalesce => setsockopt(socket, sockopt::UdpGroSegment, &true)?,
            DatagramOption::ReceiveEcn => {
                // A socket for both families receives IPv4 with the control messages of IPv4.
                setsockopt(socket, sockopt::IpRecvTos, &true)?;
                if v6 {
                    setsockopt(socket, sockopt::Ipv6RecvTClass, &true)?;
                }
            }
            DatagramOption::ReceiveDestination if v6 => {
                setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
            DatagramOption::ReceiveDestination => {
                setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns whether a call may receive several datagrams. Those that have come stay together, so the option
    /// of a given socket cannot be taken back.
    pub(in super::super) fn coalesces(socket: &UdpSocket) -> bool {
        getsockopt(socket, sockopt::UdpGroSegment).unwrap_or(false)
    }

    /// Receives a datagram, or several of one sender that the kernel joined, and notes how they arrived.
    pub(in super::super) fn receive(
        socket: &UdpSocket,
        v6: bool,
        buffer: &mut [u8],
        arrival: &mut Arrival,
    ) -> io::Result<Received> {
        let fd = socket.as_raw_fd();
        match v6 {
            true => receive_from::<SockaddrIn6>(fd, buffer, arrival),
            false => receive_from::<SockaddrIn>(fd, buffer, arrival),
        }
    }

    fn receive_from<A: SockaddrLike + Into<SocketAddr>>(
        fd: RawFd,
        buffer: &mut [u8],
        arrival: &mut Arrival,
    ) -> io::Result<Received> {
        let mut room = Room([0; 256]);
        let mut buffers = [IoSliceMut::new(buffer)];
        let message = recvmsg::<A>(fd, &mut buffers, Some(&mut room.0), MsgFlags::empty())?;
        *arrival = Arrival::default();
        let mut segment = message.bytes;
        for control in message.cmsgs().map_err(too_many)? {
            match control {
                // Never 0; the loop over the segments relies on it.
                ControlMessageOwned::UdpGroSegments(len) => segment = len.max(1) as usize,
                ControlMessageOwned::Ipv4Tos(tos) => {
                    arrival.ecn = Some(Ecn::from_bits(tos));
                }
                ControlMessageOwned::Ipv6TClass(class) => {
                    arrival.ecn = Some(Ecn::from_bits(class as u8));
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let ip = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                    arrival.destination = Some(IpAddr::V4(ip));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    arrival.destination = Some(IpAddr::V6(ip));
                }
                _ => {}
            }
        }
        let from = message.address.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Received {
            len: message.bytes,
            segment,
            from: Address::Inet(from.into()),
        })
    }

    /// Only options that were set on a given socket can ask for this many.
    #[cold]
    fn too_many(_: nix::Error) -> io::Error {
        let message = "a received datagram has more control messages than there is room for: \
            the given socket asks for others";
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod elsewhere {
    use crate::Arrival;
    use crate::driver::{DatagramOption, Received};
    use socket2::Socket;
    use std::io;
    use std::net::UdpSocket;

    pub(in super::super) fn ask(_: &Socket, _: bool, _: DatagramOption) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn coalesces(_: &UdpSocket) -> bool {
        false
    }

    pub(in super::super) fn receive(
        _: &UdpSocket,
        _: bool,
        _: &mut [u8],
        _: &mut Arrival,
    ) -> io::Result<Received> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
