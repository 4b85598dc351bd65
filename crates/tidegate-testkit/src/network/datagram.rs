//! Datagrams: the calls that send and receive them, their way over a link, and their arrival.
//!
//! Unlike bytes of a stream, a datagram may be lost, doubled or late. A partition loses it, and a receiver without
//! room drops it.

use super::agenda::Event;
use super::kernel::REMINDER;
use super::listener::inet;
use super::port::{PortId, cost, destination, is_broadcast};
use super::state::{END_OF_TIME, HostId, State, os_error};
use super::transmit::Arrival;
use crate::faults::{Fault, Faults};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::driver::{Readiness, Received, Transmit};

/// The maximum number of datagrams that one call sends or receives (UDP_MAX_SEGMENTS of Linux, since 4.18).
pub(super) const MAX_SEGMENTS: usize = 64;

/// The maximum number of bytes of a datagram: those of IP, less its header for IPv4, and that of UDP (udp(7)).
const MAX_LEN: usize = 65_535 - 20 - 8;

/// A datagram on its way.
pub(super) struct Datagram {
    /// The socket that hears of a refusal.
    sender: PortId,
    from: SocketAddr,
    to: SocketAddr,
    data: Vec<u8>,
}

impl State {
    /// SO_ERROR, which the next call fails with, once.
    fn port_call_fails(&mut self, id: PortId, call: &'static str) -> io::Result<()> {
        if let Some(errno) = self.port(id)?.error.take() {
            self.note((call, id.0 as u64, errno as u64), &[], || {
                format!("{id} {call}: error {errno}")
            });
            return Err(os_error(errno));
        }
        Ok(())
    }

