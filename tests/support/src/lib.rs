//! Helpers of the tests: a protocol that records and checks its callbacks, socket pairs, and
//! waiting for a condition with a bound.

mod authority;
mod busy;
pub mod child;
pub mod datagrams;
mod fill;
mod finish;
mod hooked;
mod hosts;
#[cfg(feature = "interop")]
pub mod interop;
pub mod logs;
mod own_process;
mod peer;
pub mod processes;
mod scale;
mod scene;
pub mod seal;
mod served;
mod streamed;
pub mod tasks;
mod tied;
mod tls_peer;
pub mod wakers;
mod writer;

pub use authority::{Authority, Identity};
pub use busy::{Dropped, occupy};
pub use fill::{MIB, flood, never_paused, stall};
pub use finish::{finish, opened, poll_once};
pub use hooked::{Hooked, METHODS};
pub use hosts::{Fate, Gate, Host, V6, has_ipv6, knows, v4};
pub use own_process::{WITH_DEFAULT_SIGNALS, alone, alone_under};
pub use peer::{Kind, Peer, TempDir, dial, pattern};
pub use scale::{Rng, descriptors, that_fit, thread_time};
pub use scene::{Scene, Wire, adopted, stalled};
pub use served::{Served, answer_of, assert_refused, assert_serves};
pub use streamed::{Polled, Streamed, echo_stream, give_up, now, wait};
pub use tied::{Reports, Tied, accept, relay_server, relayed, splicing_from, tie, untied};
pub use tls_peer::TlsPeer;
pub use writer::{
    How, answer, limits, no_limits, note_answer, put, run_in, strict_loop, text, writes,
};

#[cfg(feature = "root")]
pub mod root;

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::{Closed, EventLoop, Failure, Handle};

pub use tidegate_testkit::{Log, Recorder, Seen};

/// How long a test waits for what must come.
pub const BOUND: Duration = Duration::from_secs(20);

/// A time that is over soon, for what nobody prevents.
pub const SHORT: Duration = Duration::from_millis(20);

/// Bytes of this process that are in memory now (VmRSS, proc_pid_status(5)).
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    match line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()) {
        Some(kib) => kib * 1024,
        None => panic!("no VmRSS in /proc/self/status: {status:?}"),
    }
}

/// Runs ticks of the loop until `done` says so; fails with the loop's state when it never does.
#[track_caller]
pub fn drive(event_loop: &mut EventLoop, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < BOUND,
            "waited in vain for: {what}\n{:#?}",
            event_loop.handle().stats()
        );
        if let Err(error) = event_loop.run_once(Some(Duration::from_millis(5))) {
            panic!("the loop failed: {error}");
        }
    }
}

/// Runs ticks until the loop has nothing to do any more: a whole poll found nothing.
pub fn settle(event_loop: &mut EventLoop) {
    let mut quiet = 0;
    while quiet < 2 {
        let before = event_loop.handle().stats();
        if let Err(error) = event_loop.run_once(Some(Duration::from_millis(1))) {
            panic!("the loop failed: {error}");
        }
        let mut after = event_loop.handle().stats();
        after.polls = before.polls;
        quiet = if after == before { quiet + 1 } else { 0 };
    }
}

/// For a hook that runs more than once: gives its value the first time.
pub fn once<T>(value: T) -> impl FnMut() -> Option<T> {
    let mut value = Some(value);
    move || value.take()
}

/// Returns the failures that the error handler gets from now on.
pub fn failures(handle: &Handle) -> Rc<RefCell<Vec<Failure>>> {
    let failures: Rc<RefCell<Vec<_>>> = Rc::default();
    let told = failures.clone();
    handle.set_error_handler(move |_, failure| told.borrow_mut().push(failure.clone()));
    failures
}

/// Runs one tick, which does not wait.
#[track_caller]
pub fn tick(event_loop: &mut EventLoop) {
    if let Err(error) = event_loop.run_once(Some(Duration::ZERO)) {
        panic!("the loop failed: {error}");
    }
}

/// How the connection ended that a call failed with.
#[track_caller]
pub fn closed_of<T: Debug>(result: io::Result<T>) -> Closed {
    match result {
        Err(error) => Closed::of(&error).unwrap_or_else(|| panic!("{error:?} carries no Closed")),
        Ok(value) => panic!("it did not fail: {value:?}"),
    }
}
