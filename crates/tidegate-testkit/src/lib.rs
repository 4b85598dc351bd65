//! Tests for [`tidegate`]'s protocols, without sockets and without waiting.

pub mod conformance;
mod faults;
mod fuzz;
mod network;
mod recorder;
mod trace;
mod world;

pub use faults::{Fault, Faults, Struck};
pub use fuzz::fuzz;
pub use network::{Link, Network, Peer, PeerListener};
pub use recorder::{Log, Recorder, Seen};
pub use trace::Trace;
pub use world::{Host, StillBusy, World, WorldBuilder};
