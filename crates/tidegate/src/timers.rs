//! Timers by deadline; those of the same deadline in the order in which they were started.
//!
//! Pure: it is told the time. A heap of four children per node over a slab whose entries know
//! their place in the heap: insert, reset, cancel and expire each cost O(log n) moves, inserting a
//! deadline later than most and cancelling it again O(1). A cancelled timer is gone at once, and
//! when most of them are gone, so is their memory.

use crate::memory::{Moved, is_sparse};
use slab::Slab;
use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

const CHILDREN: usize = 4;
/// The place of a timer that is not in the heap, because it has no deadline.
const NOWHERE: usize = usize::MAX;
/// The place of a timer that is too new for this round.
const ASIDE: usize = usize::MAX - 1;

/// Names a timer; never again names another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    stamp: u64,
    /// The slot in which the timer began.
    slot: usize,
}

#[derive(Debug)]
struct Entry<T> {
    stamp: u64,
    place: usize,
    value: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    deadline: Instant,
    /// Grows with each start.
    order: u64,
    slot: usize,
}

#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: Vec<Node>,
    entries: Slab<Entry<T>>,
    moved: Moved<u64>,
    started: u64,
    /// Due, but too new for the round in which they were met: out of the heap, where they would
    /// keep older ones from their turn. By their stamps; empty between rounds.
    aside: BTreeMap<u64, Node>,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: Vec::new(),
            entries: Slab::new(),
            moved: Moved::default(),
            started: 0,
            aside: BTreeMap::new(),
        }
    }

    /// `None` is a deadline that never comes: kept until it is cancelled.
    pub(crate) fn insert(&mut self, deadline: Option<Instant>, value: T) -> TimerId {
        let stamp = self.next_order();
        let slot = self.entries.insert(Entry {
            stamp,
            place: NOWHERE,
            value,
        });
        if let Some(deadline) = deadline {
            let node = Node {
                deadline,
                order: stamp,
                slot,
            };
            self.push(node);
        }
        TimerId { stamp, slot }
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        let slot = self.find(id)?;
        self.unschedule(slot);
        Some(self.remove(slot))
    }

    /// Where the timer of this id is, if it is still there.
    #[inline]
    fn find(&self, id: TimerId) -> Option<usize> {
        match self.entries.get(id.slot) {
            Some(entry) if entry.stamp == id.stamp => Some(id.slot),
            _ => self.moved.find(&id.stamp),
        }
    }

    /// Leaves a timer without a deadline.
    fn unschedule(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        match mem::replace(&mut entry.place, NOWHERE) {
            NOWHERE => {}
            ASIDE => {
                self.aside.remove(&entry.stamp);
            }
            place => self.remove_at(place),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = self.heap.first().into_iter().chain(self.aside.values());
        first.map(|node| node.deadline).min()
    }

    /// What the next timer to be started will be after: a bound for [`Timers::pop_due`].
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    fn next_order(&mut self) -> u64 {
        let order = self.started;
        self.started += 1;
        order
    }

    /// The next timer that is due at `now` and was started before `started`. A round of calls
    /// with the same bound ends with the first `None`.
    pub(crate) fn pop_due(&mut self, now: Instant, started: u64) -> Option<T> {
        let mut aside = self.aside.values();
        if aside.next().is_some_and(|node| node.order < started) {
            self.end_round();
        }
        while let Some(&first) = self.heap.first()
            && first.deadline <= now
        {
            self.remove_at(0);
            if first.order < started {
                return Some(self.remove(first.slot));
            }
            let entry = &mut self.entries[first.slot];
            entry.place = ASIDE;
            self.aside.insert(entry.stamp, first);
        }
        self.end_round();
        None
    }

    fn end_round(&mut self) {
        while let Some((_, node)) = self.aside.pop_first() {
            self.push(node);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them, for the end of the loop.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.heap = Vec::new();
        self.aside.clear();
        self.moved = Moved::default();
        let entries = mem::take(&mut self.entries);
        entries.into_iter().map(|(_, entry)| entry.value).collect()
    }

    /// Removes a timer that is not in the heap.
    fn remove(&mut self, slot: usize) -> T {
        let entry = self.entries.remove(slot);
        self.moved.forget(&entry.stamp);
        if is_sparse(self.entries.len(), self.entries.capacity()) {
            self.shrink();
        }
        entry.value
    }

    /// Gives back the memory of those that are gone. Timers that move keep their ids.
    #[cold]
    fn shrink(&mut self) {
        self.heap.shrink_to(2 * self.heap.len());
        self.entries.compact(|entry, _, slot| {
            match entry.place {
                NOWHERE => {}
                ASIDE => {
                    if let Some(node) = self.aside.get_mut(&entry.stamp) {
                        node.slot = slot;
                    }
                }
                place => self.heap[place].slot = slot,
            }
            self.moved.note(entry.stamp, slot);
            true
        });
    }

    fn push(&mut self, node: Node) {
        self.heap.push(node);
        self.sift_up(self.heap.len() - 1, node);
    }

    fn remove_at(&mut self, place: usize) {
        let Some(last) = self.heap.pop() else { return };
        if place == self.heap.len() {
            return;
        }
        if place > 0 && last < self.heap[(place - 1) / CHILDREN] {
            self.sift_up(place, last);
        } else {
            self.sift_down(place, last);
        }
    }

    fn put(&mut self, place: usize, node: Node) {
        self.heap[place] = node;
        self.entries[node.slot].place = place;
    }

    fn sift_up(&mut self, mut place: usize, node: Node) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if self.heap[parent] <= node {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, node);
    }

    fn sift_down(&mut self, mut place: usize, node: Node) {
        loop {
            let first = place * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child]) else {
                break;
            };
            if node <= self.heap[least] {
                break;
            }
            self.put(place, self.heap[least]);
            place = least;
        }
        self.put(place, node);
    }
}

