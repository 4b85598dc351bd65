//! The steps of a script of datagrams, and their texts.

use crate::dialogue::Escaped;
use std::fmt;
use std::time::Duration;

/// A step of the peer with this number.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) peer: usize,
    pub(super) act: Act,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Send(Vec<u8>),
    Wait(Duration),
    Leave,
    Expect(Vec<u8>),
    ExpectNothing(Duration),
    ExpectClosed,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer;
        match &self.act {
            Act::Send(data) => write!(f, "peer {peer} sends {}", Escaped(data)),
            Act::Wait(time) => write!(f, "wait {time:?}"),
            Act::Leave => write!(f, "peer {peer} leaves"),
            Act::Expect(data) => write!(f, "peer {peer} expects {}", Escaped(data)),
            Act::ExpectNothing(time) => write!(f, "peer {peer} expects nothing for {time:?}"),
            Act::ExpectClosed => f.write_str("expect that the endpoint has ended"),
        }
    }
}

impl Step {
    /// Returns a text of the expected result.
    pub(super) fn expected(&self) -> String {
        match &self.act {
            Act::Expect(data) => Escaped(data).to_string(),
            Act::ExpectNothing(time) => format!("nothing for {time:?}"),
            Act::ExpectClosed => "the end of the endpoint".into(),
            Act::Send(_) | Act::Wait(_) | Act::Leave => "that it comes to rest".into(),
        }
    }
}
