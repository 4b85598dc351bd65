//! Tests for [`tidegate`]'s protocols, without sockets and without waiting.

mod recorder;

pub use recorder::{Log, Recorder, Seen};
