//! Datagrams, awaited.

use crate::error::NoEventLoop;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tidegate::{
    Address, Closed, DatagramError, DatagramOptions, DatagramProtocol, DatagramTransport,
    Destination, Flow, Handle, OnPause, Result, WriteError,
};

/// The number of bytes of datagrams that wait unread from which nothing more is received. Each counts 64
/// beside its own.
const MAX_UNREAD: usize = 128 * 1024;

const OVERHEAD: usize = 64;

/// The maximum number of errors that wait unread: later ones tell nothing new.
const MAX_ERRORS: usize = 16;

/// A socket of datagrams, on UDP or Unix.
///
/// Its methods take `&self`, so several tasks may send and receive. At most 128 KiB of datagrams wait
/// unread. Then the socket stops receiving, and the kernel drops those that it has no room for.
///
/// Dropping the socket closes it: what is queued is sent in the background.
///
/// ```
/// use tidegate::Result;
/// use tidegate_streams::{DatagramSocket, block_on};
///
/// async fn run() -> Result {
///     let server = DatagramSocket::bind("127.0.0.1:0")?;
///     let port = server.local_addr().as_inet().map_or(0, |addr| addr.port());
///     let client = DatagramSocket::connect("127.0.0.1", port).await?;
///     client.send(b"ping")?;
///     let (data, from) = server.recv_from().await?;
///     server.send_to(&data, &from)?;
///     assert_eq!(&client.recv_from().await?.0[..], b"ping");
///     Ok(())
/// }
///
/// fn main() -> Result {
///     block_on(run())?
/// }
/// ```
pub struct DatagramSocket {
    transport: DatagramTransport,
    inbox: Rc<Inbox>,
}

/// The datagrams that were received and not read.
#[derive(Default)]
struct Inbox {
    items: RefCell<VecDeque<io::Result<(Bytes, Address)>>>,
    /// As [`MAX_UNREAD`] counts them.
    size: Cell<usize>,
    errors: Cell<usize>,
    /// It has stopped receiving.
    full: Cell<bool>,
    closed: RefCell<Option<Closed>>,
    /// Of the waits, by their numbers.
    wakers: RefCell<BTreeMap<u64, Waker>>,
    waits: Cell<u64>,
}

impl Inbox {
    fn push(&self, data: &[u8], from: &Address) {
        self.size.set(self.size.get() + data.len() + OVERHEAD);
        let item = Ok((Bytes::copy_from_slice(data), from.clone()));
        self.items.borrow_mut().push_back(item);
        self.wake();
    }

    fn push_error(&self, error: io::Error) {
        if self.errors.get() < MAX_ERRORS {
            self.errors.set(self.errors.get() + 1);
            self.items.borrow_mut().push_back(Err(error));
            self.wake();
        }
    }

    fn wake(&self) {
        let wakers = mem::take(&mut *self.wakers.borrow_mut());
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    fn take(&self, transport: &DatagramTransport) -> Option<io::Result<(Bytes, Address)>> {
        let item = self.items.borrow_mut().pop_front()?;
        match &item {
            Ok((data, _)) => self.size.set(self.size.get() - data.len() - OVERHEAD),
            Err(_) => self.errors.set(self.errors.get() - 1),
        }
        if self.full.get() && self.size.get() <= MAX_UNREAD / 2 {
            self.full.set(false);
            transport.resume_reading();
        }
        Some(item)
    }
}

/// A wait for a datagram.
struct Receive<'s> {
    socket: &'s DatagramSocket,
    /// Since it was polled.
    number: Option<u64>,
}

impl Future for Receive<'_> {
    type Output = io::Result<(Bytes, Address)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let DatagramSocket { transport, inbox } = self.socket;
        if let Some(item) = inbox.take(transport) {
            return Poll::Ready(item);
        }
        if let Some(closed) = &*inbox.closed.borrow() {
            return Poll::Ready(Err(closed.clone().into()));
        }
        let number = *self.number.get_or_insert_with(|| {
            inbox.waits.set(inbox.waits.get() + 1);
            inbox.waits.get()
        });
        let before = inbox
            .wakers
            .borrow_mut()
            .insert(number, context.waker().clone());
        drop(before);
        Poll::Pending
    }
}

impl Drop for Receive<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.socket.inbox.wakers.borrow_mut().remove(&number);
            drop(waker);
        }
    }
}

/// Puts what the endpoint receives into the inbox.
struct Receiver(Rc<Inbox>);

