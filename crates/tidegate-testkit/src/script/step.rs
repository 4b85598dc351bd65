//! The steps of a script, and their texts.

use crate::dialogue::Escaped;
use std::fmt;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Send(Vec<u8>),
    SendAhead(Vec<u8>),
    SendBytewise(Vec<u8>),
    Wait(Duration),
    SendEof,
    Reset,
    Expect(Vec<u8>),
    ExpectNothing(Duration),
    ExpectEof,
    ExpectReset,
    ExpectClosed,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(data) => write!(f, "send {}", Escaped(data)),
            Self::SendAhead(data) => write!(f, "send ahead {}", Escaped(data)),
            Self::SendBytewise(data) => write!(f, "send bytewise {}", Escaped(data)),
            Self::Wait(time) => write!(f, "wait {time:?}"),
            Self::SendEof => f.write_str("send the end of the stream"),
            Self::Reset => f.write_str("reset"),
            Self::Expect(data) => write!(f, "expect {}", Escaped(data)),
            Self::ExpectNothing(time) => write!(f, "expect nothing for {time:?}"),
            Self::ExpectEof => f.write_str("expect the end of the stream"),
            Self::ExpectReset => f.write_str("expect a reset"),
            Self::ExpectClosed => f.write_str("expect that the connection has ended"),
        }
    }
}

impl Step {
    /// Returns a text of the expected result.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Send(_) | Self::SendBytewise(_) => "that all of it is read".into(),
            Self::SendAhead(_) => "room for all of it".into(),
            Self::Expect(data) => Escaped(data).to_string(),
            Self::ExpectNothing(time) => format!("nothing for {time:?}"),
            Self::ExpectEof => "the end of the stream".into(),
            Self::ExpectReset => "a reset".into(),
            Self::ExpectClosed => "the end of the connection".into(),
            Self::Wait(_) | Self::SendEof | Self::Reset => "that it comes to rest".into(),
        }
    }
}
