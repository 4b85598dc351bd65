//! The datagrams that wait for the kernel, in the order in which they were sent.
//!
//! Pure: it takes datagrams, and tells which of them go in the next system call.

use crate::driver::Transmit;
use crate::{Address, Departure};
use std::collections::VecDeque;

/// The cost of a datagram in memory beside its bytes, as the watermarks count it.
pub(super) const OVERHEAD: usize = 64;

/// The maximum number of bytes of datagrams that one call sends: those of the largest UDP datagram of IPv6,
/// less 20 of its header for IPv4 (udp(7)).
const MAX_RUN: usize = 65_487;

/// Set in [`Run::tally`] for datagrams that leave in a way of their own.
const MARKED: usize = 1 << (usize::BITS - 1);

/// Consecutive datagrams to one address, of one length but for the last, which may be shorter. One
/// system call sends them.
#[derive(Debug, Default)]
struct Run {
    to: Option<Address>,
    /// The length of each but the last.
    segment: usize,
    last: usize,
    /// Their number, and [`MARKED`]: one comparison tells whether it is one datagram that leaves as all others do.
    tally: usize,
    /// How they leave; of an earlier run without [`MARKED`].
    departure: Departure,
}

impl Run {
    /// Begins with a datagram of `len` bytes.
    #[inline(always)]
    fn begin(&mut self, to: Option<&Address>, len: usize) {
        self.to = match to {
            // As a rule: costs less than a clone that looks for what it is.
            Some(Address::Inet(to)) => Some(Address::Inet(*to)),
            to => to.cloned(),
        };
        self.segment = len;
        self.last = len;
        self.tally = 1;
    }

    fn of(to: Option<&Address>, len: usize, departure: Option<&Departure>) -> Self {
        let mut run = Self::default();
        run.begin(to, len);
        run.mark(departure);
        run
    }

    /// Sets how its datagrams leave, if not as all others do.
    fn mark(&mut self, departure: Option<&Departure>) {
        if let Some(departure) = departure {
            self.departure = *departure;
            self.tally |= MARKED;
        }
    }

    fn count(&self) -> usize {
        self.tally & !MARKED
    }

    fn departure(&self) -> Option<&Departure> {
        (self.tally & MARKED != 0).then_some(&self.departure)
    }

    fn bytes(&self) -> usize {
        self.segment * self.count().saturating_sub(1) + self.last
    }

    /// Returns the number of the first datagrams, at most `most`, their bytes, and the length of each but the
    /// last.
    fn part(&self, most: usize) -> (usize, usize, usize) {
        match most.max(1) {
            1 => (1, self.segment, self.segment),
            most if most < self.count() => (most, self.segment * most, self.segment),
            _ => (self.count(), self.bytes(), self.segment),
        }
    }

    /// Whether a datagram of `len` bytes may be the next of this run, which has at most `most`.
    #[inline(always)]
    fn takes(
        &self,
        to: Option<&Address>,
        departure: Option<&Departure>,
        len: usize,
        most: usize,
        below: usize,
    ) -> bool {
        let count = match departure {
            // Of a marked run it is more than any maximum.
            None => self.tally,
            Some(_) if self.departure() != departure => return false,
            Some(_) => self.count(),
        };
        count < most
            && self.segment < below
            && self.last == self.segment
            && len <= self.segment
            && len > 0
            && self.segment * count.saturating_sub(1) + self.last + len <= MAX_RUN
            && self.to.as_ref() == to
    }
}

/// The datagrams at the front of the queue that one call sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front<'a> {
    pub(super) transmit: Transmit<'a>,
    pub(super) count: usize,
}

/// The datagrams that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// The number of bytes at the front that have gone.
    gone: usize,
    /// The run at the front; of no datagrams when the queue is empty.
    first: Run,
    behind: VecDeque<Run>,
    count: usize,
}

