//! Signals to programs.

use super::{SECOND, TERM, assert_nothing_left, start, world};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use support::processes::Told;
use tidegate::Pipe;
use tidegate_testkit::Program;

#[test]
fn one_that_ignores_a_signal_is_killed_after_a_grace_of_the_virtual_clock() {
    let (mut world, host) = world();
    let told = Told::default();
    let process = start(
        &world,
        &host,
        &told,
        Program::new().ignore_signal(TERM).hang(),
    );
    world.run_until_idle().unwrap();
    process.terminate().unwrap();
    let child = process.child().clone();
    host.handle()
        .call_later(300 * SECOND, move |_| child.kill().unwrap());
    world.advance(299 * SECOND).unwrap();
    assert_eq!(process.status(), None);
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!((status.signal(), world.elapsed()), (Some(9), 300 * SECOND));
    assert_nothing_left(&world, &host);
}

#[test]
fn a_program_may_end_in_its_own_time_at_a_signal() {
    let (mut world, host) = world();
    let told = Told::default();
    let orderly = Program::new().wait(3 * SECOND).write("bye").exit(0);
    let program = Program::new()
        .on_signal(TERM, orderly)
        .wait(1000 * SECOND)
        .exit(9);
    let process = start(&world, &host, &told, program);
    world.advance(SECOND).unwrap();
    process.terminate().unwrap();
    world.advance(SECOND).unwrap();
    // It is at it.
    process.terminate().unwrap();
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!((status.code(), world.elapsed()), (Some(0), 4 * SECOND));
    assert_eq!(told.stdout(), "bye");
    assert_nothing_left(&world, &host);
}

#[test]
fn an_exit_code_and_a_signal_are_told_apart() {
    let rows = [
        (Program::new().exit(143), Some(143), None),
        (Program::new().raise(TERM), None, Some(TERM)),
        (Program::new().raise(17).raise(18).exit(1), Some(1), None),
        (Program::new(), Some(0), None),
    ];
    for (program, code, signal) in rows {
        let (mut world, host) = world();
        let text = format!("{program:?}");
        let process = start(&world, &host, &Told::default(), program);
        let status = world.run_until(process.wait_closed()).unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{text}");
    }
}

#[test]
fn signals_reach_a_program_and_none_is_an_error_after_its_end() {
    let (mut world, host) = world();
    for signal in [1, 2, 9, 10, TERM] {
        let process = start(&world, &host, &Told::default(), Program::new().hang());
        let child = process.child().clone();
        for (wrong, kind) in [
            (-1, ErrorKind::InvalidInput),
            (0, ErrorKind::InvalidInput),
            (1000, ErrorKind::InvalidInput),
            (19, ErrorKind::Unsupported),
        ] {
            assert_eq!(
                child.send_signal(wrong).unwrap_err().kind(),
                kind,
                "{wrong}"
            );
        }
        // Before it was reaped, and after.
        for _ in 0..2 {
            child.send_signal(signal).unwrap();
            child.terminate().unwrap();
            child.send_signal_to_group(signal).unwrap();
            let status = world.run_until(child.wait()).unwrap();
            assert_eq!(status.signal(), Some(signal));
        }
    }
}

#[test]
fn a_signal_to_the_group_reaches_the_children_of_the_child() {
    let (mut world, host) = world();
    let told = Told::default();
    let program = Program::new().fork(Program::new().hang()).hang();
    let process = start(&world, &host, &told, program);
    world.pump().unwrap();
    process.child().send_signal_to_group(TERM).unwrap();
    // Else the grandchild would keep the pipes.
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!(status.signal(), Some(TERM));
    assert_nothing_left(&world, &host);
}

#[test]
fn a_write_that_nobody_reads_ends_a_program_unless_it_ignores_the_signal() {
    for ignores in [false, true] {
        let (mut world, host) = world();
        let program = match ignores {
            true => Program::new().ignore_signal(13),
            false => Program::new(),
        };
        let program = program.read_line().write("in vain").exit(3);
        let process = start(&world, &host, &Told::default(), program);
        process.pipe(Pipe::Stdout).unwrap().abort();
        process.stdin().unwrap().write(b"go\n").unwrap();
        let status = world.run_until(process.wait_closed()).unwrap();
        let ended = (status.code(), status.signal());
        assert_eq!(
            ended,
            if ignores {
                (Some(3), None)
            } else {
                (None, Some(13))
            }
        );
    }
}

#[test]
fn a_write_of_nothing_raises_no_signal_when_nobody_reads() {
    let (mut world, host) = world();
    let program = Program::new().read_line().write("").exit(3);
    let process = start(&world, &host, &Told::default(), program);
    process.pipe(Pipe::Stdout).unwrap().abort();
    process.stdin().unwrap().write(b"go\n").unwrap();
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!((status.code(), status.signal()), (Some(3), None));
}
