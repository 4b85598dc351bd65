//! Child processes with streams as pipes.

use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{drive, finish, pattern, poll_once, settle, strict_loop};
use tidegate_streams::{NoEventLoop, Process, timeout};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn communicate_writes_and_reads_at_once_so_that_much_of_both_is_no_deadlock() {
    let mut event_loop = strict_loop();
    let input = pattern(0, 219_264);
    let talk = async move {
        // It writes before it reads, and more than any pipe holds.
        let mut command = shell("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; wc -c");
        command.stderr(Stdio::piped());
        Process::spawn(&mut command)?
            .communicate(&input, 2_000_000)
            .await
    };
    let output = finish(&mut event_loop, "the talk", talk).unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr.len(), 1_000_000);
    assert!(output.stdout.starts_with(&[0; 1_000_000]));
    assert_eq!(output.stdout[1_000_000..].trim_ascii(), b"219264");
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.children, stats.connections), (0, 0));
}

#[test]
fn a_process_is_spoken_to_through_its_streams() {
    let mut event_loop = strict_loop();
    let talk = async {
        let mut process = Process::spawn(&mut shell(
            "while read line; do echo got $line; done; exit 3",
        ))?;
        assert!(process.stderr.is_none());
        let (stdin, stdout) = (
            process.stdin.take().unwrap(),
            process.stdout.as_mut().unwrap(),
        );
        for word in ["one", "two"] {
            stdin
                .write(format!("{word}\n").as_bytes())
                .map_err(io::Error::from)?;
            let line = stdout.read_line().await?;
            assert_eq!(line, format!("got {word}\n"));
        }
        assert!(process.status().is_none());
        stdin.close().await?;
        process.wait().await
    };
    let status = finish(&mut event_loop, "the talk", talk).unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_process_that_does_not_read_its_input_is_no_error_of_communicate() {
    let mut event_loop = strict_loop();
    let input = pattern(0, 1_000_000);
    let talk = async move {
        Process::spawn(&mut shell("exec <&-; echo done"))?
            .communicate(&input, 100)
            .await
    };
    let output = finish(&mut event_loop, "the talk", talk).unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"done\n");
}

#[test]
fn more_output_than_the_most_is_an_error_and_stays_to_be_read() {
    let mut event_loop = strict_loop();
    let talk = async {
        let mut process = Process::spawn(&mut shell("head -c 5000 /dev/zero; cat"))?;
        let error = process.communicate(b"", 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        let rest = process.stdout.as_mut().unwrap().read_to_end(10_000).await?;
        process.wait().await?;
        Ok::<_, io::Error>(rest.len())
    };
    assert_eq!(finish(&mut event_loop, "the rest", talk).unwrap(), 5000);
}

#[test]
fn a_communicate_that_is_dropped_has_closed_the_input_and_taken_no_output() {
    let mut event_loop = strict_loop();
    let input = pattern(0, 1_000_000);
    let talk = async move {
        let mut process = Process::spawn(&mut shell("echo first; cat >/dev/null; echo second"))?;
        {
            let communicating = pin!(process.communicate(&input, 1000));
            assert!(poll_once(communicating).is_pending());
        }
        assert!(process.stdin.is_none());
        let output = process.communicate(b"nothing takes it", 1000).await?;
        Ok::<_, io::Error>(output)
    };
    let output = finish(&mut event_loop, "the rest", talk).unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"first\nsecond\n");
}

#[test]
fn dropping_a_process_closes_its_pipes_and_kills_it_only_when_told_to() {
    let mut event_loop = strict_loop();
    for kills in [false, true] {
        let start = async move {
            // Deaf to the end of its input; it ends when nobody reads what it writes.
            let mut process =
                Process::spawn(&mut shell("trap '' PIPE; exec 3<&0; read line; exit 4"))?;
            process.kill_on_drop(kills);
            let child = process.child().clone();
            Ok::<_, io::Error>((child, process))
        };
        let (child, process) = finish(&mut event_loop, "the start", start).unwrap();
        drop(process);
        drive(&mut event_loop, "the end", || child.status().is_some());
        let status = child.status().unwrap();
        match kills {
            true => assert_eq!(status.signal(), Some(9)),
            false => assert_eq!(status.code(), Some(4)),
        }
    }
}

#[test]
fn a_wait_that_times_out_can_be_made_again() {
    let mut event_loop = strict_loop();
    let talk = async {
        let mut process = Process::spawn(&mut shell("read line"))?;
        let waited = timeout(Duration::from_millis(5), process.wait()).await;
        assert!(waited.is_err());
        drop(process.stdin.take());
        process.wait().await
    };
    assert!(finish(&mut event_loop, "the end", talk).is_ok());
}

#[test]
fn a_program_that_does_not_exist_and_a_thread_without_a_loop_are_errors() {
    let refused = Process::spawn(&mut shell("exit")).unwrap_err();
    assert!(
        refused
            .get_ref()
            .is_some_and(|inner| inner.is::<NoEventLoop>())
    );
    let mut event_loop = strict_loop();
    let start = async { Process::spawn(&mut Command::new("/nowhere/at/all")).map(drop) };
    let refused = finish(&mut event_loop, "the error", start).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}
