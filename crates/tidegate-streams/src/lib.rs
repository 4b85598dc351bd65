//! Async streams on [`tidegate`]'s event loop, modelled on asyncio's `StreamReader` and
//! `StreamWriter`, and an executor on the same thread.
//!
//! A read is awaited: its bytes may not exist yet. A write is not: its bytes are there, so `write` takes
//! all of them at once, or none, and no task can be cancelled in the middle of it. It returns
//! [`Flow::Paused`] when it is time to [`drain`](StreamWriter::drain), and fails at a cap. A wait fails
//! when its bytes are unsent at the end: `write` took them, and the kernel never did.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::Result;
//! use tidegate_streams::{block_on, open_connection, start_server, timeout};
//!
//! async fn run() -> Result {
//!     // An echo server: a task for each connection.
//!     let server = start_server("127.0.0.1:0", async |mut reader, writer| {
//!         while !reader.at_eof() {
//!             let data = reader.read_chunk(64 * 1024).await?;
//!             writer.write(&data)?;
//!             writer.drain().await?;
//!         }
//!         Ok(())
//!     })?;
//!
//!     let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
//!     writer.write(b"Hello World!\n")?;
//!     writer.write_eof()?;
//!     let line = timeout(Duration::from_secs(10), reader.read_line()).await??;
//!     assert_eq!(&line[..], b"Hello World!\n");
//!     writer.close().await?;
//!
//!     let report = server.shutdown(Duration::from_secs(5)).await?;
//!     assert_eq!(report.unsent, 0);
//!     Ok(())
//! }
//!
//! fn main() -> Result {
//!     block_on(run())?
//! }
//! ```
//!
//! # Where to go next
//!
//! * [`StreamReader`] and [`StreamWriter`] are the halves of a connection, [`StreamServer`] runs a task
//!   for each. [`relay()`] makes one stream of two. [`read_pipe`] and [`write_pipe`] are for pipes.
//! * [`from_asyncio`] has asyncio's calls beside these.
//! * The [guide](https://docs.rs/tidegate/latest/tidegate/guide/) of `tidegate` has chapters on streams,
//!   on testing and on operating, and one on callback protocols
//!   [from asyncio](https://docs.rs/tidegate/latest/tidegate/guide/from_asyncio/).
//! * [tidegate-tls](https://docs.rs/tidegate-tls) is TLS below the streams.
//! * [tidegate-testkit](https://docs.rs/tidegate-testkit) tests handlers on a simulated network.
//!
//! # `write` and `drain`, or `write_all`
//!
//! * `write`, then [`drain`](StreamWriter::drain), is for a stream of many writes. Small ones go out
//!   together. `drain` waits only while more than the high-water mark (64 KiB) is buffered, until the
//!   buffer is at the low one (16 KiB). When it returns, bytes may still be here.
//! * [`write_all`](StreamWriter::write_all) is for one message whose fate matters before you go on. It
//!   returns when the kernel has these very bytes. A loop of many small ones makes a system call for
//!   each.
//! * `write`, then [`flush`](StreamWriter::flush), has the certainty of `write_all` for many writes.
//!
//! Bytes in the kernel may still not reach the peer: only a reply of the peer confirms them.
//!
//! # Tasks
//!
//! [`block_on`] makes a loop and runs a future on it; [`Runner`] does so with settings. [`spawn`]
//! runs another future beside it, on the same thread, so nothing needs to be `Send`. A tick of the
//! loop runs the tasks that were ready when it came to them, and polls before it runs those that
//! became ready since. So a task that is always ready starves neither the others nor I/O. Only a task
//! that waits for bytes is run as soon as they arrive.
//!
//! A task that computes for long starves the others: use [`Handle::run_in_executor`], or
//! [`yield_now`] in between. [`spawn_named`] gives a task a name, for reports of its panic and for the
//! log of [slow callbacks](tidegate::EventLoopBuilder::slow_callback).
//!
//! The futures and channels of other crates work where they need nothing but a waker, which may
//! come from any thread (`futures`, `async-channel`, `tokio::sync`). Those of another runtime's
//! sockets and timers need that runtime.
//!
//! Where no loop is running, [`open_connection`] and [`start_server`] fail with [`NoEventLoop`], and a
//! join with [`JoinError::is_no_loop`]. A [`sleep`] logs that, and never ends.
//!
//! # One loop for tasks and callback protocols
//!
//! Tasks run between the callbacks of the loop. Inside of a task [`Handle::current`] gives the
//! loop, for servers with callback protocols and for timers; every `Completion` of it can be
//! awaited. The other way round [`spawn_on`] and [`start_server_on`] take the handle of any loop of
//! this thread, which need not be running yet:
//!
//! ```
//! use tidegate::{EventLoop, Protocol, Result, Transport};
//! use tidegate_streams::{open_connection, spawn_on};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
//!         transport.write(data)?;
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result {
//!     let mut event_loop = EventLoop::new()?;
//!     let handle = event_loop.handle().clone();
//!     let server = handle.create_server("127.0.0.1:0", || Echo)?;
//!     let (completer, reply) = handle.completion();
//!     spawn_on(&handle, async move {
//!         let talk = async {
//!             let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
//!             writer.write(b"ping\n")?;
//!             Ok(reader.read_line().await?)
//!         };
//!         completer.complete(talk.await);
//!     });
//!     assert_eq!(&event_loop.run_until(reply)?[..], b"ping\n");
//!     Ok(())
//! }
//! ```
//!
//! # Cancel safety
//!
//! A future may be dropped where it waits, by [`timeout`], by a `select`, by
//! [`abort`](JoinHandle::abort). No byte is then missing or doubled:
//!
//! | dropped while it waits | effect |
//! | --- | --- |
//! | [`StreamReader::read`], [`read_chunk`](StreamReader::read_chunk), [`read_exact`](StreamReader::read_exact), [`read_until`](StreamReader::read_until), [`read_line`](StreamReader::read_line), [`read_to_end`](StreamReader::read_to_end), [`readable`](StreamReader::readable), [`peek`](StreamReader::peek), those of [`Limited`] and of `FramedReader`, [`Lines::next`] | nothing: what arrived stays in the reader, for the next read |
//! | [`StreamWriter::drain`], [`flush`](StreamWriter::flush) | nothing: they only wait |
//! | [`StreamWriter::write_all`] | all or nothing: while it waits for room nothing was written; after that everything was, and is sent in the background |
//! | [`StreamWriter::close`], [`StreamServer::wait_closed`], [`StreamServer::shutdown`] | what they began goes on: closing, shutting down |
//! | [`open_connection`] | the attempt is cancelled; a connection that it had brought is closed |
//! | [`DatagramSocket::recv_from`], [`send_to_and_wait`](DatagramSocket::send_to_and_wait), [`drain`](DatagramSocket::drain), [`flush`](DatagramSocket::flush) | nothing: a datagram is taken by the poll that completes |
//! | [`StreamReader::start_layer`] | nothing: the layer was put on at the call |
//! | [`JoinHandle`] | the task goes on, detached; awaited as `&mut handle`, it can be awaited again |
//! | [`sleep`], [`sleep_until`], [`yield_now`] | nothing; the timer is gone |
//! | [`timeout`], [`timeout_at`] | what they wait for is dropped |
//! | [`relay()`] | both connections are being closed |
//!
//! The methods of the traits of other crates wait in `poll` and keep nothing that was not taken. For
//! their combinators, such as `read_exact` of futures or tokio, see their own documentation.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `framing` | off | `FramedReader`: frames of the codecs of tidegate-framing |
//! | `futures-io` | on | `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of futures-io |
//! | `offload` | off | that of tidegate: `DatagramOptions::coalesce` for [`DatagramSocket`] |
//! | `tokio` | off | `AsyncRead` and `AsyncWrite` of tokio |
//! | `process` | off | `Process`: child processes with streams as pipes; `process` of `tidegate`, which brings rustix |
//! | `signal` | off | `ctrl_c`, `wait_signal` and `signal`: signals of the process; `signal` of `tidegate`, which brings signal-hook |
//! | `hyper` | off | `Read` and `Write` of hyper 1; an `Executor` and a `Timer` for it, in the module `hyper` |
//!
//! The traits are on the halves and on [`Connection`], which is both in one. A feature adds
//! something and changes nothing that is there without it.
//!
//! # Logging
//!
//! Lines go through the `log` crate, under the target `tidegate::streams`, beside
//! [those of the loop](tidegate#logging):
//!
//! | level | lines |
//! | --- | --- |
//! | error | a sleep outside of an event loop, which never ends; a task of hyper's that found no loop; a panic in the drop of a task that was dropped by the end of its loop |
//! | warn | a connection that the end of its loop or of a grace cut with bytes unsent, and their number |
//! | debug | a writer that was dropped with bytes unsent; they are sent in the background |
//! | debug | a handler whose error is the end of its own connection |
//!
//! Errors and panics of handlers, and panics of tasks without a join handle, go to the
//! [error handler](tidegate::Handle::set_error_handler), and without one to the log at `error`. The
//! end of its own connection is no error of a handler.
//!
//! # Limits
//!
//! * A reader takes in at most twice its limit (64 KiB unless set) and one read of the loop (128 KiB).
//! * Writes are bounded by `drain`, and by the cap (64 MiB). An accepted connection does not stop
//!   reading by itself while its writer is paused, as it does under a callback protocol: the reader
//!   has a bound of its own, and a task that waits to write may have to read first.
//! * Nothing ends a wait for a peer that sends nothing or reads nothing. Put a [`timeout`] around
//!   reads, or set [`Transport::set_write_timeout`]; this also ends a close in the background.
//! * The peer's end of stream does not close the connection, as in asyncio: it stays until the
//!   writer is closed or dropped.
//! * A reset by the peer is noticed by reading and by writing. While the reader is full and nobody
//!   reads, see [`Transport::closed`].
//! * A reader has one task at a time; the compiler sees to it (`&mut self`). A writer has any
//!   number (`&self`), and each `write` is in one piece.
//! * The future of [`block_on`] is `'static`: it owns what it uses.
//! * A task that another thread wakes after its own thread has ended is leaked: it can be dropped on
//!   its own thread only.
//!
//! # Non-goals
//!
//! * Things that the core does not have, such as files.
//! * Locks, channels, `select`, `join` and task groups, which other crates have.
//! * Many threads: many cores are many loops.
//!
//! [`Flow::Paused`]: tidegate::Flow::Paused
//! [`Handle::current`]: tidegate::Handle::current
//! [`Handle::run_in_executor`]: tidegate::Handle::run_in_executor
//! [`Transport::closed`]: tidegate::Transport::closed
//! [`Transport::set_write_timeout`]: tidegate::Transport::set_write_timeout
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::missing_errors_doc)]

