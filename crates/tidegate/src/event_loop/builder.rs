use super::failure::PanicPolicy;
use super::{Core, EventLoop};
use crate::driver::{AnyDriver, OsDriver};
use crate::resolve::Resolver;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// As CPython's default executor: jobs wait for something else most of their time.
const THREADS_BEYOND_CPUS: usize = 4;
const MOST_THREADS: usize = 32;

const EXECUTOR_GRACE: Duration = Duration::from_secs(1);

/// Settings of an event loop.
///
/// ```
/// use std::time::Duration;
/// use tidegate::EventLoop;
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = EventLoop::builder()
///     .slow_callback(Duration::from_millis(100))
///     .build()?;
/// # drop(event_loop); Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct EventLoopBuilder {
    panic_policy: PanicPolicy,
    slow_callback: Option<Duration>,
    resolver: Resolver,
    executor_threads: Option<usize>,
    executor_grace: Option<Duration>,
    write_budget: Option<usize>,
    #[cfg(feature = "unstable-driver")]
    driver: Option<Box<dyn crate::driver::Driver>>,
    #[cfg(all(feature = "process", feature = "unstable-driver"))]
    children_by_threads: bool,
}

impl EventLoopBuilder {
    /// Sets the policy for panics in user code; isolated unless set. A panic of a
    /// [job](crate::Handle::run_in_executor) is an error of its completion in any case.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.panic_policy = policy;
        self
    }

    /// Logs, at `warn` under `tidegate::slow`, each callback that takes longer, with the type
    /// name of its protocol and its peer. Off unless set; off, no clock is read for it.
    pub fn slow_callback(mut self, longer_than: Duration) -> Self {
        self.slow_callback = Some(longer_than);
        self
    }

    /// Sets the resolver of names, in place of the system's getaddrinfo(3).
    ///
    /// `resolve` gets a host and a port, and returns the addresses in the order in which to try them. It
    /// may block: names to connect to are resolved as a [job](crate::Handle::run_in_executor), but a name
    /// to listen on within [`create_server`](crate::Handle::create_server).
    ///
    /// ```
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::builder()
    ///     .resolver(|host, port| match host {
    ///         "service.test" => Ok(vec![([127, 0, 0, 1], port).into()]),
    ///         _ => Err(std::io::Error::other("no such name")),
    ///     })
    ///     .build()?;
    /// let resolving = event_loop.handle().resolve("service.test", 80);
    /// let addresses = event_loop.run_until(resolving)?;
    /// assert_eq!(addresses[0].to_string(), "127.0.0.1:80");
    /// # Ok(()) }
    /// ```
    pub fn resolver(
        mut self,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.resolver = Resolver::new(resolve);
        self
    }

    /// Sets the maximum number of [jobs](crate::Handle::run_in_executor) that run at a time, each on a
    /// thread. Names are resolved by jobs too. Unless set, four more than there are CPUs and 32 at most,
    /// as in CPython's default executor.
    pub fn executor_threads(mut self, most: usize) -> Self {
        self.executor_threads = Some(most);
        self
    }

    /// Sets the time for which dropping the loop waits for the jobs that run; 1 s unless set. Jobs that run
    /// longer are left behind, with a line in the log at `warn`.
    pub fn executor_grace(mut self, grace: Duration) -> Self {
        self.executor_grace = Some(grace);
        self
    }

    /// Sets the maximum number of bytes in all write buffers of the loop together. Off unless set.
    ///
    /// Bytes count that writes have taken and the kernel has not, and the output of layers that waits for
    /// the kernel. The memory around them does not: see the table of bounds in the
    /// [guide](crate::guide::operating). [`LoopStats::buffered`](crate::LoopStats::buffered) has their number.
    /// Owned bytes count in each of the buffers that share them.
    ///
    /// * The more is buffered, the earlier a connection is paused that the kernel takes nothing from. Its
    ///   [high-water mark](crate::WriteLimits) is then at most what is left of three quarters of `bytes`, and
    ///   its low-water mark a quarter of that. So the largest buffers wait, and a small one is still filled.
    /// * A connection whose buffer is empty is never paused. One that was paused is resumed by its own
    ///   progress, and waits for no other.
    /// * A write that adds to the buffers when these have `bytes` or more ends the connection with the most
    ///   bytes buffered: see [`CloseReason::Memory`](crate::CloseReason::Memory). It need not be the one that
    ///   writes.
    ///
    /// So the buffers have at most `bytes` and one write; the small writes of one callback, 64 KiB at most,
    /// are one. Output that layers make of these bytes may come on top.
    ///
    /// Output of layers' own, such as replies and pings, counts but has no bound here: it ends no
    /// connection, and takes room from the buffers. [`Layer`](crate::Layer#the-bound-of-its-own-output) has
    /// its bound. Queues of datagram endpoints do not count, nor do last words of layers whose connection
    /// lingers.
    ///
    /// Protocols that heed [`Flow`](crate::Flow) or `pause_writing` stay below it, if the last quarter of
    /// `bytes` has room for the write of each connection that comes before its pause. A protocol that does
    /// neither is bounded by this alone, and by the cap of its connection.
    ///
    /// asyncio has no such limit. The rule for the marks is that of shared-memory switches (Choudhury and
    /// Hahne, *Dynamic queue length thresholds for shared-memory packet switches*, 1998).
    ///
    /// ```
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event_loop = EventLoop::builder().write_budget(256 << 20).build()?;
    /// assert_eq!(event_loop.handle().stats().buffered, 0);
    /// # Ok(()) }
    /// ```
    pub fn write_budget(mut self, bytes: usize) -> Self {
        self.write_budget = Some(bytes);
        self
    }

    /// Sets another world under the loop.
    #[cfg(feature = "unstable-driver")]
    #[doc(hidden)]
    pub fn driver(mut self, driver: impl crate::driver::Driver + 'static) -> Self {
        self.driver = Some(Box::new(driver));
        self
    }

    /// Has threads watch children, as where there are no descriptors of processes; for tests.
    #[cfg(all(feature = "process", feature = "unstable-driver"))]
    #[doc(hidden)]
    pub fn children_by_threads(mut self) -> Self {
        self.children_by_threads = true;
        self
    }

    /// Makes the loop.
    ///
    /// # Errors
    ///
    /// Those of the system: it may be out of descriptors;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for an executor without threads, and for a write budget
    /// of 0.
    pub fn build(mut self) -> io::Result<EventLoop> {
        if self.write_budget == Some(0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the write budget is zero: no connection could wait for its peer",
            ));
        }
        let driver = self.make_driver()?;
        let core = Core::new(
            driver,
            self.panic_policy,
            self.slow_callback,
            self.resolver,
            self.write_budget,
        );
        Ok(EventLoop::with_core(core))
    }

    fn make_driver(&mut self) -> io::Result<AnyDriver> {
        #[cfg(feature = "unstable-driver")]
        if let Some(driver) = self.driver.take() {
            return Ok(AnyDriver::Foreign(driver));
        }
        let threads = self.executor_threads.unwrap_or_else(|| {
            let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
            MOST_THREADS.min(cpus + THREADS_BEYOND_CPUS)
        });
        if threads == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an executor needs at least one thread, or nothing could be resolved",
            ));
        }
        let grace = self.executor_grace.unwrap_or(EXECUTOR_GRACE);
        let driver = OsDriver::new(threads, grace)?;
        #[cfg(all(feature = "process", feature = "unstable-driver"))]
        let driver = driver.with_children_by_threads(self.children_by_threads);
        Ok(AnyDriver::Os(driver))
    }
}
