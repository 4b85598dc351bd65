//! The pipes of programs: room, backpressure, streams that are none, and pipes without a protocol.

use super::{SECOND, assert_nothing_left, install, world};
use std::cell::Cell;
use std::io::ErrorKind;
use std::process::Command;
use std::rc::Rc;
use support::processes::Told;
use support::{Log, Recorder, pattern};
use tidegate::{Handle, Pipe, SpawnedChild};
use tidegate_testkit::Program;

#[test]
fn a_program_that_does_not_read_holds_its_writer_up_until_it_does() {
    let (mut world, host) = world();
    let told = Told::default();
    let program = Program::new().wait(60 * SECOND).copy();
    install(&world, &host, program);
    let process = host
        .handle()
        .subprocess_exec(&mut Command::new("program"), told.protocol())
        .unwrap();
    let (stdin, sent) = (process.stdin().unwrap(), pattern(0, 300_000));
    assert!(stdin.write(&sent).unwrap().is_paused());
    world.advance(59 * SECOND).unwrap();
    assert!(told.has("pause") && !told.has("resume"));
    // As a pipe of Linux holds.
    assert_eq!(stdin.write_buffer_size(), sent.len() - 65_536);
    stdin.write_eof().unwrap();
    world.run_until(process.wait_closed()).unwrap();
    assert!(told.with(|notes| notes.stdout == sent));
    assert!(told.has("end stdin: closed here"), "{:?}", told.words());
    assert_nothing_left(&world, &host);
}

#[test]
fn a_program_whose_output_nobody_reads_waits() {
    let (mut world, host) = world();
    let done = Rc::new(Cell::new(false));
    let told = Told::default();
    let noted = done.clone();
    let program = Program::new()
        .write("0123456789")
        .call(move |_| noted.set(true));
    let mut program = Some(program);
    let small = world
        .network()
        .program(&host, "small", move |_| program.take().unwrap())
        .pipe_capacity(4);
    let process = host
        .handle()
        .subprocess_exec(&mut Command::new("small"), told.protocol())
        .unwrap();
    process.pipe(Pipe::Stdout).unwrap().pause_reading();
    world.run_until_idle().unwrap();
    assert_eq!((done.get(), small.running()), (false, 1));
    process.pipe(Pipe::Stdout).unwrap().resume_reading();
    world.run_until(process.wait_closed()).unwrap();
    assert!(done.get());
    assert_eq!(told.stdout(), "0123456789");
}

#[test]
fn streams_that_are_no_pipes_end_at_once_and_take_everything() {
    let (mut world, host) = world();
    world
        .network()
        .program(&host, "alone", |_| {
            Program::new().copy().write("?").write_err("?").exit(2)
        })
        .without_stdin()
        .without_stdout()
        .without_stderr();
    let told = Told::default();
    let process = host
        .handle()
        .subprocess_exec(&mut Command::new("alone"), told.protocol())
        .unwrap();
    assert!(process.stdin().is_none() && process.pipe(Pipe::Stderr).is_none());
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(told.words(), ["made", "exited", "lost"]);
}

fn spawn(handle: &Handle, name: &str) -> SpawnedChild {
    handle.spawn_child(&mut Command::new(name)).unwrap()
}

#[test]
fn pipes_of_a_child_without_a_protocol_are_connected_in_their_direction_alone() {
    let (mut world, host) = world();
    world
        .network()
        .program(&host, "cat", |_| Program::new().copy());
    let handle = host.handle();
    let wrong = spawn(handle, "cat");
    let recorder = || Recorder::new(&Log::new());
    let refused = [
        handle.connect_read_pipe(wrong.stdin.unwrap(), recorder()),
        handle.connect_write_pipe(wrong.stdout.unwrap(), recorder()),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let cat = spawn(handle, "cat");
    let log = Log::new();
    let stdin = handle
        .connect_write_pipe(cat.stdin.unwrap(), Recorder::new(&Log::new()))
        .unwrap();
    let stdout = handle
        .connect_read_pipe(cat.stdout.unwrap(), Recorder::new(&log))
        .unwrap();
    let detached = world.run_until(stdout.detach());
    assert_eq!(detached.unwrap_err().kind(), ErrorKind::Unsupported);
    stdin.write(b"there and back").unwrap();
    stdin.write_eof().unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(log.data(), b"there and back");
    assert!(log.is_lost() && cat.child.status().unwrap().success());
    // That of the other was closed, and it saw an end.
    assert!(wrong.child.status().unwrap().success());
    drop(cat.stderr);
    drop(wrong.stderr);
    assert_nothing_left(&world, &host);
}
