//! Two hundred worlds, with the debug assertions of everything in them.

use std::process::Command;

#[test]
fn no_world_of_the_first_two_hundred_has_a_violation() {
    let run = Command::new(env!("CARGO_BIN_EXE_tidegate-worlds"))
        .args(["--seeds", "200"])
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && told.ends_with("\n0 of 200 worlds have violations\n"),
        "{}: {told}{}",
        run.status,
        String::from_utf8_lossy(&run.stderr)
    );
}
