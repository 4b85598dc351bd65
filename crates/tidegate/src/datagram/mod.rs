//! Endpoints of datagrams: UDP and Unix sockets.
//!
//! The way of a datagram: [`receive`] takes it from the kernel and calls the protocol with it, [`send`]
//! takes the datagrams of a reply into the [`queue`], from which those of one address and one length go in
//! one system call. [`room`] waits while the kernel refuses, and [`runs`] knows of those that it does not take.
//!
//! The steps that are owed to an endpoint follow from the same [`State`] as for
//! connections, and [`settle`] carries them out. [`bind`] makes an endpoint, and [`close`] ends it.
//! [`waiters`] completes `drain`, `flush`, `writable` and `wait_closed`. All public methods of
//! [`DatagramTransport`] are in this file, but for those in [`multicast`], [`stats`] and `arrival`.

#[cfg(feature = "offload")]
mod arrival;
mod bind;
mod close;
mod departure;
mod destination;
mod ecn;
mod endpoint;
mod error;
mod multicast;
mod offer;
mod options;
mod protocol;
mod queue;
mod receive;
mod room;
mod runs;
mod schedule;
mod send;
mod settle;
mod stats;
mod waiters;

use crate::callback::CallbackHandle;
use crate::completion::Completion;
use crate::event_loop::Core;
use crate::flow::{Flow, WriteLimits};
use crate::transport::State;
use crate::{
    Address, CloseReason, Closed, Handle, Result, TransportId, WithProtocolError, WriteError,
};
use destination::WithAddress;
use endpoint::Endpoint;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[cfg(feature = "offload")]
pub use arrival::Arrival;
pub use departure::Departure;
pub use destination::Destination;
pub use ecn::Ecn;
pub use error::DatagramError;
pub use options::{DatagramOptions, Interface, WhenFull};
pub use protocol::DatagramProtocol;
pub(crate) use queue::Queue as DatagramQueue;
pub use stats::DatagramStats;

/// The handle to an endpoint of datagrams; a clone is the same endpoint, and dropping it does nothing.
///
/// Taken means queued. With the kernel means not with the peer: a network may lose, double and reorder
/// datagrams, and the kernel drops those that a receive buffer has no room for.
///
/// All methods may be called everywhere, in callbacks too.
#[derive(Clone)]
pub struct DatagramTransport(Rc<Endpoint>);

impl DatagramTransport {
    fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    fn core(&self) -> &Rc<Core> {
        self.endpoint().core()
    }
}

/// # Sending
impl DatagramTransport {
    /// Sends a datagram to an address: takes it whole, or not at all.
    ///
    /// Datagrams leave in the order of the calls. Those that a callback sends while datagrams of one
    /// sender come in, at most 16 of these, leave together; those of other code at the end of the tick.
    /// Consecutive ones to one address and of one length are one system call, where the kernel can cut
    /// them (UDP_SEGMENT, udp(7)).
    ///
    /// Returns [`Flow::Paused`] while more is queued than the high-water mark: the kernel has refused
    /// datagrams, or this tick's share of 1 MiB is used up. On a Unix endpoint without a remote address,
    /// a receiver that takes nothing holds up all datagrams behind its own.
    ///
    /// # Errors
    ///
    /// They are about this endpoint: it is ending ([`WriteError::Closing`], [`WriteError::Closed`]), its
    /// queue is at its cap ([`WriteError::BufferFull`]), or the address is of no use here
    /// ([`WriteError::Destination`]). The system's error of one datagram comes to
    /// [`error_received`](DatagramProtocol::error_received).
    pub fn send_to(
        &self,
        data: &[u8],
        to: &(impl Destination + ?Sized),
    ) -> Result<Flow, WriteError> {
        WithAddress::with_address(to, |to| self.enqueue(Some(to), data))
    }

    /// Sends a datagram to the remote address, as [`send_to`](Self::send_to) does.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to); [`WriteError::Destination`] without a remote address.
    pub fn send(&self, data: &[u8]) -> Result<Flow, WriteError> {
        self.enqueue(None, data)
    }

