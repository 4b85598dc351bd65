//! Datagrams that the kernel cuts out of one call (UDP_SEGMENT, udp(7)).

use crate::service::DATAGRAM;
use socket2::Protocol;

/// The option of UDP, and of a control message, for the length of segments.
const UDP_SEGMENT: i32 = 103;

/// The length of `struct cmsghdr` (cmsg(3)), and of one with the length of segments.
const HEADER: usize = 16;
const WHOLE: usize = HEADER + size_of::<u16>();

/// The number of datagrams of one call.
pub(super) const RUN: usize = 48;

/// The number of datagrams of a window: full calls, so that a server which reads them coalesced gets full reads. A
/// receive buffer of the default size has room for 104 that were cut out of calls.
pub(super) const WINDOW: usize = 2 * RUN;

const _: () = assert!(RUN * DATAGRAM <= 65_507, "of one call over IPv4");

/// Returns the control message that asks for segments of this length.
pub(super) fn control_message(len: usize) -> [u8; 24] {
    const { assert!(size_of::<usize>() == 8, "the layout of 64-bit platforms") };
    let mut message = [0; 24];
    message[..8].copy_from_slice(&WHOLE.to_ne_bytes());
    message[8..12].copy_from_slice(&i32::from(Protocol::UDP).to_ne_bytes());
    message[12..HEADER].copy_from_slice(&UDP_SEGMENT.to_ne_bytes());
    // At most `MOST`.
    message[HEADER..WHOLE].copy_from_slice(&(len as u16).to_ne_bytes());
    message
}
