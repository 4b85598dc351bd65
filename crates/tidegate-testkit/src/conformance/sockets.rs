//! The harnesses over real sockets, TCP and Unix.

use super::Harness;
use crate::single_connection::Unexpected;
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tidegate::{Address, Closed, EventLoop, Handle, Protocol};

/// A harness for TCP over 127.0.0.1, with both ends on one loop.
#[derive(Debug)]
pub struct Tcp(Sockets);

/// A harness for Unix sockets in a folder of their own, with both ends on one loop.
#[derive(Debug)]
pub struct Unix {
    sockets: Sockets,
    // Dropped last: the file of the socket is in it.
    _folder: Folder,
}

impl Tcp {
    /// Makes a loop that listens on a free port.
    ///
    /// # Errors
    ///
    /// Errors of the system.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Sockets::listen("127.0.0.1:0")?))
    }

    /// Sets the maximum time that a wait takes; 10 s unless set.
    #[must_use]
    pub fn patience(mut self, limit: Duration) -> Self {
        self.0.patience = limit;
        self
    }
}

impl Unix {
    /// Makes a loop that listens in a new folder among the system's temporary ones.
    ///
    /// # Errors
    ///
    /// Errors of the system.
    pub fn new() -> io::Result<Self> {
        let folder = Folder::new()?;
        let path = folder.0.join("harness.sock");
        Ok(Self {
            sockets: Sockets::listen(&format!("unix:{}", path.display()))?,
            _folder: folder,
        })
    }

    /// Sets the maximum time that a wait takes; 10 s unless set.
    #[must_use]
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

/// Maximum number of busy ticks in one `settle` after its time: more than any case gives a loop to do.
const MAX_BUSY_TICKS: u32 = 2_000;

/// Minimum number of ticks before a wait fails: the machine may have spent the time elsewhere.
const MIN_TICKS: u32 = 20;

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

impl Sockets {
    fn listen(address: &str) -> io::Result<Self> {
        let event_loop = EventLoop::new()?;
        let next: Slot = Rc::default();
        let slot = next.clone();
        let server = event_loop.handle().create_server(address, move || {
            slot.take().unwrap_or_else(|| Box::new(Unexpected))
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
        let mut ticks = 0;
        while !done() {
            // A machine that was busy with others may have used up the time.
            if start.elapsed() >= self.patience && ticks >= MIN_TICKS {
                return Ok(false);
            }
            self.event_loop.run_once(Some(Duration::from_millis(5)))?;
            ticks += 1;
        }
        Ok(true)
    }

    /// Runs until two ticks in a row found nothing. The second waits a moment, because the kernel may
    /// take one to move bytes between two local sockets.
    fn settle(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let (mut quiet, mut ticks) = (0, 0);
        while quiet < 2 {
            let before = self.event_loop.handle().stats();
            self.event_loop
                .run_once(Some(Duration::from_millis(quiet)))?;
            let mut after = self.event_loop.handle().stats();
            after.polls = before.polls;
            quiet = if after == before { quiet + 1 } else { 0 };
            ticks += 1;
            if start.elapsed() >= self.patience && ticks >= MAX_BUSY_TICKS {
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
        // A rest in the temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
