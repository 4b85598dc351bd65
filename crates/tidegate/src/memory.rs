//! The memory that a burst took is given back: when lists and tables are cut down.
//!
//! Pure. A list that is empty keeps [`KEPT`] places. A table (a slab: timers, sources, tasks of streams)
//! of which less than an eighth is in use is moved together; an eighth, so that the work is shared by
//! the removals before it. Others keep ids of its entries, among them tokens of the kernel. An id names
//! the slot in which its entry began, and [`Moved`] is asked only when the slot has another one.

use std::collections::{BTreeMap, VecDeque};

/// The number of places up to which a list or a table never shrinks: a few pages, which a steady
/// load uses again. Unit tests come to it with few entries.
pub(crate) const KEPT: usize = if cfg!(test) { 8 } else { 1024 };

/// Gives back the memory of a list that is empty.
#[inline]
pub(crate) fn trim<T>(list: &mut Vec<T>) {
    if list.capacity() > KEPT {
        list.shrink_to(KEPT);
    }
}

/// As [`trim`], of a queue.
#[inline]
pub(crate) fn trim_queue<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > KEPT {
        queue.shrink_to(KEPT);
    }
}

/// Returns whether most of a table is unused: it is to be cut down to what it holds.
#[inline]
pub(crate) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > KEPT && len < capacity / 8
}

/// The slots of a table's entries that were moved when the table was cut down. Their ids name the
/// slots in which they began.
#[derive(Debug)]
pub(crate) struct Moved<K>(BTreeMap<K, usize>);

impl<K> Default for Moved<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Moved<K> {
    #[cold]
    pub(crate) fn find(&self, key: &K) -> Option<usize> {
        self.0.get(key).copied()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn note(&mut self, key: K, slot: usize) {
        self.0.insert(key, slot);
    }

    /// The entry is gone.
    #[inline]
    pub(crate) fn forget(&mut self, key: &K) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }
}
