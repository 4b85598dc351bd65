//! Descriptors of the user's that the loop watches, as asyncio's `add_reader` and `add_writer` do.

use crate::driver::Readiness;
use crate::event_loop::{Core, Deferred, Slot, Source, add};
use crate::{BoxError, CloseReason, Failure, Handle, LoopClosed, LoopStats, TransportId};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::{Rc, Weak};

/// Maximum number of calls of one closure in a tick.
const CALLS_PER_TICK: usize = 16;

/// The name of the closure in reports and in the log.
const CONTEXT: &str = "watch";

/// The events of a descriptor that [`Handle::watch`] waits for. Errors and hang-ups belong to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum WatchFor {
    /// There is something to read.
    Read,
    /// There is room to write.
    Write,
    /// Either of them.
    Both,
}

/// Stops the watch of a descriptor. Made by [`Handle::watch`].
///
/// Clones name the same watch. Dropping one does nothing: the watch goes on, as a
/// [timer](crate::CallbackHandle) and a [server](crate::Server) do.
#[derive(Clone)]
pub struct Watch {
    core: Weak<Core>,
    id: TransportId,
}

impl Watch {
    /// Stops the watch: the closure is not called again.
    ///
    /// The closure and the descriptor are dropped before the loop next sleeps. Works within the closure too:
    /// they are dropped when it returns. The descriptor can be watched anew at once, if it is shared. Does nothing
    /// when the watch has ended.
    #[doc(alias = "remove_reader")]
    #[doc(alias = "remove_writer")]
    pub fn stop(&self) {
        if let Some(core) = self.core.upgrade()
            && let Some(source) = core.other(self.id)
        {
            source.end(&core);
        }
    }
}

/// # Other descriptors
impl Handle {
    /// Watches a descriptor: calls `ready` when there is something to read, or room to write.
    ///
    /// For descriptors that are no connections, such as those of inotify(7), netlink(7), timerfd_create(2) or a
    /// library in C. For pipes and terminals see [`connect_read_pipe`](Handle::connect_read_pipe).
    ///
    /// * The watch owns the descriptor, so it cannot be closed while it is watched. `ready` gets a
    ///   reference. A descriptor that others use too is given as an [`Rc`]. It must be non-blocking,
    ///   and [`as_fd`](AsFd::as_fd) must return the same one each time. A type that opens another in its place, such
    ///   as a library in C that connects again, needs a new watch.
    /// * `ready` is called from the loop, for the first time when the descriptor is ready, which it may be
    ///   already. It is called again and again until it returns [`WouldBlock`](io::ErrorKind::WouldBlock), at
    ///   most 16 times in a tick; the next tick goes on. Then it is called at the next event. So a plain
    ///   `recv(..)?` that returns `Ok` loses nothing. A closure with nothing left to do returns `WouldBlock` itself.
    /// * With [`Both`](WatchFor::Both) it returns `WouldBlock` when it can neither read nor write.
    /// * [`Interrupted`](io::ErrorKind::Interrupted) counts as `Ok` (signal(7)).
    /// * Any other error is [reported](Handle::set_error_handler) and ends the watch, and so does a panic.
    /// * A stream at its end stays ready: stop the watch there.
    /// * The end of the loop drops both uncalled.
    ///
    /// asyncio's `add_reader` and `add_writer` call once in a tick, as long as the descriptor is ready, and
    /// leave it to the caller to remove it before it is closed. Here epoll(7) reports each change once
    /// (EPOLLET). Priority events (EPOLLPRI) are not watched.
    ///
    /// ```
    /// use std::os::unix::net::UnixDatagram;
    /// use tidegate::{EventLoop, WatchFor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// let (ours, theirs) = UnixDatagram::pair()?;
    /// ours.set_nonblocking(true)?;
    /// let watch = event_loop.handle().watch(ours, WatchFor::Read, |handle, socket| {
    ///     let mut data = [0; 100];
    ///     let len = socket.recv(&mut data)?;
    ///     println!("received {}", String::from_utf8_lossy(&data[..len]));
    ///     handle.stop();
    ///     Ok(())
    /// })?;
    /// theirs.send(b"hello")?;
    /// event_loop.run_forever()?;
    /// watch.stop();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for files that epoll(7) refuses, such as regular files,
    /// folders and /dev/null: read these in a [job](Handle::run_in_executor).
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for a descriptor that this loop watches already: watch it for
    /// both, or give a copy. [`Unsupported`](io::ErrorKind::Unsupported) in a simulated world. Those of the
    /// system; [`LoopClosed`]. The descriptor and the closure are then dropped before the loop next sleeps.
    #[doc(alias = "add_reader")]
    #[doc(alias = "add_writer")]
    pub fn watch<F: AsFd + 'static>(
        &self,
        fd: F,
        events: WatchFor,
        ready: impl FnMut(&Self, &F) -> io::Result<()> + 'static,
    ) -> io::Result<Watch> {
        let core = self.core();
        let (raw, parts) = (fd.as_fd().as_raw_fd(), Box::new((fd, ready)));
        if core.is_closed() {
            core.defer_drop(Deferred::Value(parts));
            return Err(LoopClosed.into());
        }
        let watched = core.registry.borrow_mut().insert(Slot::other, |id| {
            Rc::new(Watched {
                id,
                handle: self.clone(),
                fd: raw,
                parts: RefCell::new(Some(parts)),
                has_ended: Cell::new(false),
                owed: Cell::new(false),
            })
        });
        watched.register(events)?;
        Ok(Watch {
            core: Rc::downgrade(core),
            id: watched.id,
        })
    }
}

