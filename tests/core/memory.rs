//! A world of its own for the loop: sockets in memory, and a clock that is set by hand.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, atomic};
use std::time::{Duration, Instant};
use tidegate::Address;
use tidegate::driver::{
    BindOptions, Driver, Events, Listener, ListenerSocket, Readiness, Socket, StreamSocket, Token,
    WAKE, Wake,
};

/// So many bytes wait between two sockets at most.
pub(crate) const CAPACITY: usize = 1000;

/// What the loop, its sockets and the test share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Cell<Instant>,
    pub(crate) clock_reads: Cell<usize>,
    pub(crate) timeouts: RefCell<Vec<Option<Duration>>>,
    events: RefCell<Vec<(Token, Readiness)>>,
    listeners: RefCell<Vec<(Address, Token)>>,
    backlog: RefCell<VecDeque<Stream>>,
    pub(crate) woken: Arc<Woken>,
    /// Writes fail with this error of the system.
    pub(crate) write_error: Cell<Option<i32>>,
    /// Every read and write fails with this error of the system.
    pub(crate) refusal: Cell<Option<i32>>,
}

/// How often since the last poll.
#[derive(Debug, Default)]
pub(crate) struct Woken(pub(crate) atomic::AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, atomic::Ordering::SeqCst);
    }
}

impl World {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(Instant::now()),
            clock_reads: Cell::default(),
            timeouts: RefCell::default(),
            events: RefCell::default(),
            listeners: RefCell::default(),
            backlog: RefCell::default(),
            woken: Arc::default(),
            write_error: Cell::default(),
            refusal: Cell::default(),
        })
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.set(self.now.get() + by);
    }

    fn refuse(&self) -> io::Result<()> {
        let refusal = self.refusal.get().map(io::Error::from_raw_os_error);
        refusal.map_or(Ok(()), Err)
    }

    fn tell(&self, end: &Inbox, readiness: Readiness) {
        if let Some(token) = end.owner.get() {
            self.events.borrow_mut().push((token, readiness));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Memory(pub(crate) Rc<World>);

impl Driver for Memory {
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.0.timeouts.borrow_mut().push(timeout);
        if self.0.woken.0.swap(0, atomic::Ordering::SeqCst) > 0 {
            events.push(WAKE, Readiness::new());
        }
        events.extend(self.0.events.borrow_mut().drain(..));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.0.woken.clone()
    }

    fn now(&self) -> Instant {
        self.0.clock_reads.set(self.0.clock_reads.get() + 1);
        self.0.now.get()
    }

    fn bind(&mut self, address: &Address, _: BindOptions) -> io::Result<Listener> {
        let listener = Accepting(self.0.clone(), address.clone());
        Ok(Listener::foreign(listener))
    }

    fn listen(&mut self, listener: &mut Listener, _: u32, token: Token) -> io::Result<()> {
        let address = &listener.of::<Accepting>()?.1;
        let listening = (address.clone(), token);
        self.0.listeners.borrow_mut().push(listening);
        Ok(())
    }

    fn connect(&mut self, address: &Address, _: Option<SocketAddr>) -> io::Result<Socket> {
        let listeners = self.0.listeners.borrow();
        let listener = listeners.iter().find(|(bound, _)| bound == address);
        let (_, token) = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = Stream::pair(&self.0);
        self.0.backlog.borrow_mut().push_back(far);
        let event = (*token, Readiness::new().with_readable());
        self.0.events.borrow_mut().push(event);
        Ok(Socket::foreign(near))
    }

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        let inbox = &socket.of::<Stream>()?.ours;
        inbox.owner.set(Some(token));
        let all = Readiness::new().with_readable().with_writable();
        self.0.tell(inbox, all);
        Ok(())
    }
}

#[derive(Debug)]
struct Accepting(Rc<World>, Address);

impl ListenerSocket for Accepting {
    fn accept(&mut self) -> io::Result<(Socket, Address)> {
        let stream = self.0.backlog.borrow_mut().pop_front();
        let stream = stream.ok_or(io::ErrorKind::WouldBlock)?;
        Ok((Socket::foreign(stream), Address::Unnamed))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(self.1.clone())
    }
}

/// What one end receives.
#[derive(Debug, Default)]
struct Inbox {
    bytes: RefCell<VecDeque<u8>>,
    ended: Cell<bool>,
    owner: Cell<Option<Token>>,
}

#[derive(Debug)]
struct Stream {
    world: Rc<World>,
    ours: Rc<Inbox>,
    theirs: Rc<Inbox>,
}

impl Stream {
    fn pair(world: &Rc<World>) -> (Self, Self) {
        let (one, other) = Default::default();
        let end = |ours: &Rc<Inbox>, theirs: &Rc<Inbox>| Self {
            world: world.clone(),
            ours: ours.clone(),
            theirs: theirs.clone(),
        };
        (end(&one, &other), end(&other, &one))
    }
}

impl StreamSocket for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.world.refuse()?;
        let mut bytes = self.ours.bytes.borrow_mut();
        if bytes.is_empty() && !self.ours.ended.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if bytes.len() == CAPACITY {
            let room = Readiness::new().with_writable();
            self.world.tell(&self.theirs, room);
        }
        io::Read::read(&mut *bytes, buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(code) = self.world.write_error.get() {
            return Err(io::Error::from_raw_os_error(code));
        }
        self.world.refuse()?;
        let mut bytes = self.theirs.bytes.borrow_mut();
        let before = bytes.len();
        let offered = slices.iter().flat_map(|slice| slice.iter());
        bytes.extend(offered.take(CAPACITY - before));
        if bytes.len() == before {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.world
            .tell(&self.theirs, Readiness::new().with_readable());
        Ok(bytes.len() - before)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.theirs.ended.set(true);
        let ended = Readiness::new().with_read_to_end();
        self.world.tell(&self.theirs, ended);
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        drop(self.shutdown_write());
    }
}
