//! One end of a connection, as the kernel of its host sees it, and the calls on its socket.

use super::state::{HostId, State, os_error};
use crate::faults::Fault;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::driver::{Readiness, SocketOption, Token};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndpointId(pub(super) usize);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    /// Reset or refused: nothing comes or goes any more.
    Dead,
}

/// How far our side has ended its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fin {
    Open,
    /// It follows the bytes that are still to be sent.
    Wanted,
    Sent,
    Arrived,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: HostId,
    pub(super) peer_host: HostId,
    /// `None` while connecting.
    pub(super) peer: Option<EndpointId>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The host whose loop has its events, and their token. A connection may have moved to the loop of
    /// another host.
    pub(super) watch: Option<(HostId, Token)>,
    pub(super) phase: Phase,
    /// The descriptor was closed; the kernel still sends the bytes that it took.
    pub(super) orphan: bool,
    reset_on_close: bool,
    /// A loop holds it, and not a test's hand: faults are for loops.
    pub(super) of_loop: bool,

    /// Taken from the sender, not yet on the way.
    pub(super) outgoing: VecDeque<u8>,
    pub(super) in_flight: usize,
    pub(super) send_buffer: usize,
    pub(super) fin: Fin,
    /// A write was refused or cut short: room is to be told.
    wants_room: bool,
    /// The time and order of arrival of the last segment in flight.
    pub(super) last: (Duration, u32),

    pub(super) incoming: VecDeque<u8>,
    pub(super) receive_buffer: usize,
    pub(super) fin_received: bool,
    /// SO_ERROR.
    pub(super) error: Option<i32>,
}

impl Endpoint {
    pub(super) fn new(
        host: HostId,
        peer_host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        Self {
            host,
            peer_host,
            peer: None,
            local,
            remote,
            watch: None,
            phase: Phase::Connecting,
            orphan: false,
            reset_on_close: false,
            of_loop: true,
            outgoing: VecDeque::new(),
            in_flight: 0,
            send_buffer: 0,
            fin: Fin::Open,
            wants_room: false,
            last: (Duration::ZERO, 0),
            incoming: VecDeque::new(),
            receive_buffer: 0,
            fin_received: false,
            error: None,
        }
    }

    fn room(&self) -> usize {
        self.send_buffer
            .saturating_sub(self.outgoing.len() + self.in_flight)
    }

    /// Both streams have ended, and both sides know: nothing can happen to it any more.
    pub(super) fn is_over(&self) -> bool {
        self.fin == Fin::Arrived && self.fin_received
    }

    /// Returns the readiness that epoll reports along with each change.
    pub(super) fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::new();
        if self.phase == Phase::Connecting {
            return readiness;
        }
        if !self.incoming.is_empty() {
            readiness = readiness.with_readable();
        }
        if self.fin_received || self.phase == Phase::Dead {
            readiness = readiness.with_read_to_end();
        }
        if self.has_much_room() || self.phase == Phase::Dead {
            readiness = readiness.with_writable();
        }
        if self.phase == Phase::Dead {
            readiness = readiness.with_failed();
        }
        readiness
    }

    /// As Linux: a third of the buffer must be free.
    fn has_much_room(&self) -> bool {
        self.room() * 3 >= self.send_buffer
    }
}

/// Returns the error of a call on a descriptor that is gone.
fn no_socket() -> io::Error {
    os_error(libc::EBADF)
}

impl State {
    /// Returns the error of a fault that any call may meet, if one strikes.
    fn call_fails(&mut self, id: EndpointId, again: Fault, then: Readiness) -> Option<io::Error> {
        let endpoint = self.endpoint(id)?;
        if !endpoint.of_loop {
            return None;
        }
        if self.dice.strikes(Fault::Interrupted) {
            return Some(io::ErrorKind::Interrupted.into());
        }
        if self.dice.strikes(Fault::NoMemory) {
            return Some(os_error(libc::ENOBUFS));
        }
        if self.dice.strikes(again) {
            self.remind(id, then);
            return Some(io::ErrorKind::WouldBlock.into());
        }
        None
    }

    /// SO_ERROR, which the next call fails with, once.
    fn pending_error(&mut self, id: EndpointId, call: &'static str) -> io::Result<()> {
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        let Some(errno) = endpoint.error.take() else {
            return Ok(());
        };
        self.note((call, id.0 as u64, errno as u64), &[], || {
            format!("{id} {call}: error {errno}")
        });
        Err(os_error(errno))
    }

    pub(super) fn read(&mut self, id: EndpointId, buffer: &mut [u8]) -> io::Result<usize> {
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        if endpoint.incoming.is_empty() {
            // As on Linux: an error is not for the reader of a stream that has ended.
            if endpoint.fin_received {
                return Ok(0);
            }
            self.pending_error(id, "read")?;
            let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
            return match endpoint.phase {
                Phase::Connecting | Phase::Open => Err(io::ErrorKind::WouldBlock.into()),
                Phase::Dead => Ok(0),
            };
        }
        let there = endpoint.incoming.len().min(buffer.len());
        let readable = Readiness::new().with_readable();
        if let Some(error) = self.call_fails(id, Fault::ReadAgain, readable) {
            return Err(error);
        }
        let len = self.shortened(id, there, Fault::ShortRead, readable);
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        io::Read::read_exact(&mut endpoint.incoming, &mut buffer[..len])?;
        let peer = endpoint.peer;
        self.note_bytes(("read", id.0 as u64, len as u64), &buffer[..len], || {
            format!("{id} read {len}")
        });
        if let Some(peer) = peer {
            self.transmit(peer);
        }
        Ok(len)
    }

