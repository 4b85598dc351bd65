//! Running a future to its end on a loop of its own.

use crate::executor;
use crate::task::{JoinError, spawn_on};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{EventLoop, EventLoopBuilder, Handle};

const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Runs a future on an event loop made for it, until it has ended; asyncio's `run`.
///
/// Tasks that are left then are dropped. Connections that are being closed, theirs among them, have
/// one second to send the rest. Bytes that are unsent after that are logged at `warn`, with their number. A
/// [`Runner`] has settings for that.
///
/// It may be called inside of a callback or a task of another loop, and holds that loop meanwhile.
///
/// # Errors
///
/// Those of making and polling the loop. When the loop was stopped before the future had ended, an
/// error that says so.
///
/// # Panics
///
/// A panic of the future goes on here.
///
/// ```
/// use tidegate_streams::{open_connection, start_server};
///
/// # fn main() -> tidegate::Result {
/// tidegate_streams::block_on(async {
///     let server = start_server("127.0.0.1:0", async |mut reader, writer| {
///         let line = reader.read_line().await?;
///         writer.write_all(&line).await?;
///         Ok(())
///     })?;
///     let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
///     writer.write(b"hello\n")?;
///     assert_eq!(&reader.read_line().await?[..], b"hello\n");
///     Ok(())
/// })?
/// # }
/// ```
#[doc(alias = "run")]
pub fn block_on<F>(future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Runner::new().run(future)
}

/// [`block_on`] with settings.
#[derive(Debug)]
#[must_use]
pub struct Runner {
    event_loop: EventLoopBuilder,
    close_grace: Duration,
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// Returns the default settings.
    pub fn new() -> Self {
        Self {
            event_loop: EventLoop::builder(),
            close_grace: CLOSE_GRACE,
        }
    }

    /// Sets the settings of the loop.
    pub fn event_loop(mut self, builder: EventLoopBuilder) -> Self {
        self.event_loop = builder;
        self
    }

    /// Sets the time that connections have at the end to send the rest; 1 s unless set.
    pub fn close_grace(mut self, grace: Duration) -> Self {
        self.close_grace = grace;
        self
    }

    /// Runs a future to its end; see [`block_on`].
    ///
    /// # Errors
    ///
    /// As [`block_on`].
    ///
    /// # Panics
    ///
    /// As [`block_on`].
    pub fn run<F>(self, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut event_loop = self.event_loop.build()?;
        let handle = event_loop.handle().clone();
        let (completer, completion) = handle.completion();
        let task = spawn_on(&handle, future);
        // Detached: the loop runs until the completion completes.
        spawn_on(&handle, async move {
            completer.complete(Ok(task.await));
        });
        let ended = event_loop.run_until(completion);
        executor::close(&handle);
        let closed = finish_closing(&mut event_loop, &handle, self.close_grace);
        drop(event_loop);
        let value = match ended?.map_err(JoinError::try_into_panic) {
            Ok(value) => value,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(error)) => return Err(error.into()),
        };
        closed.map(|()| value)
    }
}

/// Runs the loop while connections are being closed, for a bounded time. Dropping the loop loses the
/// rest, and logs it.
fn finish_closing(event_loop: &mut EventLoop, handle: &Handle, grace: Duration) -> io::Result<()> {
    let over = Rc::new(Cell::new(false));
    let rung = over.clone();
    handle.call_later(grace, move |_| rung.set(true));
    loop {
        let stats = handle.stats();
        if over.get() || stats.closing + stats.lingering == 0 {
            return Ok(());
        }
        event_loop.run_once(None)?;
    }
}
