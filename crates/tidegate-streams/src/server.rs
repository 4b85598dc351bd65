//! Serving connections, each with a task of its own.

use crate::error::NoEventLoop;
use crate::executor::KEPT;
use crate::handling::Handling;
use crate::label::Label;
use crate::options::StreamOptions;
use crate::reader::StreamReader;
use crate::stream::{Incoming, Serve, StreamProtocol};
use crate::task::{JoinHandle, spawn_on, spawn_with};
use crate::time::{timeout_at, yield_now};
use crate::writer::StreamWriter;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tidegate::{
    Address, CloseReason, Closed, Completion, Handle, ListenOptions, Protocol, Result, Server,
    ShutdownReport, Transport,
};

/// Listens, on the loop that is running on this thread, and runs `handler` as a task for each
/// connection.
///
/// The connection is closed, gracefully, when its writer is dropped: at the end of the handler
/// unless that gives it away. An error or a panic of the handler ends this connection alone, in the
/// same way, and goes to the [error handler](Handle::set_error_handler). An error that carries the
/// [`Closed`] of this very connection, or comes of a write after its `close`, is no failure: it is
/// logged at `debug`.
///
/// A handler that fails because a write to its connection was [refused](tidegate::WriteError::BufferFull) at
/// the cap ends the connection as a failed callback does, with that error as the reason. The kernel
/// gets one chance to take the buffered bytes; then a TCP peer sees a reset, for it misses the refused
/// bytes. A peer of a Unix socket sees an EOF.
///
/// The address is what [`ListenOptions`] is made from; it also has the write limits. The reader's
/// limit is an [option](start_server_with) of the streams, and may be
/// [set](StreamReader::set_limit) later.
///
/// # Errors
///
/// Those of [`Handle::create_server`]; [`NoEventLoop`].
///
/// ```
/// use tidegate::Result;
/// use tidegate_streams::{StreamReader, StreamWriter, block_on, open_connection, start_server};
///
/// /// Sends back the length of each line.
/// async fn lengths(mut reader: StreamReader, writer: StreamWriter) -> Result {
///     let mut lines = reader.lines();
///     while let Some(line) = lines.next().await? {
///         write!(writer, "{}\n", line.len())?;
///         writer.drain().await?;
///     }
///     Ok(())
/// }
///
/// # fn main() -> Result { block_on(async {
/// let server = start_server("127.0.0.1:0", lengths)?;
/// # let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
/// # writer.write(b"four\n")?;
/// # assert_eq!(&reader.read_line().await?[..], b"5\n");
/// # Ok(()) })? }
/// ```
#[doc(alias = "start_unix_server")]
pub fn start_server<F>(at: impl Into<ListenOptions>, handler: F) -> io::Result<StreamServer>
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    start_server_with(at, StreamOptions::new(), handler)
}

/// As [`start_server`], with options for the streams.
///
/// # Errors
///
/// As [`start_server`].
pub fn start_server_with<F>(
    at: impl Into<ListenOptions>,
    options: StreamOptions,
    handler: F,
) -> io::Result<StreamServer>
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    let handle = Handle::current().ok_or(NoEventLoop)?;
    start(&handle, at.into(), options, handler)
}

/// As [`start_server`], on a loop that need not be running yet.
///
/// # Errors
///
/// Those of [`Handle::create_server`].
pub fn start_server_on<F>(
    handle: &Handle,
    at: impl Into<ListenOptions>,
    handler: F,
) -> io::Result<StreamServer>
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    start(handle, at.into(), StreamOptions::new(), handler)
}

fn start<F>(
    handle: &Handle,
    at: ListenOptions,
    options: StreamOptions,
    handler: F,
) -> io::Result<StreamServer>
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    let handlers = Rc::new(Handlers::with(options, handler));
    let own = handlers.clone();
    let server = handle.create_server(at, move || own.protocol())?;
    Ok(handlers.server(server))
}

/// Serves connections with a handler, each by a protocol that it makes: a server without a listener.
/// Hidden, for the test kit.
#[doc(hidden)]
pub struct Handlers<F> {
    options: StreamOptions,
    serves: Rc<Serves<F>>,
}

