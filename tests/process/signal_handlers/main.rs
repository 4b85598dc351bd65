//! Takes signals, which belong to the process: tests that raise one run in a process of their own.

mod awaited;
mod default_action;
mod handlers;
mod shutdown;

use signal_hook::low_level;
use std::cell::RefCell;
use std::process::ExitStatus;
use std::rc::Rc;
use tidegate::{Handle, Signal, SignalHandle};

/// Raises a signal in this thread, which takes it before the call returns.
#[track_caller]
fn raise(signal: Signal) {
    low_level::raise(signal.raw()).unwrap();
}

#[track_caller]
fn assert_ends_well(status: ExitStatus) {
    assert!(status.success(), "the test's own process: {status}");
}

/// The signals that handlers were told of.
type Told = Rc<RefCell<Vec<Signal>>>;

/// Adds a handler that notes what it is told.
#[track_caller]
fn note(handle: &Handle, signal: Signal, told: &Told) -> SignalHandle {
    let told = told.clone();
    let added = handle.add_signal_handler(signal, move |_, signal| told.borrow_mut().push(signal));
    added.unwrap()
}
