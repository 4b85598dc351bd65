//! A process that was forked and runs no other program, by a C library that forks; see shim/fork_raise.c.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::rc::Rc;
use support::child::{Child, part, say};
use support::root::output_of;
use support::{TempDir, settle};
use tidegate::{EventLoop, Signal};

/// Compiles the library.
fn compile(library: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/root/shim/fork_raise.c");
    let mut arguments: Vec<OsString> = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]
        .map(OsString::from)
        .into();
    arguments.push(library.into());
    arguments.push(source.into());
    output_of("gcc", &arguments);
}

/// Has a forked process raise the signal, and then raises it in this one.
fn be_told() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let call = move |_: &_, _| counted.set(counted.get() + 1);
    handle.add_signal_handler(Signal::SIGUSR1, call).unwrap();
    let before = handle.stats().events;
    let _parent = parent_id();
    settle(&mut event_loop);
    let events = handle.stats().events - before;
    let forked = calls.get();
    signal_hook::low_level::raise(Signal::SIGUSR1.raw()).unwrap();
    settle(&mut event_loop);
    say(format_args!(
        "{events} events and {forked} calls, then {} calls",
        calls.get()
    ));
}

#[test]
fn a_signal_to_a_forked_process_wakes_the_loop_and_is_not_told() {
    if part().is_some() {
        return be_told();
    }
    let dir = TempDir::new();
    let library = dir.path("fork_raise.so");
    compile(&library);
    let variables: [(&str, &Path); 1] = [("LD_PRELOAD", &library)];
    let mut child = Child::start_with(
        &variables,
        "a_signal_to_a_forked_process_wakes_the_loop_and_is_not_told",
        "told",
    );
    assert_eq!(child.line(), "1 events and 0 calls, then 1 calls");
    assert!(child.ended().success());
}
