//! Children: starting, signals, reaping, and the end of the loop.

use super::told::{Watch, each_watch, exists, shell, until_ended, within};
use log::LevelFilter;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::logs::{keep_log, logged};
use support::processes::Told;
use support::{BOUND, Log, Recorder, TempDir, drive, settle};
use tidegate::{EventLoop, LoopClosed};

/// A child that ends when its input does.
fn cat() -> Command {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

each_watch!(a_child_that_nobody_waits_for_is_reaped_at_once);
fn a_child_that_nobody_waits_for_is_reaped_at_once(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let child = cat().spawn().unwrap();
    let pid = child.id();
    let mut child = child;
    let stdin = child.stdin.take();
    drop(event_loop.handle().watch_child(child).unwrap());
    settle(&mut event_loop);
    assert!(exists(pid), "dropping the handle does nothing");
    assert_eq!(event_loop.handle().stats().children, 1);
    drop(stdin);
    drive(&mut event_loop, "reaped", || !exists(pid));
    assert_eq!(event_loop.handle().stats().children, 0);
}

each_watch!(a_child_that_has_ended_before_it_is_watched_is_reaped);
fn a_child_that_has_ended_before_it_is_watched_is_reaped(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let child = Command::new("true").spawn().unwrap();
    until_ended(child.id());
    let child = event_loop.handle().watch_child(child).unwrap();
    assert!(within(&mut event_loop, child.wait()).unwrap().success());
    assert!(!exists(child.pid()));
}

each_watch!(a_child_that_was_started_in_a_job_is_watched);
fn a_child_that_was_started_in_a_job_is_watched(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let handle = event_loop.handle().clone();
    let starting = handle.run_in_executor(|| Command::new("sh").args(["-c", "exit 5"]).spawn());
    let child = within(&mut event_loop, starting).unwrap().unwrap();
    let child = handle.watch_child(child).unwrap();
    assert_eq!(
        within(&mut event_loop, child.wait()).unwrap().code(),
        Some(5)
    );
}

each_watch!(a_child_without_a_protocol_has_pipes_for_one_direction_each);
fn a_child_without_a_protocol_has_pipes_for_one_direction_each(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let handle = event_loop.handle().clone();
    let recorder = || Recorder::new(&Log::new());
    let wrong = handle.spawn_child(&mut shell("cat")).unwrap();
    let refused = [
        handle.connect_read_pipe(wrong.stdin.unwrap(), recorder()),
        handle.connect_write_pipe(wrong.stdout.unwrap(), recorder()),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // They were closed, so its input has ended.
    within(&mut event_loop, wrong.child.wait()).unwrap();
    let log = Log::new();
    let right = handle.spawn_child(&mut shell("cat")).unwrap();
    let stdin = handle.connect_write_pipe(right.stdin.unwrap(), recorder());
    let stdin = stdin.unwrap();
    stdin.write(b"there and back").unwrap();
    stdin.write_eof().unwrap();
    let stdout = handle.connect_read_pipe(right.stdout.unwrap(), Recorder::new(&log));
    within(&mut event_loop, stdout.unwrap().wait_closed()).unwrap();
    assert_eq!(log.data(), b"there and back");
    let status = within(&mut event_loop, right.child.wait()).unwrap();
    assert!(status.success());
    drop(event_loop);
    let late = handle.spawn_child(&mut shell("cat")).unwrap_err();
    assert!(is_closed(&late));
}

each_watch!(a_start_that_fails_says_why_and_leaves_nothing);
fn a_start_that_fails_says_why_and_leaves_nothing(watch: Watch) {
    let dir = TempDir::new();
    let not_executable = dir.path("text");
    fs::write(&not_executable, "text").unwrap();
    let programs = [
        ("/nowhere/at/all", ErrorKind::NotFound),
        ("no-such-program", ErrorKind::NotFound),
        ("/", ErrorKind::PermissionDenied),
        (
            not_executable.to_str().unwrap(),
            ErrorKind::PermissionDenied,
        ),
    ];
    for (program, kind) in programs {
        let mut event_loop = watch.event_loop();
        let told = Told::default();
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = event_loop
            .handle()
            .subprocess_exec(&mut command, told.protocol());
        let error = started.unwrap_err();
        assert_eq!(error.kind(), kind, "{program}");
        let (text, advice) = (error.to_string(), advice(kind));
        assert!(text.contains(program) && text.contains(advice), "{text}");
        let system = error.get_ref().and_then(|inner| inner.source());
        let system = system.and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(system.map(io::Error::kind), Some(kind));
        settle(&mut event_loop);
        let stats = event_loop.handle().stats();
        assert_eq!((stats.children, stats.connections), (0, 0));
        assert!(told.with(|notes| notes.dropped) && told.words().is_empty());
    }
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "PATH",
        _ => "chmod +x",
    }
}

each_watch!(subprocess_exec_returns_when_the_program_runs);
fn subprocess_exec_returns_when_the_program_runs(watch: Watch) {
    let event_loop = watch.event_loop();
    let told = Told::default();
    let process = event_loop
        .handle()
        .subprocess_exec(&mut cat(), told.protocol())
        .unwrap();
    // Without a tick of the loop. The name comes a moment after the memory of execve(2).
    let name = || fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap();
    let begun = Instant::now();
    while name().trim() != "cat" {
        assert!(begun.elapsed() < BOUND, "{}", name());
        std::thread::yield_now();
    }
    assert!(process.status().is_none() && told.words().is_empty());
}

each_watch!(a_child_of_a_job_is_spoken_to_through_its_pipes);
fn a_child_of_a_job_is_spoken_to_through_its_pipes(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let handle = event_loop.handle().clone();
    let starting = handle.run_in_executor(|| cat().stdout(Stdio::piped()).spawn());
    let mut child = within(&mut event_loop, starting).unwrap().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let child = handle.watch_child(child).unwrap();
    let (from, to) = (Log::new(), Log::new());
    handle
        .connect_read_pipe(stdout, Recorder::new(&from))
        .unwrap();
    let stdin = handle
        .connect_write_pipe(stdin, Recorder::new(&to))
        .unwrap();
    stdin.write(b"through a job's child").unwrap();
    stdin.write_eof().unwrap();
    drive(&mut event_loop, "the output", || from.is_lost());
    assert_eq!(from.data(), b"through a job's child");
    assert!(within(&mut event_loop, child.wait()).unwrap().success());
}

each_watch!(signals_reach_a_child_and_none_is_sent_after_it_was_reaped);
fn signals_reach_a_child_and_none_is_sent_after_it_was_reaped(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let handle = event_loop.handle().clone();
    // Those that nohup(1) or a shell's background may have had ignored are left out.
    for signal in [9, 10, 12, 14, 15] {
        let mut process = cat().spawn().unwrap();
        let stdin = process.stdin.take();
        let child = handle.watch_child(process).unwrap();
        child.send_signal(signal).unwrap();
        let status = within(&mut event_loop, child.wait()).unwrap();
        assert_eq!(status.signal(), Some(signal));
        for _ in 0..2 {
            child.send_signal(signal).unwrap();
            child.send_signal_to_group(signal).unwrap();
            child.terminate().unwrap();
            child.kill().unwrap();
        }
        drop(stdin);
    }
    let mut process = cat().spawn().unwrap();
    let stdin = process.stdin.take();
    let child = handle.watch_child(process).unwrap();
    for signal in [-1, 0, 1000] {
        assert_eq!(
            child.send_signal(signal).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    for signal in [34, 64] {
        let refused = child.send_signal(signal).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("real-time"), "{refused}");
    }
    drop(stdin);
    within(&mut event_loop, child.wait()).unwrap();
}

each_watch!(a_signal_to_a_child_that_has_ended_and_was_not_reaped_is_no_error);
fn a_signal_to_a_child_that_has_ended_and_was_not_reaped_is_no_error(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let mut process = cat().spawn().unwrap();
    let stdin = process.stdin.take();
    let child = event_loop.handle().watch_child(process).unwrap();
    drop(stdin);
    until_ended(child.pid());
    assert!(exists(child.pid()));
    child.terminate().unwrap();
    assert!(within(&mut event_loop, child.wait()).unwrap().success());
}

each_watch!(a_child_that_was_waited_for_before_is_watched_without_its_number);
fn a_child_that_was_waited_for_before_is_watched_without_its_number(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0; cat <&3 & exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0);
    let mut process = command.spawn().unwrap();
    let (mut stdin, mut stdout) = (
        process.stdin.take().unwrap(),
        process.stdout.take().unwrap(),
    );
    assert_eq!(process.wait().unwrap().code(), Some(7));
    let child = event_loop.handle().watch_child(process).unwrap();
    // The number is still that of the group, and might be that of another process.
    child.send_signal_to_group(9).unwrap();
    child.kill().unwrap();
    stdin.write_all(b"it lives").unwrap();
    drop(stdin);
    let mut echo = String::new();
    stdout.read_to_string(&mut echo).unwrap();
    assert_eq!(echo, "it lives");
    assert_eq!(
        within(&mut event_loop, child.wait()).unwrap().code(),
        Some(7)
    );
    assert_eq!(event_loop.handle().stats().children, 0);
}

each_watch!(a_standard_input_that_nobody_took_is_closed_so_that_the_child_ends);
fn a_standard_input_that_nobody_took_is_closed_so_that_the_child_ends(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let child = event_loop
        .handle()
        .watch_child(cat().spawn().unwrap())
        .unwrap();
    assert!(within(&mut event_loop, child.wait()).unwrap().success());
}

each_watch!(a_signal_to_the_group_reaches_the_children_of_the_child);
fn a_signal_to_the_group_reaches_the_children_of_the_child(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let mut command = shell("exec 3<&0; (read line <&3) & echo started; wait");
    command.process_group(0);
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    drive(&mut event_loop, "both", || told.stdout() == "started\n");
    process.child().send_signal_to_group(15).unwrap();
    // The grandchild too: else it would keep the pipe.
    within(&mut event_loop, process.wait_closed()).unwrap();
    assert_eq!(process.status().unwrap().signal(), Some(15));
    let alone = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let alone = event_loop.handle().watch_child(alone).unwrap();
    assert!(alone.send_signal_to_group(15).is_err(), "it leads no group");
}

each_watch!(a_child_that_somebody_else_has_reaped_has_the_code_255_and_a_line_in_the_log);
fn a_child_that_somebody_else_has_reaped_has_the_code_255_and_a_line_in_the_log(watch: Watch) {
    keep_log(LevelFilter::Warn);
    let mut event_loop = watch.event_loop();
    let mut process = cat().spawn().unwrap();
    let stdin = process.stdin.take();
    let pid = Pid::from_raw(process.id() as i32);
    let child = event_loop.handle().watch_child(process).unwrap();
    drop(stdin);
    waitpid(pid, WaitOptions::empty()).unwrap();
    let status = within(&mut event_loop, child.wait()).unwrap();
    assert_eq!(status.code(), Some(255));
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        format!("{:?}", lines[0]).contains("reaped elsewhere"),
        "{lines:?}"
    );
}

