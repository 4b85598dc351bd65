//! Control messages that go with sent datagrams (sendmsg(2), cmsg(3)).

use crate::driver::Transmit;
use std::net::IpAddr;

/// The option of UDP, and of a control message, for the length of segments.
pub(super) const UDP_SEGMENT: i32 = 103;

/// The length of `struct cmsghdr` (cmsg(3)).
const HEADER: usize = 16;

/// Room for the length of segments, the traffic class of both families, and a source of IPv6.
const ROOM: usize = 3 * (HEADER + 8) + HEADER + 24;

/// Control messages, one behind the other.
pub(super) struct Control {
    bytes: [u8; ROOM],
    len: usize,
}

impl Control {
    /// Those of a call of a socket, `v6` for one of IPv6, with this traffic class.
    pub(super) fn of(transmit: &Transmit<'_>, v6: bool, class: u8) -> Self {
        let mut control = Self::empty();
        if transmit.is_segmented() {
            // Segments are parts of a datagram's maximum of 65,535 bytes.
            let len = transmit.segment as u16;
            control.add(libc::SOL_UDP, UDP_SEGMENT, &len.to_ne_bytes());
        }
        let Some(departure) = transmit.departure else {
            return control;
        };
        if let Some(ecn) = departure.ecn {
            let class = libc::c_int::from(class & !3 | ecn.bits()).to_ne_bytes();
            // A socket of IPv6 may speak IPv4, too. Either family skips the messages of the other.
            control.add(libc::IPPROTO_IP, libc::IP_TOS, &class);
            if v6 {
                control.add(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class);
            }
        }
        match departure.source {
            Some(source) if v6 => control.add_source_v6(source),
            Some(IpAddr::V4(source)) => {
                // The index of an interface, the source, and the destination, which is not used.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&source.octets());
                control.add(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            _ => {}
        }
        control
    }

    pub(super) fn empty() -> Self {
        Self {
            bytes: [0; ROOM],
            len: 0,
        }
    }

    fn add_source_v6(&mut self, source: IpAddr) {
        let source = match source {
            IpAddr::V4(source) => source.to_ipv6_mapped(),
            IpAddr::V6(source) => source,
        };
        // The source, and the index of an interface.
        let mut info = [0; 20];
        info[..16].copy_from_slice(&source.octets());
        self.add(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
    }

    pub(super) fn add(&mut self, level: i32, kind: i32, value: &[u8]) {
        const { assert!(size_of::<usize>() == 8, "the layout of 64-bit platforms") };
        let len = HEADER + value.len();
        let message = &mut self.bytes[self.len..];
        message[..8].copy_from_slice(&len.to_ne_bytes());
        message[8..12].copy_from_slice(&level.to_ne_bytes());
        message[12..HEADER].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..len].copy_from_slice(value);
        self.len += len.next_multiple_of(8);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Departure, Ecn};

    /// Takes control messages apart: of each the level, the kind and the value.
    fn messages(mut bytes: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
        let number = |bytes: &[u8]| i32::from_ne_bytes(bytes.try_into().unwrap());
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let len = usize::from_ne_bytes(bytes[..8].try_into().unwrap());
            let (level, kind) = (number(&bytes[8..12]), number(&bytes[12..16]));
            messages.push((level, kind, bytes[16..len].to_vec()));
            bytes = &bytes[len.next_multiple_of(8)..];
        }
        messages
    }

    fn control(departure: Departure, segment: usize, v6: bool) -> Vec<(i32, i32, Vec<u8>)> {
        let transmit = Transmit {
            to: None,
            data: &[0; 250],
            segment,
            departure: Some(&departure),
        };
        // Expedited forwarding (RFC 3246), and ECT(1).
        messages(Control::of(&transmit, v6, 0xb8 | 1).as_bytes())
    }

    #[test]
    fn marks_keep_the_rest_of_the_traffic_class_and_are_for_both_families() {
        let marked = Departure::new().ecn(Ecn::Capable0);
        let class = 0xba_i32.to_ne_bytes().to_vec();
        let v4 = (libc::IPPROTO_IP, libc::IP_TOS, class.clone());
        let v6 = (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class);
        assert_eq!(control(marked, 250, false), std::slice::from_ref(&v4));
        assert_eq!(control(marked, 250, true), [v4, v6]);
    }

    #[test]
    fn a_run_has_its_length_and_a_source_the_form_of_the_family() {
        let run = (libc::SOL_UDP, UDP_SEGMENT, 100_u16.to_ne_bytes().to_vec());
        let from = Departure::new().source(IpAddr::from([127, 0, 0, 2]));
        let mut v4 = vec![0; 12];
        v4[4..8].copy_from_slice(&[127, 0, 0, 2]);
        let v4 = (libc::IPPROTO_IP, libc::IP_PKTINFO, v4);
        assert_eq!(control(from, 100, false), [run.clone(), v4]);
        let mut v6 = vec![0; 20];
        v6[10..16].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 2]);
        let v6 = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, v6);
        assert_eq!(control(from, 100, true), [run, v6]);
    }
}
