//! A test that needs a second process: its own binary, started once more, runs the same test,
//! which then takes the part of the child.
//!
//! Both talk in lines. The child ends when its standard input does, so it never outlives the
//! test, however that ends.

use crate::own_process::started_by;
use crate::{BOUND, TempDir};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;
use tidegate::{EventLoop, Handle};

/// Names the part that the child takes.
const PART: &str = "TIDEGATE_TEST_CHILD";

/// Marks the child's lines among those of the test runner.
const MARK: &str = "child: ";

/// The child, as the test sees it.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    commands: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this test binary again, with nothing but the test of this name, which finds
    /// [`part`] set.
    #[track_caller]
    pub fn start(test: &str, part: &str) -> Self {
        Self::start_with(&[], test, part)
    }

    /// As `start`, with these variables in its environment.
    #[track_caller]
    pub fn start_with(variables: &[(&str, &Path)], test: &str, part: &str) -> Self {
        match std::env::current_exe() {
            Ok(binary) => {
                let mut command = Command::new(binary);
                command.envs(variables.iter().copied());
                Self::spawn(&mut command, test, part)
            }
            Err(error) => panic!("cannot find this test's binary: {error}"),
        }
    }

    /// As `start`, started by another program with these arguments.
    #[track_caller]
    pub fn start_under(starter: &[&str], test: &str, part: &str) -> Self {
        match std::env::current_exe() {
            Ok(binary) => Self::spawn(&mut started_by(starter, &binary), test, part),
            Err(error) => panic!("cannot find this test's binary: {error}"),
        }
    }

    /// As `start`, with the rights of another user; for root. That user can get at the copy of the
    /// binary that is put into the folder.
    #[track_caller]
    pub fn start_as(user: u32, folder: &TempDir, test: &str, part: &str) -> Self {
        let copy = folder.path("test-binary");
        match std::env::current_exe().and_then(|binary| std::fs::copy(binary, &copy)) {
            Ok(_) => Self::spawn(Command::new(copy).uid(user).gid(user), test, part),
            Err(error) => panic!("cannot copy this test's binary: {error}"),
        }
    }

    #[track_caller]
    fn spawn(command: &mut Command, test: &str, part: &str) -> Self {
        let spawned = command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        match spawned {
            Ok(mut process) => match (process.stdin.take(), process.stdout.take()) {
                (Some(commands), Some(lines)) => Self {
                    process,
                    commands: Some(commands),
                    lines: BufReader::new(lines),
                },
                _ => unreachable!("both were asked for"),
            },
            Err(error) => panic!("cannot start this test once more: {error}"),
        }
    }

    /// The next line that the child says.
    #[track_caller]
    pub fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(0) => panic!("the child ended: {:?}", self.process.wait()),
                // The test runner may have begun the line.
                Ok(_) => {
                    if let Some((_, said)) = line.split_once(MARK) {
                        return said.trim_end().to_owned();
                    }
                }
                Err(error) => panic!("the child's output: {error}"),
            }
        }
    }

    /// Gives a command and waits for its reply.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.line()
    }

    /// Gives a command.
    #[track_caller]
    pub fn tell(&mut self, command: &str) {
        if let Some(commands) = &mut self.commands
            && let Err(error) = writeln!(commands, "{command}")
        {
            panic!("the child does not listen: {error}");
        }
    }

    /// Kills the child by SIGKILL, and returns when it has ended.
    #[track_caller]
    pub fn kill(mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            panic!("the child cannot be killed: {error}");
        }
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) => thread::yield_now(),
                Err(error) => panic!("the child's end: {error}"),
            }
            assert!(begun.elapsed() < BOUND, "the child does not end");
        }
    }

    /// Gives a command whose reply is a list of numbers.
    #[track_caller]
    pub fn numbers<T: FromStr, const N: usize>(&mut self, command: &str) -> [T; N] {
        let answer = self.ask(command);
        let numbers: Option<Vec<T>> = answer.split(' ').map(|word| word.parse().ok()).collect();
        match numbers.and_then(|numbers| numbers.try_into().ok()) {
            Some(numbers) => numbers,
            None => panic!("{command}: {answer:?}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.commands = None;
        // It ends by itself; waiting leaves no zombie.
        let _ = self.process.wait();
    }
}

/// The part that this process is to take, when it is the child.
pub fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Says a line to the test; in the child.
pub fn say(line: impl std::fmt::Display) {
    // Not `println`, whose output the test runner may keep back. A test that has gone is noticed
    // by the end of the standard input.
    let mut output = std::io::stdout();
    let _ = writeln!(output, "{MARK}{line}").and_then(|()| output.flush());
}

/// The commands of the test, in the child.
#[derive(Debug)]
pub struct Commands(Receiver<String>);

impl Commands {
    /// Listens to the standard input, in a thread that ends the process when the input does.
    pub fn of(event_loop: &EventLoop) -> Self {
        let (sender, receiver) = mpsc::channel();
        let remote = event_loop.handle().remote();
        thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let given = sender.send(line);
                if given.is_err() || remote.call_soon_threadsafe(Handle::stop).is_err() {
                    break;
                }
            }
            process::exit(0);
        });
        Self(receiver)
    }

    /// Runs the loop until there is a command.
    #[track_caller]
    pub fn next(&self, event_loop: &mut EventLoop) -> String {
        loop {
            if let Ok(line) = self.0.try_recv() {
                return line;
            }
            if let Err(error) = event_loop.run_forever() {
                panic!("the loop failed: {error}");
            }
        }
    }
}