    /// Sends `data` as datagrams of `segment_size` bytes each, the last of which may be shorter. Takes all of
    /// them, or none. [`Departure`] has their marks and their source.
    ///
    /// Protocols such as QUIC make several datagrams at a time. This call does the same as one of
    /// [`send_to`](Self::send_to) for each: their order, their cost, their numbers and their errors are those of
    /// single datagrams. The kernel gets at most 64 of them in one system call. A `segment_size` of 0 makes one
    /// datagram, as does one that is not less than the length of `data`.
    ///
    /// ```
    /// use tidegate::{Address, DatagramProtocol, DatagramTransport, Departure, Ecn, Result};
    ///
    /// struct Blocks;
    ///
    /// impl DatagramProtocol for Blocks {
    ///     fn datagram_received(
    ///         &mut self,
    ///         transport: &DatagramTransport,
    ///         _: &[u8],
    ///         from: &Address,
    ///     ) -> Result {
    ///         let marked = Departure::new().ecn(Ecn::Capable0);
    ///         // Four datagrams, the last of 400 bytes.
    ///         transport.send_run_to(&[7; 4_000], 1_200, from, marked)?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to): with the queue at its cap
    /// ([`WriteError::BufferFull`]) all of them are refused. [`WriteError::Destination`] for marks or a source on a
    /// Unix socket, and for a source of IPv6 on an endpoint of IPv4. The system's error, such as that for a source
    /// which is no address of this machine, comes to [`error_received`](DatagramProtocol::error_received) for each.
    pub fn send_run_to(
        &self,
        data: &[u8],
        segment_size: usize,
        to: &(impl Destination + ?Sized),
        departure: Departure,
    ) -> Result<Flow, WriteError> {
        WithAddress::with_address(to, |to| {
            self.enqueue_run(Some(to), data, segment_size, departure)
        })
    }

    /// Sends datagrams to the remote address, as [`send_run_to`](Self::send_run_to) does.
    ///
    /// # Errors
    ///
    /// As [`send_run_to`](Self::send_run_to); [`WriteError::Destination`] without a remote address.
    pub fn send_run(
        &self,
        data: &[u8],
        segment_size: usize,
        departure: Departure,
    ) -> Result<Flow, WriteError> {
        self.enqueue_run(None, data, segment_size, departure)
    }

    /// Sends a datagram now, and returns the system's verdict. It never overtakes a queued one.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when others wait, the kernel has no room, or the tick's
    /// share is used up: nothing was taken then, and [`writable`](Self::writable) tells when to try again. The
    /// system's error; those of [`send_to`](Self::send_to), as [`io::Error`].
    pub fn try_send_to(&self, data: &[u8], to: &(impl Destination + ?Sized)) -> io::Result<()> {
        WithAddress::with_address(to, |to| self.send_now(Some(to), data))
    }

    /// Sends a datagram to the remote address now, as [`try_send_to`](Self::try_send_to) does.
    ///
    /// # Errors
    ///
    /// As [`try_send_to`](Self::try_send_to).
    pub fn try_send(&self, data: &[u8]) -> io::Result<()> {
        self.send_now(None, data)
    }

    /// Returns whether the endpoint wants more datagrams now.
    pub fn flow(&self) -> Flow {
        if self.endpoint().is(State::PAUSED) {
            Flow::Paused
        } else {
            Flow::Open
        }
    }

    /// Completes when the queue is not above its marks: at once unless it is paused.
    ///
    /// Fails with the [`Closed`] of the endpoint when that ends first. Dropping it cancels the wait.
    pub fn drain(&self) -> Completion<()> {
        self.wait_drained()
    }

    /// Completes when all datagrams that were taken before the call are with the kernel, or have failed.
    /// [`error_received`](DatagramProtocol::error_received) may tell of a failure later.
    ///
    /// Fails with the [`Closed`] of the endpoint when that ends first. Dropping it cancels the wait.
    pub fn flush(&self) -> Completion<()> {
        self.wait_flushed()
    }

    /// Completes when nothing is queued and the kernel is not known to refuse.
    ///
    /// Fails with the [`Closed`] of the endpoint when that ends first. Dropping it cancels the wait.
    pub fn writable(&self) -> Completion<()> {
        self.wait_writable()
    }