    /// A call may take less than it could; an event tells of the rest, as when it had come just
    /// afterwards.
    fn shortened(&mut self, id: EndpointId, len: usize, fault: Fault, then: Readiness) -> usize {
        let Some(endpoint) = self.endpoint(id) else {
            return len;
        };
        let of_loop = endpoint.of_loop;
        if len < 2 || !of_loop || !self.dice.strikes(fault) {
            return len;
        }
        self.remind(id, then);
        self.dice.some_of(1, len - 1)
    }

    pub(super) fn write(&mut self, id: EndpointId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.pending_error(id, "write")?;
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        match endpoint.phase {
            Phase::Connecting => return Err(io::ErrorKind::WouldBlock.into()),
            Phase::Dead => return Err(os_error(libc::EPIPE)),
            Phase::Open if endpoint.fin != Fin::Open => return Err(os_error(libc::EPIPE)),
            Phase::Open => {}
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = endpoint.room();
        if room == 0 && offered > 0 {
            endpoint.wants_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let writable = Readiness::new().with_writable();
        if let Some(error) = self.call_fails(id, Fault::WriteAgain, writable) {
            return Err(error);
        }
        let len = self.shortened(id, offered.min(room), Fault::ShortWrite, writable);
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        let from = endpoint.outgoing.len();
        let mut left = len;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            endpoint.outgoing.extend(part);
            left -= part.len();
        }
        if len < offered {
            endpoint.wants_room = true;
        }
        let data: Vec<u8> = endpoint.outgoing.range(from..).copied().collect();
        self.note_bytes(("write", id.0 as u64, len as u64), &data, || {
            format!("{id} write {len}")
        });
        self.transmit(id);
        Ok(len)
    }

    pub(super) fn shutdown_write(&mut self, id: EndpointId) -> io::Result<()> {
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        if endpoint.phase != Phase::Open || endpoint.is_over() {
            return Err(os_error(libc::ENOTCONN));
        }
        if endpoint.fin == Fin::Open {
            endpoint.fin = Fin::Wanted;
            self.note(("shutdown", id.0 as u64, 0), &[], || {
                format!("{id} shutdown")
            });
            self.transmit(id);
        }
        Ok(())
    }

    pub(super) fn take_error(&mut self, id: EndpointId) -> Option<io::Error> {
        self.endpoint(id)?.error.take().map(os_error)
    }

    pub(super) fn connected(&mut self, id: EndpointId) -> io::Result<bool> {
        if let Some(error) = self.take_error(id) {
            return Err(error);
        }
        let endpoint = self.endpoint(id).ok_or_else(no_socket)?;
        match endpoint.phase {
            Phase::Connecting => Ok(false),
            Phase::Open => Ok(true),
            Phase::Dead => Err(os_error(libc::ENOTCONN)),
        }
    }

    pub(super) fn set_option(&mut self, id: EndpointId, option: SocketOption) -> io::Result<()> {
        self.endpoint(id).ok_or_else(no_socket)?;
        if option == SocketOption::ResetOnClose {
            self.reset_on_close(id);
        }
        Ok(())
    }

    pub(super) fn reset_on_close(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoint(id) {
            endpoint.reset_on_close = true;
        }
    }

    /// The sender's kernel has heard that bytes arrived.
    pub(super) fn acknowledged(&mut self, id: EndpointId, len: usize) {
        let Some(endpoint) = self.endpoint(id) else {
            return;
        };
        endpoint.in_flight = endpoint.in_flight.saturating_sub(len);
        if endpoint.wants_room && endpoint.has_much_room() {
            endpoint.wants_room = false;
            self.tell(id, Readiness::new().with_writable());
        }
    }

    /// Closes the descriptor. Unread input, or the option for it, makes it a reset (RFC 1122, 4.2.2.13);
    /// else the kernel sends the bytes that it took, then the EOF.
    pub(super) fn close(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoint(id) else {
            return;
        };
        let host = endpoint.host;
        let abrupt = endpoint.reset_on_close || !endpoint.incoming.is_empty();
        let is_open = endpoint.phase == Phase::Open && !endpoint.is_over();
        let fin = endpoint.fin;
        endpoint.watch = None;
        endpoint.orphan = true;
        if endpoint.fin == Fin::Open {
            endpoint.fin = Fin::Wanted;
        }
        if endpoint.of_loop {
            self.close_descriptor(host);
        }
        let resets = is_open && abrupt;
        self.note(("close", id.0 as u64, u64::from(resets)), &[], || {
            let how = if resets { " with a reset" } else { "" };
            format!("{id} close{how}")
        });
        if resets {
            self.send_reset(id);
        } else if is_open && fin != Fin::Arrived {
            self.transmit(id);
        } else {
            self.remove_endpoint(id);
        }
    }

    pub(super) fn remove_endpoint(&mut self, id: EndpointId) {
        self.endpoints.remove(&id);
    }
}
