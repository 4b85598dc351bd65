//! The values of a loop that hold values of users, by which they are dropped when it ends.

use super::core::Core;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Weak;

/// The number of dropped holders up to which their places are kept.
const KEPT: usize = 64;

/// Something that holds user values and must let go of them when the loop ends. Its drop calls
/// [`Core::holder_dropped`].
pub(crate) trait AtEnd {
    fn end(&self, core: &Core);
}

/// The holders that are left, and places of those that were dropped: each keeps the memory of a
/// holder. They are removed when they are the greater part.
#[derive(Default)]
pub(super) struct Holders {
    places: RefCell<Vec<Weak<dyn AtEnd>>>,
    dropped: Cell<usize>,
}

impl Holders {
    fn note_dropped(&self) {
        let dropped = self.dropped.get() + 1;
        self.dropped.set(dropped);
        if dropped > KEPT && dropped > self.places.borrow().len() / 2 {
            self.purge();
        }
    }

    #[cold]
    fn purge(&self) {
        let mut places = self.places.borrow_mut();
        places.retain(|holder| holder.strong_count() > 0);
        let left = places.len();
        places.shrink_to(2 * left + KEPT);
        self.dropped.set(0);
    }
}

impl Core {
    pub(crate) fn at_end(&self, holder: Weak<dyn AtEnd>) {
        self.holders.places.borrow_mut().push(holder);
    }

    /// A holder that was given to [`at_end`](Core::at_end) is being dropped.
    pub(crate) fn holder_dropped(&self) {
        self.holders.note_dropped();
    }

    /// Has every holder drop the values of users that it holds.
    pub(super) fn end_holders(&self) {
        let holders = self.holders.places.take();
        for holder in holders.iter().filter_map(Weak::upgrade) {
            holder.end(self);
        }
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holders").finish_non_exhaustive()
    }
}
