//! Datagrams that the kernel cuts out of one call (UDP_SEGMENT, udp(7)).

use super::send_control::{Control, UDP_SEGMENT};
use socket2::{Domain, MsgHdr, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

/// Returns whether the kernel knows of segments. Linux before 4.18 does not: it ignores the control message, and
/// would send all of them as one datagram.
pub(super) fn is_known() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    match KNOWN.get() {
        Some(known) => *known,
        // Without a descriptor the next endpoint asks again.
        None => probe().is_ok_and(|known| *KNOWN.get_or_init(|| known)),
    }
}

/// Asks the kernel, and sends nothing: a socket that has not asked for broadcasts may not send one. A kernel that
/// knows the control message refuses a malformed one before it looks at the address.
fn probe() -> io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut control = Control::empty();
    // The value of a right one has two bytes.
    control.add(libc::SOL_UDP, UDP_SEGMENT, &[0; 4]);
    let malformed = send_nowhere(&socket, control.as_bytes());
    let plain = send_nowhere(&socket, &[]);
    Ok(tells_of_segments(malformed, plain))
}

/// Returns the number of the error, if it is one of the system.
fn send_nowhere(socket: &Socket, control: &[u8]) -> Option<i32> {
    let everywhere = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    let everywhere = SockAddr::from(everywhere);
    let message = MsgHdr::new().with_addr(&everywhere).with_control(control);
    socket.sendmsg(&message, 0).err()?.raw_os_error()
}

/// Judges the errors of a message with a malformed control message, and of one without.
fn tells_of_segments(malformed: Option<i32>, plain: Option<i32>) -> bool {
    malformed == Some(libc::EINVAL) && plain.is_some_and(|plain| plain != libc::EINVAL)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_knows_segments_if_the_control_message_alone_is_refused() {
        use libc::{EACCES, EINVAL, ENETUNREACH, EPERM};
        for (malformed, plain, known) in [
            (Some(EINVAL), Some(EACCES), true),
            (Some(EINVAL), Some(ENETUNREACH), true),
            // One that ignores it.
            (Some(EACCES), Some(EACCES), false),
            (Some(ENETUNREACH), Some(ENETUNREACH), false),
            // All is refused: by a route, or by a filter of system calls.
            (Some(EINVAL), Some(EINVAL), false),
            (Some(EPERM), Some(EPERM), false),
            // A kernel that sends broadcasts unasked.
            (None, None, false),
            (Some(EINVAL), None, false),
        ] {
            assert_eq!(tells_of_segments(malformed, plain), known);
        }
    }

    #[test]
    fn the_probe_finds_segments_on_every_kernel_that_has_them() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().unwrap().parse::<u32>().unwrap();
        let too_old = (next(), next()) < (4, 18);
        assert!(probe().unwrap() || too_old, "{release}");
        assert_eq!(is_known(), probe().unwrap());
    }
}
