//! Mistakes of newcomers do not compile, and the compiler's message leads on.
//!
//! Each file in `cases` is one mistake, and the `.stderr` beside it is the message of one release of
//! the compiler. After an update of the compiler, or a change of a signature that a message shows,
//! renew the files, and read the differences:
//!
//! ```text
//! TRYBUILD=overwrite cargo test -p tests --test compiler_messages
//! ```
//!
//! Needs no network: the cases have the dependencies of these tests.

use std::env;
use std::process::Command;

/// The release of the messages: the one that CI uses.
const RELEASE: &str = "rustc 1.95.";

#[test]
fn a_message_leads_to_the_right_code() {
    let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    if version.starts_with(RELEASE) {
        trybuild::TestCases::new().compile_fail("compiler_messages/cases/*.rs");
    } else {
        // Each release words its messages a little differently.
        println!("left out: the messages are those of {RELEASE}, this is {version}");
    }
}
