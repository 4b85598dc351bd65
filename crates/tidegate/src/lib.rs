//! asyncio's transports and protocols for Rust.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(unix))]
compile_error!("tidegate runs on Unix systems: its sockets are registered by file descriptor");

mod accept;
mod address;
mod adopt;
mod callback;
mod closed;
mod completion;
mod connect;
#[cfg(feature = "unstable-driver")]
#[doc(hidden)]
pub mod driver;
#[cfg(not(feature = "unstable-driver"))]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "public with the feature `unstable-driver`"
)]
mod driver;
mod event_loop;
mod flow;
mod listen;
mod log_limit;
mod protocol;
mod server;
mod timers;
mod transport;
mod write_buffer;

pub use address::Address;
pub use adopt::StdStream;
pub use callback::{Callback, CallbackHandle};
pub use closed::{BoxError, CloseReason, Closed, Result, TimeoutKind, WriteError};
pub use completion::{Completer, Completion};
pub use connect::ConnectOptions;
pub use event_loop::{
    EventLoop, EventLoopBuilder, Failure, Handle, LoopClosed, PanicPolicy, RemoteHandle, Snapshot,
};
pub use flow::{Flow, WriteLimits};
pub use listen::ListenOptions;
pub use protocol::{OnEof, OnPause, Protocol};
pub use server::{Server, ShutdownReport};
pub use transport::{Transport, TransportId, TransportStats};
