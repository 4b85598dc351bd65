//! Tests that need a process of their own: this binary once more, with nothing but that test.

use std::any::type_name;
use std::env;
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};

/// Set in the process of one test.
const ALONE: &str = "TIDEGATE_TEST_ALONE";

/// Starts a program without the signals that are ignored here. A shell ignores SIGINT for what it runs in the
/// background, and what it starts inherits that.
pub const WITH_DEFAULT_SIGNALS: &[&str] = &["env", "--default-signal"];

/// Runs a test, which is the function that calls this, in a process of its own. Returns how that has ended. In that
/// process it runs `body` and ends.
#[track_caller]
pub fn alone<T>(test: T, body: impl FnOnce()) -> ExitStatus {
    alone_under(&[], test, body)
}

/// As `alone`, started by another program with these arguments, which
/// [`WITH_DEFAULT_SIGNALS`] has started.
#[track_caller]
pub fn alone_under<T>(starter: &[&str], _: T, body: impl FnOnce()) -> ExitStatus {
    if env::var_os(ALONE).is_some() {
        body();
        process::exit(0);
    }
    // The path of a function begins with its crate, which the names of tests leave out.
    let path = type_name::<T>();
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let binary = match env::current_exe() {
        Ok(binary) => binary,
        Err(error) => panic!("cannot find this test's binary: {error}"),
    };
    let mut command = started_by(&[WITH_DEFAULT_SIGNALS, starter].concat(), &binary);
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            print!("{}", String::from_utf8_lossy(&output.stderr));
            output.status
        }
        Err(error) => panic!("cannot start {command:?}: {error}"),
    }
}

/// Returns a command that has a program started by another one with these arguments.
pub(crate) fn started_by(starter: &[&str], program: &Path) -> Command {
    match starter {
        [] => Command::new(program),
        [starter, arguments @ ..] => {
            let mut command = Command::new(starter);
            command.args(arguments).arg(program);
            command
        }
    }
}
