//! The callbacks of a program, its output before its exit, and starts that fail.

use super::{SECOND, assert_nothing_left, install, start, world};
use std::cell::RefCell;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use support::pattern;
use support::processes::Told;
use tidegate::{Pipe, WriteError};
use tidegate_testkit::{Host, Network, Program};

#[test]
fn made_comes_first_lost_comes_last_and_once() {
    let (mut world, host) = world();
    let told = Told::default();
    let program = Program::new()
        .read_line()
        .write("out")
        .write_err("err")
        .wait(SECOND)
        .exit(7);
    let process = start(&world, &host, &told, program);
    assert_eq!(process.status(), None);
    process.stdin().unwrap().write(b"put\n").unwrap();
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!((status.code(), world.elapsed()), (Some(7), SECOND));
    let words = told.words();
    let ends = (words[0].as_str(), words.last().unwrap().as_str());
    assert_eq!(ends, ("made", "lost"));
    for word in [
        "data stdout",
        "data stderr",
        "exited",
        "end stdout: end of stream from the peer",
        "end stderr: end of stream from the peer",
        "end stdin: Broken pipe (os error 32)",
    ] {
        let times = words.iter().filter(|noted| *noted == word).count();
        assert_eq!(times, 1, "{word}: {words:?}");
    }
    assert_eq!(told.stdout(), "out");
    assert!(told.with(|notes| notes.dropped));
    world.run_until_idle().unwrap();
    assert_nothing_left(&world, &host);
    assert_eq!(world.run_until(process.child().wait()).unwrap(), status);
}

#[test]
fn output_behind_a_stop_of_reading_comes_after_the_exit_and_none_is_lost() {
    let (mut world, host) = world();
    let told = Told::default();
    let process = start(&world, &host, &told, Program::new().write("last words"));
    process.pipe(Pipe::Stdout).unwrap().pause_reading();
    world.run_until_idle().unwrap();
    assert!(
        told.has("exited") && !told.has("lost"),
        "{:?}",
        told.words()
    );
    assert_eq!(told.stdout(), "");
    process.pipe(Pipe::Stdout).unwrap().resume_reading();
    world.run_until_idle().unwrap();
    assert!(told.has("lost"));
    assert_eq!(told.stdout(), "last words");
    assert_nothing_left(&world, &host);
}

#[test]
fn a_grandchild_that_keeps_the_pipe_does_not_hold_wait() {
    let (mut world, host) = world();
    let told = Told::default();
    let grandchild = Program::new().wait(60 * SECOND).write("late").read_line();
    let program = Program::new().fork(grandchild).write("early");
    let process = start(&world, &host, &told, program);
    let status = world.run_until(process.child().wait()).unwrap();
    assert!(status.success());
    world.pump().unwrap();
    assert_eq!(world.elapsed(), Duration::ZERO);
    assert!(
        told.has("exited") && !told.has("lost"),
        "{:?}",
        told.words()
    );
    assert_eq!(told.stdout(), "early");
    assert_eq!(world.network().processes(), 1, "the grandchild");
    world.advance(61 * SECOND).unwrap();
    assert_eq!(told.stdout(), "earlylate");
    process.stdin().unwrap().write_eof().unwrap();
    world.run_until(process.wait_closed()).unwrap();
    assert_nothing_left(&world, &host);
}

#[test]
fn close_does_not_wait_for_a_grandchild() {
    let (mut world, host) = world();
    let told = Told::default();
    let program = Program::new().fork(Program::new().wait(SECOND).write("?").exit(1));
    let process = start(&world, &host, &told, program);
    world.pump().unwrap();
    assert!(told.has("exited") && !told.has("lost"));
    process.close();
    world.run_until(process.wait_closed()).unwrap();
    assert!(told.has("end stdout: aborted here"), "{:?}", told.words());
    // It gets SIGPIPE.
    world.run_until_idle().unwrap();
    assert_nothing_left(&world, &host);
}