impl DatagramProtocol for Receiver {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        self.0.push(data, from);
        if self.0.size.get() >= MAX_UNREAD {
            self.0.full.set(true);
            transport.pause_reading();
        }
        Ok(())
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        // Without a remote address it is about one peer of many.
        if transport.remote_addr().is_some() {
            let copy = match error.error().raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.error().kind(), error.to_string()),
            };
            self.0.push_error(copy);
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        // The inbox has a bound of its own, and a task that waits to send may have to receive first.
        Ok(OnPause::KeepReading)
    }

    fn connection_lost(&mut self, _: &DatagramTransport, closed: &Closed) {
        self.0.closed.replace(Some(closed.clone()));
        self.0.wake();
    }
}

impl DatagramSocket {
    /// Binds a socket on the loop that is running on this thread. The address is one that
    /// [`DatagramOptions`] is made from.
    ///
    /// # Errors
    ///
    /// Those of [`Handle::create_datagram_endpoint`]; [`NoEventLoop`].
    pub fn bind(options: impl Into<DatagramOptions>) -> io::Result<Self> {
        let handle = Handle::current().ok_or(NoEventLoop)?;
        let inbox: Rc<Inbox> = Rc::default();
        let transport = handle.create_datagram_endpoint(options, Receiver(inbox.clone()))?;
        Ok(Self { transport, inbox })
    }

    /// Makes a socket that exchanges datagrams with a host alone. The name is resolved off the loop, and
    /// the first of its addresses that the system takes is used.
    ///
    /// # Errors
    ///
    /// Those of [`Handle::resolve`] and of [`bind`](Self::bind). That nothing receives there is told by
    /// [`recv_from`](Self::recv_from) later, if at all.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let handle = Handle::current().ok_or(NoEventLoop)?;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for addr in handle.resolve(host, port).await? {
            match Self::bind(DatagramOptions::connected(addr)) {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Receives a datagram, whole, and the address of its sender. Waits for one.
    ///
    /// # Errors
    ///
    /// With a remote address, that of a datagram that was sent before:
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when nothing receives there. The socket goes
    /// on. Of errors that nobody reads the first 16 wait. Without a remote address, no peer makes it fail. The
    /// [`Closed`] of a socket that has ended.
    ///
    /// # Cancel safety
    ///
    /// A datagram is taken by the poll that completes. Dropping the future loses nothing.
    pub fn recv_from(&self) -> impl Future<Output = io::Result<(Bytes, Address)>> + '_ {
        Receive {
            socket: self,
            number: None,
        }
    }

    /// Sends a datagram to an address: takes it at once, whole, or not at all.
    ///
    /// Returns [`Flow::Paused`] when it is time to [`drain`](Self::drain).
    ///
    /// # Errors
    ///
    /// Those of [`DatagramTransport::send_to`].
    pub fn send_to(
        &self,
        data: &[u8],
        to: &(impl Destination + ?Sized),
    ) -> Result<Flow, WriteError> {
        self.transport.send_to(data, to)
    }

    /// Sends a datagram to the remote address, as [`send_to`](Self::send_to) does.
    ///
    /// # Errors
    ///
    /// Those of [`DatagramTransport::send`].
    pub fn send(&self, data: &[u8]) -> Result<Flow, WriteError> {
        self.transport.send(data)
    }

    /// Sends a datagram to an address, and completes with the system's verdict. Waits for those before it,
    /// and for room.
    ///
    /// # Errors
    ///
    /// The system's error of this datagram; those of [`DatagramTransport::try_send_to`].
    ///
    /// # Cancel safety
    ///
    /// A datagram is taken by the poll that completes: dropped before, it is not sent.
    pub async fn send_to_and_wait(
        &self,
        data: &[u8],
        to: &(impl Destination + ?Sized),
    ) -> io::Result<()> {
        loop {
            match self.transport.try_send_to(data, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.transport.writable().await?;
                }
                verdict => return verdict,
            }
        }
    }

    /// Completes when the queue is not above its marks.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of a socket that has ended.
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub async fn drain(&self) -> io::Result<()> {
        self.transport.drain().await
    }

    /// Completes when all datagrams that were taken are with the kernel, or have failed.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of a socket that has ended first.
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub async fn flush(&self) -> io::Result<()> {
        self.transport.flush().await
    }

    /// Returns our own address.
    pub fn local_addr(&self) -> &Address {
        self.transport.local_addr()
    }

    /// Returns the transport, for options, numbers and the end.
    ///
    /// Its `arrival` tells of the datagram that came last, not of the one that [`recv_from`](Self::recv_from)
    /// returned: others may wait unread. For ECN and destination addresses, use a [`DatagramProtocol`].
    pub fn transport(&self) -> &DatagramTransport {
        &self.transport
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        self.transport.close();
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSocket")
            .field("transport", &self.transport)
            .field("unread", &self.inbox.items.borrow().len())
            .finish()
    }
}