impl<F> Handlers<F>
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    /// Uses this handler, with the default options.
    pub fn new(handler: F) -> Self {
        Self::with(StreamOptions::new(), handler)
    }

    fn with(options: StreamOptions, handler: F) -> Self {
        let served = Rc::default();
        let serves = Rc::new(Serves { handler, served });
        Self { options, serves }
    }

    /// Returns a protocol that runs the handler for its connection.
    pub fn protocol(&self) -> impl Protocol + use<F> {
        StreamProtocol::new(Incoming::new(self.options), Some(self.serves.clone()))
    }

    /// Returns the server of these handlers, whose factory makes their protocols.
    pub fn server(&self, server: Server) -> StreamServer {
        let served = self.serves.served.clone();
        StreamServer { server, served }
    }

    /// Returns the number of handlers that have not ended.
    pub fn running(&self) -> usize {
        self.serves.served.tasks.borrow().len()
    }
}

impl<F> fmt::Debug for Handlers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A server's handler, and its connections.
struct Serves<F> {
    handler: F,
    served: Rc<Served>,
}

impl<F> Serve for Serves<F>
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    fn made(self: Rc<Self>, transport: &Transport, incoming: Rc<Incoming>) {
        let reader = StreamReader::new(incoming, transport.clone());
        let writer = StreamWriter::new(transport.clone());
        let served = self.served.clone();
        served.serve(
            transport,
            async move { (self.handler)(reader, writer).await },
        );
    }

    fn lost(&self, closed: &Closed) {
        self.served.count(closed);
    }
}

/// The state that a server's handlers share.
#[derive(Default)]
struct Served {
    tasks: RefCell<Slab<JoinHandle<()>>>,
    /// They wait for the last task to end.
    waiting: RefCell<Vec<Waker>>,
    report: Cell<Option<ShutdownReport>>,
    /// The grace is over: what ends now did not end by itself.
    cut: Cell<bool>,
}

impl Served {
    fn serve(
        self: &Rc<Self>,
        transport: &Transport,
        handler: impl Future<Output = Result> + 'static,
    ) {
        let number = self.tasks.borrow().vacant_key();
        let place = Place {
            served: self.clone(),
            number,
        };
        let label = Handling::of(transport);
        let finish = move |label: &Handling, handle: &Handle, ended| {
            if let Some(reason) = label.fault_of(ended) {
                handle.report(label.failure(reason));
            }
            drop(place);
            Ok(())
        };
        let task = spawn_with(transport.handle(), label, handler, finish);
        if !task.is_finished() {
            let inserted = self.tasks.borrow_mut().insert(task);
            debug_assert_eq!(inserted, number);
        }
    }

