//! The order and times of attempts (RFC 8305, Happy Eyeballs): pure, so the race is tested in a time of
//! its own.
//!
//! The families alternate, beginning with that of the first address (section 4). An attempt that has not
//! ended after the delay is joined by the next one, and one that fails is replaced at once (section 5).
//! The first that connects wins; the caller ends the rest.

use crate::Address;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Between the starts of two attempts, unless set otherwise (RFC 8305, section 8).
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A race between addresses.
#[derive(Debug)]
pub(crate) struct Race {
    waiting: VecDeque<Address>,
    delay: Duration,
    running: usize,
    next: Next,
}

/// When the next attempt joins those that are running.
#[derive(Debug, Clone, Copy)]
enum Next {
    AtOnce,
    At(Instant),
    /// The delay is beyond the range of the clock.
    AfterFailure,
}

/// The next move of a race.
#[derive(Debug)]
pub(crate) enum Move {
    /// Begin to connect there.
    Start(Address),
    /// Ask again then, or when an attempt has ended.
    WaitUntil(Instant),
    /// Ask again when an attempt has ended.
    Wait,
    /// Every attempt has failed.
    Lost,
}

impl Race {
    pub(crate) fn new(addresses: Vec<Address>, delay: Duration) -> Self {
        Self {
            waiting: interleave(addresses),
            delay,
            running: 0,
            next: Next::AtOnce,
        }
    }

    /// Returns the next move; called until that is to wait. Reads the clock when there is another address to
    /// try.
    pub(crate) fn next(&mut self, clock: impl Fn() -> Instant) -> Move {
        if self.waiting.is_empty() && self.running == 0 {
            return Move::Lost;
        }
        match self.next {
            _ if self.waiting.is_empty() => Move::Wait,
            Next::At(start) if clock() < start => Move::WaitUntil(start),
            Next::AfterFailure => Move::Wait,
            Next::At(_) | Next::AtOnce => self.start(clock),
        }
    }

    fn start(&mut self, clock: impl Fn() -> Instant) -> Move {
        let Some(address) = self.waiting.pop_front() else {
            return Move::Wait;
        };
        self.running += 1;
        if !self.waiting.is_empty() {
            self.next = match clock().checked_add(self.delay) {
                Some(start) => Next::At(start),
                None => Next::AfterFailure,
            };
        }
        Move::Start(address)
    }

    /// An attempt has failed.
    pub(crate) fn failed(&mut self) {
        self.running -= 1;
        self.next = Next::AtOnce;
    }
}

fn interleave(addresses: Vec<Address>) -> VecDeque<Address> {
    let is_ipv6 = |address: &Address| address.as_inet().is_some_and(|addr| addr.is_ipv6());
    let ipv6_first = addresses.first().is_some_and(is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| is_ipv6(address) == ipv6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = VecDeque::new();
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return order;
        }
        order.extend(one);
        order.extend(other);
    }
}

