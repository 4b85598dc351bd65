//! Tests for [`tidegate`]'s protocols, without sockets and without waiting.

pub mod conformance;
mod check;
mod dialogue;
mod faults;
mod fuzz;
mod grammar;
mod hand;
mod log;
mod network;
mod pair;
mod recorder;
mod script;
mod single;
mod trace;
mod watched;
mod world;

pub use check::{
    Broken, Case, Conversation, NoCase, Report, Rule, Variation, check_case, check_protocol,
};
pub use dialogue::Dialogue;
pub use faults::{Fault, Faults, Struck};
pub use fuzz::fuzz;
pub use log::{Log, Seen};
pub use network::{Link, Network, Peer, PeerListener};
pub use pair::{Pair, pair};
pub use recorder::Recorder;
pub use script::{Mismatch, Played, Script};
pub use trace::Trace;
pub use watched::Watched;
pub use world::{Host, StillBusy, World, WorldBuilder};
