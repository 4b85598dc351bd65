//! Two ends with stacks of layers, over a line on which everything may be short, refused, or fail.

use super::Layer;
use super::testing::checked::Checked;
use super::testing::dice::Dice;
use super::testing::engine::{Clock, End};
use super::testing::layers::{Chatty, Framing, Greeting, Identity, Runs, Session, Slow, Turns};
use super::testing::line::{Rates, line};
use arbitrary::{Arbitrary, Result, Unstructured};
use std::io::{self, ErrorKind};

/// After this many steps something goes round in circles.
const MOST_STEPS: usize = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identity,
    Framing,
    Slow,
    Runs,
    PoliteRuns,
    Greeting,
    Session,
    Turns,
    StrictTurns,
    Chatty,
}

const KINDS: [Kind; 9] = [
    Kind::Identity,
    Kind::Framing,
    Kind::Slow,
    Kind::Runs,
    Kind::PoliteRuns,
    Kind::Greeting,
    Kind::Session,
    Kind::Turns,
    Kind::StrictTurns,
];

impl Kind {
    /// A slow one sends `step` bytes at a time.
    fn layer(self, step: usize) -> Box<dyn Layer> {
        fn checked(layer: impl Layer) -> Box<dyn Layer> {
            Box::new(Checked::new(layer))
        }
        let runs = |most, polite| Runs {
            most,
            polite,
            delivered: 0,
        };
        match self {
            Self::Identity => checked(Identity),
            Self::Framing => checked(Framing),
            Self::Slow => checked(Slow::new(step)),
            Self::Runs => checked(runs(4, false)),
            Self::PoliteRuns => checked(runs(255, true)),
            Self::Greeting => checked(Greeting),
            Self::Session => checked(Session::default()),
            Self::Turns => checked(Turns::new(false)),
            Self::StrictTurns => checked(Turns::new(true)),
            Self::Chatty => checked(Chatty),
        }
    }

    /// The bytes that are through are those that the peer can make of its input.
    fn is_exact(self) -> bool {
        self == Self::Framing || self.has_end()
    }

    /// It tells an end from a cut.
    fn has_end(self) -> bool {
        matches!(self, Self::Session | Self::Turns | Self::StrictTurns)
    }
}

/// A layer, and the number of bytes that each end writes before it is pushed.
#[derive(Debug, Clone, Copy)]
struct Stage {
    kind: Kind,
    before: [usize; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Each end closes when it has received everything.
    Close,
    /// The first end closes at once, the other one when it has seen that.
    FirstCloses,
    /// The first end is gone after this many steps.
    Abort(u8),
    /// The line fails after this many steps.
    Break(u8),
}

#[derive(Debug)]
struct Case {
    stages: Vec<Stage>,
    behind: [usize; 2],
    capacity: usize,
    rates: Rates,
    /// How often reading is paused, and resumed.
    pauses: u8,
    ending: Ending,
    seed: u64,
}

fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=7)? {
        0 => 0,
        1..=4 => usize::from(u8::arbitrary(u)?),
        5 | 6 => u.int_in_range(0..=20_000)?,
        _ => u.int_in_range(0..=300_000)?,
    })
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut stages = Vec::new();
        for _ in 0..u.int_in_range(1..=3)? {
            let kind = *u.choose(&KINDS)?;
            let before = match bool::arbitrary(u)? {
                true => [size(u)?, size(u)?],
                false => [0, 0],
            };
            stages.push(Stage { kind, before });
        }
        let rate = |u: &mut Unstructured<'a>, most| match bool::arbitrary(u)? {
            true => u.int_in_range(0..=most),
            false => Ok(0),
        };
        let case = Self {
            stages,
            behind: [size(u)?, size(u)?],
            capacity: 1 + size(u)?,
            rates: Rates {
                refused: rate(u, 100)?,
                short: rate(u, 200)?,
                no_memory: rate(u, 60)?,
            },
            pauses: rate(u, 100)?,
            ending: match u.int_in_range(0..=3)? {
                0 => Ending::Close,
                1 => Ending::FirstCloses,
                2 => Ending::Abort(u8::arbitrary(u)?),
                _ => Ending::Break(u8::arbitrary(u)?),
            },
            seed: u64::arbitrary(u)?,
        };
        // Behind all else, so that older inputs stand for the same cases.
        Ok(if u8::arbitrary(u)? % 8 == 1 {
            case.with_chatter()
        } else {
            case
        })
    }
}

impl Case {
    /// With a layer that asks and replies, and as few bytes that no replies reach the maximum of output
    /// that waits.
    fn with_chatter(mut self) -> Self {
        self.stages.truncate(1);
        self.stages[0].kind = Kind::Chatty;
        for size in &mut self.behind {
            *size = (*size).min(20_000);
        }
        self
    }
}