#[cfg(all(test, not(loom)))]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn addresses(names: &str) -> Vec<Address> {
        names.split_whitespace().map(address).collect()
    }

    /// `4a`, `6b`: the family, and a letter for the host.
    fn address(name: &str) -> Address {
        let host = name.as_bytes()[1] - b'a' + 1;
        let text = match &name[..1] {
            "4" => format!("127.0.0.{host}:1"),
            _ => format!("[::{host}]:1"),
        };
        Address::Inet(text.parse().unwrap())
    }

    fn name(address: Address) -> String {
        let letter = |host: u8| char::from(b'a' + host - 1);
        match address.as_inet().unwrap() {
            SocketAddr::V4(v4) => format!("4{}", letter(v4.ip().octets()[3])),
            SocketAddr::V6(v6) => format!("6{}", letter(v6.ip().octets()[15])),
        }
    }

    #[test]
    fn the_families_take_turns_beginning_with_that_of_the_first_address() {
        for (given, expected) in [
            ("", ""),
            ("4a", "4a"),
            ("6a 6b 4a 4b", "6a 4a 6b 4b"),
            ("4a 4b 4c 6a", "4a 6a 4b 4c"),
            ("6a 6b 6c", "6a 6b 6c"),
            ("4a 6a 6b 6c 4b", "4a 6a 4b 6b 6c"),
        ] {
            let order: Vec<_> = interleave(addresses(given)).into_iter().map(name).collect();
            assert_eq!(order.join(" "), expected, "{given}");
        }
    }

    /// How an attempt ends, and how many milliseconds after its start.
    #[derive(Clone, Copy)]
    enum Fate {
        Connects(u64),
        Fails(u64),
        Hangs,
    }
    use Fate::{Connects, Fails, Hangs};

    /// Runs a race in a time of its own, until it is decided or a minute is over; returns the events with
    /// their times, in milliseconds.
    fn run(names: &str, delay: u64, fate: impl Fn(&str) -> Fate) -> String {
        let begin = Instant::now();
        let mut now = begin;
        let delay = match delay {
            u64::MAX => Duration::MAX,
            delay => Duration::from_millis(delay),
        };
        let mut race = Race::new(addresses(names), delay);
        let mut running: Vec<(Option<Instant>, String)> = Vec::new();
        let mut story = Vec::new();
        let mut tell = |now: Instant, what: String| {
            story.push(format!("{} {what}", (now - begin).as_millis()));
        };
        'race: loop {
            let until = loop {
                match race.next(|| now) {
                    Move::Start(address) => {
                        let name = name(address);
                        tell(now, name.clone());
                        let end = match fate(&name) {
                            Connects(after) | Fails(after) => {
                                Some(now + Duration::from_millis(after))
                            }
                            Hangs => None,
                        };
                        running.push((end, name));
                    }
                    Move::WaitUntil(time) => break Some(time),
                    Move::Wait => break None,
                    Move::Lost => {
                        tell(now, "lost".into());
                        break 'race;
                    }
                }
            };
            // The next thing to happen: an attempt's end, before a start at the same time.
            let ending = running
                .iter()
                .enumerate()
                .filter_map(|(index, (end, _))| Some(((*end)?, index)))
                .min();
            match (ending, until) {
                (Some((end, index)), until) if until.is_none_or(|until| end <= until) => {
                    now = end;
                    let (_, name) = running.remove(index);
                    match fate(&name) {
                        Connects(_) => {
                            tell(now, format!("{name} wins"));
                            break;
                        }
                        _ => race.failed(),
                    }
                }
                (_, Some(until)) => now = until,
                _ => {
                    tell(now, "hangs".into());
                    break;
                }
            }
        }
        story.join(", ")
    }

    #[test]
    fn the_course_of_a_race_is_this_table() {
        type Fates = fn(&str) -> Fate;
        let table: [(&str, u64, Fates, &str); 13] = [
            ("4a", 250, |_| Connects(10), "0 4a, 10 4a wins"),
            ("4a", 250, |_| Fails(10), "0 4a, 10 lost"),
            ("4a", 250, |_| Hangs, "0 4a, 0 hangs"),
            ("6a 4a", 250, |_| Connects(249), "0 6a, 249 6a wins"),
            // The first would have come a moment later.
            (
                "6a 4a",
                250,
                |name| if name == "6a" { Hangs } else { Connects(20) },
                "0 6a, 250 4a, 270 4a wins",
            ),
            // The first is slow, and still the faster one.
            (
                "6a 4a",
                250,
                |name| {
                    if name == "6a" {
                        Connects(300)
                    } else {
                        Connects(90)
                    }
                },
                "0 6a, 250 4a, 300 6a wins",
            ),
            // A failed attempt is replaced at once.
            (
                "6a 4a 4b",
                250,
                |name| if name == "4b" { Connects(5) } else { Fails(3) },
                "0 6a, 3 4a, 6 4b, 11 4b wins",
            ),
            // ... and the delay counts from its replacement.
            (
                "6a 6b 6c",
                250,
                |name| if name == "6a" { Fails(100) } else { Hangs },
                "0 6a, 100 6b, 350 6c, 350 hangs",
            ),
            // One fails while another still runs: the next one joins at once.
            (
                "6a 6b 6c",
                250,
                |name| match name {
                    "6a" => Hangs,
                    "6b" => Fails(50),
                    _ => Connects(10),
                },
                "0 6a, 250 6b, 300 6c, 310 6c wins",
            ),
            // All have failed only when the last one has.
            (
                "6a 4a",
                250,
                |name| if name == "6a" { Fails(400) } else { Fails(10) },
                "0 6a, 250 4a, 400 lost",
            ),
            ("6a 4a", 0, |_| Connects(1), "0 6a, 0 4a, 1 6a wins"),
            (
                "6a 4a",
                u64::MAX,
                |name| if name == "6a" { Fails(9) } else { Connects(1) },
                "0 6a, 9 4a, 10 4a wins",
            ),
            ("6a 4a", u64::MAX, |_| Hangs, "0 6a, 0 hangs"),
        ];
        for (names, delay, fates, expected) in table {
            assert_eq!(run(names, delay, fates), expected, "{names}, {delay} ms");
        }
    }

    #[test]
    fn a_race_without_addresses_is_lost() {
        assert_eq!(run("", 250, |_| Hangs), "0 lost");
    }
}
