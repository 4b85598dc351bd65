//! Callback protocols on a single-threaded event loop, modelled on asyncio's transports and protocols.
//!
//! You implement [`Protocol`], whose methods the loop calls on `&mut self`, one at a time. Backpressure
//! is on by default. Every connection ends with one [`Closed`]: the reason, and the number of unsent
//! bytes, which `write` took and the kernel never did.
//!
//! ```
//! use tidegate::{EventLoop, Protocol, Result, Transport};
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
//! struct Client;
//!
//! impl Protocol for Client {
//!     fn connection_made(&mut self, transport: &Transport) -> Result {
//!         transport.write(b"Hello World!")?;
//!         transport.write_eof()?;
//!         Ok(())
//!     }
//!
//!     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
//!         println!("received {}", String::from_utf8_lossy(data));
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result {
//!     let mut event_loop = EventLoop::new()?;
//!     let handle = event_loop.handle().clone();
//!     let server = handle.create_server("127.0.0.1:0", || Echo)?;
//!     let connecting = handle.create_connection(&server.local_addrs()[0], Client);
//!     let transport = event_loop.run_until(connecting)?;
//!     let closed = event_loop.run_until(transport.wait_closed())?;
//!     assert!(closed.is_clean());
//!     assert_eq!(transport.stats().received, 12);
//!     Ok(())
//! }
//! ```
//!
//! # Where to go next
//!
//! * The [`guide`] teaches the library in chapters. The first is
//!   [a protocol](guide::first_protocol), the last leads to it [from asyncio](guide::from_asyncio).
//! * [`Protocol`] has the order of the callbacks, [`Transport`] the methods of a connection.
//!   [`Handle`] makes servers, connections and timers.
//! * [`Completion`] is a result that comes later, as a future and for callbacks.
//! * [`Server::shutdown`] ends a server within a time, with a report. [`Relay`] ties two connections
//!   together.
//! * [tidegate-streams](https://docs.rs/tidegate-streams) has async `read`, `write` and `drain`, and
//!   tasks, on the same loop.
//! * [`Layer`] changes the bytes between the socket and the protocol.
//!   [tidegate-tls](https://docs.rs/tidegate-tls) is TLS as a layer.
//! * [tidegate-framing](https://docs.rs/tidegate-framing) finds messages in a stream of bytes.
//! * [tidegate-testkit](https://docs.rs/tidegate-testkit) simulates network and clock under the loop,
//!   for tests.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `offload` | off | `DatagramOptions::coalesce`: one read brings several datagrams of UDP; `DatagramTransport::arrival`: the ECN and the destination address of received ones; brings the crate `nix` |
//! | `peer-credentials` | off | `Transport::peer_credentials`: the process, user and group at the other end of a Unix socket; brings the crate `nix` |
//! | `process` | off | child processes: `Handle::subprocess_exec`, `spawn_child`, `watch_child`; brings the crates `rustix`, `bitflags` and `linux-raw-sys` |
//! | `splice` | off | Linux: a [`Relay`] moves bulk data by splice(2), uncopied; brings the crates of `process` |
//! | `signal` | off | signals of the process: `Handle::add_signal_handler`, `Handle::wait_signal`; brings the crates `signal-hook`, `signal-hook-registry` and `errno` |
//! | `unstable-driver` | off | a hidden module, with which another world takes the place of the operating system under the loop; for `tidegate-testkit`, outside semver |
//!
//! A feature adds something and changes nothing that is there without it.
//!
//! # Logging
//!
//! Lines go through the `log` crate, under these targets. Nothing is logged for a connection that
//! works or that its peer ends.
//!
//! | target | level | lines |
//! | --- | --- | --- |
//! | `tidegate::loop` | error, warn | the loop could not be woken; jobs were left running at its end |
//! | `tidegate::server` | warn, info | accepting stopped because the system is out of descriptors or memory, and goes on again; a socket file could not be removed |
//! | `tidegate::server` | debug | [refused](ListenOptions::accept_if) peers, and connections whose [layers](ListenOptions::layer) did not open; ten of each a second at most for each server |
//! | `tidegate::transport` | debug | an option that could not be set on a new connection |
//! | `tidegate::process` | warn | a child that was reaped elsewhere; one that did not end when the end of the loop killed it |
//! | `tidegate::failure` | error | errors and panics of user code when there is no [error handler](Handle::set_error_handler), ten a second at most, and the number of those left out; panics of wakers |
//! | `tidegate::slow` | warn | callbacks longer than [`EventLoopBuilder::slow_callback`], off by default |
//!
//! # Non-goals, for now
//!
//! Files, Windows. TLS and the framing of messages are crates of their
//! own.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::missing_errors_doc)]

#[cfg(not(unix))]
compile_error!("tidegate runs on Unix systems: its sockets are registered by file descriptor");

// Its chapters link to each other, so they are modules.
#[cfg(any(doc, doctest))]
pub mod guide;

// The order of these files is that of the methods in the rendered documentation of a type whose
// methods lie in several of them.

// Where connections begin.
mod server;

mod connect;

mod adopt;

mod detached;

mod pipe;

mod watch;

// From the system to the loop, and through a connection.
#[cfg(feature = "unstable-driver")]
#[doc(hidden)]
pub mod driver;
#[cfg(not(feature = "unstable-driver"))]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "public with the feature `unstable-driver`"
)]
mod driver;