each_watch!(close_kills_and_ends_the_pipes);
fn close_kills_and_ends_the_pipes(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let mut command = shell("trap '' TERM; echo deaf; while :; do sleep 1; done");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    drive(&mut event_loop, "the trap", || told.stdout() == "deaf\n");
    process.terminate().unwrap();
    settle(&mut event_loop);
    assert!(process.status().is_none());
    process.close();
    let status = within(&mut event_loop, process.wait_closed()).unwrap();
    assert_eq!(status.signal(), Some(9));
    assert!(told.has("end stdin: aborted here"), "{:?}", told.words());
}

each_watch!(the_end_of_the_loop_kills_and_reaps_all_and_tells_them);
fn the_end_of_the_loop_kills_and_reaps_all_and_tells_them(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let handle = event_loop.handle().clone();
    let told = Told::default();
    let mut command = shell("trap '' TERM; echo up; exec cat");
    let process = handle
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    drive(&mut event_loop, "up", || told.stdout() == "up\n");
    let mut alone = cat().spawn().unwrap();
    let stdin = alone.stdin.take();
    let alone = handle.watch_child(alone).unwrap();
    let begun = Instant::now();
    drop(event_loop);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert!(!exists(process.pid()) && !exists(alone.pid()), "reaped");
    assert_eq!(alone.status().unwrap().signal(), Some(9));
    let words = told.words();
    assert!(
        told.has("exited") && told.has("end stdin: shut down"),
        "{words:?}"
    );
    assert_eq!(words.last().unwrap(), "lost");
    assert!(told.with(|notes| notes.dropped));
    // All that comes after the end fails, and leaves no process.
    let late = handle.subprocess_exec(&mut cat(), Told::default().protocol());
    assert!(is_closed(&late.unwrap_err()));
    let child = cat().spawn().unwrap();
    let pid = child.id();
    assert!(is_closed(&handle.watch_child(child).unwrap_err()));
    assert!(!exists(pid));
    drop(stdin);
}

