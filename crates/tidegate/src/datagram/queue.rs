//! The datagrams that wait for the kernel, in the order in which they were sent.
//!
//! Pure: it takes datagrams, and tells which of them go in the next system call.

use crate::Address;
use crate::driver::Transmit;
use std::collections::VecDeque;

/// The cost of a datagram in memory beside its bytes, as the watermarks count it.
pub(super) const OVERHEAD: usize = 64;

/// The maximum number of bytes of datagrams that one call sends: those of the largest UDP datagram of IPv6,
/// less 20 of its header for IPv4 (udp(7)).
const MAX_RUN: usize = 65_487;

/// Consecutive datagrams to one address, of one length but for the last, which may be shorter. One
/// system call sends them.
#[derive(Debug, Default)]
struct Run {
    to: Option<Address>,
    /// The length of each but the last.
    segment: usize,
    last: usize,
    count: usize,
}

impl Run {
    #[inline(always)]
    fn of(to: Option<&Address>, len: usize) -> Self {
        Self {
            to: match to {
                // As a rule: costs less than a clone that looks for what it is.
                Some(Address::Inet(to)) => Some(Address::Inet(*to)),
                to => to.cloned(),
            },
            segment: len,
            last: len,
            count: 1,
        }
    }

    fn bytes(&self) -> usize {
        self.segment * self.count.saturating_sub(1) + self.last
    }

    /// Returns the number of the first datagrams, at most `most`, their bytes, and the length of each but the
    /// last.
    fn part(&self, most: usize) -> (usize, usize, usize) {
        match most.max(1) {
            1 => (1, self.segment, self.segment),
            most if most < self.count => (most, self.segment * most, self.segment),
            _ => (self.count, self.bytes(), self.segment),
        }
    }

    /// Whether a datagram may be the next of this run.
    fn takes(&self, to: Option<&Address>, len: usize, most: usize, below: usize) -> bool {
        self.count < most
            && self.segment < below
            && self.last == self.segment
            && len <= self.segment
            && len > 0
            && self.bytes() + len <= MAX_RUN
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
        if self.count == 0 {
            return self.push_first(to, data);
        }
        self.bytes.extend_from_slice(data);
        self.count += 1;
        let last = self.behind.back_mut().unwrap_or(&mut self.first);
        if last.takes(to, data.len(), segments, below) {
            last.count += 1;
            last.last = data.len();
        } else {
            self.behind.push_back(Run::of(to, data.len()));
        }
        self.cost()
    }

    /// As [`push`](Self::push), to an empty queue.
    #[inline(always)]
    pub(super) fn push_first(&mut self, to: Option<&Address>, data: &[u8]) -> usize {
        self.bytes.extend_from_slice(data);
        self.count = 1;
        self.first = Run::of(to, data.len());
        data.len() + OVERHEAD
    }

    /// Returns what the next call sends: of the run at the front at most `at_once` datagrams.
    #[inline(always)]
    pub(super) fn front(&self, at_once: impl FnOnce() -> usize) -> Front<'_> {
        let run = &self.first;
        let (count, len, segment) = if run.count == 1 {
            (1, run.last, run.last)
        } else {
            run.part(at_once())
        };
        Front {
            transmit: Transmit {
                to: run.to.as_ref(),
                data: &self.bytes[self.gone..self.gone + len],
                segment,
            },
            count,
        }
    }

    /// Removes datagrams of the run at the front. Returns the number of their bytes.
    pub(super) fn pop(&mut self, count: usize) -> usize {
        let run = &mut self.first;
        let gone = count.min(run.count);
        let len = if gone == run.count {
            run.bytes()
        } else {
            run.segment * gone
        };
        self.count -= gone;
        run.count -= gone;
        match run.count {
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
        self.first.count = 0;
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
            let mut model: VecDeque<(u16, Vec<u8>)> = VecDeque::new();
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
                    queue.push(Some(&address(to)), &data, segments, usize::MAX);
                    model.push_back((to, data));
                } else if queue.len() > 0 {
                    let front = queue.front(|| segments);
                    let Transmit { to, data, .. } = front.transmit;
                    let cut = datagrams(front.transmit);
                    assert_eq!(cut.len(), front.count, "seed {seed}");
                    assert!(front.count <= segments && data.len() <= MAX_RUN);
                    let gone = 1 + below(front.count);
                    let to = to.cloned();
                    for datagram in cut.into_iter().take(gone) {
                        let (port, expected) = model.pop_front().expect("one was pushed");
                        assert_eq!((Some(address(port)), expected), (to.clone(), datagram));
                    }
                    queue.pop(gone);
                }
                let bytes: usize = model.iter().map(|(_, data)| data.len()).sum();
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
    fn a_run_has_one_address_and_one_length_and_ends_with_a_shorter_datagram() {
        let mut queue = Queue::default();
        let to = address(1);
        for len in [10, 10, 4, 10, 0, 10, 11] {
            queue.push(Some(&to), &vec![0; len], 64, usize::MAX);
        }
        queue.push(Some(&address(2)), &[0; 11], 64, usize::MAX);
        let mut runs = Vec::new();
        while queue.len() > 0 {
            let Front { transmit, count } = queue.front(|| 64);
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
