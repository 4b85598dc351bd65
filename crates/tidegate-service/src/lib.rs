//! Parts of network services on [`tidegate`].
//!
//! [`Throttle`] limits the bytes that connections receive in a second. [`ProxyProtocol`] reads the header
//! with which a load balancer tells the address of its client, and [`ProxyLayer`] does so below TLS.
//! [`Workers`] are loops on several threads, and servers on all of them. A [`RemoteWriter`] writes to a
//! connection from any thread.
//!
//! They use the public API of the core alone. The wrappers stand in each other in any order, and
//! [`with_protocol`](tidegate::Transport::with_protocol) finds what is in them.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::missing_errors_doc)]

mod bucket;
mod panics;
mod proxy;
mod remote_writer;
mod throttle;
mod timer;
mod workers;

pub use bucket::Bucket;
pub use proxy::{ProxyError, ProxyHeader, ProxyLayer, ProxyProtocol};
pub use remote_writer::{RemoteLimits, RemoteWriteError, RemoteWriter};
pub use throttle::Throttle;
pub use workers::{Spread, WorkerPanicked, Workers, WorkersServer};

/// Compiles the code of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