/// The plan of an end.
struct Plan {
    /// The bytes that it writes, and the number of those that it has written.
    data: Vec<u8>,
    written: usize,
    /// The bytes that are written, and received, before each layer is pushed.
    own_marks: Vec<usize>,
    peer_marks: Vec<usize>,
    pushed: usize,
}

struct World<'c> {
    case: &'c Case,
    dice: Dice,
    clock: Clock,
    ends: [End; 2],
    plans: [Plan; 2],
    /// The most bytes that an end writes.
    most: usize,
    over: bool,
}

impl<'c> World<'c> {
    fn new(case: &'c Case) -> Self {
        let (dice, clock) = (Dice::new(case.seed), Clock::new());
        let before = |side: usize| case.stages.iter().map(move |stage| stage.before[side]);
        let len = |side: usize| before(side).sum::<usize>() + case.behind[side];
        let most = len(0).max(len(1));
        let capacity = case.capacity.max(most / 200);
        let (one, other) = line(capacity, case.rates, &dice);
        let mut ends = [one, other].map(|line| End::new(line, &clock, &dice));
        ends[1].connected = true;
        let marks = |side: usize| -> Vec<usize> {
            let sum = |sum: &mut usize, before| {
                *sum += before;
                Some(*sum)
            };
            before(side).scan(0, sum).collect()
        };
        let plan = |side: usize| {
            // With runs of equal bytes, and none that is alike at two places.
            let byte = |at: usize| (at / 3 * 31 + at / 251 + side) as u8;
            Plan {
                data: (0..len(side)).map(byte).collect(),
                written: 0,
                own_marks: marks(side),
                peer_marks: marks(1 - side),
                pushed: 0,
            }
        };
        Self {
            case,
            dice,
            clock,
            ends,
            plans: [plan(0), plan(1)],
            most,
            over: false,
        }
    }

    fn run(&mut self) {
        for step in 0..MOST_STEPS {
            self.end_it(step);
            let side = self.dice.below(2);
            let acted = self.act(side) | self.ends[side].run();
            self.agree(side);
            if !acted && !self.act(1 - side) && !self.ends[1 - side].run() && !self.pass_time() {
                return;
            }
        }
        panic!("no end: {:?}", self.ends);
    }

    /// Acts as the user of an end. Returns whether it was anything.
    fn act(&mut self, side: usize) -> bool {
        let (end, plan) = (&mut self.ends[side], &mut self.plans[side]);
        if end.has_failed() {
            return false;
        }
        let mut acted = false;
        if self.dice.strikes(self.case.pauses) {
            end.set_paused(!end.paused);
            acted = true;
        }
        let limit = *plan.own_marks.get(plan.pushed).unwrap_or(&plan.data.len());
        if plan.written < limit && !end.closing {
            let len = self
                .dice
                .size(limit - plan.written)
                .min(limit - plan.written);
            end.write(&plan.data[plan.written..][..len]);
            plan.written += len;
            acted = true;
        }
        if let Some(stage) = self.case.stages.get(plan.pushed)
            && plan.written == plan.own_marks[plan.pushed]
            && end.received.len() >= plan.peer_marks[plan.pushed]
            && !end.eof
            && end.write_error.is_none()
        {
            let unread = end.received.split_off(plan.peer_marks[plan.pushed]);
            end.push(stage.kind.layer(1 + self.most / 100), unread);
            plan.pushed += 1;
            acted = true;
        }
        acted | self.close(side)
    }

    fn close(&mut self, side: usize) -> bool {
        let all = self.plans[1 - side].data.len();
        let (end, plan) = (&mut self.ends[side], &self.plans[side]);
        let mut plans = self.plans.iter();
        let pushed = plans.all(|plan| plan.pushed == self.case.stages.len());
        if end.closing || !pushed || end.opening || plan.written < plan.data.len() {
            return false;
        }
        end.closing = match (self.case.ending, side) {
            (Ending::FirstCloses, 0) => true,
            (Ending::FirstCloses, _) => end.eof,
            _ => end.received.len() == all,
        };
        end.closing
    }

    fn end_it(&mut self, step: usize) {
        if self.over {
            return;
        }
        match self.case.ending {
            Ending::Abort(after) if step > 3 * usize::from(after) => {
                let end = &mut self.ends[0];
                let runs = (0..1_000).take_while(|_| end.run()).count();
                assert!(runs < 1_000, "no end: {end:?}");
                if self.ends[0].socket.is_some() {
                    self.ends[0].abort();
                }
            }
            Ending::Break(after) if step > 3 * usize::from(after) => {
                self.ends[0].line.break_with(libc::ECONNRESET);
            }
            _ => return,
        }
        self.over = true;
    }

