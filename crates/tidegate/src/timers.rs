//! Timers by deadline; those of the same deadline in the order in which they were started. A reset
//! counts as a start.
//!
//! Pure: it is told the time. A heap of four children per node over a slab whose entries know
//! their place in the heap: insert, reset, cancel and expire each cost O(log n) moves. Inserting a
//! deadline later than most and cancelling it again costs O(1), and that is what timeouts do. A
//! deadline beyond [`Instant`] is in the slab and not in the heap.
//!
//! A cancelled timer is gone at once and wakes nobody. When most of them are gone, so is their memory.

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

/// Set in the stamp of a timer that stays when it fires.
const REPEATS: u64 = 1 << 63;

/// Names a timer; never again names another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    stamp: u64,
    /// The slot in which the timer began.
    slot: usize,
}

impl TimerId {
    /// Whether the timer stays when it fires.
    pub(crate) fn repeats(self) -> bool {
        self.stamp & REPEATS != 0
    }
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
        let order = self.next_order();
        self.add(deadline, order, order, value)
    }

    /// A timer that stays when it has fired, without a deadline, until it is reset or cancelled.
    pub(crate) fn insert_repeating(&mut self, deadline: Option<Instant>, value: T) -> TimerId {
        let order = self.next_order();
        self.add(deadline, order, order | REPEATS, value)
    }

    fn add(&mut self, deadline: Option<Instant>, order: u64, stamp: u64, value: T) -> TimerId {
        let slot = self.entries.insert(Entry {
            stamp,
            place: NOWHERE,
            value,
        });
        if let Some(deadline) = deadline {
            self.push(Node {
                deadline,
                order,
                slot,
            });
        }
        TimerId { stamp, slot }
    }

    /// Starts a timer anew, with another deadline; returns whether it is there.
    pub(crate) fn reset(&mut self, id: TimerId, deadline: Option<Instant>) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        let order = self.next_order();
        let place = self.entries[slot].place;
        match deadline {
            Some(deadline) => {
                let node = Node {
                    deadline,
                    order,
                    slot,
                };
                if place < self.heap.len() {
                    self.sift(place, node);
                } else {
                    self.unschedule(slot);
                    self.push(node);
                }
            }
            None => self.unschedule(slot),
        }
        true
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

    /// The number of starts so far: a bound for [`Timers::pop_due`].
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    fn next_order(&mut self) -> u64 {
        let order = self.started;
        self.started += 1;
        order
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
        self.sift(place, last);
    }

    /// Puts a node into a place of the heap, or where it belongs from there.
    fn sift(&mut self, place: usize, node: Node) {
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

impl<T: Clone> Timers<T> {
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
            let entry = &mut self.entries[first.slot];
            if first.order < started {
                if entry.stamp & REPEATS == 0 {
                    return Some(self.remove(first.slot));
                }
                entry.place = NOWHERE;
                return Some(entry.value.clone());
            }
            entry.place = ASIDE;
            self.aside.insert(entry.stamp, first);
        }
        self.end_round();
        None
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

#[cfg(all(test, not(loom)))]
mod fuzz;
#[cfg(test)]
mod tests;
