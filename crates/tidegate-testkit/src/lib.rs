//! Tests for [`tidegate`]'s protocols, without sockets and without waiting.

mod faults;
mod network;
pub mod conformance;
mod fuzz;
mod recorder;
mod trace;
mod world;

pub use faults::{Fault, Faults, Struck};
pub use network::{Link, Network, Peer, PeerListener};
pub use fuzz::fuzz;
pub use recorder::{Log, Recorder, Seen};
pub use trace::Trace;
pub use world::{Host, StillBusy, World, WorldBuilder};
