//! A process and its protocol: the order of the callbacks, output before the exit, ends.

use super::told::{Watch, each_watch, exists, shell, until_ended, within};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use support::processes::Told;
use support::{Log, MIB, Recorder, drive, pattern, settle};
use tidegate::{Pipe, WriteError};

each_watch!(made_comes_first_lost_comes_last_and_once);
fn made_comes_first_lost_comes_last_and_once(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let mut command = shell("read line; echo out $line; echo err >&2; exit 7");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    assert!(exists(process.pid()) && process.status().is_none());
    process.stdin().unwrap().write(b"put\n").unwrap();
    let status = within(&mut event_loop, process.wait_closed()).unwrap();
    assert_eq!(status.code(), Some(7));
    assert!(!exists(process.pid()), "it was reaped");
    let words = told.words();
    assert_eq!(
        (words[0].as_str(), words.last().unwrap().as_str()),
        ("made", "lost")
    );
    for word in ["data stdout", "data stderr", "exited"] {
        assert_eq!(
            words.iter().filter(|noted| *noted == word).count(),
            1,
            "{words:?}"
        );
    }
    assert!(
        told.has("end stdout: end of stream from the peer"),
        "{words:?}"
    );
    assert_eq!(told.stdout(), "out put\n");
    assert!(told.with(|notes| notes.dropped));
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!(
        (stats.children, stats.connections, stats.stale_events),
        (0, 0, 0)
    );
    // Once more, after the end.
    assert_eq!(
        within(&mut event_loop, process.wait_closed()).unwrap(),
        status
    );
    assert_eq!(
        within(&mut event_loop, process.child().wait()).unwrap(),
        status
    );
}

each_watch!(all_that_the_process_wrote_comes_before_process_exited);
fn all_that_the_process_wrote_comes_before_process_exited(watch: Watch) {
    let mut event_loop = watch.event_loop();
    for round in 0..40 {
        let told = Told::default();
        let mut command = shell("head -c 60000 /dev/zero");
        let process = event_loop
            .handle()
            .subprocess_exec(&mut command, told.protocol())
            .unwrap();
        within(&mut event_loop, process.child().wait()).unwrap();
        drive(&mut event_loop, "exited", || told.has("exited"));
        assert_eq!(
            told.with(|notes| notes.at_exit),
            Some(60_000),
            "round {round}"
        );
    }
}

each_watch!(a_stop_of_reading_keeps_output_back_and_loses_none);
fn a_stop_of_reading_keeps_output_back_and_loses_none(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let protocol = told.protocol_with(|process, word| {
        if word == "made" {
            process.pipe(Pipe::Stdout).unwrap().pause_reading();
        }
        Ok(())
    });
    let mut command = shell("echo the last words");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, protocol)
        .unwrap();
    drive(&mut event_loop, "exited", || told.has("exited"));
    settle(&mut event_loop);
    assert_eq!(told.stdout(), "");
    assert!(!told.has("lost"));
    process.pipe(Pipe::Stdout).unwrap().resume_reading();
    drive(&mut event_loop, "lost", || told.has("lost"));
    assert_eq!(told.stdout(), "the last words\n");
}

each_watch!(output_whose_event_has_passed_comes_before_process_exited);
fn output_whose_event_has_passed_comes_before_process_exited(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    // A grandchild keeps the pipe, so the exit brings no event of it.
    let mut command = shell("exec 3<&0; (read line <&3) & echo early; wait");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    let stdout = process.pipe(Pipe::Stdout).unwrap();
    stdout.pause_reading();
    drive(&mut event_loop, "the output", || {
        let there = stdout.with_fd(|fd| Ok(rustix::io::ioctl_fionread(fd)?));
        there.unwrap() == 6
    });
    settle(&mut event_loop);
    process.kill().unwrap();
    until_ended(process.pid());
    stdout.resume_reading();
    drive(&mut event_loop, "exited", || told.has("exited"));
    assert_eq!(told.with(|notes| notes.at_exit), Some(6));
    process.close();
    within(&mut event_loop, process.wait_closed()).unwrap();
}

each_watch!(connection_made_comes_before_any_byte_is_read);
fn connection_made_comes_before_any_byte_is_read(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let protocol = told.protocol_with(|process, word| {
        if word == "made" {
            process.pipe(Pipe::Stdout).unwrap().pause_reading();
        }
        Ok(())
    });
    let mut command = shell("echo at once");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, protocol)
        .unwrap();
    // Its output is there before the loop has run once.
    until_ended(process.pid());
    drive(&mut event_loop, "exited", || told.has("exited"));
    settle(&mut event_loop);
    assert_eq!(told.stdout(), "");
    process.close();
}

each_watch!(a_grandchild_that_keeps_the_pipe_does_not_hold_wait);
fn a_grandchild_that_keeps_the_pipe_does_not_hold_wait(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    // The grandchild ends when our end of stdin does.
    let mut command = shell("exec 3<&0; (read line <&3; echo late) & echo early");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    let status = within(&mut event_loop, process.child().wait()).unwrap();
    assert!(status.success());
    drive(&mut event_loop, "exited", || told.has("exited"));
    assert_eq!(told.stdout(), "early\n");
    assert!(!told.has("lost"));
    process.stdin().unwrap().write(b"go on\n").unwrap();
    within(&mut event_loop, process.wait_closed()).unwrap();
    assert_eq!(told.stdout(), "early\nlate\n");
}

each_watch!(close_does_not_wait_for_a_grandchild);
fn close_does_not_wait_for_a_grandchild(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let mut command = shell("exec 3<&0; (read line <&3) & echo early");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    drive(&mut event_loop, "exited", || told.has("exited"));
    process.close();
    within(&mut event_loop, process.wait_closed()).unwrap();
    assert!(told.has("end stdout: aborted here"), "{:?}", told.words());
}