#[cfg(test)]
impl<T> Timers<T> {
    /// Whether most of the memory is unused.
    fn is_wasteful(&self) -> bool {
        let entries = &self.entries;
        is_sparse(entries.len(), entries.capacity())
            || is_sparse(entries.len(), self.heap.capacity() / 2)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn drain(timers: &mut Timers<u64>, now: Instant) -> Vec<u64> {
        let started = timers.started();
        std::iter::from_fn(|| timers.pop_due(now, started)).collect()
    }

    #[test]
    fn timers_fire_in_deadline_order_and_equal_ones_in_the_order_of_creation() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for (value, ms) in [(0, 5), (1, 3), (2, 5), (3, 3), (4, 9)] {
            timers.insert(Some(start + Duration::from_millis(ms)), value);
        }
        assert_eq!(drain(&mut timers, start + Duration::from_millis(2)), []);
        assert_eq!(
            drain(&mut timers, start + Duration::from_millis(5)),
            [1, 3, 0, 2]
        );
        assert_eq!(drain(&mut timers, start + Duration::from_millis(9)), [4]);
    }

    #[test]
    fn a_timer_without_a_deadline_never_fires_and_can_be_cancelled() {
        let mut timers = Timers::new();
        let id = timers.insert(None, 1);
        assert_eq!(timers.next_deadline(), None);
        assert_eq!(timers.cancel(id), Some(1));
        assert_eq!(timers.cancel(id), None);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_timer_made_while_due_ones_are_popped_waits_for_the_next_round() {
        let now = Instant::now();
        let mut timers = Timers::new();
        timers.insert(Some(now), 1);
        let started = timers.started();
        assert_eq!(timers.pop_due(now, started), Some(1));
        timers.insert(Some(now), 2);
        assert_eq!(timers.pop_due(now, started), None);
        assert_eq!(drain(&mut timers, now), [2]);
    }

    #[test]
    fn a_timer_made_for_an_earlier_time_while_due_ones_are_popped_keeps_none_of_them_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        timers.insert(Some(at(5)), 1);
        timers.insert(Some(at(6)), 2);
        let started = timers.started();
        assert_eq!(timers.pop_due(at(9), started), Some(1));
        timers.insert(Some(at(2)), 3);
        let cancelled = timers.insert(Some(at(1)), 4);
        assert_eq!(timers.pop_due(at(9), started), Some(2));
        assert_eq!(timers.next_deadline(), Some(at(1)));
        assert_eq!(timers.cancel(cancelled), Some(4));
        assert_eq!(timers.next_deadline(), Some(at(2)));
        assert_eq!(timers.pop_due(at(9), started), None);
        assert_eq!(drain(&mut timers, at(9)), [3]);
    }

    #[test]
    fn the_memory_of_a_burst_is_given_back_and_the_timers_that_are_left_keep_their_ids() {
        let now = Instant::now();
        for left in [0, 1, 7] {
            let mut timers = Timers::new();
            let ids: Vec<_> = (0..10_000).map(|n| timers.insert(Some(now), n)).collect();
            let (gone, kept) = ids.split_at(ids.len() - left);
            for id in gone {
                assert!(timers.cancel(*id).is_some());
                assert!(!timers.is_wasteful());
            }
            assert!(timers.heap.capacity() < 100 && timers.entries.capacity() < 100);
            // New ones take the slots in which the others began, and the places beside them.
            let new: Vec<_> = (0..100).map(|n| timers.insert(Some(now), n)).collect();
            assert!(gone.iter().all(|id| timers.cancel(*id).is_none()));
            for (number, id) in kept.iter().enumerate() {
                assert_eq!(timers.cancel(*id), Some((gone.len() + number) as u64));
            }
            assert_eq!(
                drain(&mut timers, now),
                (0..new.len() as u64).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn the_memory_of_timers_that_fire_is_given_back() {
        let now = Instant::now();
        let mut timers = Timers::new();
        for number in 0..10_000 {
            timers.insert(Some(now), number);
        }
        assert_eq!(drain(&mut timers, now).len(), 10_000);
        assert!(timers.heap.capacity() < 100 && timers.entries.capacity() < 100);
    }

    #[test]
    fn an_id_of_a_reused_slot_cancels_nothing() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let old = timers.insert(Some(now), 1);
        timers.cancel(old);
        let new = timers.insert(Some(now), 2);
        assert_eq!(old.slot, new.slot);
        assert_eq!(timers.cancel(old), None);
        assert_eq!(timers.cancel(new), Some(2));
    }
}
