//! A simulated program is told of as a shell of Linux is that does the same.

use super::{SECOND, TERM, install, world};
use std::process::{Command, Stdio};
use support::processes::Told;
use support::{BOUND, drive};
use tidegate::{EventLoop, Pipe, Result, SubprocessTransport};
use tidegate_testkit::Program;

/// The acts of the protocol beside its notes.
type Does = fn(&SubprocessTransport, &str) -> Result;

struct Row {
    shell: &'static str,
    program: Program,
    does: Does,
}

fn rows() -> Vec<Row> {
    let nothing: Does = |_, _| Ok(());
    let row = |shell, program, does| Row {
        shell,
        program,
        does,
    };
    vec![
        row("exit 3", Program::new().exit(3), nothing),
        row("kill -USR1 $$", Program::new().raise(10), nothing),
        row(
            "echo out; echo err >&2",
            Program::new().write("out\n").write_err("err\n"),
            nothing,
        ),
        row("cat", Program::new().copy(), |process, word| {
            if word == "made" {
                let stdin = process.stdin().unwrap();
                stdin.write(b"there and back\n")?;
                stdin.write_eof()?;
            }
            Ok(())
        }),
        row(
            "exec <&-; echo closed; sleep 0.05",
            Program::new().close_stdin().write("closed\n").wait(SECOND),
            |process, word| {
                if word == "data stdout" {
                    process.stdin().unwrap().write(b"in vain")?;
                }
                Ok(())
            },
        ),
        row(
            "trap '' TERM; echo deaf; read line; exit 4",
            Program::new()
                .ignore_signal(TERM)
                .write("deaf\n")
                .read_line()
                .exit(4),
            |process, word| {
                if word == "data stdout" {
                    process.terminate()?;
                    process.stdin().unwrap().write(b"go\n")?;
                }
                Ok(())
            },
        ),
        row(
            "trap 'echo bye; exit 5' TERM; echo up; read line",
            Program::new()
                .on_signal(TERM, Program::new().write("bye\n").exit(5))
                .write("up\n")
                .hang(),
            |process, word| {
                let stdout = process.pipe(Pipe::Stdout).unwrap();
                if word == "data stdout" && stdout.stats().received == 3 {
                    process.terminate()?;
                }
                Ok(())
            },
        ),
        row(
            "echo up; exec cat",
            Program::new().write("up\n").copy(),
            |process, word| {
                if word == "data stdout" {
                    process.close();
                }
                Ok(())
            },
        ),
        row(
            "echo up; exec cat",
            Program::new().write("up\n").copy(),
            |_, word| match word {
                "data stdout" => Err("an error of the test".into()),
                _ => Ok(()),
            },
        ),
    ]
}

/// The callbacks, without the order that is left to chance, and all that was told by them.
fn summary(told: &Told) -> String {
    let mut words = told.words();
    let ends = (words.first().cloned(), words.last().cloned());
    words.sort();
    words.dedup();
    told.with(|notes| format!("{ends:?} {words:?} {:?} {:?}", notes.stdout, notes.status))
}

#[test]
fn the_same_callbacks_come_with_the_same_results() {
    for Row {
        shell,
        program,
        does,
    } in rows()
    {
        let real = Told::default();
        let mut event_loop = EventLoop::new().unwrap();
        // Those of some rows are meant.
        support::failures(event_loop.handle());
        let mut command = Command::new("sh");
        command.args(["-c", shell]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let handle = event_loop.handle().clone();
        let process = handle
            .subprocess_exec(&mut command, real.protocol_with(does))
            .unwrap();
        event_loop
            .run_until_within(process.wait_closed(), BOUND)
            .unwrap();
        drive(&mut event_loop, "lost", || real.has("lost"));

        let (mut world, host) = world();
        support::failures(host.handle());
        let simulated = Told::default();
        install(&world, &host, program);
        let protocol = simulated.protocol_with(does);
        let mut command = Command::new("program");
        host.handle()
            .subprocess_exec(&mut command, protocol)
            .unwrap();
        world.run_until_idle().unwrap();
        assert_eq!(summary(&simulated), summary(&real), "{shell}");
    }
}
