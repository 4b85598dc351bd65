//! TLS for tidegate.

mod asked_name;
mod engine;
mod info;

pub use info::TlsInfo;
pub use rustls;