mod event_loop;

mod transport;

mod datagram;

#[cfg(feature = "process")]
mod process;

#[cfg(feature = "signal")]
mod signal;

// After `transport`, whose methods come first.

mod push_layer;

mod socket;

#[cfg(feature = "peer-credentials")]
mod credentials;

mod closed;
mod flow;
#[allow(dead_code, unused_imports, reason = "the transport uses it later")]
mod layer;
mod protocol;
mod relay;
mod wrap;
mod write_buffer;

// Results, callbacks and timers.
mod callback;
mod completion;
mod jobs;
mod mailbox;
mod repeating;
mod resolve;
mod timeouts;
mod timers;

// Used by all of them.
mod address;
mod log;
mod memory;
mod panics;
mod socket_options;

pub use address::Address;
pub use adopt::StdStream;
pub use bytes::Bytes;
pub use callback::{Callback, CallbackHandle};
pub use closed::{BoxError, CloseReason, Closed, Result, TimeoutKind, WriteError};
pub use completion::{Completer, Completion};
pub use connect::{ConnectError, ConnectOptions};
#[cfg(feature = "peer-credentials")]
pub use credentials::PeerCredentials;
#[cfg(feature = "offload")]
pub use datagram::Arrival;
pub use datagram::{
    DatagramError, DatagramOptions, DatagramProtocol, DatagramStats, DatagramTransport, Departure,
    Destination, Ecn, Interface, WhenFull,
};
pub use detached::{AttachError, Detached};
pub use event_loop::{
    EventLoop, EventLoopBuilder, Failure, Handle, LoopClosed, LoopStats, PanicPolicy, RemoteHandle,
};
pub use flow::{Flow, WriteLimits};
pub use jobs::JobPanicked;
pub use layer::{Above, Below, Layer, LayerIo};
pub use mailbox::{Mailbox, SendError};
pub use pipe::PipeEnd;
#[cfg(feature = "process")]
pub use process::{ChildHandle, Pipe, SpawnedChild, SubprocessProtocol, SubprocessTransport};
#[cfg(feature = "unstable-driver")]
#[doc(hidden)]
pub use protocol::Internal;
pub use protocol::{OnEof, OnPause, Protocol};
pub use relay::{Relay, RelayReport, Relayed};
pub use server::{ListenOptions, Server, ShutdownReport};
#[cfg(feature = "signal")]
pub use signal::{Signal, SignalHandle};
pub use socket_options::Keepalive;
pub use transport::{
    LingerLimits, ReadHold, Transport, TransportId, TransportStats, WithProtocolError,
};
pub use watch::{Watch, WatchFor};
pub use wrap::Wrap;
