//! Tidegate measured beside its peers.
//!
//! Every claim about speed or memory in this repository comes out of this crate, so that its reader
//! can run it. The crate holds a load generator (`load`), the same small servers written
//! on tidegate (`serve`), on mio alone (`serve_mio`), on tokio (`serve_tokio`), and under `peers/`
//! in C and in Python.
//!
//! This library holds the parts that the programs share.

pub mod carrier;
pub mod load;
pub mod machine;
pub mod memory;
pub mod page_buffer;
pub mod peers;
pub mod program;
pub mod server_process;
pub mod service;
pub mod statistics;
pub mod table;
pub mod tls;
pub mod tokio_server;
pub mod usage;
