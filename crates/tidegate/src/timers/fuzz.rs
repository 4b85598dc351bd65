//! Timers beside an unordered list that is searched for the least.

use super::{TimerId, Timers};
use arbitrary::{Arbitrary, Result, Unstructured};
use std::time::{Duration, Instant};

const MOST_OPS: usize = 300;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// At this number of milliseconds, or never.
    Insert(Option<u8>),
    /// The same, of a timer that stays when it has fired.
    InsertRepeating(Option<u8>),
    /// Gives the timer of this number another deadline.
    Reset(u8, Option<u8>),
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
        Ok(match u.int_in_range(0..=23)? {
            0..=4 => Self::Insert(Some(u8::arbitrary(u)?)),
            5 => Self::Insert(None),
            6..=8 => Self::Cancel(u8::arbitrary(u)?),
            9 | 10 => Self::Round(u8::arbitrary(u)?),
            15 => Self::TakeAll,
            16 | 17 => Self::Burst(u8::arbitrary(u)?),
            18 => Self::CancelMost(u8::arbitrary(u)?),
            19 => Self::InsertRepeating(Option::arbitrary(u)?),
            20..=22 => Self::Reset(u8::arbitrary(u)?, Some(u8::arbitrary(u)?)),
            23 => Self::Reset(u8::arbitrary(u)?, None),
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
    model: Vec<Timer>,
    /// The time of the round, and how many starts there had been before it.
    round: (u8, u64),
    /// Insertions and resets.
    starts: u64,
}

/// One that is there.
struct Timer {
    deadline: Option<u8>,
    /// The number of its last start.
    start: u64,
    number: usize,
    repeats: bool,
}

impl Pair {
    fn at(&self, ms: u8) -> Instant {
        self.start + Duration::from_millis(ms.into())
    }

    fn insert(&mut self, deadline: Option<u8>, repeats: bool) {
        let number = self.ids.len();
        let time = deadline.map(|ms| self.at(ms));
        let id = match repeats {
            true => self.timers.insert_repeating(time, number),
            false => self.timers.insert(time, number),
        };
        assert_eq!(id.repeats(), repeats);
        self.ids.push(id);
        self.model.push(Timer {
            deadline,
            start: self.starts,
            number,
            repeats,
        });
        self.starts += 1;
    }

    fn reset(&mut self, number: usize, deadline: Option<u8>) {
        let Some(&id) = self.ids.get(number) else {
            return;
        };
        let time = deadline.map(|ms| self.at(ms));
        let known = self.model.iter_mut().find(|timer| timer.number == number);
        assert_eq!(self.timers.reset(id, time), known.is_some());
        if let Some(timer) = known {
            timer.deadline = deadline;
            timer.start = self.starts;
            self.starts += 1;
        }
    }

    fn cancel(&mut self, number: usize) {
        let Some(&id) = self.ids.get(number) else {
            return;
        };
        let place = self.model.iter().position(|timer| timer.number == number);
        let expected = place.map(|place| self.model.swap_remove(place).number);
        assert_eq!(self.timers.cancel(id), expected);
        assert!(!self.timers.is_wasteful(), "memory of a burst is kept");
    }

    /// Returns whether there was one.
    fn pop(&mut self) -> bool {
        let (now, before) = self.round;
        let is_due =
            |timer: &&mut Timer| timer.start < before && timer.deadline.is_some_and(|at| at <= now);
        let due = self.model.iter_mut().filter(is_due);
        let due = due.min_by_key(|timer| (timer.deadline, timer.start));
        let expected = due.map(|timer| {
            timer.deadline = None;
            (timer.number, timer.repeats)
        });
        let popped = self.timers.pop_due(self.at(now), before);
        assert_eq!(popped, expected.map(|(number, _)| number));
        if let Some((number, false)) = expected {
            self.model.retain(|timer| timer.number != number);
        }
        expected.is_some()
    }

    fn agree(&self) {
        let first = self.model.iter().filter_map(|timer| timer.deadline).min();
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
        round: (0, 0),
        starts: 0,
    };
    for op in ops {
        match *op {
            Op::Insert(deadline) => pair.insert(deadline, false),
            Op::InsertRepeating(deadline) => pair.insert(deadline, true),
            Op::Reset(number, deadline) => pair.reset(number.into(), deadline),
            Op::Cancel(number) => pair.cancel(number.into()),
            Op::Round(now) => pair.round = (now, pair.timers.started()),
            Op::Pop => drop(pair.pop()),
            Op::Burst(count) => {
                for number in 0..count {
                    let deadline = number.wrapping_mul(37);
                    pair.insert((deadline != 0).then_some(deadline), false);
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
                let mut expected: Vec<_> = pair.model.drain(..).map(|timer| timer.number).collect();
                expected.sort_unstable();
                assert_eq!(all, expected);
            }
        }
        pair.agree();
    }
    // Timers with a deadline fire, and the rest can be cancelled.
    pair.round = (u8::MAX, pair.timers.started());
    assert_eq!(pair.starts, pair.timers.started());
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