#[test]
fn a_write_to_a_stdin_that_nobody_reads_ends_that_pipe_alone() {
    let (mut world, host) = world();
    let failures = support::failures(host.handle());
    let told = Told::default();
    let program = Program::new()
        .close_stdin()
        .write("closed")
        .wait(SECOND)
        .write("more");
    install(&world, &host, program);
    let protocol = told.protocol_with(|process, word| {
        if word == "data stdout" {
            process.stdin().unwrap().write(&pattern(0, 100_000))?;
        }
        Ok(())
    });
    let process = host
        .handle()
        .subprocess_exec(&mut Command::new("program"), protocol)
        .unwrap();
    let status = world.run_until(process.wait_closed()).unwrap();
    assert!(status.success(), "{status}");
    assert!(
        told.has("end stdin: Broken pipe (os error 32)"),
        "{:?}",
        told.words()
    );
    assert_eq!(told.stdout(), "closedmore");
    assert!(failures.borrow().is_empty(), "{failures:?}");
    let refused = process.stdin().unwrap().write(b"late").unwrap_err();
    assert!(matches!(refused, WriteError::Closed { .. }));
}

#[test]
fn an_error_or_a_panic_is_reported_and_the_process_is_killed() {
    for panics in [false, true] {
        for at in ["made", "data stdout", "data stderr"] {
            let (mut world, host) = world();
            let failures = support::failures(host.handle());
            let told = Told::default();
            let protocol = told.protocol_with(move |_, word| {
                if word != at {
                    return Ok(());
                }
                assert!(!panics, "a panic of the test");
                Err("an error of the test".into())
            });
            install(
                &world,
                &host,
                Program::new().write("out").write_err("err").hang(),
            );
            let process = host
                .handle()
                .subprocess_exec(&mut Command::new("program"), protocol)
                .unwrap();
            let status = world.run_until(process.wait_closed()).unwrap();
            assert_eq!(status.signal(), Some(9), "{at}");
            let failures = failures.borrow();
            assert_eq!(failures.len(), 1, "{failures:?}");
            assert!(
                failures[0].to_string().contains("of the test"),
                "{failures:?}"
            );
        }
    }
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let (mut world, host) = world();
    let other = world.add_host("b").unwrap();
    let exec = |host: &Host, name: &str| {
        let told = Told::default();
        let handle = host.handle();
        let started = handle.subprocess_exec(&mut Command::new(name), told.protocol());
        (started.map(drop), told)
    };
    let installed = world.network().program(&host, "here", |_| Program::new());
    let refused = [exec(&host, "nowhere"), exec(&other, "here")];
    installed.remove();
    let removed = exec(&host, "here");
    for (started, told) in refused.into_iter().chain([removed]) {
        let error = started.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.ends_with("see Network::program"), "{text}");
        world.run_until_idle().unwrap();
        assert!(told.with(|notes| notes.dropped) && told.words().is_empty());
    }
    let here = world.network().program(&host, "here", |_| Program::new());
    for most in 0..3 {
        world.network().limit_descriptors(&host, Some(most));
        let (started, _) = exec(&host, "here");
        assert_eq!(started.unwrap_err().raw_os_error(), Some(24), "EMFILE");
        assert_eq!(world.network().descriptors(&host), 0);
    }
    assert_eq!(here.starts(), 0);
    world.network().limit_descriptors(&host, Some(3));
    exec(&host, "here").0.unwrap();
    world.run_until_idle().unwrap();
    assert_eq!((here.starts(), here.running()), (1, 0));
    assert_nothing_left(&world, &host);
}

#[test]
fn the_arguments_of_the_command_choose_the_steps() {
    let (mut world, host) = world();
    let echo = |args: &[String]| Program::new().write(args.join(" "));
    world.network().program(&host, "echo", echo);
    for args in [["a", "b"], ["c d", "é"]] {
        let told = Told::default();
        let mut command = Command::new("echo");
        let process = host
            .handle()
            .subprocess_exec(command.args(args), told.protocol())
            .unwrap();
        world.run_until(process.wait_closed()).unwrap();
        assert_eq!(told.stdout(), args.join(" "));
    }
}

#[test]
fn a_program_calls_into_its_world() {
    let (mut world, host) = world();
    let times = Rc::new(RefCell::new(Vec::new()));
    let noted = times.clone();
    let program = (1..=3).fold(Program::new(), |program, n| {
        let noted = noted.clone();
        let call = move |network: &Network| noted.borrow_mut().push(network.elapsed());
        program.wait(n * SECOND).call(call)
    });
    let process = start(&world, &host, &Told::default(), program);
    world.run_until(process.wait_closed()).unwrap();
    assert_eq!(*times.borrow(), [SECOND, 3 * SECOND, 6 * SECOND]);
}
