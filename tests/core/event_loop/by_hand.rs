//! The least that can be under a loop: a clock that the test sets, and sockets that give back what
//! they were given. It notes what the loop asks for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tidegate::driver::{
    BindOptions, Driver, Events, Listener, Readiness, Socket, StreamSocket, Token, WAKE, Wake,
};
use tidegate::{Address, EventLoop};

/// How many bytes wait in a socket at most.
pub(crate) const CAPACITY: usize = 1000;

/// The state that the loop, its sockets and the test share.
#[derive(Debug)]
pub(crate) struct ByHand {
    pub(crate) now: Cell<Instant>,
    pub(crate) clock_reads: Cell<usize>,
    /// How long each poll was allowed to wait.
    pub(crate) timeouts: RefCell<Vec<Option<Duration>>>,
    events: RefCell<Vec<(Token, Readiness)>>,
    /// How often since the last poll.
    pub(crate) woken: Arc<Woken>,
    /// Every read and write fails with this error of the system.
    pub(crate) refusal: Cell<Option<i32>>,
    /// Every write fails as of a peer that has reset, once a socket has this number of bytes.
    pub(crate) breaks_at: Cell<usize>,
    /// The first event of a socket.
    pub(crate) first: Cell<Readiness>,
}

#[derive(Debug, Default)]
pub(crate) struct Woken(pub(crate) AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl ByHand {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(Instant::now()),
            clock_reads: Cell::default(),
            timeouts: RefCell::default(),
            events: RefCell::default(),
            woken: Arc::default(),
            refusal: Cell::default(),
            breaks_at: Cell::new(usize::MAX),
            first: Cell::new(Readiness::new().with_readable().with_writable()),
        })
    }

    pub(crate) fn driver(self: &Rc<Self>) -> impl Driver + use<> {
        Under(self.clone())
    }

    pub(crate) fn event_loop(self: &Rc<Self>) -> EventLoop {
        EventLoop::builder().driver(self.driver()).build().unwrap()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.set(self.now.get() + by);
    }

    /// Runs ticks, which never wait here, until nothing more happens.
    pub(crate) fn run(&self, event_loop: &mut EventLoop) {
        loop {
            self.timeouts.take();
            let before = event_loop.handle().stats();
            event_loop.run_once(None).unwrap();
            let mut after = event_loop.handle().stats();
            after.polls = before.polls;
            let idle = self.timeouts.borrow()[0] != Some(Duration::ZERO);
            if idle && after == before {
                return;
            }
        }
    }

    fn may_transfer(&self) -> io::Result<()> {
        let refusal = self.refusal.get().map(io::Error::from_raw_os_error);
        refusal.map_or(Ok(()), Err)
    }
}

#[derive(Debug)]
struct Under(Rc<ByHand>);

impl Driver for Under {
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.0.timeouts.borrow_mut().push(timeout);
        if self.0.woken.0.swap(0, Ordering::SeqCst) > 0 {
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

    fn bind(&mut self, _: &Address, _: BindOptions) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen(&mut self, _: &mut Listener, _: u32, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, _: &Address, _: Option<SocketAddr>) -> io::Result<Socket> {
        Ok(Socket::foreign(Mirror {
            world: self.0.clone(),
            bytes: VecDeque::new(),
            ended: false,
            owner: None,
        }))
    }

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        let mirror = socket.of::<Mirror>()?;
        mirror.owner = Some(token);
        mirror.tell(self.0.first.get());
        Ok(())
    }
}

/// Gives back what it was given, and the end of it.
#[derive(Debug)]
struct Mirror {
    world: Rc<ByHand>,
    bytes: VecDeque<u8>,
    ended: bool,
    owner: Option<Token>,
}

impl Mirror {
    fn tell(&self, readiness: Readiness) {
        if let Some(token) = self.owner {
            self.world.events.borrow_mut().push((token, readiness));
        }
    }
}

impl StreamSocket for Mirror {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.world.may_transfer()?;
        if self.bytes.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.bytes.len() == CAPACITY {
            self.tell(Readiness::new().with_writable());
        }
        io::Read::read(&mut self.bytes, buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.world.may_transfer()?;
        let before = self.bytes.len();
        if before >= self.world.breaks_at.get() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let offered = slices.iter().flat_map(|slice| slice.iter());
        self.bytes.extend(offered.take(CAPACITY - before));
        if self.bytes.len() == before {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.tell(Readiness::new().with_readable());
        Ok(self.bytes.len() - before)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.ended = true;
        self.tell(Readiness::new().with_read_to_end());
        Ok(())
    }
}
