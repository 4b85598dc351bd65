//! The tests of the testkit.

mod check;
mod conformance;
mod datagram_check;
mod datagram_script;
mod handlers;
mod layer_check;
mod log_checks;
mod pair;
mod script;

/// The simulated world.
mod world {
    mod accepting;
    mod bounds;
    mod effects;
    mod faults;
    mod hosts;
    mod like_linux;
    mod moving;
    mod names;
    mod network;
    mod programs;
    mod repeating;
    mod running;
    mod signals;
    mod trace;
    mod write_budget;
}
