//! A conformance suite: functions that test the rules for every transport.
//!
//! A [`Harness`] makes connections. Each case drives some of them, and checks the callbacks at both
//! ends, the results of the waits, the fate of every byte, and that nothing is left in the loops. The
//! idea is trio's `check_half_closeable_stream`: every transport, or wrapper around one, runs the
//! same tests.
//!
//! A case does not panic for a fault of the transport. It returns the [`Violation`], which names the
//! case and the rule, the expected result and the seen one.
//!
//! ```
//! use tidegate_testkit::conformance;
//!
//! let mut harness = conformance::Tcp::new()?;
//! conformance::reading::all(&mut harness)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Checks at the end of every case
//!
//! * Each protocol was called in the order that [`Protocol`](tidegate::Protocol) promises, one
//!   callback at a time, and was dropped once, after `connection_lost`.
//! * `sent + unsent == written` at each end; `connection_lost`, [`closed`](tidegate::Transport::closed),
//!   and a later write and `drain` tell the same [`Closed`](tidegate::Closed).
//! * The received bytes are the sent ones, from the first on, in order; after an EOF they are all of
//!   them.
//! * No connection, timer, completion or lingering socket is left.

pub mod clogged;
mod connected;
pub mod endings;
mod fixture;
pub mod half_close;
mod harness;
mod pattern;
mod probe;
pub mod reading;
mod simulated;
mod sockets;
pub mod transfer;
mod violation;

pub use harness::Harness;
pub use simulated::Simulated;
pub use sockets::{Tcp, Unix};
pub use violation::{Violation, Violations};

/// One function of the suite, and its name.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: fn(&mut dyn Harness) -> Result<(), Violation>,
}

impl Case {
    /// Returns the name of the function.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Calls the function.
    ///
    /// # Errors
    ///
    /// The violation that it found.
    pub fn run(&self, harness: &mut dyn Harness) -> Result<(), Violation> {
        (self.run)(harness)
    }
}

/// The list of a theme, and the function that runs it.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// The cases of this theme.
        pub const CASES: &[super::Case] = &[$(super::Case {
            name: stringify!($name),
            run: $name,
        }),*];

        /// Runs the cases of this theme; one that fails does not keep the others from running.
        ///
        /// # Errors
        ///
        /// The violations that they found.
        pub fn all(harness: &mut dyn super::Harness) -> Result<(), super::Violations> {
            super::run(CASES, harness)
        }
    };
}
use cases;

/// The themes, each with its cases.
pub const THEMES: &[(&str, &[Case])] = &[
    ("transfer", transfer::CASES),
    ("reading", reading::CASES),
    ("half_close", half_close::CASES),
    ("clogged", clogged::CASES),
    ("endings", endings::CASES),
];

/// Runs every case of every theme; one that fails does not keep the others from running.
///
/// # Errors
///
/// The violations that they found.
pub fn all(harness: &mut dyn Harness) -> Result<(), Violations> {
    let cases: Vec<Case> = THEMES
        .iter()
        .flat_map(|(_, cases)| cases.iter().copied())
        .collect();
    run(&cases, harness)
}

fn run(cases: &[Case], harness: &mut dyn Harness) -> Result<(), Violations> {
    let found: Vec<Violation> = cases
        .iter()
        .filter_map(|case| case.run(harness).err())
        .collect();
    if found.is_empty() {
        Ok(())
    } else {
        Err(Violations(found))
    }
}
