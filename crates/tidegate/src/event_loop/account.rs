//! The account of a loop: the bytes that wait in all of its write buffers, and their budget.
//!
//! Pure. [`transport/account.rs`](crate::transport) says what counts, and which connection ends when it is full.

use std::cell::Cell;

/// The sum of what the connections count, and the limit of it.
#[derive(Debug)]
pub(crate) struct Account {
    /// [`u64::MAX`] without a budget.
    budget: u64,
    used: Cell<u64>,
    /// The number of walks over all connections.
    #[cfg(test)]
    pub(crate) walks: Cell<usize>,
}

impl Account {
    pub(crate) fn new(budget: Option<usize>) -> Self {
        Self {
            budget: budget.map_or(u64::MAX, |bytes| bytes as u64),
            used: Cell::new(0),
            #[cfg(test)]
            walks: Cell::new(0),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.get()
    }

    pub(crate) fn add(&self, len: usize) {
        self.used.set(self.used.get() + len as u64);
    }

    pub(crate) fn take(&self, len: usize) {
        debug_assert!(len as u64 <= self.used.get(), "more than was counted");
        self.used.set(self.used.get() - len as u64);
    }

    /// Returns whether there is a budget.
    pub(crate) fn is_limited(&self) -> bool {
        self.budget < u64::MAX
    }

    /// Returns what is left of three quarters of the budget, if there is one.
    ///
    /// The last quarter is for the writes that come before a connection is paused.
    pub(crate) fn left(&self) -> Option<u64> {
        self.is_limited().then(|| {
            let most = self.budget - self.budget.div_ceil(4);
            most.saturating_sub(self.used.get())
        })
    }

    /// Returns whether the budget is used up even without `bytes` of what is counted.
    pub(crate) fn is_full_without(&self, bytes: u64) -> bool {
        self.used.get().saturating_sub(bytes) >= self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_the_budget_less_what_is_used_are_left() {
        for (budget, used, left) in [
            (1, 0, 0),
            (4, 0, 3),
            (5, 1, 2),
            (400, 299, 1),
            (400, 300, 0),
            (400, 401, 0),
            (usize::MAX - 1, 0, (usize::MAX - 1) as u64 / 4 * 3 + 1),
        ] {
            let account = Account::new(Some(budget));
            account.add(used);
            assert_eq!(account.left(), Some(left), "{account:?}");
        }
        assert_eq!(Account::new(None).left(), None);
    }

    #[test]
    fn it_is_full_at_the_budget_and_without_one_never() {
        let account = Account::new(Some(100));
        account.add(99);
        assert!(!account.is_full_without(0));
        account.add(11);
        assert!(account.is_full_without(10));
        assert!(!account.is_full_without(11));
        assert!(!account.is_full_without(111));
        account.take(11);
        assert!(!account.is_full_without(0));
        let account = Account::new(None);
        account.add(usize::MAX / 2);
        assert!(!account.is_full_without(0));
    }
}