    /// Sets the watermarks and the cap, which is 1 MiB unless set. They hold at once.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) unless `low <= high <= cap` and `cap > 0`;
    /// nothing changes then.
    pub fn set_write_limits(&self, limits: WriteLimits) -> io::Result<()> {
        let marks = limits.or_cap(options::DEFAULT_CAP).resolve()?;
        self.endpoint().marks.set(marks);
        self.update_flow();
        self.touch();
        Ok(())
    }

    /// Returns the limits in force.
    pub fn write_limits(&self) -> WriteLimits {
        self.endpoint().marks.get().limits()
    }

    /// Returns the number that the watermarks are compared with: the bytes of the queued datagrams, and
    /// 64 for each.
    pub fn write_buffer_size(&self) -> usize {
        self.endpoint().cost()
    }
}

/// # Receiving
impl DatagramTransport {
    /// Stops receiving. The kernel keeps what its buffer has room for, and drops the rest.
    pub fn pause_reading(&self) {
        self.endpoint().set(State::READING_PAUSED);
    }

    /// Goes on receiving.
    pub fn resume_reading(&self) {
        self.endpoint().clear(State::READING_PAUSED);
        self.touch();
    }

    /// Returns whether datagrams are received: not paused, held back, or ending.
    pub fn is_reading(&self) -> bool {
        !self
            .endpoint()
            .is(State::NO_READ.without(State::CONNECTING))
    }
}

/// # The end
impl DatagramTransport {
    /// Closes the endpoint: nothing more is received, the queue is sent, then `connection_lost` comes.
    pub fn close(&self) {
        self.begin_close();
    }

    /// Closes the endpoint, and ends it with [`TimeoutKind::Close`](crate::TimeoutKind::Close) when
    /// datagrams are still queued after `limit`. Of several deadlines the earliest holds.
    pub fn close_within(&self, limit: Duration) {
        self.close_by(limit);
    }

    /// Ends the endpoint at once. Queued datagrams are dropped and counted.
    pub fn abort(&self) {
        self.end(CloseReason::LocalAbort);
    }

    /// Returns whether the endpoint is ending, or has ended.
    pub fn is_closing(&self) -> bool {
        self.endpoint().is(State::ENDING)
    }

    /// Returns how the endpoint ended, if that is decided.
    pub fn closed(&self) -> Option<Closed> {
        self.endpoint().closed()
    }

    /// Completes after `connection_lost`, with how the endpoint ended.
    pub fn wait_closed(&self) -> Completion<Closed> {
        self.wait_lost()
    }
}

/// # The protocol
impl DatagramTransport {
    /// Calls with the protocol, if it is a `P`, or [wraps](DatagramProtocol::inner) one, and is not in use.
    ///
    /// # Errors
    ///
    /// [`WithProtocolError`] says why the closure was not called.
    pub fn with_protocol<P: DatagramProtocol, R>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> R,
    ) -> Result<R, WithProtocolError> {
        self.call_with_protocol(call)
    }

    /// Runs `call` as a callback of the protocol in the next phase of ready callbacks.
    ///
    /// It is dropped without having run when the endpoint has ended first. Its error is reported, also
    /// when the protocol is no `P`.
    pub fn call_soon<P: DatagramProtocol>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        self.schedule(call)
    }

    /// Runs `call` after `delay`, as [`call_soon`](Self::call_soon) does. The timer is cancelled at the end
    /// of the endpoint.
    pub fn call_later<P: DatagramProtocol>(
        &self,
        delay: Duration,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        self.schedule_after(delay, call)
    }
}

/// # Facts
impl DatagramTransport {
    /// Returns our own address.
    pub fn local_addr(&self) -> &Address {
        &self.endpoint().local
    }

    /// Returns the address that datagrams are exchanged with, if it is one alone.
    pub fn remote_addr(&self) -> Option<&Address> {
        self.endpoint().remote.as_ref()
    }

    /// Returns the id that names the endpoint within its loop.
    pub fn id(&self) -> TransportId {
        self.endpoint().id
    }

    /// Returns a handle to the loop that drives the endpoint.
    pub fn handle(&self) -> &Handle {
        &self.endpoint().handle
    }
}