mod connection;
mod datagram;
mod error;
mod executor;
mod handling;
mod label;
mod open;
mod options;
mod pipe;
#[cfg(feature = "process")]
mod process;
mod read_buffer;
mod reader;
mod relay;
mod runner;
mod separators;
mod server;
#[cfg(feature = "signal")]
mod signal;
mod stream;
mod task;
mod time;
#[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
mod traits;
mod writer;

pub use connection::Connection;
pub use datagram::DatagramSocket;
#[cfg(feature = "framing")]
pub use error::FramedError;
pub use error::{IncompleteRead, LimitOverrun, NoEventLoop, ReadError};
pub use open::{open_connection, open_connection_with};
pub use options::StreamOptions;
pub use pipe::{read_pipe, write_pipe};
#[cfg(feature = "process")]
pub use process::Process;
#[cfg(feature = "framing")]
pub use reader::FramedReader;
pub use reader::{Feed, Limited, Lines, StreamReader};
pub use relay::relay;
pub use runner::{Runner, block_on};
pub use separators::Separators;
#[doc(hidden)]
pub use server::Handlers;
pub use server::{StreamServer, start_server, start_server_on, start_server_with};
#[cfg(feature = "signal")]
pub use signal::{Signals, ctrl_c, signal, wait_signal};
pub use task::{JoinError, JoinHandle, spawn, spawn_named, spawn_named_on, spawn_on};
pub use tidegate::{RelayReport, Relayed, ShutdownReport};
pub use time::{Elapsed, Sleep, sleep, sleep_until, timeout, timeout_at, yield_now};
#[cfg(feature = "hyper")]
pub use traits::hyper;
pub use writer::StreamWriter;

// Of two definitions of a link the first counts: `links.txt` has rustdoc's, the page those of GitHub.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/links.txt")]
#[doc = include_str!("../docs/from-asyncio.md")]
pub mod from_asyncio {}

/// Compiles and runs the code of all README files, and of `docs`, as tests. Here, because this crate's
/// tests can use all three crates.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/comparison.md")]
#[doc = include_str!("../../tidegate/README.md")]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../tidegate-testkit/README.md")]
struct Readme;