    fn ended(&self, number: usize) {
        let task = self.tasks.borrow_mut().try_remove(number);
        drop(task);
        if self.tasks.borrow().is_empty() {
            // Not before: the number of a task is its place.
            let mut tasks = self.tasks.borrow_mut();
            if tasks.capacity() > KEPT {
                tasks.shrink_to_fit();
            }
            drop(tasks);
            let waiting = self.waiting.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    async fn all_ended(&self) {
        poll_fn(|context| {
            if self.tasks.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn abort_tasks(&self) {
        for (_, task) in self.tasks.borrow().iter() {
            task.abort();
        }
    }

    fn count(&self, closed: &Closed) {
        self.update_report(|report| {
            report.unsent += closed.unsent();
            if self.cut.get() || matches!(closed.reason(), CloseReason::Shutdown) {
                report.aborted += 1;
            } else {
                report.closed += 1;
            }
        });
    }

    /// Changes the report, if a shutdown is under way.
    fn update_report(&self, change: impl FnOnce(&mut ShutdownReport)) {
        if let Some(mut report) = self.report.get() {
            change(&mut report);
            self.report.set(Some(report));
        }
    }
}

/// The place of a handler among those of its server.
struct Place {
    served: Rc<Served>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.served.ended(self.number);
    }
}

/// A server whose connections are handled by tasks. Dropping it does nothing: it goes on until it
/// is [closed](StreamServer::close). Clones name the same server.
#[derive(Clone)]
pub struct StreamServer {
    server: Server,
    served: Rc<Served>,
}

impl StreamServer {
    /// Returns the addresses that it listens on, with the port that was taken for port 0.
    #[doc(alias = "sockets")]
    pub fn local_addrs(&self) -> &[Address] {
        self.server.local_addrs()
    }

    /// Returns a handle to the loop that drives it.
    #[doc(alias = "get_loop")]
    pub fn handle(&self) -> &Handle {
        self.server.handle()
    }

    /// Returns whether the server listens. See also [`is_accepting`](Self::is_accepting).
    pub fn is_serving(&self) -> bool {
        self.server.is_serving()
    }

    /// Begins to listen, if it does not yet; see [`ListenOptions::start_serving`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::start_serving`].
    pub fn start_serving(&self) -> io::Result<()> {
        self.server.start_serving()
    }

    /// Stops listening. Connections and their handlers stay; the kernel ends connections in the backlog,
    /// as [`Server::close`] says.
    pub fn close(&self) {
        self.server.close();
    }

    /// Stops accepting until [`resume_accepting`](Self::resume_accepting); see
    /// [`Server::pause_accepting`].
    pub fn pause_accepting(&self) {
        self.server.pause_accepting();
    }

    /// Accepts again, beginning with the backlog; see [`Server::resume_accepting`].
    pub fn resume_accepting(&self) {
        self.server.resume_accepting();
    }

    /// Returns whether the server listens and is not [paused](Self::pause_accepting).
    pub fn is_accepting(&self) -> bool {
        self.server.is_accepting()
    }

    /// Returns the number of connections that [`ListenOptions::accept_if`] refused. They had no
    /// handler.
    pub fn refused_count(&self) -> u64 {
        self.server.refused_count()
    }

    /// Takes the connections that wait in the backlog, and stops listening. Completes with their
    /// number when each has its handler; see [`Server::finish_accepting`].
    ///
    /// # Errors
    ///
    /// Of the completion: [`LoopClosed`](tidegate::LoopClosed).
    ///
    /// # Cancel safety
    ///
    /// Dropping the completion only stops the wait.
    pub fn finish_accepting(&self) -> Completion<usize> {
        self.server.finish_accepting()
    }

    /// Closes every connection gracefully. Handlers are not ended: their reads and writes fail.
    pub fn close_clients(&self) {
        self.server.close_clients();
    }

    /// Aborts every connection. Handlers are not ended: their reads and writes fail.
    pub fn abort_clients(&self) {
        self.server.abort_clients();
    }

    /// Returns the number of connections that have not ended.
    pub fn connection_count(&self) -> usize {
        self.server.connection_count()
    }

    /// Completes when the server is closed and has no connections left. Handlers that go on
    /// after their connection has ended are not waited for; [`shutdown`](Self::shutdown) does.
    ///
    /// # Errors
    ///
    /// Of the completion: [`LoopClosed`](tidegate::LoopClosed).
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    #[doc(alias = "serve_forever")]
    pub fn wait_closed(&self) -> Completion<()> {
        self.server.wait_closed()
    }

    /// Stops listening, waits for the handlers to end, then closes the other connections gracefully.
    ///
    /// Connections in the backlog are taken, as [`Server::finish_accepting`] does. They are served
    /// as the others: each gets its handler, and is in the report.
    ///
    /// When `grace` is over, the tasks of the remaining handlers are aborted and the remaining
    /// connections are cut. Bytes that the kernel has not taken by then are unsent. Completes when all
    /// connections have ended. Of several calls the shortest grace holds.
    ///
    /// The report counts a connection as aborted when it was cut, or its handler was aborted.
    ///
    /// Handlers are not told; one that waits for its peer waits until the grace is over. To tell
    /// them, [`close_clients`](Self::close_clients) makes their reads fail.
    ///
    /// # Errors
    ///
    /// Of the completion: [`LoopClosed`](tidegate::LoopClosed).
    ///
    /// # Cancel safety
    ///
    /// It begins at the call, and goes on when the completion is dropped.
    pub fn shutdown(&self, grace: Duration) -> Completion<ShutdownReport> {
        let listened = self.server.is_serving();
        let accepted = self.server.finish_accepting();
        let (server, served) = (self.server.clone(), self.served.clone());
        if served.report.get().is_none() {
            served.report.set(Some(ShutdownReport::default()));
        }
        let handle = self.server.handle().clone();
        let (completer, completion) = handle.completion();
        let deadline = handle.now().checked_add(grace);
        spawn_on(&handle.clone(), async move {
            // No handler begins after this.
            let from_backlog = accepted.await.unwrap_or(0);
            if listened {
                served.update_report(|report| report.from_backlog = from_backlog);
            }
            let all_ended = served.all_ended();
            let in_time = match deadline {
                Some(deadline) => timeout_at(deadline, all_ended).await.is_ok(),
                // Beyond what the clock can say.
                None => {
                    all_ended.await;
                    true
                }
            };
            if !in_time {
                served.cut.set(true);
                served.abort_tasks();
            }
            let left = deadline.map_or(grace, |deadline| {
                deadline.saturating_duration_since(handle.now())
            });
            let cut = server.shutdown(left).await;
            // Connections that have another protocol by now are counted by callbacks, which are due.
            yield_now().await;
            completer.complete(cut.map(|_| served.report.get().unwrap_or_default()));
        });
        completion
    }
}

impl fmt::Debug for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("server", &self.server)
            .field("handlers", &self.served.tasks.borrow().len())
            .finish()
    }
}
