//! Violations in logs that were dropped: reported where a panic is sure to fail the test.

use std::cell::{Cell, RefCell};

thread_local! {
    static UNREPORTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static REPORTERS: Cell<usize> = const { Cell::new(0) };
    static COLLECTORS: Cell<usize> = const { Cell::new(0) };
}

/// Reports the violations of a log that is dropped with them. A loop drops protocols and factories
/// where it catches panics, and a log may be dropped with them: while a [`ReportOnDrop`] lives, its drop
/// panics instead.
pub(crate) fn report(violations: Vec<String>) {
    if violations.is_empty() || std::thread::panicking() {
        return;
    }
    if REPORTERS.get() + COLLECTORS.get() == 0 {
        panic_with(&violations);
    }
    UNREPORTED.with_borrow_mut(|unreported| unreported.extend(violations));
}

fn panic_with(violations: &[String]) -> ! {
    panic!("the callback grammar was violated: {violations:#?}");
}

/// Panics when it is dropped, if a log of this thread was dropped with violations. It is the last
/// field of a type that holds loops.
#[derive(Debug)]
pub(crate) struct ReportOnDrop(());

impl ReportOnDrop {
    pub(crate) fn new() -> Self {
        REPORTERS.set(REPORTERS.get() + 1);
        Self(())
    }
}

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        REPORTERS.set(REPORTERS.get() - 1);
        if COLLECTORS.get() > 0 {
            return;
        }
        let unreported = UNREPORTED.take();
        if !unreported.is_empty() && !std::thread::panicking() {
            panic_with(&unreported);
        }
    }
}

/// Runs `f`. Returns its value, and the violations of logs that were dropped in it. No
/// [`ReportOnDrop`] panics meanwhile.
pub(crate) fn collect<T>(f: impl FnOnce() -> T) -> (T, Vec<String>) {
    let before = UNREPORTED.take();
    let collector = Collector::new();
    let value = f();
    let found = UNREPORTED.replace(before);
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
