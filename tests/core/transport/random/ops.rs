//! The operations of a case: lists, drawn from its seed.

use crate::transport::random::layers::LayerKind;
use support::Rng;

fn size(rng: &mut Rng, flood: bool) -> usize {
    let most = match rng.below(100) {
        _ if flood => 200 * 1024,
        0..4 => return 0,
        4..40 => 100,
        40..65 => 5_000,
        65..85 => 40_000,
        _ => 200 * 1024,
    };
    1 + rng.below(most)
}

/// A wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Drain,
    Flush,
    Closed,
    /// Of a layer that is put on.
    Open,
}

/// The fate of the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Then,
    ThenOn,
    ThenWithin(u64),
    Keep,
    Drop,
    Detach,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(usize),
    WriteOwned(usize),
    /// A number of bytes in a number of slices.
    WriteVectored(usize, usize),
    WriteEof,
    PauseReading,
    ResumeReading,
    /// A hold on reading.
    HoldReading,
    /// Drops the last hold.
    DropHold,
    /// The last bytes of the data, or others that the peer never sent.
    GiveBack(usize),
    /// With a number of unread bytes; into an own buffer of this size, unless that is 0. The old
    /// protocol has kept at most `leftover` bytes of the data that it was given last.
    SetProtocol {
        unread: usize,
        leftover: usize,
        buffer: usize,
    },
    WithProtocol,
    Limits {
        high: usize,
        low: usize,
        cap: usize,
    },
    Wait(What, How),
    /// Drops the completions that were kept.
    DropKept,
    Close,
    CloseWithin(u64),
    Abort,
    Reset,
    Soon(Vec<Op>),
    Later(u64, Vec<Op>),
    /// Through the loop's handle: outside of the protocol's callbacks.
    LoopSoon(Vec<Op>),
    PeerRead(usize),
    PeerWrite(usize),
    PeerEof,
    PeerClose,
    PeerReset,
    /// Puts a layer on, at one place of the stream on both sides.
    Push(LayerKind),
    /// Ticks of the loop; only outside of callbacks.
    Ticks(usize),
}

/// The operations and the return value of one callback.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) ops: Vec<Op>,
    /// The callback returns an error of its own.
    pub(crate) fails: bool,
    /// The callback returns the first error of a write, as `?` would.
    pub(crate) propagates: bool,
    /// `eof_received` returns `Close`.
    pub(crate) closes: bool,
    /// `pause_writing` returns `StopReading`.
    pub(crate) stops: bool,
}

/// How a case ends that has not ended before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finale {
    Close,
    Abort,
    Reset,
    PeerCloses,
    PeerResets,
    DropLoop,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Adopted, or else opened by us.
    pub(crate) accepted: bool,
    /// The layers from the start, from the wire up.
    pub(crate) layers: Vec<LayerKind>,
    /// The kernel's buffers, when they are to be tiny; else sixteen times that, or not set.
    pub(crate) kernel_buffer: usize,
    pub(crate) is_usual: bool,
    /// The write budget of the loop, if it has one.
    pub(crate) budget: Option<usize>,
    /// The number of wrappers around each protocol.
    pub(crate) wrappers: usize,
    /// The first protocol's own buffer.
    pub(crate) buffer: usize,
    pub(crate) ops: Vec<Op>,
    /// One for each callback, in their order.
    pub(crate) scripts: Vec<Script>,
    /// `connection_lost` calls `reset`, which is too late for anything.
    pub(crate) resets_when_lost: bool,
    pub(crate) finale: Finale,
}

/// The frequent operations of a case.
#[derive(Debug, Clone, Copy)]
struct Mood {
    /// Percent of what ends a connection.
    deadly: usize,
    /// Percent of reads of the peer, beside the usual.
    reads: usize,
    /// Large writes only, so that a large kernel buffer fills too.
    flood: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
        let mood = Mood {
            deadly: [0, 0, 1, 5][rng.below(4)],
            reads: [0, 5, 20][rng.below(3)],
            flood: rng.percent(20),
        };
        let count = 5 + rng.below(95);
        let mut ops = Vec::new();
        for _ in 0..count {
            ops.push(outer_op(rng, mood));
        }
        let scripts = (0..count).map(|_| script(rng, mood)).collect();
        let plan = Self {
            accepted: rng.percent(65),
            layers: Vec::new(),
            kernel_buffer: 1 + rng.below(16 * 1024),
            is_usual: rng.percent(40),
            budget: budget(&mut Rng::new(seed ^ 0xb4d9)),
            wrappers: [0, 0, 1, 2][Rng::new(seed ^ 0x3a7e).below(4)],
            buffer: own_buffer(rng),
            ops,
            scripts,
            resets_when_lost: rng.percent(25),
            finale: match rng.below(100) {
                0..60 => Finale::Close,
                60..68 => Finale::Abort,
                68..76 => Finale::Reset,
                76..84 => Finale::PeerCloses,
                84..92 => Finale::PeerResets,
                _ => Finale::DropLoop,
            },
        };
        plan.with_leftover(&mut Rng::new(seed ^ 0x1ef7))
            .with_layers(&mut Rng::new(!seed))
    }

    /// Half of the old protocols have kept bytes. The rest of a plan is not changed by them.
    fn with_leftover(mut self, rng: &mut Rng) -> Self {
        leave_over(&mut self.ops, rng);
        for script in &mut self.scripts {
            leave_over(&mut script.ops, rng);
        }
        self
    }

    /// A third of the cases have layers, from the start or put on later. The rest of a plan is not
    /// changed by them.
    fn with_layers(mut self, rng: &mut Rng) -> Self {
        if rng.below(3) > 0 {
            return self;
        }
        let first = [0, 0, 1, 1, 2][rng.below(5)];
        self.layers = (0..first).map(|_| LayerKind::any(rng)).collect();
        let later = [0, 1, 1, 2][rng.below(4)].max(usize::from(first == 0));
        for _ in 0..later {
            let push = Op::Push(LayerKind::any(rng));
            let early = if rng.percent(50) { 4 } else { 1 };
            let list = match rng.percent(50) {
                true => &mut self.ops,
                false => {
                    let at = rng.below(self.scripts.len().div_ceil(early));
                    &mut self.scripts[at].ops
                }
            };
            let at = rng.below(list.len().div_ceil(early) + 1).min(list.len());
            list.insert(at, push);
        }
        self
    }
}