impl Queue {
    /// Returns the number of datagrams.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the number of their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() - self.gone
    }

    /// Returns the number that is compared with watermarks and the cap.
    pub(super) fn cost(&self) -> usize {
        self.bytes() + self.count * OVERHEAD
    }

    /// Adds a datagram, and returns the new [`cost`](Self::cost). At most `segments` of them go in one call,
    /// and to its address only those of a length below `below`.
    pub(super) fn push(
        &mut self,
        to: Option<&Address>,
        data: &[u8],
        segments: usize,
        below: usize,
    ) -> usize {
        self.push_departing(to, None, data, segments, below)
    }

    /// As [`push`](Self::push), of a datagram that leaves in a way of its own, if `departure` has one.
    #[inline(always)]
    pub(super) fn push_departing(
        &mut self,
        to: Option<&Address>,
        departure: Option<&Departure>,
        data: &[u8],
        segments: usize,
        below: usize,
    ) -> usize {
        if self.count == 0 {
            let cost = self.push_first(to, data);
            self.first.mark(departure);
            return cost;
        }
        self.bytes.extend_from_slice(data);
        self.count += 1;
        let last = self.behind.back_mut().unwrap_or(&mut self.first);
        if last.takes(to, departure, data.len(), segments, below) {
            last.tally += 1;
            last.last = data.len();
        } else {
            let run = Run::of(to, data.len(), departure);
            self.behind.push_back(run);
        }
        self.cost()
    }

    /// As [`push`](Self::push), to an empty queue, of a datagram that leaves as all others do.
    #[inline(always)]
    pub(super) fn push_first(&mut self, to: Option<&Address>, data: &[u8]) -> usize {
        self.bytes.extend_from_slice(data);
        self.count = 1;
        self.first.begin(to, data.len());
        data.len() + OVERHEAD
    }

    /// Returns the datagram at the front, if it is a run of its own that leaves as all others do: the usual one.
    #[inline(always)]
    pub(super) fn lone(&self) -> Option<(Option<&Address>, &[u8])> {
        let Self { first, gone, .. } = self;
        let data = || &self.bytes[*gone..gone + first.last];
        (first.tally == 1).then(|| (first.to.as_ref(), data()))
    }

    /// Returns what the next call sends: of the run at the front at most `at_once` datagrams.
    pub(super) fn front(&self, at_once: impl FnOnce() -> usize) -> Front<'_> {
        let run = &self.first;
        let (count, len, segment) = run.part(at_once());
        Front {
            transmit: Transmit {
                to: run.to.as_ref(),
                data: &self.bytes[self.gone..self.gone + len],
                segment,
                departure: run.departure(),
            },
            count,
        }
    }

    /// Removes datagrams of the run at the front. Returns the number of their bytes.
    pub(super) fn pop(&mut self, count: usize) -> usize {
        let run = &mut self.first;
        let gone = count.min(run.count());
        let len = if gone == run.count() {
            run.bytes()
        } else {
            run.segment * gone
        };
        self.count -= gone;
        run.tally -= gone;
        match run.count() {
            0 => self.first = self.behind.pop_front().unwrap_or_default(),
            1 => run.segment = run.last,
            _ => {}
        }
        self.gone += len;
        if self.gone > self.bytes.len() / 2 {
            // At most as many bytes are moved as have gone.
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        len
    }

    /// Removes all datagrams, and keeps the memory.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.gone = 0;
        self.first.to = None;
        self.first.tally = 0;
        if !self.behind.is_empty() {
            self.behind.clear();
        }
        self.count = 0;
    }

    /// Returns the number of bytes of memory that it has.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes.capacity() + self.behind.capacity() * size_of::<Run>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Ecn;
    use std::net::SocketAddr;

    fn address(port: u16) -> Address {
        Address::Inet(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Takes a front apart as the kernel does.
    fn datagrams(front: Transmit<'_>) -> Vec<Vec<u8>> {
        if front.data.is_empty() {
            return vec![Vec::new()];
        }
        let cut = front.data.chunks(front.segment);
        cut.map(<[u8]>::to_vec).collect()
    }

    /// Against a plain list: datagrams of any length, to few addresses, that go in runs or in parts of
    /// runs, in any order.
    #[test]
    fn what_goes_in_comes_out_in_order_and_in_its_own_lengths() {
        for seed in 1..2_000 {
            let mut state: u64 = seed;
            // Xorshift.
            let mut below = |limit: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % limit as u64) as usize
            };
            let mut queue = Queue::default();
            let mut model: VecDeque<(u16, Option<Departure>, Vec<u8>)> = VecDeque::new();
            let marked = Departure::new().ecn(Ecn::Capable0);
            let segments = 1 + below(64);
            for step in 0..200 {
                if below(3) > 0 {
                    let to = below(2) as u16;
                    let len = match below(4) {
                        0 => 0,
                        1 => below(2_000),
                        _ => 100,
                    };
                    let data = vec![step as u8; len];
                    let departure = (below(4) == 0).then_some(&marked);
                    let at = address(to);
                    queue.push_departing(Some(&at), departure, &data, segments, usize::MAX);
                    model.push_back((to, departure.copied(), data));
                } else if queue.len() > 0 {
                    let front = queue.front(|| segments);
                    let Transmit {
                        to,
                        data,
                        departure,
                        ..
                    } = front.transmit;
                    let departure = departure.copied();
                    let cut = datagrams(front.transmit);
                    assert_eq!(cut.len(), front.count, "seed {seed}");
                    assert!(front.count <= segments && data.len() <= MAX_RUN);
                    if let Some((to, data)) = queue.lone() {
                        let transmit = front.transmit;
                        assert_eq!((transmit.to, transmit.data), (to, data), "seed {seed}");
                        assert!(transmit.is_plain() && front.count == 1, "seed {seed}");
                    }
                    let gone = 1 + below(front.count);
                    let to = to.cloned();
                    for datagram in cut.into_iter().take(gone) {
                        let (port, how, expected) = model.pop_front().expect("one was pushed");
                        assert_eq!((Some(address(port)), expected), (to.clone(), datagram));
                        assert_eq!(how, departure, "seed {seed}");
                    }
                    queue.pop(gone);
                }
                let bytes: usize = model.iter().map(|(_, _, data)| data.len()).sum();
                assert_eq!(
                    (queue.len(), queue.bytes()),
                    (model.len(), bytes),
                    "seed {seed}"
                );
                assert_eq!(queue.cost(), bytes + model.len() * OVERHEAD);
            }
        }
    }

    #[test]
    fn a_run_has_one_address_one_length_and_one_mark_and_ends_with_a_shorter_datagram() {
        let mut queue = Queue::default();
        let to = address(1);
        for len in [10, 10, 4, 10, 0, 10, 11] {
            queue.push(Some(&to), &vec![0; len], 64, usize::MAX);
        }
        queue.push(Some(&address(2)), &[0; 11], 64, usize::MAX);
        let marked = Departure::new().ecn(Ecn::Capable1);
        for departure in [None, Some(&marked), Some(&marked), None] {
            queue.push_departing(Some(&to), departure, &[0; 11], 64, usize::MAX);
        }
        let mut runs = Vec::new();
        while queue.len() > 0 {
            let Front {
                transmit, count, ..
            } = queue.front(|| 64);
            runs.push((count, transmit.data.len(), transmit.segment));
            queue.pop(count);
        }
        let expected = [
            (3, 24, 10),
            (1, 10, 10),
            (1, 0, 0),
            (1, 10, 10),
            (1, 11, 11),
            (1, 11, 11),
            // Of one mark.
            (1, 11, 11),
            (2, 22, 11),
            (1, 11, 11),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_run_fits_into_one_datagram_of_the_network() {
        let mut queue = Queue::default();
        for _ in 0..100 {
            queue.push(None, &[0; 1_200], 64, usize::MAX);
        }
        assert_eq!(queue.front(|| 64).count, MAX_RUN / 1_200);
    }
}