each_watch!(what_a_child_wrote_comes_before_its_exit_at_the_end_of_the_loop_too);
fn what_a_child_wrote_comes_before_its_exit_at_the_end_of_the_loop_too(watch: Watch) {
    // The pipes get places of the loop in front of, or behind, that of the child.
    for before in [0, 8] {
        let mut event_loop = watch.event_loop();
        let handle = event_loop.handle().clone();
        free_places(&mut event_loop, before);
        let told = Told::default();
        let mut command = shell("echo the last words");
        let process = handle
            .subprocess_exec(&mut command, told.protocol())
            .unwrap();
        until_ended(process.pid());
        drop(event_loop);
        let words = told.words();
        assert_eq!(told.with(|notes| notes.at_exit), Some(15), "{words:?}");
        assert!(told.with(|notes| notes.status.unwrap().success()));
        let place_of = |start: &str| words.iter().position(|word| word.starts_with(start));
        assert!(place_of("exited") < place_of("end stdin"), "{words:?}");
        assert_eq!(words.last().unwrap(), "lost");
    }
}

/// Leaves free places in the loop, of which the last is taken first.
fn free_places(event_loop: &mut EventLoop, count: usize) {
    let handle = event_loop.handle().clone();
    let pipes: Vec<_> = (0..count).map(|_| io::pipe().unwrap()).collect();
    let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
    let connect = |reader| handle.connect_read_pipe(reader, Recorder::new(&Log::new()));
    let transports: Vec<_> = readers.into_iter().map(connect).collect();
    for transport in transports {
        transport.unwrap().close();
        settle(event_loop);
    }
    drop(writers);
}