fn outer_op(rng: &mut Rng, mood: Mood) -> Op {
    if rng.percent(30) {
        Op::Ticks(1 + rng.below(3))
    } else {
        op(rng, mood, 0)
    }
}

fn script(rng: &mut Rng, mood: Mood) -> Script {
    let count = [0, 0, 0, 1, 1, 2, 3, 8][rng.below(8)];
    Script {
        ops: (0..count).map(|_| op(rng, mood, 1)).collect(),
        fails: mood.deadly > 0 && rng.percent(1),
        propagates: mood.deadly > 0 && rng.percent(20),
        closes: rng.percent(20),
        stops: rng.percent(50),
    }
}

fn nested(rng: &mut Rng, mood: Mood, depth: usize) -> Vec<Op> {
    let count = if depth < 3 { rng.below(4) } else { 0 };
    (0..count).map(|_| op(rng, mood, depth + 1)).collect()
}

fn op(rng: &mut Rng, mood: Mood, depth: usize) -> Op {
    if rng.percent(mood.deadly) {
        return match rng.below(8) {
            0 | 1 => Op::Close,
            2 => Op::CloseWithin([0, 1, 2, 1000][rng.below(4)]),
            3 => Op::Abort,
            4 => Op::Reset,
            5 => Op::WriteEof,
            6 => Op::PeerClose,
            _ => Op::PeerReset,
        };
    }
    if rng.percent(mood.reads) {
        return Op::PeerRead(usize::MAX);
    }
    match rng.below(200) {
        0..34 => Op::Write(size(rng, mood.flood)),
        34..46 => Op::WriteOwned(size(rng, mood.flood)),
        46..56 => Op::WriteVectored(size(rng, mood.flood), 1 + rng.below(200)),
        56..57 => Op::WriteEof,
        57..62 => Op::PauseReading,
        62..73 => Op::ResumeReading,
        73 => Op::HoldReading,
        74 => Op::DropHold,
        75..83 => Op::SetProtocol {
            unread: if rng.percent(30) { 0 } else { size(rng, false) },
            leftover: 0,
            buffer: own_buffer(rng),
        },
        83..86 => Op::WithProtocol,
        86..98 => limits(rng),
        98..116 => Op::Wait(
            [What::Drain, What::Flush, What::Flush, What::Closed][rng.below(4)],
            match rng.below(10) {
                0..4 => How::Then,
                4 => How::ThenOn,
                5 => How::ThenWithin([0, 1, 2, 1000][rng.below(4)]),
                6..8 => How::Keep,
                8 => How::Drop,
                _ => How::Detach,
            },
        ),
        116..118 => Op::DropKept,
        118..126 => Op::Soon(nested(rng, mood, depth)),
        126..130 => Op::Later([0, 0, 1, 10_000][rng.below(4)], nested(rng, mood, depth)),
        130..134 => Op::LoopSoon(nested(rng, mood, depth)),
        134..150 => Op::PeerRead(usize::MAX),
        150..160 => Op::PeerRead(size(rng, false)),
        160..164 => Op::PeerRead(1),
        164..194 => Op::PeerWrite(size(rng, false)),
        194..196 => Op::DropHold,
        196..199 => Op::GiveBack(1 + size(rng, false)),
        _ => Op::PeerEof,
    }
}

fn leave_over(ops: &mut [Op], rng: &mut Rng) {
    for op in ops {
        match op {
            Op::SetProtocol { leftover, .. } if rng.percent(50) => *leftover = size(rng, false),
            Op::Soon(ops) | Op::Later(_, ops) | Op::LoopSoon(ops) => leave_over(ops, rng),
            _ => {}
        }
    }
}

fn own_buffer(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0..6 => 0,
        6 => 300 + rng.below(700),
        _ => 1_000 + rng.below(70_000),
    }
}

/// A third of the cases have one. The rest of a plan is not changed by it.
fn budget(rng: &mut Rng) -> Option<usize> {
    let most = [1, 2_000, 50_000, 200_000, 1 << 20][rng.below(5)];
    (rng.below(3) == 0).then(|| 1 + rng.below(most))
}

/// One in twenty is out of order, to be refused.
fn limits(rng: &mut Rng) -> Op {
    let most = [1, 2, 1_000, 20_000, 64 * 1024, 250_000][rng.below(6)];
    let high = rng.below(most);
    let low = [0, rng.below(high + 1), high][rng.below(3)];
    let room = [0, rng.below(1_000), rng.below(300_000), 1 << 26][rng.below(4)];
    let cap = high.max(1) + room;
    match rng.below(60) {
        0 => Op::Limits {
            high,
            low: high + 1,
            cap,
        },
        1 => Op::Limits {
            high: cap + 1,
            low,
            cap,
        },
        2 => Op::Limits {
            high: 0,
            low: 0,
            cap: 0,
        },
        _ => Op::Limits { high, low, cap },
    }
}