struct Watched<F, C> {
    id: TransportId,
    handle: Handle,
    fd: RawFd,
    /// The descriptor and the closure. Taken out while the closure runs, and at the end.
    parts: RefCell<Option<Box<(F, C)>>>,
    has_ended: Cell<bool>,
    /// On the list of sources with which the next tick goes on.
    owed: Cell<bool>,
}

impl<F, C> Watched<F, C>
where
    F: AsFd + 'static,
    C: FnMut(&Handle, &F) -> io::Result<()> + 'static,
{
    fn register(&self, events: WatchFor) -> io::Result<()> {
        let core = self.handle.core();
        add(&core.counters.registrations, 1);
        let token = self.id.token();
        let watched = core.with_driver(|driver| driver.watch_descriptor(self.fd, token, events));
        if watched.is_err() {
            let gone = core.registry.borrow_mut().remove(self.id);
            drop(gone);
            self.drop_parts_later(core);
        }
        watched
    }

    fn run(&self, core: &Core) {
        self.owed.set(false);
        let taken = self.parts.take();
        let Some(mut parts) = taken else { return };
        let mut next = Next::Call;
        for _ in 0..CALLS_PER_TICK {
            next = self.call(core, &mut parts);
            if next != Next::Call {
                break;
            }
        }
        if next == Next::End {
            self.close(core);
            core.drop_value(parts);
            return;
        }
        self.parts.replace(Some(parts));
        if next == Next::Call {
            self.owed.set(true);
            core.push_leftover(self.id);
        }
    }

    fn call(&self, core: &Core, parts: &mut (F, C)) -> Next {
        let (fd, ready) = parts;
        let next = match core.guard(CONTEXT, || ready(&self.handle, fd)) {
            None => Next::End,
            Some(Ok(())) => Next::Call,
            Some(Err(error)) => after(core, error),
        };
        // It may have stopped its own watch.
        if self.has_ended.get() {
            Next::End
        } else {
            next
        }
    }

    /// Ends the events, and lets go of the slot.
    fn close(&self, core: &Core) {
        if self.has_ended.replace(true) {
            return;
        }
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
        add(&core.counters.registrations, 1);
        core.with_driver(|driver| driver.forget_descriptor(self.fd));
    }

    fn drop_parts_later(&self, core: &Core) {
        let parts = self.parts.take();
        if let Some(parts) = parts {
            core.defer_drop(Deferred::Value(parts));
        }
    }
}

/// Decides what follows the error of a call.
fn after(core: &Core, error: io::Error) -> Next {
    let next = match error.kind() {
        ErrorKind::WouldBlock => Next::Wait,
        ErrorKind::Interrupted => Next::Call,
        _ => {
            let reason = CloseReason::Callback(BoxError::from(error).into());
            core.report(Failure::new(CONTEXT, reason));
            return Next::End;
        }
    };
    // It may hold a value of the user's.
    core.drop_value(error);
    next
}

/// The consequence of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Call,
    /// The next event.
    Wait,
    End,
}

impl<F, C> Source for Watched<F, C>
where
    F: AsFd + 'static,
    C: FnMut(&Handle, &F) -> io::Result<()> + 'static,
{
    fn on_event(self: Rc<Self>, core: &Core, _: Readiness, _: &mut [u8]) {
        // Calls that are owed come in this tick as well, and one source gets one share of it.
        if !self.owed.get() {
            self.run(core);
        }
    }

    fn on_leftover(self: Rc<Self>, core: &Core, _: &mut [u8]) {
        self.run(core);
    }

    fn end(self: Rc<Self>, core: &Core) {
        self.close(core);
        self.drop_parts_later(core);
    }

    fn count(&self, stats: &mut LoopStats) {
        stats.watches += 1;
    }
}

impl<F, C> fmt::Debug for Watched<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("id", &self.id)
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
