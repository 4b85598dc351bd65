//! A supervisor: keeps copies of a program running, starts them again when they end, and passes on what they
//! write, line by line. SIGINT (Ctrl-C) or SIGTERM ends all of them within a time.
//!
//! Run:
//!
//!     cargo run --example supervisor -- --count 2 --grace 2 --run 'echo hello; sleep 1; exit 3'
//!
//! Expect `1 started as process N`, `1: hello`, `1 ended: exit status: 3, again in 100 ms`, and so on. The pause
//! doubles up to 10 s, and begins anew after a run of 10 s. At Ctrl-C each program gets SIGTERM with all of its own
//! children. The one that is left after the grace is killed, and named. The exit code is 3 then.
//!
//! When nobody reads its lines any more, it ends all programs too, with the exit code 1.
//!
//! Each program leads a process group of its own, so the terminal's Ctrl-C reaches the supervisor alone.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::{
    Completer, EventLoop, Handle, Pipe, Result, Signal, SubprocessProtocol, SubprocessTransport,
};
use tidegate_examples::{Args, exit_code};

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A program that has run this long is well.
const WELL: Duration = Duration::from_secs(10);
/// A longer line is passed on in pieces.
const LONGEST_LINE: usize = 64 * 1024;
/// The exit code of a supervisor that had to kill.
const KILLED: u8 = 3;

struct Supervisor {
    handle: Handle,
    run: String,
    places: Vec<Place>,
    stopping: Cell<bool>,
    /// There while all programs are being ended.
    done: RefCell<Option<Completer<()>>>,
    killed: Cell<usize>,
    /// Nobody reads the lines any more.
    is_unread: Cell<bool>,
}

#[derive(Default)]
struct Place {
    process: RefCell<Option<SubprocessTransport>>,
    pause: Cell<Duration>,
}

/// One run of a program.
struct Program {
    supervisor: Rc<Supervisor>,
    place: usize,
    started: Instant,
    /// Lines that have begun, of stdout and stderr.
    begun: [Vec<u8>; 2],
}

impl Supervisor {
    /// Prints a line. When nobody reads them, all programs are ended.
    fn say(&self, line: fmt::Arguments<'_>) {
        let mut out = io::stdout().lock();
        let said = writeln!(out, "{line}").and_then(|()| out.flush());
        if said.is_err() && !self.is_unread.replace(true) && !self.stopping.get() {
            self.handle.stop();
        }
    }

    fn start(self: &Rc<Self>, place: usize) {
        if self.stopping.get() {
            return;
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.run).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let program = Program {
            supervisor: self.clone(),
            place,
            started: self.handle.now(),
            begun: Default::default(),
        };
        match self.handle.subprocess_exec(&mut command, program) {
            Ok(process) => {
                let pid = process.pid();
                self.say(format_args!("{} started as process {pid}", place + 1));
                self.places[place].process.replace(Some(process));
            }
            Err(error) => self.start_later(place, &format!("cannot be started: {error}")),
        }
    }

    fn start_later(self: &Rc<Self>, place: usize, why: &str) {
        let pause = self.places[place].pause.get().max(FIRST_PAUSE);
        self.places[place].pause.set((pause * 2).min(LONGEST_PAUSE));
        let ms = pause.as_millis();
        self.say(format_args!("{} {why}, again in {ms} ms", place + 1));
        let supervisor = self.clone();
        self.handle
            .call_later(pause, move |_| supervisor.start(place));
    }

    fn ended(self: &Rc<Self>, place: usize, status: ExitStatus, ran: Duration) {
        self.places[place].process.take();
        if self.stopping.get() {
            self.say(format_args!("{} ended: {status}", place + 1));
            self.look();
            return;
        }
        if ran >= WELL {
            self.places[place].pause.set(Duration::ZERO);
        }
        self.start_later(place, &format!("ended: {status}"));
    }