    /// The error of a fault that any call may meet.
    fn port_fault(&mut self) -> io::Result<()> {
        if self.dice.strikes(Fault::Interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.dice.strikes(Fault::NoMemory) {
            return Err(os_error(libc::ENOBUFS));
        }
        Ok(())
    }

    // Receiving.

    pub(super) fn receive(&mut self, id: PortId, buffer: &mut [u8]) -> io::Result<Received> {
        self.port_call_fails(id, "receive")?;
        if self.port(id)?.inbox.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.port_fault()?;
        if self.dice.strikes(Fault::ReadAgain) {
            self.remind(id, Readiness::new().with_readable());
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let together = self.port(id)?.may_come_together(buffer.len());
        let most = if together && self.dice.strikes(Fault::DatagramsTogether) {
            MAX_SEGMENTS
        } else {
            1
        };
        let received = self.port(id)?.take(buffer, most);
        let event = ("receive", id.0 as u64, received.len as u64);
        let (data, from) = (&buffer[..received.len], &received.from);
        self.note_bytes(event, data, || {
            format!("{id} received {} from {from}", received.len)
        });
        Ok(received)
    }

    // Sending.

    pub(super) fn send_datagrams(&mut self, id: PortId, transmit: Transmit<'_>) -> io::Result<()> {
        self.port_call_fails(id, "send")?;
        let Transmit {
            to, data, segment, ..
        } = transmit;
        let port = self.port(id)?;
        let to = match to {
            Some(to) => inet(to)?,
            None => port.remote.ok_or_else(|| os_error(libc::EDESTADDRREQ))?,
        };
        let (host, mut local, options) = (port.host, port.local, port.options);
        if let Some(source) = transmit.departure.and_then(|departure| departure.source) {
            local.set_ip(source.to_canonical());
        }
        let ip = self.source(host, local, to, options)?;
        let to = destination(to);
        let from = SocketAddr::new(ip, local.port());
        let receivers = self.receivers(host, to);
        let link = self.wire(host, receivers[0].unwrap_or(host)).link.clone();
        // Only datagrams that fit into a packet are cut out of one call.
        let too_long = transmit.is_segmented() && link.mtu.is_some_and(|mtu| segment > mtu);
        if data.len() > MAX_LEN || too_long {
            return Err(os_error(libc::EMSGSIZE));
        }
        let port = self.port(id)?;
        port.room = port.send_buffer.unwrap_or(link.send_buffer);
        if port.held >= port.room {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.port(id)?.of_loop {
            self.send_fault(id, transmit)?;
        }
        self.note_bytes(("send", id.0 as u64, data.len() as u64), data, || {
            format!("{id} sent {} to {to}", data.len())
        });
        // `chunks` has no empty one.
        let (first, rest) = data.split_at(segment.min(data.len()));
        for data in std::iter::once(first).chain(rest.chunks(segment.max(1))) {
            for peer in &receivers {
                let datagram = Datagram {
                    sender: id,
                    from,
                    to,
                    data: data.to_vec(),
                };
                self.put_on_link(host, *peer, link.packets(data.len()), datagram);
            }
        }
        Ok(())
    }

    /// The error of a fault that a send may meet.
    fn send_fault(&mut self, id: PortId, transmit: Transmit<'_>) -> io::Result<()> {
        self.port_fault()?;
        if self.dice.strikes(Fault::WriteAgain) {
            self.port(id)?.feigns = true;
            let at = self.now() + self.dice.within(Duration::ZERO, REMINDER);
            self.schedule(at, Event::Room { port: id, len: 0 });
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if transmit.is_segmented() && self.dice.strikes(Fault::NoSegmentation) {
            return Err(os_error(libc::EIO));
        }
        Ok(())
    }

    /// Returns the hosts that a datagram goes to: for the broadcast address all of them, its own too.
    fn receivers(&self, from: HostId, to: SocketAddr) -> Vec<Option<HostId>> {
        if is_broadcast(to) {
            return (0..self.hosts.len())
                .map(|host| Some(HostId(host)))
                .collect();
        }
        vec![self.who_has(from, to.ip())]
    }

    /// Puts a datagram on the link, which takes time, and loses it, doubles it or has it come late.
    fn put_on_link(
        &mut self,
        host: HostId,
        peer: Option<HostId>,
        packets: usize,
        datagram: Datagram,
    ) {
        let path = (host, peer.unwrap_or(host));
        let (sender, len) = (datagram.sender, datagram.data.len());
        let departure = self.departure(path, len);
        if departure > self.now()
            && let Ok(port) = self.port(sender)
        {
            port.held += len;
            self.schedule(departure, Event::Room { port: sender, len });
        }
        // A datagram is lost with any of its packets; one to nobody's address, always.
        let lost = (0..packets).any(|_| self.dice.strikes(Fault::DatagramLost));
        if lost || peer.is_none() {
            self.lose(&datagram);
            return;
        }
        if self.dice.strikes(Fault::DatagramDoubled) {
            let data = datagram.data.clone();
            let double = Datagram { data, ..datagram };
            self.deliver_later(path, departure, double);
        }
        self.deliver_later(path, departure, datagram);
    }

    fn deliver_later(&mut self, path: (HostId, HostId), departure: Duration, datagram: Datagram) {
        let at = departure.saturating_add(self.delay(path)).min(END_OF_TIME);
        let key = if self.dice.strikes(Fault::Reorder) {
            self.dice.any()
        } else {
            0
        };
        let what = Arrival::Datagram(datagram);
        if self.dice.strikes(Fault::DatagramLate) {
            let at = at + self.dice.within(Duration::ZERO, Faults::LATE);
            self.schedule_with(at, key, Event::Arrival { path, what });
            return;
        }
        let wire = self.wire(path.0, path.1);
        let at = at.max(wire.last_datagram);
        wire.last_datagram = at;
        self.schedule_with(at, key, Event::Arrival { path, what });
    }

    /// Some of what was taken is on the link, or an invented refusal is over.
    pub(super) fn room_again(&mut self, id: PortId, len: usize) {
        let Ok(port) = self.port(id) else { return };
        port.held = port.held.saturating_sub(len);
        port.feigns &= len > 0;
        if port.watches_room && port.has_much_room() {
            self.tell(id, Readiness::new().with_writable());
        }
    }

    /// A datagram does not arrive.
    pub(super) fn lose(&mut self, datagram: &Datagram) {
        let (sender, to, len) = (datagram.sender, datagram.to, datagram.data.len());
        self.note(("lost", sender.0 as u64, len as u64), &[], || {
            format!("{sender} {len} to {to} are lost")
        });
    }

    // Arrivals.

    pub(super) fn datagram_arrived(&mut self, path: (HostId, HostId), datagram: Datagram) {
        let (host, len) = (path.1, datagram.data.len());
        let buffer = self.wire(path.0, path.1).link.receive_buffer;
        let Some(id) = self.port_at(host, datagram.from, datagram.to) else {
            if is_broadcast(datagram.to) {
                return;
            }
            let back = Arrival::Unreachable {
                sender: datagram.sender,
                at: datagram.to,
            };
            self.send_apart((path.1, path.0), back);
            return;
        };
        let Ok(port) = self.port(id) else { return };
        if port.inbox_bytes >= port.receive_buffer.unwrap_or(buffer) {
            self.datagrams_dropped += 1;
            self.note(("drop", id.0 as u64, len as u64), &[], || {
                format!("{id} has no room for {len}")
            });
            return;
        }
        let from = port.seen(datagram.from);
        port.inbox_bytes += cost(len);
        port.inbox.push_back((from, datagram.data));
        self.note(("datagram", id.0 as u64, len as u64), &[], || {
            format!("{id} has {len} from {from}")
        });
        self.tell(id, Readiness::new().with_readable());
    }

    /// Word has come that nothing receives there (RFC 1122, 4.1.3.3): for connected sockets only.
    pub(super) fn unreachable_arrived(&mut self, sender: PortId, at: SocketAddr) {
        let Ok(port) = self.port(sender) else { return };
        if port.remote != Some(at) {
            return;
        }
        port.error = Some(libc::ECONNREFUSED);
        self.note(("refused", sender.0 as u64, 0), &[], || {
            format!("{sender} is told that nothing receives at {at}")
        });
        self.tell(sender, Readiness::new().with_failed());
    }
}
