//! A place for a boxed value that many connections do not have.

use std::cell::Cell;

/// Holds a boxed value, or none. It is a word smaller than a `RefCell`, and each idle connection
/// has two.
///
/// The value is out of its place while a call uses it. So the call runs no code of the user, and nothing
/// that uses the same place: a value put there meanwhile is lost.
#[derive(Default)]
pub(crate) struct BoxCell<T>(Cell<Option<Box<T>>>);

impl<T> BoxCell<T> {
    /// Calls with the value, and puts back the one that the call leaves.
    #[inline]
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut Option<Box<T>>) -> R) -> R {
        let mut value = self.0.take();
        let result = call(&mut value);
        let meanwhile = self.0.replace(value);
        debug_assert!(meanwhile.is_none(), "used while it was in use");
        result
    }

    pub(crate) fn is_some(&self) -> bool {
        self.with(|value| value.is_some())
    }

    /// Puts a value into the empty place.
    #[inline]
    pub(crate) fn put(&self, value: Box<T>) {
        let meanwhile = self.0.replace(Some(value));
        debug_assert!(meanwhile.is_none(), "put where there is one");
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_the_call_leaves() {
        let cell = BoxCell::default();
        assert!(!cell.is_some());
        cell.with(|value| *value = Some(Box::new(1)));
        assert_eq!(cell.with(|value| value.clone()), Some(Box::new(1)));
        assert!(cell.is_some());
        assert_eq!(cell.take(), Some(Box::new(1)));
        assert!(!cell.is_some());
        cell.put(Box::new(2));
        assert_eq!(cell.take(), Some(Box::new(2)));
    }

    #[test]
    #[should_panic = "used while it was in use"]
    #[cfg(debug_assertions)]
    fn a_use_within_a_use_is_a_mistake() {
        let cell = BoxCell::default();
        cell.with(|_| cell.with(|value| *value = Some(Box::new(1))));
    }
}
