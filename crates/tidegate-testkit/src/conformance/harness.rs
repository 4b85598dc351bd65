//! Where the connections come from that the suite tries.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tidegate::{Address, Closed, EventLoop, Handle, Protocol, Result, Transport};

/// Connections of one kind of transport, and the loops that drive them.
///
/// The suite knows nothing of sockets, addresses and clocks: implement this for another transport,
/// or for a wrapper around one, and every case runs over it. Both ends of a connection may be on
/// one loop or on two.
///
/// A connection is to take some kilobytes in each direction, and no more than some megabytes, from
/// a writer whose peer does not read.
pub trait Harness {
    /// Makes one connection: the side that connects gets `connecting`, the side that accepts gets
    /// `accepted`. It may return before either had `connection_made`, which the suite waits for; a
    /// connection that a protocol ended in its `connection_made` is no error.
    ///
    /// # Errors
    ///
    /// When there is no connection. The suite reports it as a violation.
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()>;

    /// Runs every loop until `done` says so; asks it before the first turn, and between turns.
    /// `false` when that has not come about in a time that is long for this harness, or when
    /// nothing can happen any more.
    ///
    /// # Errors
    ///
    /// Those of running the loops.
    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool>;

    /// Runs every loop until all that is left is to wait for timers. A suite that asks whether
    /// something did *not* happen looks after this; it is no error to return early, but a
    /// violation may then go unseen.
    ///
    /// # Errors
    ///
    /// Those of running the loops.
    fn settle(&mut self) -> io::Result<()>;

    /// A handle to every loop, always in the same order: the suite looks in their snapshots for
    /// what a case has left behind.
    fn handles(&self) -> Vec<Handle>;

    /// Whether a peer sees [`reset`](Transport::reset) as a reset, as with TCP. Unix sockets have
    /// none: there it is as [`abort`](Transport::abort).
    fn has_resets(&self) -> bool {
        true
    }
}

/// TCP over 127.0.0.1, both ends on one loop.
#[derive(Debug)]
pub struct Tcp(Sockets);

/// Unix sockets in a folder of their own, both ends on one loop.
#[derive(Debug)]
pub struct Unix {
    sockets: Sockets,
    // Dropped last: the file of the socket is in it.
    _folder: Folder,
}

impl Tcp {
    /// A new loop that listens on a free port.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Sockets::listen("127.0.0.1:0")?))
    }

    /// Waits so long for what must come; 10 s unless set.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.0.patience = limit;
        self
    }
}

impl Unix {
    /// A new loop that listens in a new folder among the system's temporary ones.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn new() -> io::Result<Self> {
        let folder = Folder::new()?;
        let path = folder.0.join("harness.sock");
        Ok(Self {
            sockets: Sockets::listen(&format!("unix:{}", path.display()))?,
            _folder: folder,
        })
    }

    /// Waits so long for what must come; 10 s unless set.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.sockets.patience = limit;
        self
    }
}

impl Harness for Tcp {
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()> {
        self.0.connect(connecting, accepted)
    }

    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        self.0.run_until(done)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.0.settle()
    }

    fn handles(&self) -> Vec<Handle> {
        self.0.handles()
    }
}

impl Harness for Unix {
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()> {
        self.sockets.connect(connecting, accepted)
    }

    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        self.sockets.run_until(done)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.sockets.settle()
    }

    fn handles(&self) -> Vec<Handle> {
        self.sockets.handles()
    }

    fn has_resets(&self) -> bool {
        false
    }
}

/// What no case gives a loop to do at once.
const MOST_BUSY_TURNS: u32 = 2_000;

/// So many turns does something have to come about, whatever the clock says.
const LEAST_TURNS: u32 = 20;

type Slot = Rc<RefCell<Option<Box<dyn Protocol>>>>;

/// A server and its clients on one loop.
struct Sockets {
    event_loop: EventLoop,
    address: Address,
    /// For the next connection that is accepted.
    next: Slot,
    patience: Duration,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// For a connection that is none of the suite's.
pub(super) struct Stranger;

impl Protocol for Stranger {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.abort();
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        Ok(())
    }
}

impl Sockets {
    fn listen(address: &str) -> io::Result<Self> {
        let event_loop = EventLoop::new()?;
        let next: Slot = Rc::default();
        let slot = next.clone();
        let server = event_loop.handle().create_server(address, move || {
            slot.take().unwrap_or_else(|| Box::new(Stranger))
        })?;
        let Some(address) = server.local_addrs().first().cloned() else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        Ok(Self {
            event_loop,
            address,
            next,
            patience: Duration::from_secs(10),
        })
    }

    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()> {
        let unused = self.next.replace(Some(accepted));
        drop(unused);
        let handle = self.event_loop.handle().clone();
        let completion = handle.create_connection(&self.address, connecting);
        match self.event_loop.run_until(completion.within(self.patience)) {
            Err(error) if Closed::of(&error).is_none() => Err(error),
            _ => Ok(()),
        }
    }

    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        let start = Instant::now();
        let mut turns = 0;
        while !done() {
            // A machine that was busy with others may have used up the time.
            if start.elapsed() >= self.patience && turns >= LEAST_TURNS {
                return Ok(false);
            }
            self.event_loop.run_once(Some(Duration::from_millis(5)))?;
            turns += 1;
        }
        Ok(true)
    }

    /// The kernel moves bytes between two local sockets at once, or nearly so: one turn that found
    /// nothing is followed by a second that waits a moment.
    fn settle(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let (mut quiet, mut turns) = (0, 0);
        while quiet < 2 {
            let before = self.event_loop.handle().snapshot();
            self.event_loop
                .run_once(Some(Duration::from_millis(quiet)))?;
            let mut after = self.event_loop.handle().snapshot();
            after.polls = before.polls;
            quiet = if after == before { quiet + 1 } else { 0 };
            turns += 1;
            if start.elapsed() >= self.patience && turns >= MOST_BUSY_TURNS {
                let message = "the loop always finds something to do";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
        }
        Ok(())
    }

    fn handles(&self) -> Vec<Handle> {
        vec![self.event_loop.handle().clone()]
    }
}

/// A new folder, removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = std::process::id();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-harness-{id}-{number}"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
