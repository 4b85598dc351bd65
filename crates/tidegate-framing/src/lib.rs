//! Frames for [`tidegate`]: lines, lengths and other messages out of the bytes of a connection.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod assembly;
mod decode;
mod delimiter;
mod error;
mod fixed;
mod framed;
mod framed_fn;
mod length_prefix;
mod lines;
mod netstring;
mod protocol;
mod raw;
mod search;
#[cfg(test)]
mod tests;
#[cfg(feature = "tokio-util")]
mod tokio_codec;
mod torn;

pub use decode::{Decode, Step};
pub use delimiter::Delimiter;
pub use error::FrameError;
pub use fixed::Fixed;
pub use framed::Framed;
pub use framed_fn::{FrameFn, framed};
pub use length_prefix::{LengthPrefix, Prefix};
pub use lines::{LineEnd, Lines, Overlong};
pub use netstring::Netstring;
pub use protocol::FrameProtocol;
pub use raw::{Piece, Raw};
#[cfg(feature = "tokio-util")]
pub use tokio_codec::TokioCodec;

/// Compiles the code of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
