//! Helpers of the tests in which the system does harm to a server in a process of its own: that
//! server, and clients that check every byte.

mod client;
mod crowd;
mod server;

pub use client::{Client, Traffic};
pub use crowd::Crowd;
pub use server::{Mode, Server};

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server under a fault may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so; for what another process does, which nobody is told of.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Returns the output of a program of the system. One that is missing or fails, fails the test.
#[track_caller]
pub fn output_of(program: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{program} cannot be run: {error}; .ci/run installs it"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        text(&output.stderr)
    );
    text(&output.stdout)
}
