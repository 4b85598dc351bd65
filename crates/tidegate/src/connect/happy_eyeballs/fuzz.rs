//! Races beside the rules of RFC 8305, said of the starts so far.

use super::{Move, Race};
use crate::Address;
use arbitrary::{Arbitrary, Result, Unstructured};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

const MOST_ADDRESSES: usize = 12;
const MOST_STEPS: usize = 200;

#[derive(Debug)]
struct Case {
    /// Whether each is of IPv6.
    addresses: Vec<bool>,
    delay: Duration,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// Asks until it is told to wait.
    Ask,
    /// Asks once.
    AskOnce,
    /// A number of milliseconds goes by.
    Advance(u16),
    /// To the time that it was told to wait for.
    AdvanceToNext,
    /// The attempt fails that has this place among those that run.
    Fail(u8),
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=7)? {
            0 | 1 => Self::Ask,
            2 => Self::AskOnce,
            3 => Self::Advance(u16::arbitrary(u)?),
            4 => Self::Advance(u8::arbitrary(u)?.into()),
            5 => Self::AdvanceToNext,
            _ => Self::Fail(u8::arbitrary(u)?),
        })
    }
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let count = u.int_in_range(0..=MOST_ADDRESSES)?;
        let families = u16::arbitrary(u)?;
        let delay = match u.int_in_range(0..=3)? {
            0 => Duration::ZERO,
            1 => Duration::MAX,
            _ => Duration::from_millis(u8::arbitrary(u)?.into()),
        };
        let next = || (!u.is_empty()).then(|| Step::arbitrary(u));
        let steps = std::iter::from_fn(next).take(MOST_STEPS);
        Ok(Self {
            addresses: (0..count).map(|bit| families & (1 << bit) != 0).collect(),
            delay,
            steps: steps.collect::<Result<_>>()?,
        })
    }
}

/// The address of this place in the list.
fn address(place: usize, ipv6: bool) -> Address {
    let ip: IpAddr = match ipv6 {
        true => Ipv6Addr::LOCALHOST.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    };
    Address::Inet((ip, place as u16 + 1).into())
}

fn place(address: &Address) -> usize {
    usize::from(address.as_inet().unwrap().port()) - 1
}

struct Watch<'a> {
    case: &'a Case,
    race: Race,
    begin: Instant,
    now: Instant,
    started: Vec<usize>,
    running: Vec<usize>,
    last_start: Option<Instant>,
    failed_since: bool,
}

impl Watch<'_> {
    fn ipv6(&self, place: usize) -> bool {
        self.case.addresses[place]
    }

    /// The one whose turn it is: the other family's than that of the last start, if it has one
    /// left, and of a family the first in the list.
    fn turn(&self) -> Option<usize> {
        let left: Vec<_> = (0..self.case.addresses.len())
            .filter(|place| !self.started.contains(place))
            .collect();
        let last = self.started.last();
        let other = left
            .iter()
            .find(|&&place| last.is_none_or(|&last| self.ipv6(last) != self.ipv6(place)));
        other.or(left.first()).copied()
    }

    /// When the next may start; `None` is not before one fails.
    fn due(&self) -> Option<Instant> {
        match self.last_start {
            _ if self.failed_since => Some(self.now),
            None => Some(self.now),
            Some(last) => last.checked_add(self.case.delay),
        }
    }

    /// Asks until a wait; returns the time to wait for, or the move that ends the asking.
    fn ask(&mut self) -> Answer {
        let (turn, due) = (self.turn(), self.due());
        let answer = self.race.next(|| self.now);
        match (answer, turn) {
            (Move::Start(address), Some(turn)) => {
                assert_eq!(place(&address), turn, "after {:?}", self.started);
                assert_eq!(address, super::fuzz::address(turn, self.ipv6(turn)));
                assert!(due.is_some_and(|due| due <= self.now), "too early");
                self.started.push(turn);
                self.running.push(turn);
                self.last_start = Some(self.now);
                self.failed_since = false;
                Answer::Started
            }
            (Move::WaitUntil(time), Some(_)) => {
                assert!(time > self.now, "nothing to wait for");
                assert_eq!(Some(time), due);
                Answer::Wait(Some(time))
            }
            (Move::Wait, Some(_)) => {
                assert_eq!(due, None);
                Answer::Wait(None)
            }
            (Move::Wait, None) => {
                assert!(!self.running.is_empty());
                Answer::Wait(None)
            }
            (Move::Lost, None) => {
                assert_eq!(self.running, []);
                Answer::Lost
            }
            (answer, turn) => panic!("{answer:?} when it is the turn of {turn:?}"),
        }
    }

    fn ask_until_it_waits(&mut self) -> Answer {
        for _ in 0..=MOST_ADDRESSES {
            match self.ask() {
                Answer::Started => {}
                answer => return answer,
            }
        }
        panic!("starts without end: {:?}", self.started);
    }

    fn fail(&mut self, place: usize) {
        if !self.running.is_empty() {
            self.running.remove(place % self.running.len());
            self.race.failed();
            self.failed_since = true;
        }
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Started,
    Wait(Option<Instant>),
    Lost,
}

fn check(case: &Case) {
    let addresses = case.addresses.iter().enumerate();
    let addresses = addresses
        .map(|(place, &ipv6)| address(place, ipv6))
        .collect();
    let begin = Instant::now();
    let mut watch = Watch {
        case,
        race: Race::new(addresses, case.delay),
        begin,
        now: begin,
        started: Vec::new(),
        running: Vec::new(),
        last_start: None,
        failed_since: false,
    };
    let mut until = None;
    for step in &case.steps {
        let answer = match step {
            Step::Ask => watch.ask_until_it_waits(),
            Step::AskOnce => watch.ask(),
            Step::Advance(ms) => {
                watch.now += Duration::from_millis((*ms).into());
                continue;
            }
            Step::AdvanceToNext => {
                watch.now = watch.now.max(until.unwrap_or(watch.now));
                continue;
            }
            Step::Fail(place) => {
                watch.fail((*place).into());
                continue;
            }
        };
        if let Answer::Wait(time) = answer {
            until = time;
        }
    }
    // When all fail one after the other, each was tried once, and the race ends at once.
    let steps_ended = watch.now;
    while watch.ask_until_it_waits() != Answer::Lost {
        watch.fail(0);
    }
    assert_eq!(watch.now, steps_ended);
    assert!(watch.now >= watch.begin);
    watch.started.sort_unstable();
    assert_eq!(watch.started, Vec::from_iter(0..case.addresses.len()));
    assert_eq!(watch.ask(), Answer::Lost);
}

#[test]
fn whatever_fails_and_when_each_address_has_its_turn_at_its_time_and_the_race_ends() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/happy_eyeballs");
    tidegate_testkit::fuzz(
        corpus,
        |input| Case::arbitrary(&mut Unstructured::new(input)).ok(),
        check,
    );
}
