//! Servers of async handlers on all loops.

use super::Workers;
use super::server::WorkersServer;
use super::spread::Spread;
use super::worker::Home;
use std::io;
use std::rc::Rc;
use tidegate::{Handle, ListenOptions, Result};
use tidegate_streams::{Handlers, StreamReader, StreamWriter};

impl Workers {
    /// Listens as [`create_server`](Self::create_server) does, and runs a handler as a task for each connection,
    /// on the loop of the connection.
    ///
    /// `make` runs once on each loop, and returns the handler of that loop. A handler stays on its loop, so
    /// what it shares among connections may be an [`Rc`](std::rc::Rc).
    /// [`start_server`](tidegate_streams::start_server) says what becomes of its errors.
    ///
    /// [`shutdown`](Self::shutdown) waits for the handlers to end, within its grace, as
    /// [`StreamServer::shutdown`](tidegate_streams::StreamServer::shutdown) does.
    ///
    /// # Errors
    ///
    /// As [`create_server`](Self::create_server).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::{EventLoop, Result};
    /// use tidegate_service::{Spread, Workers};
    /// use tidegate_streams::{StreamReader, StreamWriter};
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
    /// # fn main() -> Result {
    /// let workers = Workers::start(2, "web", EventLoop::builder)?;
    /// workers.start_server("127.0.0.1:0", |options| options, Spread::default(), |_| lengths)?;
    /// workers.shutdown(Duration::from_secs(5));
    /// # Ok(()) }
    /// ```
    pub fn start_server<F>(
        &self,
        at: impl Into<ListenOptions> + Send + 'static,
        options: impl Fn(ListenOptions) -> ListenOptions + Send + Sync + 'static,
        spread: Spread,
        make: impl Fn(&Handle) -> F + Send + Sync + 'static,
    ) -> io::Result<WorkersServer>
    where
        F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
    {
        self.serve(at, options, spread, move |handle, options, gate| {
            let handlers = Rc::new(Handlers::new(make(handle)));
            let own = handlers.clone();
            Home::open(
                handle,
                options,
                move || own.protocol(),
                gate,
                |server| {
                    let streams = handlers.server(server.clone());
                    Rc::new(move |grace| streams.shutdown(grace))
                },
            )
        })
    }
}
