//! The same scripts on asyncio and on Tidegate, and the comparison of what their protocols saw.

mod asyncio;
mod compare;
mod driven;
mod ours;
mod random;
mod script;
mod sockets;
mod tables;

pub(crate) use asyncio::{Version, asyncio};
pub(crate) use compare::{Both, check, run_both};
pub(crate) use ours::ours;
pub(crate) use random::{explain, random_scripts};
pub(crate) use script::{Op, PeerOp, Script, Step};
pub(crate) use tables::{Entry, agreed, deviations, versions};
