//! Another program as the peer: it is waited for with a bound, its words are shown when the test
//! fails, and it never outlives the test.

use super::bulk::{BLOCK, Noise, Tally};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate::EventLoop;

/// How long anything of it may take. Far more than it needs: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(100);

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Lines in the order in which they were taken from `lines`, for a failing test.
    said: Vec<String>,
    /// The bytes that went in and came out, when it carries data from stdin to stdout.
    carried: Option<[JoinHandle<Tally>; 2]>,
}

impl Program {
    /// Runs `asyncio_peer.py`.
    #[track_caller]
    pub fn asyncio(side: &str, address: &str, role: &str, options: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../interop/asyncio_peer.py");
        let arguments = [script, side, address, "--role", role];
        Self::talking("python3", arguments.iter().chain(options))
    }

    /// Runs a program that is told lines by [`tell`](Self::tell). [`expect`](Self::expect) sees its
    /// stdout and its stderr.
    #[track_caller]
    pub fn talking(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut program = Self::spawn(name, arguments);
        let (words, lines) = channel();
        read_lines(program.child.stdout.take(), words.clone());
        read_lines(program.child.stderr.take(), words);
        program.stdin = program.child.stdin.take();
        program.lines = lines;
        program
    }

    /// Runs a program that sends what it reads from its stdin, here `len` bytes, and writes what
    /// it receives to its stdout. [`expect`](Self::expect) sees its stderr.
    #[track_caller]
    pub fn carrying(name: &str, arguments: &[&str], len: u64) -> Self {
        let mut program = Self::spawn(name, arguments);
        let (words, lines) = channel();
        read_lines(program.child.stderr.take(), words);
        program.lines = lines;
        let (stdin, stdout) = (program.child.stdin.take(), program.child.stdout.take());
        program.carried = Some([
            std::thread::spawn(move || feed(stdin, len)),
            std::thread::spawn(move || hash(stdout)),
        ]);
        program
    }

    /// Runs a program that writes what it receives to its stdout. Its stdin stays open.
    #[track_caller]
    pub fn absorbing(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut program = Self::spawn(name, arguments);
        let (words, lines) = channel();
        read_lines(program.child.stderr.take(), words);
        program.lines = lines;
        program.stdin = program.child.stdin.take();
        let stdout = program.child.stdout.take();
        program.carried = Some([
            std::thread::spawn(Tally::default),
            std::thread::spawn(move || hash(stdout)),
        ]);
        program
    }

    #[track_caller]
    fn spawn(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(name);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => Self {
                name: name.to_owned(),
                child,
                stdin: None,
                lines: channel().1,
                said: vec![format!("{command:?}")],
                carried: None,
            },
            Err(error) => panic!(
                "{name} does not start: {error}; this test needs python3, nc (of OpenBSD), socat \
                 and openssl: apt-get install python3 netcat-openbsd socat openssl"
            ),
        }
    }

    /// Returns the number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its stdin.
    #[track_caller]
    pub fn tell(&mut self, line: &str) {
        let Some(stdin) = &mut self.stdin else {
            panic!("the stdin of {} is in use", self.name)
        };
        // In one write: the program may act on half a line.
        if let Err(error) = stdin.write_all(format!("{line}\n").as_bytes()) {
            panic!("{} does not listen: {error}", self.name);
        }
    }

    /// The next line that it has said, if there is one.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => {
                self.said.push(line.clone());
                Some(line)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("{} has said its last", self.name),
        }
    }

    /// Runs the loop until a line contains `mark`; returns the text after the mark.
    #[track_caller]
    pub fn expect(&mut self, event_loop: &mut EventLoop, mark: &str) -> String {
        let mut found = None;
        drive(event_loop, mark, || {
            while found.is_none()
                && let Some(line) = self.line()
            {
                found = line.split_once(mark).map(|(_, rest)| rest.to_owned());
            }
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Runs the loop until the program has ended, which it must do as it should.
    #[track_caller]
    pub fn expect_success(&mut self, event_loop: &mut EventLoop) {
        let mut status: Option<ExitStatus> = None;
        let child = &mut self.child;
        drive(event_loop, "the end of the program", || {
            match child.try_wait() {
                Ok(answer) => status = answer,
                Err(error) => panic!("{error}"),
            }
            status.is_some()
        });
        let name = &self.name;
        assert!(
            status.is_some_and(|status| status.success()),
            "{name}: {status:?}"
        );
    }

    /// After its end: what went into its stdin and what came from its stdout.
    #[track_caller]
    pub fn carried(&mut self) -> (String, String) {
        let carried = self
            .carried
            .take()
            .map(|threads| threads.map(JoinHandle::join));
        match carried {
            Some([Ok(sent), Ok(received)]) => (sent.to_string(), received.to_string()),
            other => panic!("{} carried nothing: {other:?}", self.name),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing happens to one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.said.extend(self.lines.try_iter());
            eprintln!("{} said:\n    {}", self.name, self.said.join("\n    "));
        }
    }
}

/// As [`support::drive`](crate::drive), with the bound of other programs.
#[track_caller]
pub(super) fn drive(event_loop: &mut EventLoop, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited in vain for: {what}");
        if let Err(error) = event_loop.run_once(Some(Duration::from_millis(5))) {
            panic!("the loop failed: {error}");
        }
    }
}

fn read_lines(from: Option<impl Read + Send + 'static>, to: Sender<String>) {
    let lines = from.map(BufReader::new).map(BufReader::lines);
    std::thread::spawn(move || {
        for line in lines.into_iter().flatten().map_while(Result::ok) {
            // Nobody listens after the test.
            let _ = to.send(line);
        }
    });
}

fn feed(to: Option<ChildStdin>, len: u64) -> Tally {
    let mut tally = Tally::default();
    let mut noise = Noise::new(len);
    let mut to = to.into_iter();
    if let Some(to) = &mut to.next() {
        for data in noise.blocks(len) {
            // A program that does not want it all is found by the hash.
            if to.write_all(&data).is_err() {
                break;
            }
            tally.add(&data);
        }
    }
    tally
}

fn hash(from: Option<impl Read>) -> Tally {
    let mut tally = Tally::default();
    let mut block = vec![0; BLOCK];
    if let Some(mut from) = from {
        while let Ok(len @ 1..) = from.read(&mut block) {
            tally.add(&block[..len]);
        }
    }
    tally
}