each_watch!(process_exited_comes_though_nobody_kept_a_handle);
fn process_exited_comes_though_nobody_kept_a_handle(watch: Watch) {
    for script in ["exec <&- >&- 2>&-; sleep 0.02", ":", "echo some"] {
        let mut event_loop = watch.event_loop();
        let told = Told::default();
        let mut command = shell(script);
        drop(
            event_loop
                .handle()
                .subprocess_exec(&mut command, told.protocol())
                .unwrap(),
        );
        drive(&mut event_loop, "lost", || told.has("lost"));
        assert!(told.has("exited"), "{script}: {:?}", told.words());
    }
}

each_watch!(a_process_without_pipes_is_made_exited_and_lost);
fn a_process_without_pipes_is_made_exited_and_lost(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let mut command = shell("exit 1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    assert!(process.stdin().is_none() && process.pipe(Pipe::Stderr).is_none());
    within(&mut event_loop, process.wait_closed()).unwrap();
    assert_eq!(told.words(), ["made", "exited", "lost"]);
}

each_watch!(an_exit_code_and_a_signal_are_told_apart);
fn an_exit_code_and_a_signal_are_told_apart(watch: Watch) {
    let mut event_loop = watch.event_loop();
    for (script, code, signal) in [
        ("exit 143", Some(143), None),
        ("kill -TERM $$", None, Some(15)),
    ] {
        let told = Told::default();
        let mut command = shell(script);
        let process = event_loop
            .handle()
            .subprocess_exec(&mut command, told.protocol())
            .unwrap();
        let status = within(&mut event_loop, process.wait_closed()).unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
    }
}

each_watch!(writing_to_stdin_pauses_and_resumes);
fn writing_to_stdin_pauses_and_resumes(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let told = Told::default();
    let mut command = shell("read line; cat | wc -c");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    let stdin = process.stdin().unwrap();
    let flow = stdin.write(
        &pattern(0, MIB)
            .iter()
            .map(|byte| byte | 64)
            .collect::<Vec<_>>(),
    );
    assert!(flow.unwrap().is_paused());
    drive(&mut event_loop, "the pause", || told.has("pause"));
    stdin.write(b"\nrest").unwrap();
    stdin.write_eof().unwrap();
    within(&mut event_loop, process.wait_closed()).unwrap();
    assert!(
        told.has("resume") || told.has("end stdin: closed here"),
        "{:?}",
        told.words()
    );
    assert_eq!(told.stdout().trim(), "4");
}

each_watch!(a_write_to_a_child_that_does_not_read_ends_that_pipe_alone);
fn a_write_to_a_child_that_does_not_read_ends_that_pipe_alone(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let failures = support::failures(event_loop.handle());
    let told = Told::default();
    let protocol = told.protocol_with(|process, word| {
        if word == "data stdout" {
            // It has closed its end.
            process.stdin().unwrap().write(&pattern(0, 100_000))?;
        }
        Ok(())
    });
    let mut command = shell("exec <&-; echo closed; sleep 0.05; echo more");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, protocol)
        .unwrap();
    let status = within(&mut event_loop, process.wait_closed()).unwrap();
    assert!(status.success(), "{status}");
    assert!(
        told.has("end stdin: Broken pipe (os error 32)"),
        "{:?}",
        told.words()
    );
    assert_eq!(told.stdout(), "closed\nmore\n");
    assert!(failures.borrow().is_empty(), "{failures:?}");
    let refused = process.stdin().unwrap().write(b"late").unwrap_err();
    assert!(matches!(refused, WriteError::Closed { .. }));
}

each_watch!(an_error_or_a_panic_is_reported_and_the_process_is_killed);
fn an_error_or_a_panic_is_reported_and_the_process_is_killed(watch: Watch) {
    for panics in [false, true] {
        for at in ["made", "data stdout", "data stderr"] {
            let mut event_loop = watch.event_loop();
            let failures = support::failures(event_loop.handle());
            let told = Told::default();
            let protocol = told.protocol_with(move |_, word| {
                if word != at {
                    return Ok(());
                }
                assert!(!panics, "a panic of the test");
                Err("an error of the test".into())
            });
            let mut command = shell("echo out; echo err >&2; exec cat");
            let process = event_loop
                .handle()
                .subprocess_exec(&mut command, protocol)
                .unwrap();
            let status = within(&mut event_loop, process.wait_closed()).unwrap();
            assert_eq!(status.signal(), Some(9), "{at}");
            assert!(told.has("exited") && told.has("lost"));
            let failures = failures.borrow();
            assert_eq!(failures.len(), 1, "{failures:?}");
            let text = failures[0].to_string();
            assert!(
                text.contains("of the test") && text.contains("Noting"),
                "{text}"
            );
        }
    }
}

each_watch!(a_pipe_that_another_protocol_takes_over_holds_the_end_no_more);
fn a_pipe_that_another_protocol_takes_over_holds_the_end_no_more(watch: Watch) {
    let mut event_loop = watch.event_loop();
    let (told, log) = (Told::default(), Log::new().switched_in());
    let mut command = shell("echo to the other one; read line");
    let process = event_loop
        .handle()
        .subprocess_exec(&mut command, told.protocol())
        .unwrap();
    let stdout = process.pipe(Pipe::Stdout).unwrap();
    stdout.set_protocol(Recorder::new(&log), b"").unwrap();
    drive(&mut event_loop, "data", || {
        log.data() == b"to the other one\n"
    });
    process.stdin().unwrap().write_eof().unwrap();
    within(&mut event_loop, process.wait_closed()).unwrap();
    drive(&mut event_loop, "the end of the pipe", || log.is_lost());
    assert_eq!(told.stdout(), "");
}