    fn signal_all(&self, signal: Signal) {
        for place in &self.places {
            if let Some(process) = &*place.process.borrow() {
                // It fails for a group that has just ended.
                let _ = process.child().send_signal_to_group(signal);
            }
        }
    }

    /// Ends all: `done` completes when they have ended.
    fn stop(&self, done: Completer<()>) {
        self.stopping.set(true);
        self.done.replace(Some(done));
        self.signal_all(Signal::SIGTERM);
        self.look();
    }

    fn kill(&self) {
        for (place, number) in self.places.iter().zip(1..) {
            if place.process.borrow().is_some() {
                self.say(format_args!("{number} had to be killed"));
                self.killed.set(self.killed.get() + 1);
            }
        }
        self.signal_all(Signal::SIGKILL);
    }

    fn look(&self) {
        let left = self
            .places
            .iter()
            .any(|place| place.process.borrow().is_some());
        if !left && let Some(done) = self.done.take() {
            done.complete(Ok(()));
        }
    }
}

impl Program {
    fn say(&self, line: &[u8]) {
        let (number, line) = (self.place + 1, String::from_utf8_lossy(line));
        self.supervisor.say(format_args!("{number}: {line}"));
    }

    /// Passes on the lines that have no end.
    fn say_begun(&mut self) {
        for line in std::mem::take(&mut self.begun) {
            if !line.is_empty() {
                self.say(&line);
            }
        }
    }
}

impl SubprocessProtocol for Program {
    fn pipe_data_received(&mut self, _: &SubprocessTransport, pipe: Pipe, data: &[u8]) -> Result {
        let stream = usize::from(pipe == Pipe::Stderr);
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.begun[stream].extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun[stream].len() >= LONGEST_LINE {
                let line = std::mem::take(&mut self.begun[stream]);
                self.say(line.strip_suffix(b"\n").unwrap_or(&line));
            }
        }
        Ok(())
    }

    fn process_exited(&mut self, process: &SubprocessTransport, status: ExitStatus) -> Result {
        self.say_begun();
        let ran = process
            .handle()
            .now()
            .saturating_duration_since(self.started);
        self.supervisor.ended(self.place, status, ran);
        Ok(())
    }

    /// A child of the program may have written after its end.
    fn connection_lost(&mut self, _: &SubprocessTransport) {
        self.say_begun();
    }
}

fn run() -> Result<ExitCode> {
    let args = Args::from_env(&[("run", "COMMAND"), ("count", "N"), ("grace", "SECONDS")])?;
    let count = args.number("count", 1..=1000, 2)?;
    let grace = Duration::from_secs_f64(args.number("grace", 0.0..=1e9, 5.0)?);
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let signal = handle.wait_signal(&SIGNALS);
    let supervisor = Rc::new(Supervisor {
        handle: handle.clone(),
        run: args.required("run")?.to_owned(),
        places: (0..count).map(|_| Place::default()).collect(),
        stopping: Cell::new(false),
        done: RefCell::default(),
        killed: Cell::new(0),
        is_unread: Cell::new(false),
    });
    for place in 0..count {
        supervisor.start(place);
    }
    let stopped = event_loop.run_until(signal);
    if !supervisor.is_unread.get() {
        stopped?;
    }

    handle.wait_signal(&SIGNALS).then(|handle, _| handle.stop());
    let seconds = grace.as_secs_f64();
    supervisor.say(format_args!("ending all within {seconds} s"));
    let (done, all_ended) = handle.completion();
    supervisor.stop(done);
    let late = supervisor.clone();
    handle.call_later(grace, move |_| late.kill());
    // An error: a second signal. The end of the loop kills what is left.
    if event_loop.run_until(all_ended).is_err() {
        supervisor.kill();
    }
    let killed = supervisor.killed.get() > 0;
    let unread = supervisor.is_unread.get();
    Ok(ExitCode::from(match killed {
        true => KILLED,
        false => u8::from(unread),
    }))
}

fn main() -> ExitCode {
    exit_code(run)
}
