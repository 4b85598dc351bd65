//! The language of the scripts. One script is the life of one connection, seen from its protocol:
//! steps with `;` between them. After each step both worlds run until all is quiet, so that kernel
//! timing has no part in a trace.
//!
//! Calls (with ` + ` between them: one step, nothing runs in between):
//!
//! | | |
//! | --- | --- |
//! | `write N`, `write_eof`, `close`, `abort` | the method of that name, with the next N bytes |
//! | `put N`, `put_eof` | a write, unless the transport is closing |
//! | `pause`, `resume`, `is_reading` | reading |
//! | `limits HIGH LOW` | `set_write_buffer_limits`; `-` leaves one out |
//! | `switch` | `set_protocol` with one whose events are marked `second:` |
//! | `raise` | in a callback only: fails |
//!
//! `peer sends N`, `peer reads` (all, from now on), `peer stops` (reading), `peer shuts` (its write
//! side), `peer closes`, `peer resets` (on a Unix socket as `peer closes`); `settle` does nothing.
//!
//! `eof keep` and `eof close` set the return value of `eof_received`, and `on CALLBACK CALLS` has calls
//! made in the next callback of that name (`made`, `data`, `eof`, `pause_writing`,
//! `resume_writing`, `lost`). These two may stand anywhere; the first steps, before the connection
//! is made, may also be `clogged` (the kernel's buffer is full when the connection is made, so
//! that the transport's holds exactly what was written), `buffered` (asyncio's `BufferedProtocol`)
//! and `default` (the protocol has no `pause_writing` of its own).

use std::fmt;
use support::Kind;
use tidegate::OnEof;

/// A script and the kind of its sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Clogged,
    Buffered,
    Default,
    Eof(OnEof),
    On(String, Vec<Op>),
    Peer(PeerOp),
    Settle,
    Calls(Vec<Op>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerOp {
    Sends(usize),
    Reads,
    Stops,
    Shuts,
    Closes,
    Resets,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Write(usize),
    Put(usize),
    WriteEof,
    PutEof,
    Close,
    Abort,
    Pause,
    Resume,
    IsReading,
    Limits(Option<usize>, Option<usize>),
    Switch,
    Raise,
}

impl Script {
    pub(crate) fn new(kind: Kind, text: &str) -> Self {
        let text = text.to_owned();
        Self { kind, text }
    }

    /// On each kind of socket.
    pub(crate) fn on_all(text: &str) -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().map(move |kind| Self::new(kind, text))
    }

    /// From a line as `asyncio_scripts.py` reads it, with a tab or a space.
    #[track_caller]
    pub(crate) fn of_line(line: &str) -> Self {
        match line.split_once([' ', '\t']) {
            Some(("tcp", text)) => Self::new(Kind::Tcp, text),
            Some(("unix", text)) => Self::new(Kind::Unix, text),
            _ => panic!("{line:?} begins with neither tcp nor unix"),
        }
    }

    pub(crate) fn kind_word(&self) -> &'static str {
        match self.kind {
            Kind::Tcp => "tcp",
            Kind::Unix => "unix",
        }
    }

    /// The steps before the connection is made, and those after it.
    #[track_caller]
    pub(crate) fn steps(&self) -> (Vec<Step>, Vec<Step>) {
        let steps = self.text.split(';').map(|step| match parse(step.trim()) {
            Some(step) => step,
            None => panic!("{step:?} is no step, in {self}"),
        });
        let mut setup: Vec<Step> = steps.collect();
        let is_call = |step: &Step| matches!(step, Step::Peer(_) | Step::Settle | Step::Calls(_));
        let first = setup.iter().position(is_call).unwrap_or(setup.len());
        let rest = setup.split_off(first);
        (setup, rest)
    }

    /// Returns the subject of each line of a trace.
    pub(crate) fn names(&self) -> Vec<String> {
        let (setup, _) = self.steps();
        let mut steps = self.text.split(';').map(|step| step.trim().to_owned());
        let before = steps.by_ref().take(setup.len()).collect::<Vec<_>>();
        let connect = format!("(connect) {}", before.join("; "));
        let names = [connect.trim_end().to_owned()].into_iter().chain(steps);
        names.chain(["(end)".to_owned()]).collect()
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind_word(), self.text)
    }
}

fn parse(step: &str) -> Option<Step> {
    let words: Vec<&str> = step.split_whitespace().collect();
    Some(match *words.as_slice() {
        ["clogged"] => Step::Clogged,
        ["buffered"] => Step::Buffered,
        ["default"] => Step::Default,
        ["eof", "keep"] => Step::Eof(OnEof::KeepOpen),
        ["eof", "close"] => Step::Eof(OnEof::Close),
        ["on", name, ..] => {
            let calls = step.splitn(3, ' ').nth(2)?;
            Step::On(name.to_owned(), parse_calls(calls)?)
        }
        ["peer", ref rest @ ..] => Step::Peer(match *rest {
            ["sends", n] => PeerOp::Sends(n.parse().ok()?),
            ["reads"] => PeerOp::Reads,
            ["stops"] => PeerOp::Stops,
            ["shuts"] => PeerOp::Shuts,
            ["closes"] => PeerOp::Closes,
            ["resets"] => PeerOp::Resets,
            _ => return None,
        }),
        ["settle"] => Step::Settle,
        _ => Step::Calls(parse_calls(step)?),
    })
}

fn parse_calls(text: &str) -> Option<Vec<Op>> {
    text.split('+')
        .map(|call| parse_call(call.trim()))
        .collect()
}

fn parse_call(call: &str) -> Option<Op> {
    let mark = |word: &str| match word {
        "-" => Some(None),
        _ => word.parse().ok().map(Some),
    };
    let words: Vec<&str> = call.split_whitespace().collect();
    Some(match *words.as_slice() {
        ["write", n] => Op::Write(n.parse().ok()?),
        ["put", n] => Op::Put(n.parse().ok()?),
        ["write_eof"] => Op::WriteEof,
        ["put_eof"] => Op::PutEof,
        ["close"] => Op::Close,
        ["abort"] => Op::Abort,
        ["pause"] => Op::Pause,
        ["resume"] => Op::Resume,
        ["is_reading"] => Op::IsReading,
        ["limits", high, low] => Op::Limits(mark(high)?, mark(low)?),
        ["switch"] => Op::Switch,
        ["raise"] => Op::Raise,
        _ => return None,
    })
}
