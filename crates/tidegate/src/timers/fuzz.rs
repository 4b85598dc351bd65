//! Timers beside an unordered list that is searched for the least.

use super::{TimerId, Timers};
use arbitrary::{Arbitrary, Result, Unstructured};
use std::time::{Duration, Instant};

const MOST_OPS: usize = 300;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// At so many milliseconds, or never.
    Insert(Option<u8>),
    /// Of all that there ever were, the one of this number.
    Cancel(u8),
    /// Begins a tick of the loop: what is due at this time, and was there before.
    Round(u8),
    /// Pops one of the round.
    Pop,
    TakeAll,
    /// Inserts this number of timers, at different times.
    Burst(u8),
    /// Cancels all but each of this number.
    CancelMost(u8),
}

impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=18)? {
            0..=4 => Self::Insert(Some(u8::arbitrary(u)?)),
            5 => Self::Insert(None),
            6..=8 => Self::Cancel(u8::arbitrary(u)?),
            9 | 10 => Self::Round(u8::arbitrary(u)?),
            15 => Self::TakeAll,
            16 | 17 => Self::Burst(u8::arbitrary(u)?),
            18 => Self::CancelMost(u8::arbitrary(u)?),
            _ => Self::Pop,
        })
    }
}

fn ops(input: &[u8]) -> Option<Vec<Op>> {
    let mut u = Unstructured::new(input);
    let next = || (!u.is_empty()).then(|| Op::arbitrary(&mut u));
    std::iter::from_fn(next)
        .take(MOST_OPS)
        .collect::<Result<_>>()
        .ok()
}

struct Pair {
    start: Instant,
    timers: Timers<usize>,
    ids: Vec<TimerId>,
    /// Deadline and number of those that are there.
    model: Vec<(Option<u8>, usize)>,
    /// The time of the round, and how many timers there had been before it.
    round: (u8, usize, u64),
}

impl Pair {
    fn at(&self, ms: u8) -> Instant {
        self.start + Duration::from_millis(ms.into())
    }

    fn insert(&mut self, deadline: Option<u8>) {
        let number = self.ids.len();
        let time = deadline.map(|ms| self.at(ms));
        self.ids.push(self.timers.insert(time, number));
        self.model.push((deadline, number));
    }

    fn cancel(&mut self, number: usize) {
        let Some(&id) = self.ids.get(number) else {
            return;
        };
        let place = self.model.iter().position(|timer| timer.1 == number);
        let expected = place.map(|place| self.model.swap_remove(place).1);
        assert_eq!(self.timers.cancel(id), expected);
        assert!(!self.timers.is_wasteful(), "memory of a burst is kept");
    }

    /// Answers whether there was one.
    fn pop(&mut self) -> bool {
        let (now, before, started) = self.round;
        let is_due = |timer: &&(Option<u8>, usize)| timer.0.is_some_and(|at| at <= now);
        let due = self
            .model
            .iter()
            .filter(is_due)
            .filter(|timer| timer.1 < before);
        let expected = due.min().map(|timer| timer.1);
        assert_eq!(self.timers.pop_due(self.at(now), started), expected);
        self.model.retain(|timer| Some(timer.1) != expected);
        expected.is_some()
    }

    fn agree(&self) {
        let first = self.model.iter().filter_map(|timer| timer.0).min();
        let first = first.map(|ms| self.at(ms));
        assert_eq!(self.timers.len(), self.model.len());
        assert_eq!(self.timers.next_deadline(), first);
    }
}

fn check(ops: &Vec<Op>) {
    let mut pair = Pair {
        start: Instant::now(),
        timers: Timers::new(),
        ids: Vec::new(),
        model: Vec::new(),
        round: (0, 0, 0),
    };
    for op in ops {
        match *op {
            Op::Insert(deadline) => pair.insert(deadline),
            Op::Cancel(number) => pair.cancel(number.into()),
            Op::Round(now) => pair.round = (now, pair.ids.len(), pair.timers.started()),
            Op::Pop => drop(pair.pop()),
            Op::Burst(count) => {
                for number in 0..count {
                    let deadline = number.wrapping_mul(37);
                    pair.insert((deadline != 0).then_some(deadline));
                }
            }
            Op::CancelMost(step) => {
                for number in 0..pair.ids.len() {
                    if number % (usize::from(step) + 1) != 0 {
                        pair.cancel(number);
                    }
                }
            }
            Op::TakeAll => {
                let mut all = pair.timers.take_all();
                all.sort_unstable();
                let mut expected: Vec<_> = pair.model.drain(..).map(|timer| timer.1).collect();
                expected.sort_unstable();
                assert_eq!(all, expected);
            }
        }
        pair.agree();
    }
    // What has a deadline fires, and the rest can be cancelled.
    pair.round = (u8::MAX, pair.ids.len(), pair.timers.started());
    while pair.pop() {}
    for number in 0..pair.ids.len() {
        pair.cancel(number);
    }
    pair.agree();
    assert_eq!(pair.timers.len(), 0);
}

#[test]
fn whatever_is_set_and_cancelled_timers_fire_as_a_search_for_the_least_says() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/timers");
    tidegate_testkit::fuzz(corpus, ops, check);
}
