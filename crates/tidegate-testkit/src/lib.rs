//! Tests for [`tidegate`]'s protocols, without sockets and without waiting.

pub mod conformance;
mod faults;
mod fuzz;
mod grammar;
mod log;
mod network;
mod recorder;
mod trace;
mod watched;
mod world;

pub use faults::{Fault, Faults, Struck};
pub use fuzz::fuzz;
pub use log::{Log, Seen};
pub use network::{Link, Network, Peer, PeerListener};
pub use recorder::Recorder;
pub use trace::Trace;
pub use watched::Watched;
pub use world::{Host, StillBusy, World, WorldBuilder};
