//! Loops on several threads, and servers on all of them.
//!
//! [`thread`] is one loop, [`server`] the making of a server, [`door`] its accepting side and [`worker`] its
//! keeping side. [`gate`] counts for all loops, [`counted`] tells it of ends, [`spread`] chooses the loop,
//! and [`shutdown`] is the end. With the feature `streams`, `streams` has servers of async handlers.

mod counted;
mod door;
mod gate;
mod server;
mod shutdown;
mod spread;
#[cfg(feature = "streams")]
mod streams;
mod thread;
mod worker;

use gate::Gate;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use thread::{Ended, LoopThread, MakeLoop};
use tidegate::{EventLoopBuilder, Handle, RemoteHandle};

pub use server::WorkersServer;
pub use spread::Spread;
pub use thread::WorkerPanicked;

/// Event loops on threads of their own, for servers that use several cores.
///
/// A connection is on one loop, so protocols stay as they are: without locks, and with state that is
/// shared by the connections of a loop. Values for all loops go by
/// [`call_soon_threadsafe`](RemoteHandle::call_soon_threadsafe), or are `Send` and `Sync`.
///
/// Methods that wait for the loops block the thread that calls them, so the value stays on its thread, which is
/// none of the workers'. Dropping it does nothing: the threads serve on.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use std::time::Duration;
/// use tidegate::{EventLoop, Protocol, Result, Transport};
/// use tidegate_service::{Spread, Workers};
///
/// /// Replies with the number of connections that its loop has had.
/// struct Count(Rc<Cell<u32>>);
///
/// impl Protocol for Count {
///     fn connection_made(&mut self, transport: &Transport) -> Result {
///         self.0.set(self.0.get() + 1);
///         writeln!(transport, "{}", self.0.get())?;
///         transport.close();
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let workers = Workers::start(2, "web", EventLoop::builder)?;
/// let server = workers.create_server(
///     "127.0.0.1:0",
///     |options| options.idle_timeout(Duration::from_secs(60)),
///     Spread::default(),
///     |_| {
///         let count = Rc::new(Cell::new(0));
///         move || Count(count.clone())
///     },
/// )?;
/// println!("listening on {:?}", server.local_addrs());
/// let (report, panicked) = workers.shutdown(Duration::from_secs(5));
/// assert_eq!((report.unsent, panicked.len()), (0, 0));
/// # Ok(()) }
/// ```
pub struct Workers {
    name: String,
    make: MakeLoop,
    threads: RefCell<Vec<LoopThread>>,
    /// Those that accept.
    accepting: RefCell<Vec<LoopThread>>,
    gates: RefCell<Vec<Arc<Gate>>>,
    ended: (Sender<Ended>, Receiver<Ended>),
    /// The number of workers whose end was not told yet.
    running: Cell<usize>,
    panicked: RefCell<Vec<WorkerPanicked>>,
    stays_on_its_thread: PhantomData<Rc<()>>,
}

