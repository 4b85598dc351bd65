//! The datagrams that wait for the kernel, in the order in which they were sent.
//!
//! Pure: it takes datagrams, and tells which of them go in the next system call.

use crate::Address;
use std::collections::VecDeque;

/// The cost of a datagram in memory beside its bytes, as the watermarks count it.
pub(super) const OVERHEAD: usize = 64;

/// The maximum number of bytes of datagrams that one call sends: those of the largest UDP datagram of IPv6,
/// less 20 of its header for IPv4 (udp(7)).
const MAX_RUN: usize = 65_487;

/// Consecutive datagrams to one address, of one length but for the last, which may be shorter. One
/// system call sends them.
#[derive(Debug)]
struct Run {
    to: Option<Address>,
    /// The length of each but the last.
    segment: usize,
    last: usize,
    count: usize,
}

impl Run {
    fn bytes(&self) -> usize {
        self.segment * (self.count - 1) + self.last
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Front<'a> {
    pub(super) to: Option<&'a Address>,
    pub(super) data: &'a [u8],
    /// The length of each but the last.
    pub(super) segment: usize,
    pub(super) count: usize,
}

/// The datagrams that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// The number of bytes at the front that have gone.
    gone: usize,
    runs: VecDeque<Run>,
    count: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

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

    /// Adds a datagram. At most `segments` of them go in one call, and only those of a length below `below`.
    pub(super) fn push(
        &mut self,
        to: Option<&Address>,
        data: &[u8],
        segments: usize,
        below: usize,
    ) {
        self.bytes.extend_from_slice(data);
        self.count += 1;
        if let Some(run) = self.runs.back_mut()
            && run.takes(to, data.len(), segments, below)
        {
            run.count += 1;
            run.last = data.len();
            return;
        }
        self.runs.push_back(Run {
            to: to.cloned(),
            segment: data.len(),
            last: data.len(),
            count: 1,
        });
    }

    /// Returns what the next call sends: of the run at the front at most `segments` datagrams.
    pub(super) fn front(&self, segments: usize) -> Option<Front<'_>> {
        let run = self.runs.front()?;
        let count = run.count.min(segments.max(1));
        let len = if count == run.count {
            run.bytes()
        } else {
            run.segment * count
        };
        Some(Front {
            to: run.to.as_ref(),
            data: &self.bytes[self.gone..self.gone + len],
            segment: if count == 1 { len } else { run.segment },
            count,
        })
    }

    /// Removes datagrams of the run at the front. Returns the number of their bytes.
    pub(super) fn pop(&mut self, count: usize) -> usize {
        let Some(run) = self.runs.front_mut() else {
            return 0;
        };
        let len = if count >= run.count {
            run.bytes()
        } else {
            run.segment * count
        };
        self.count -= count.min(run.count);
        if count >= run.count {
            self.runs.pop_front();
        } else {
            run.count -= count;
            if run.count == 1 {
                run.segment = run.last;
            }
        }
        self.gone += len;
        if self.gone == self.bytes.len() {
            self.bytes.clear();
            self.gone = 0;
        } else if self.gone > self.bytes.len() / 2 {
            // At most as many bytes are moved as have gone.
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        len
    }

    /// Removes all datagrams, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.gone = 0;
        self.runs.clear();
        self.count = 0;
    }

    /// Returns the number of bytes of memory that it has.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes.capacity() + self.runs.capacity() * size_of::<Run>()
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
    fn datagrams(front: Front<'_>) -> Vec<Vec<u8>> {
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
                } else if let Some(front) = queue.front(segments) {
                    let cut = datagrams(front);
                    assert_eq!(cut.len(), front.count, "seed {seed}");
                    assert!(front.count <= segments && front.data.len() <= MAX_RUN);
                    let gone = 1 + below(front.count);
                    let to = front.to.cloned();
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
                assert_eq!(queue.is_empty(), model.is_empty());
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
        while let Some(front) = queue.front(64) {
            let (count, len, segment) = (front.count, front.data.len(), front.segment);
            runs.push((count, len, segment));
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
        assert_eq!(queue.front(64).unwrap().count, MAX_RUN / 1_200);
    }
}