fn is_closed(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<LoopClosed>())
}

each_watch!(a_detached_child_outlives_the_loop);
fn a_detached_child_outlives_the_loop(watch: Watch) {
    let event_loop = watch.event_loop();
    let mut process = cat().spawn().unwrap();
    let stdin = process.stdin.take();
    let child = event_loop.handle().watch_child(process).unwrap();
    child.detach();
    drop(event_loop);
    assert!(exists(child.pid()) && child.status().is_none());
    drop(stdin);
    let ended = waitpid(Pid::from_raw(child.pid() as i32), WaitOptions::empty());
    let (_, status) = ended.unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "by itself");
}

each_watch!(the_protocol_of_a_detached_process_is_told_nothing_at_the_end_of_the_loop);
fn the_protocol_of_a_detached_process_is_told_nothing_at_the_end_of_the_loop(watch: Watch) {
    for before in [0, 8] {
        let mut event_loop = watch.event_loop();
        free_places(&mut event_loop, before);
        let told = Told::default();
        let process = event_loop
            .handle()
            .subprocess_exec(&mut shell("exec cat"), told.protocol())
            .unwrap();
        process.child().detach();
        drive(&mut event_loop, "made", || told.has("made"));
        drop(event_loop);
        assert_eq!(told.words(), ["made"]);
        assert!(told.with(|notes| notes.dropped));
        // It has lost its pipes with the loop.
        let ended = waitpid(Pid::from_raw(process.pid() as i32), WaitOptions::empty());
        assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(0));
    }
}

each_watch!(a_child_has_no_descriptor_of_ours_but_its_three);
fn a_child_has_no_descriptor_of_ours_but_its_three(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let handle = event_loop.handle().clone();
    let server = handle.create_server("127.0.0.1:0", || Recorder::new(&Log::new()));
    let others: Vec<_> = (0..5)
        .map(|_| {
            handle
                .subprocess_exec(&mut shell("exec cat"), Told::default().protocol())
                .unwrap()
        })
        .collect();
    let told = Told::default();
    let mut command = Command::new("ls");
    command.arg("/proc/self/fd").stdin(Stdio::piped());
    // With those that this process was given itself, and the folder that it reads.
    let without_a_loop = command.output().unwrap().stdout;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = handle
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    within(&mut event_loop, process.wait_closed()).unwrap();
    assert_eq!(told.stdout().as_bytes(), without_a_loop);
    drop((server, others));
}

#[test]
fn a_world_without_processes_says_so() {
    let mut world = tidegate_testkit::World::new();
    let host = world.add_host("host").unwrap();
    let child = cat().spawn().unwrap();
    let pid = child.id();
    let refused = host.handle().watch_child(child).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(!exists(pid), "it was killed and reaped");
    let event_loop = EventLoop::new().unwrap();
    assert_eq!(event_loop.handle().stats().children, 0);
}