impl Workers {
    /// Starts `number` threads with a loop each, named `name-0`, `name-1` and so on. `make` runs on each
    /// thread, and on those that [accept](Spread).
    ///
    /// # Errors
    ///
    /// Those of the system, for a thread or for a loop; a panic of `make`;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for no threads, and for a name with a byte of 0. All threads
    /// have ended then.
    pub fn start(
        number: usize,
        name: &str,
        make: impl Fn() -> EventLoopBuilder + Send + Sync + 'static,
    ) -> io::Result<Self> {
        if number == 0 {
            let message = "workers need at least one thread";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if name.contains('\0') {
            let message = "the name of a thread has no byte of 0";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let workers = Self {
            name: name.to_owned(),
            make: Arc::new(make),
            threads: RefCell::default(),
            accepting: RefCell::default(),
            gates: RefCell::default(),
            ended: mpsc::channel(),
            running: Cell::new(0),
            panicked: RefCell::default(),
            stays_on_its_thread: PhantomData,
        };
        for n in 0..number {
            match workers.start_thread(&n.to_string(), true) {
                Ok(thread) => {
                    workers.running.set(n + 1);
                    workers.threads().push(thread);
                }
                Err(error) => {
                    workers.take_threads().into_iter().for_each(LoopThread::end);
                    return Err(error);
                }
            }
        }
        Ok(workers)
    }

    /// Runs `call` on each loop, and returns the results in the order of the threads. Blocks until all are
    /// there. A loop that has ended, or on which `call` panics, has none.
    pub fn on_each<T: Send + 'static>(
        &self,
        call: impl Fn(&Handle) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        self.ask_each(call).into_iter().flatten().collect()
    }

    /// Returns a handle of each loop, in the order of the threads.
    pub fn remotes(&self) -> Vec<RemoteHandle> {
        let threads = self.threads();
        threads
            .iter()
            .map(|thread| thread.remote().clone())
            .collect()
    }

    /// Blocks until a thread has ended by a panic, which it returns, or until all loops have ended. A thread
    /// that [accepts](Spread) for them is not waited for.
    ///
    /// A loop ends by [`stop`](RemoteHandle::stop), too, which cuts its connections;
    /// [`shutdown`](Self::shutdown) closes them.
    /// The others serve on. A loop ends by a panic when its builder says so
    /// ([`PanicPolicy::Propagate`](tidegate::PanicPolicy::Propagate)); otherwise a panic ends a
    /// connection and no more. No thread is started again: a program that propagates panics wants the process to end.
    ///
    /// # Errors
    ///
    /// The thread, and its panic. The next call waits for the next one.
    pub fn wait(&self) -> Result<(), WorkerPanicked> {
        while self.running.get() > 0 {
            let Ok(ended) = self.ended.1.recv() else {
                break;
            };
            if ended.is_worker {
                self.running.set(self.running.get() - 1);
            }
            if let Some(panicked) = ended.panicked {
                self.panicked.borrow_mut().push(panicked.clone());
                return Err(panicked);
            }
        }
        Ok(())
    }
}

impl Workers {
    fn start_thread(&self, suffix: &str, is_worker: bool) -> io::Result<LoopThread> {
        let name = format!("{}-{suffix}", self.name);
        LoopThread::start(name, is_worker, self.make.clone(), self.ended.0.clone())
    }

    /// As [`on_each`](Self::on_each), with `None` in the place of a loop that has no result.
    fn ask_each<T: Send + 'static>(
        &self,
        call: impl Fn(&Handle) -> T + Send + Sync + 'static,
    ) -> Vec<Option<T>> {
        let call = Arc::new(call);
        let asked: Vec<_> = self
            .threads()
            .iter()
            .map(|thread| {
                let call = call.clone();
                thread.ask(move |handle, told| {
                    // Somebody waits for it.
                    let _ = told.send(call(handle));
                })
            })
            .collect();
        asked.iter().map(|asked| asked.recv().ok()).collect()
    }

    fn threads(&self) -> RefMut<'_, Vec<LoopThread>> {
        self.threads.borrow_mut()
    }

    fn take_threads(&self) -> Vec<LoopThread> {
        self.threads.take()
    }

    fn accepting(&self) -> RefMut<'_, Vec<LoopThread>> {
        self.accepting.borrow_mut()
    }

    fn gates(&self) -> RefMut<'_, Vec<Arc<Gate>>> {
        self.gates.borrow_mut()
    }

    /// Returns the threads that have ended by a panic.
    fn panicked(&self) -> Vec<WorkerPanicked> {
        let told = self.ended.1.try_iter().filter_map(|ended| ended.panicked);
        self.panicked.borrow_mut().extend(told);
        self.panicked.take()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("name", &self.name)
            .field("threads", &self.threads().len())
            .finish_non_exhaustive()
    }
}
