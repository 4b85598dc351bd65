//! Operations on a transport, out of the bytes of a fuzzer.

use arbitrary::{Result, Unstructured};
use std::time::Duration;
use tidegate_testkit::{Fault, Link};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    Drain,
    Flush,
    Closed,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(usize),
    WriteOwned(usize),
    WriteVectored(usize, usize),
    WriteEof,
    PauseReading,
    ResumeReading,
    Limits(usize, usize, usize),
    Close,
    CloseWithin(Duration),
    Abort,
    Reset,
    SetProtocol(usize),
    Later(Duration, Box<Op>),
    Wait(Wait, Option<Duration>),
    DropWaiter(Wait),
    PeerSend(usize),
    PeerTake,
    PeerEof,
    PeerReset,
    PeerClose,
    Force(Fault),
    /// Nothing in a callback.
    Advance(Duration),
    Pump,
    /// An error in a callback.
    Fail,
}

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) link: Link,
    pub(crate) faults: bool,
    /// We accepted the connection.
    pub(crate) accepted: bool,
    pub(crate) buffered: Option<usize>,
    pub(crate) keep_reading: bool,
    pub(crate) keep_open: bool,
    /// One row for each callback, in the order of their calls.
    pub(crate) callbacks: Vec<Vec<Op>>,
    pub(crate) ops: Vec<Op>,
}

fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    let most = *u.choose(&[0, 1, 10, 1000, 20_000, 70_000])?;
    u.int_in_range(most / 2..=most)
}

fn time(u: &mut Unstructured<'_>) -> Result<Duration> {
    let most = *u.choose(&[0, 1, 1000, 100_000])?;
    Ok(Duration::from_millis(u.int_in_range(0..=most)?))
}

fn wait(u: &mut Unstructured<'_>) -> Result<Wait> {
    Ok(*u.choose(&[Wait::Drain, Wait::Flush, Wait::Closed])?)
}

fn op(u: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match u.int_in_range(0..=35)? {
        0..3 => Op::Write(size(u)?),
        3 => Op::WriteOwned(size(u)?),
        4 => Op::WriteVectored(size(u)?, size(u)?),
        5 => Op::WriteEof,
        6 => Op::PauseReading,
        7 => Op::ResumeReading,
        8 => Op::Limits(size(u)?, size(u)?, size(u)?),
        9 => Op::Close,
        10 => Op::CloseWithin(time(u)?),
        11 => Op::Abort,
        12 => Op::Reset,
        13 => Op::SetProtocol(u.int_in_range(0..=10)?),
        14 => Op::Later(time(u)?, Box::new(op(u)?)),
        15..18 => Op::Wait(wait(u)?, None),
        18 => Op::Wait(wait(u)?, Some(time(u)?)),
        19 => Op::DropWaiter(wait(u)?),
        20..23 => Op::PeerSend(size(u)?),
        23..26 => Op::PeerTake,
        26 => Op::PeerEof,
        27 => Op::PeerReset,
        28 => Op::PeerClose,
        29 => Op::Force(*u.choose(Fault::ALL)?),
        30..33 => Op::Advance(time(u)?),
        33 | 34 => Op::Pump,
        _ => Op::Fail,
    })
}

/// As many as there are bytes for, and no more than this.
fn row(u: &mut Unstructured<'_>, most: usize) -> Vec<Op> {
    let mut row = Vec::new();
    while row.len() < most && !u.is_empty() {
        row.extend(op(u));
    }
    row
}

pub(crate) fn decode(input: &[u8]) -> Option<Case> {
    let u = &mut Unstructured::new(input);
    let mut case = || -> Result<Case> {
        let sizes = [65536, 3000, 500, 100];
        let latency = *u.choose(&[0, 1, 300])?;
        let link = Link::new()
            .latency(Duration::from_millis(latency))
            .jitter(Duration::from_millis(latency / 2))
            .send_buffer(*u.choose(&sizes)?)
            .receive_buffer(*u.choose(&sizes)?);
        let flags: u8 = u.arbitrary()?;
        let mut callbacks = Vec::new();
        for _ in 0..u.int_in_range(0..=12)? {
            let len = u.int_in_range(0..=3)?;
            callbacks.push(row(u, len));
        }
        Ok(Case {
            seed: u64::from(u.arbitrary::<u8>()?),
            link,
            faults: flags & 1 != 0,
            accepted: flags & 2 != 0,
            buffered: (flags & 4 != 0).then_some(if flags & 8 != 0 { 64 } else { 5000 }),
            keep_reading: flags & 16 != 0,
            keep_open: flags & 32 != 0,
            callbacks,
            ops: row(u, 60),
        })
    };
    case().ok()
}
