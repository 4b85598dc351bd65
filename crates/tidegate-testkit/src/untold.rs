//! Violations of records that are gone: told where a panic is sure to fail the test.

use std::cell::{Cell, RefCell};

thread_local! {
    static UNTOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static WATCHES: Cell<usize> = const { Cell::new(0) };
    static COLLECTORS: Cell<usize> = const { Cell::new(0) };
}

/// A record ends with violations that nobody took. A loop drops protocols and factories where it
/// catches panics, and a record may go with them: as long as somebody watches, it is the watch
/// that panics.
pub(crate) fn tell(violations: Vec<String>) {
    if violations.is_empty() || std::thread::panicking() {
        return;
    }
    if WATCHES.get() + COLLECTORS.get() == 0 {
        complain(&violations);
    }
    UNTOLD.with_borrow_mut(|untold| untold.extend(violations));
}

fn complain(violations: &[String]) -> ! {
    panic!("the callback grammar was violated: {violations:#?}");
}

/// Panics when it is dropped, if a record of this thread ended with violations: the last field of
/// what holds loops.
#[derive(Debug)]
pub(crate) struct Watch(());

impl Watch {
    pub(crate) fn new() -> Self {
        WATCHES.set(WATCHES.get() + 1);
        Self(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.set(WATCHES.get() - 1);
        if COLLECTORS.get() > 0 {
            return;
        }
        let untold = UNTOLD.take();
        if !untold.is_empty() && !std::thread::panicking() {
            complain(&untold);
        }
    }
}

/// Runs `f`; answers, too, the violations of records that ended in it. No watch panics meanwhile.
pub(crate) fn collect<T>(f: impl FnOnce() -> T) -> (T, Vec<String>) {
    let before = UNTOLD.take();
    let collector = Collector::new();
    let value = f();
    let found = UNTOLD.replace(before);
    drop(collector);
    (value, found)
}

struct Collector(());

impl Collector {
    fn new() -> Self {
        COLLECTORS.set(COLLECTORS.get() + 1);
        Self(())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        COLLECTORS.set(COLLECTORS.get() - 1);
    }
}
