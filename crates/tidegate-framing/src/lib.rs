//! Frames for [`tidegate`]: lines, lengths and other messages out of the bytes of a connection.
//!
//! TCP keeps the order of bytes, not the pieces in which they were written. A codec finds the messages in
//! them, and a protocol receives whole ones:
//!
//! ```no_run
//! use tidegate::{EventLoop, Result};
//! use tidegate_framing::{Lines, framed};
//!
//! fn main() -> Result {
//!     let mut event_loop = EventLoop::new()?;
//!     event_loop.handle().create_server("127.0.0.1:8888", || {
//!         framed(Lines::new().max(1000), |transport, line| {
//!             writeln!(transport, "{} bytes", line.len())?;
//!             Ok(())
//!         })
//!     })?;
//!     event_loop.run_forever()?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to begin
//!
//! [`framed()`] makes a protocol of a codec and a closure. [`FrameProtocol`] is for those that have state or
//! other callbacks, and has the rules; [`Framed`] makes a [`Protocol`](tidegate::Protocol) of it.
//!
//! | codec | frames |
//! | --- | --- |
//! | [`Lines`] | lines, without their ends |
//! | [`Delimiter`] | bytes before a byte string |
//! | [`Fixed`] | bytes of one length |
//! | [`LengthPrefix`] | bytes behind their length, in the forms that binary protocols have |
//! | [`Netstring`] | `5:hello,` |
//! | [`Raw`] | those of another codec, and between them bytes as they arrive, such as a body behind a head |
//! | `TokioCodec` | those of a codec of tokio-util |
//! | yours | whatever [`Decode`] returns |
//!
//! Codecs that can write have a method `write`. It makes one write: all of a frame, or nothing.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `tokio-util` | off | `TokioCodec`: the decoders and encoders of tokio-util |
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
