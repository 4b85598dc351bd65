//! asyncio's streams for Rust, on tidegate's event loop.
mod connection;
mod error;
mod executor;
mod open;
mod read_buffer;
mod reader;
mod runner;
mod server;
mod stream;
mod task;
mod time;
#[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
mod traits;
mod writer;

pub use connection::Connection;
pub use error::{IncompleteRead, LimitOverrun, NoEventLoop, ReadError};
pub use open::open_connection;
pub use reader::{Limited, Lines, Separators, StreamReader};
pub use runner::{Runner, block_on};
pub use server::{ShutdownReport, StreamServer, start_server, start_server_on};
pub use task::{JoinError, JoinHandle, spawn, spawn_on};
pub use time::{Elapsed, Sleep, sleep, sleep_until, timeout, timeout_at, yield_now};
#[cfg(feature = "hyper")]
pub use traits::hyper;
pub use writer::StreamWriter;
