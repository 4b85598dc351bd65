//! Timers by deadline; those of the same deadline in the order in which they were made or reset.
//!
//! Pure: it is told the time. A heap of four children per node over a slab whose entries know
//! their place in the heap: insert, cancel, reset and expire each cost O(log n) moves, inserting a
//! deadline later than most and cancelling it again O(1). A cancelled timer is gone at once.

use slab::Slab;
use std::time::Instant;

const CHILDREN: usize = 4;
/// The place of a timer that is not in the heap: it never fires, or is too new for this round.
const NOWHERE: usize = usize::MAX;

/// Names a timer; never again names another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    seq: u64,
    slot: usize,
}

#[derive(Debug)]
struct Entry<T> {
    seq: u64,
    /// The second key of its node: `seq` until the timer is reset.
    order: u64,
    place: usize,
    value: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    deadline: Instant,
    order: u64,
    slot: usize,
}

#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: Vec<Node>,
    entries: Slab<Entry<T>>,
    next_seq: u64,
    /// Due, but too new for the round in which they were met: out of the heap, where they would
    /// keep older ones from their turn. Empty between rounds.
    aside: Vec<Node>,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: Vec::new(),
            entries: Slab::new(),
            next_seq: 0,
            aside: Vec::new(),
        }
    }

    /// `None` is a deadline that never comes: kept until it is cancelled.
    pub(crate) fn insert(&mut self, deadline: Option<Instant>, value: T) -> TimerId {
        let seq = self.next_seq;
        self.next_seq += 1;
        let slot = self.entries.insert(Entry {
            seq,
            order: seq,
            place: NOWHERE,
            value,
        });
        if let Some(deadline) = deadline {
            let node = Node {
                deadline,
                order: seq,
                slot,
            };
            self.push(node);
        }
        TimerId { seq, slot }
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        let place = match self.entries.get(id.slot) {
            Some(entry) if entry.seq == id.seq => entry.place,
            _ => return None,
        };
        if place != NOWHERE {
            self.remove_at(place);
        }
        Some(self.entries.remove(id.slot).value)
    }

    /// Moves a timer to another deadline, as if it were created now. Returns whether it is there.
    pub(crate) fn reset(&mut self, id: TimerId, deadline: Option<Instant>) -> bool {
        let order = self.next_seq;
        let place = match self.entries.get_mut(id.slot) {
            Some(entry) if entry.seq == id.seq => {
                entry.order = order;
                entry.place
            }
            _ => return false,
        };
        self.next_seq += 1;
        let node = deadline.map(|deadline| Node {
            deadline,
            order,
            slot: id.slot,
        });
        match (place, node) {
            (NOWHERE, None) => {}
            (NOWHERE, Some(node)) => self.push(node),
            (place, None) => {
                self.remove_at(place);
                self.entries[id.slot].place = NOWHERE;
            }
            (place, Some(node)) => self.replace(place, node),
        }
        true
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let aside = self.aside.iter().filter(|node| self.is_there(node));
        let first = self.heap.first().into_iter().chain(aside);
        first.map(|node| node.deadline).min()
    }

    /// What the next timer to be created will be after: a bound for [`Timers::pop_due`].
    pub(crate) fn created(&self) -> u64 {
        self.next_seq
    }

    /// The next timer that is due at `now` and was created before `created`. A round of calls
    /// with the same bound ends with the first `None`.
    pub(crate) fn pop_due(&mut self, now: Instant, created: u64) -> Option<T> {
        if self.aside.first().is_some_and(|node| node.order < created) {
            self.end_round();
        }
        while let Some(&first) = self.heap.first()
            && first.deadline <= now
        {
            self.remove_at(0);
            if first.order < created {
                return Some(self.entries.remove(first.slot).value);
            }
            self.entries[first.slot].place = NOWHERE;
            self.aside.push(first);
        }
        self.end_round();
        None
    }

    fn end_round(&mut self) {
        while let Some(node) = self.aside.pop() {
            if self.is_there(&node) {
                self.push(node);
            }
        }
    }

    /// It may have been cancelled or reset since.
    fn is_there(&self, node: &Node) -> bool {
        let entry = self.entries.get(node.slot);
        entry.is_some_and(|entry| entry.order == node.order)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them, for the end of the loop.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.heap.clear();
        self.aside.clear();
        self.entries.drain().map(|entry| entry.value).collect()
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
        self.replace(place, last);
    }

    fn replace(&mut self, place: usize, node: Node) {
        if place > 0 && node < self.heap[(place - 1) / CHILDREN] {
            self.sift_up(place, node);
        } else {
            self.sift_down(place, node);
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
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn drain(timers: &mut Timers<u64>, now: Instant) -> Vec<u64> {
        let created = timers.created();
        std::iter::from_fn(|| timers.pop_due(now, created)).collect()
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
        let created = timers.created();
        assert_eq!(timers.pop_due(now, created), Some(1));
        timers.insert(Some(now), 2);
        assert_eq!(timers.pop_due(now, created), None);
        assert_eq!(drain(&mut timers, now), [2]);
    }

    #[test]
    fn a_timer_made_for_an_earlier_time_while_due_ones_are_popped_keeps_none_of_them_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        timers.insert(Some(at(5)), 1);
        timers.insert(Some(at(6)), 2);
        let created = timers.created();
        assert_eq!(timers.pop_due(at(9), created), Some(1));
        timers.insert(Some(at(2)), 3);
        let cancelled = timers.insert(Some(at(1)), 4);
        assert_eq!(timers.pop_due(at(9), created), Some(2));
        assert_eq!(timers.next_deadline(), Some(at(1)));
        assert_eq!(timers.cancel(cancelled), Some(4));
        assert_eq!(timers.next_deadline(), Some(at(2)));
        assert_eq!(timers.pop_due(at(9), created), None);
        assert_eq!(drain(&mut timers, at(9)), [3]);
    }

    #[test]
    fn a_reset_timer_fires_at_its_new_deadline_after_those_that_had_it_before() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut timers = Timers::new();
        let ids: Vec<_> = (0..9).map(|ms| timers.insert(at(ms), ms)).collect();
        for (number, ms) in [(0, 5), (8, 2), (5, 5), (3, 3), (2, 100)] {
            assert!(timers.reset(ids[number], at(ms)));
        }
        assert_eq!(timers.len(), 9);
        let early = drain(&mut timers, start + Duration::from_millis(50));
        assert_eq!(early, [1, 8, 3, 4, 0, 5, 6, 7]);
        assert_eq!(timers.next_deadline(), at(100));
        assert_eq!(timers.cancel(ids[2]), Some(2));
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_reset_takes_a_deadline_away_and_gives_one() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let ids = [Some(now), None, Some(now)].map(|deadline| timers.insert(deadline, 7));
        assert!(timers.reset(ids[0], None));
        assert!(timers.reset(ids[2], None));
        assert_eq!(timers.next_deadline(), None);
        assert!(timers.reset(ids[0], None));
        assert!(timers.reset(ids[1], Some(now)));
        assert_eq!(drain(&mut timers, now), [7]);
        assert_eq!(timers.cancel(ids[0]), Some(7));
        assert!(timers.reset(ids[2], Some(now)));
        assert_eq!(drain(&mut timers, now), [7]);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_due_timer_that_is_reset_to_a_due_time_waits_for_the_next_round() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let ids = [1, 2, 3].map(|value| timers.insert(Some(now), value));
        let created = timers.created();
        assert_eq!(timers.pop_due(now, created), Some(1));
        assert!(timers.reset(ids[1], Some(now)));
        assert_eq!(timers.pop_due(now, created), Some(3));
        assert_eq!(timers.pop_due(now, created), None);
        assert_eq!(drain(&mut timers, now), [2]);
    }

    #[test]
    fn a_timer_that_was_put_aside_and_is_reset_leaves_nothing_of_its_old_deadline() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut timers = Timers::new();
        timers.insert(at(1), 1);
        timers.insert(at(3), 2);
        let created = timers.created();
        assert_eq!(
            timers.pop_due(start + Duration::from_millis(9), created),
            Some(1)
        );
        let aside = timers.insert(at(2), 3);
        assert_eq!(
            timers.pop_due(start + Duration::from_millis(9), created),
            Some(2)
        );
        assert_eq!(timers.next_deadline(), at(2));
        assert!(timers.reset(aside, at(20)));
        assert_eq!(timers.next_deadline(), at(20));
        assert_eq!(
            timers.pop_due(start + Duration::from_millis(9), created),
            None
        );
        assert_eq!(drain(&mut timers, start + Duration::from_millis(19)), []);
        assert_eq!(drain(&mut timers, start + Duration::from_millis(20)), [3]);
    }

    #[test]
    fn an_id_of_a_reused_slot_cancels_and_resets_nothing() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let old = timers.insert(Some(now), 1);
        timers.cancel(old);
        let new = timers.insert(Some(now), 2);
        assert_eq!(old.slot, new.slot);
        assert!(!timers.reset(old, None));
        assert_eq!(timers.next_deadline(), Some(now));
        assert_eq!(timers.cancel(old), None);
        assert_eq!(timers.cancel(new), Some(2));
    }
}