    /// Nothing is left to do now. Returns whether there is later.
    fn pass_time(&mut self) -> bool {
        for end in &mut self.ends {
            if end.paused {
                end.set_paused(false);
                return true;
            }
        }
        let deadlines = self.ends.iter_mut().filter_map(End::deadline);
        let Some(next) = deadlines.min() else {
            return false;
        };
        self.clock.set(next.max(self.clock.now()));
        true
    }

    /// Without what is for a layer that is not there yet.
    fn received(&self, side: usize) -> usize {
        self.ends[side].received.len().min(self.next_mark(side))
    }

    /// The number of bytes to receive before the next layer is pushed.
    fn next_mark(&self, side: usize) -> usize {
        let plan = &self.plans[side];
        *plan.peer_marks.get(plan.pushed).unwrap_or(&usize::MAX)
    }

    /// Checks the rules that hold at any time.
    fn agree(&self, side: usize) {
        let (end, peer) = (&self.ends[side], &self.plans[1 - side]);
        let received = &end.received[..self.received(side)];
        assert!(peer.data.starts_with(received), "other bytes");
        assert!(end.sent <= end.written);
        if let Some(layered) = end.socket.as_ref().and_then(|socket| socket.foreign_ref()) {
            super::LayeredSocket::check_memory(layered);
        }
    }

    /// A layer waits for a word of a peer that has ended its stream: its end fails, with all that it had
    /// to receive, and the other one ends somehow.
    fn check_deserted(&self) {
        let deserted = self.ends.iter().zip([1, 0]).any(|(end, peer)| {
            let all = end.received == self.plans[peer].data;
            // Reading may meet the error of writing in place of the end.
            let over = end.eof || end.read_error.is_some();
            end.write_error.is_some() && over && all && self.ends[peer].closing
        });
        assert!(deserted, "{:?}", self.ends);
        for end in &self.ends {
            let errors = [&end.read_error, &end.write_error];
            let mut errors = errors.into_iter().flatten().peekable();
            assert!(end.closed || errors.peek().is_some(), "{:?}", self.ends);
            assert!(errors.all(|error| error.kind() == ErrorKind::UnexpectedEof));
        }
    }

    /// Checks the rules that hold in the end.
    fn check(&self) {
        let [one, other] = &self.ends;
        let kinds = self.case.stages.iter().map(|stage| stage.kind);
        match self.case.ending {
            _ if !self.over => {
                let strict = kinds.clone().any(|kind| kind == Kind::StrictTurns);
                if strict && self.ends.iter().any(|end| end.write_error.is_some()) {
                    return self.check_deserted();
                }
                for side in 0..2 {
                    let (end, peer) = (&self.ends[side], &self.plans[1 - side]);
                    assert!(end.received == peer.data, "{end:?}");
                    assert!(end.eof && end.closed, "{:?}", self.ends);
                    assert_eq!((end.sent, end.queue.len()), (end.written, 0), "{end:?}");
                    assert!(end.read_error.is_none() && end.write_error.is_none());
                    let none = end.socket.as_ref().and_then(|socket| socket.foreign_ref());
                    none.inspect(|layered| super::LayeredSocket::check_idle(layered));
                }
            }
            Ending::Break(_) => {
                for (side, end, peer) in [(0, one, other), (1, other, one)] {
                    let error = end.read_error.as_ref().map(io::Error::kind);
                    let ended = end.eof && peer.closing;
                    let reset = error == Some(ErrorKind::ConnectionReset) && !end.eof;
                    assert!(ended || reset, "{end:?}");
                    let sent = peer.sent.min(self.next_mark(side));
                    assert!(self.received(side) >= sent, "{end:?}");
                }
            }
            _ => {
                let pushed = self.plans[1].pushed;
                let mut sessions = kinds.clone().take(pushed);
                let session = sessions.any(Kind::has_end);
                assert!(other.eof || other.read_error.is_some(), "{other:?}");
                assert!(
                    !session || !other.eof || (one.closing && other.received == self.plans[0].data),
                    "a cut is no end: {other:?}"
                );
                let sent = one.sent.min(self.next_mark(1));
                assert!(self.received(1) >= sent, "{other:?}");
                if kinds.clone().all(Kind::is_exact) && one.read_error.is_none() {
                    assert_eq!(self.received(1), sent, "{other:?}");
                }
            }
        }
    }
}

fn check(case: &Case) {
    let mut world = World::new(case);
    world.run();
    world.check();
}

fn case(input: &[u8]) -> Option<Case> {
    Case::arbitrary(&mut Unstructured::new(input)).ok()
}

#[test]
fn whatever_the_line_does_what_goes_in_comes_out_and_what_counts_as_sent_has_arrived() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/layers");
    tidegate_testkit::fuzz(corpus, case, check);
}
