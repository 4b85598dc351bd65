//! Programs that hosts run: supervisors start them again, and compare what they are told of each run with what the
//! program did.

use crate::client::bytes;
use crate::ledger::{Guard, Ledger};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Closed, Handle, Pipe, Result, SubprocessProtocol, SubprocessTransport};
use tidegate_testkit::{Clock, Host, Program, World};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Maximum number of bytes that a program writes, and that are written to one.
const MOST: usize = 200_000;

/// The longest time to SIGTERM, and half of that to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(60);

/// The numbers of a world, or of several.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) starts: u64,
    /// Starts that failed for want of a descriptor.
    pub(crate) refused: u64,
    pub(crate) exits: u64,
    pub(crate) killed: u64,
    pub(crate) bytes: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.starts += other.starts;
        self.refused += other.refused;
        self.exits += other.exits;
        self.killed += other.killed;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            starts,
            refused,
            exits,
            killed,
            bytes,
        } = self;
        write!(
            f,
            "{starts} programs started, {refused} refused; {exits} exits, {killed} of them by a signal; \
             {bytes} bytes of output"
        )
    }
}

/// The programs of a world.
#[derive(Debug)]
pub(crate) struct Programs {
    ledger: Rc<Ledger>,
    clock: Clock,
    /// None is started after that.
    last: Duration,
    counts: Cell<Counts>,
    rng: RefCell<fastrand::Rng>,
    runs: RefCell<BTreeMap<u64, Rc<Run>>>,
    /// Loops that end, and read nothing more.
    ended: RefCell<Vec<Handle>>,
}

/// One run, as the program and its supervisor know it.
#[derive(Debug)]
struct Run {
    of: u64,
    kind: Kind,
    /// The output, or the input of one that copies.
    len: usize,
    code: u8,
    /// The output of the finished writes of the program.
    wrote: Cell<u64>,
    /// The signals that it was sent may have ended it.
    signalled: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Writes,
    Copies,
    /// Ends in its own time at SIGTERM.
    Orderly,
    Deaf,
    /// Another one keeps its pipes.
    Forks,
    Crashes,
}

const KINDS: [Kind; 6] = [
    Kind::Writes,
    Kind::Copies,
    Kind::Orderly,
    Kind::Deaf,
    Kind::Forks,
    Kind::Crashes,
];

impl Programs {
    /// Starts two for each of these hosts, in every other world. The numbers of a seed are drawn apart: the rest of
    /// the world does not depend on them.
    pub(crate) fn start(
        world: &World,
        hosts: &[Host],
        traffic: Duration,
        ledger: &Rc<Ledger>,
    ) -> Rc<Self> {
        let mut rng = fastrand::Rng::with_seed(world.seed().rotate_left(32));
        let runs = rng.bool();
        let programs = Rc::new(Self {
            ledger: ledger.clone(),
            clock: world.clock(),
            last: traffic,
            counts: Cell::default(),
            rng: RefCell::new(rng),
            runs: RefCell::default(),
            ended: RefCell::default(),
        });
        for host in hosts.iter().filter(|_| runs) {
            let made = programs.clone();
            let make = move |args: &[String]| made.make(args);
            let capacity = 1 << programs.rng.borrow_mut().usize(6..17);
            world
                .network()
                .program(host, "program", make)
                .pipe_capacity(capacity);
            for _ in 0..2 {
                programs.start_later(host.handle());
            }
        }
        programs
    }

    fn start_later(self: &Rc<Self>, handle: &Handle) {
        let pause = Duration::from_millis(self.rng.borrow_mut().u64(1..20_000));
        let call = Guard::new(&self.ledger, |ledger| &ledger.calls);
        let programs = self.clone();
        handle.call_later(pause, move |handle| {
            drop(call);
            programs.start_one(handle);
        });
    }

    fn start_one(self: &Rc<Self>, handle: &Handle) {
        if self.clock.elapsed() > self.last {
            return;
        }
        let run = Rc::new(self.any_run());
        self.runs.borrow_mut().insert(run.of, run.clone());
        let protocol = Supervised {
            programs: self.clone(),
            run: run.clone(),
            made: false,
            exited: false,
            lost: false,
            input: None,
            received: 0,
            _protocol: Guard::new(&self.ledger, |ledger| &ledger.protocols),
        };
        let mut command = Command::new("program");
        command.arg(run.of.to_string());
        match handle.subprocess_exec(&mut command, protocol) {
            Ok(_) => self.count(|counts| counts.starts += 1),
            Err(error) => {
                if error.raw_os_error() != Some(24) {
                    let text = format!("a program was not started: {error}");
                    self.ledger.violation(text);
                }
                self.count(|counts| counts.refused += 1);
                self.start_later(handle);
            }
        }
    }

    fn any_run(&self) -> Run {
        let rng = &mut *self.rng.borrow_mut();
        Run {
            of: self.runs.borrow().len() as u64,
            kind: KINDS[rng.usize(..KINDS.len())],
            len: 1 << rng.u32(..MOST.ilog2()),
            code: rng.u8(1..),
            wrote: Cell::default(),
            signalled: Cell::default(),
        }
    }

    /// The steps of a run.
    fn make(&self, args: &[String]) -> Program {
        let run = args.first().and_then(|arg| arg.parse().ok());
        let run = run.and_then(|of: u64| self.runs.borrow().get(&of).cloned());
        let Some(run) = run else {
            self.ledger
                .violation(format!("a program without its arguments: {args:?}"));
            return Program::new();
        };
        let rng = &mut *self.rng.borrow_mut();
        let program = match run.kind {
            Kind::Copies => return Program::new().copy().exit(run.code),
            Kind::Orderly => {
                let orderly = Program::new().wait(any_time(rng)).exit(run.code);
                Program::new().on_signal(SIGTERM, orderly)
            }
            Kind::Deaf => Program::new().ignore_signal(SIGTERM),
            _ => Program::new(),
        };
        let program = run.write(program, rng);
        match run.kind {
            Kind::Orderly | Kind::Deaf => program.hang(),
            Kind::Forks => {
                let other = Program::new().wait(any_time(rng)).write_err("late").exit(0);
                program.fork(other).exit(run.code)
            }
            Kind::Crashes => program.raise(SIGKILL),
            Kind::Writes | Kind::Copies => program.wait(any_time(rng)).exit(run.code),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// A host is about to end.
    pub(crate) fn host_ends(&self, host: &Host) {
        self.ended.borrow_mut().push(host.handle().clone());
    }

    /// Notes a violation for every process that is left, when all must have ended.
    pub(crate) fn end(&self, left: &[&Host], world: &World) {
        let processes = world.network().processes();
        let children = left.iter().map(|host| host.handle().stats().children);
        let children: usize = children.sum();
        if processes + children > 0 {
            let text = format!("{processes} processes are left, and {children} children");
            self.ledger.violation(text);
        }
        self.ledger.programs.set(self.counts.get());
    }
}

fn any_time(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(rng.u64(..20_000))
}

impl Run {
    /// Adds writes of all of the output, in pieces with pauses.
    fn write(self: &Rc<Self>, mut program: Program, rng: &mut fastrand::Rng) -> Program {
        let (mut at, pieces) = (0, rng.usize(1..5));
        for left in (1..=pieces).rev() {
            let len = (self.len - at) / left;
            let (run, to) = (self.clone(), (at + len) as u64);
            program = program
                .write(bytes(self.of, at as u64, len))
                .call(move |_| run.wrote.set(to));
            if rng.bool() {
                program = program.wait(any_time(rng));
            }
            at += len;
        }
        program
    }

    /// Whether the program can have ended so.
    fn may_end(&self, status: ExitStatus) -> bool {
        let by_itself = match self.kind {
            Kind::Crashes => status.signal() == Some(SIGKILL),
            Kind::Deaf => false,
            _ => status.code() == Some(self.code.into()),
        };
        let by_us = matches!(status.signal(), Some(SIGTERM | SIGKILL)) && self.signalled.get();
        by_itself || by_us
    }
}

/// The protocol of a run.
struct Supervised {
    programs: Rc<Programs>,
    run: Rc<Run>,
    made: bool,
    exited: bool,
    lost: bool,
    /// How the pipe of the input has ended: with nothing unsent, or not.
    input: Option<bool>,
    received: u64,
    _protocol: Guard,
}

impl Supervised {
    fn callback(&mut self, process: &SubprocessTransport, name: &str) {
        if self.lost || self.made == (name == "made") {
            self.violation(format!("{name} out of order: {process:?}"));
        }
        self.made = true;
    }

    fn violation(&self, text: impl fmt::Display) {
        let (run, received) = (&self.run, self.received);
        let text = format!("{text} ({run:?}, {received} received)");
        self.programs.ledger.violation(text);
    }

    /// Sends a signal after a time, if it has not ended.
    fn signal_later(&self, process: &SubprocessTransport, after: Duration, signal: i32) {
        let (child, run) = (process.child().clone(), self.run.clone());
        let call = Guard::new(&self.programs.ledger, |ledger| &ledger.calls);
        process.handle().call_later(after, move |_| {
            drop(call);
            if child.status().is_none() {
                run.signalled.set(true);
                // It is a signal that there is.
                let _ = child.send_signal(signal);
            }
        });
    }
}

impl SubprocessProtocol for Supervised {
    fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
        self.callback(process, "made");
        let term = self
            .programs
            .rng
            .borrow_mut()
            .u64(..PATIENCE.as_millis() as u64);
        self.signal_later(process, Duration::from_millis(term), SIGTERM);
        self.signal_later(process, 2 * PATIENCE, SIGKILL);
        let stdin = process.stdin().ok_or("no standard input")?;
        let input = match self.run.kind {
            Kind::Copies => bytes(self.run.of, 0, self.run.len),
            _ => Vec::new(),
        };
        // Refused by the write budget of the loop: the end of the pipe tells.
        if stdin.write(&input).is_ok() {
            let _ = stdin.write_eof();
        }
        Ok(())
    }

    fn pipe_data_received(
        &mut self,
        process: &SubprocessTransport,
        pipe: Pipe,
        data: &[u8],
    ) -> Result {
        self.callback(process, "data");
        if pipe == Pipe::Stderr {
            if self.run.kind != Kind::Forks {
                self.violation("an output that it did not write");
            }
            return Ok(());
        }
        if bytes(self.run.of, self.received, data.len()) != data {
            self.violation("another output than it wrote");
        }
        self.received += data.len() as u64;
        Ok(())
    }

    fn pipe_connection_lost(&mut self, process: &SubprocessTransport, pipe: Pipe, closed: &Closed) {
        self.callback(process, "the end of a pipe");
        if pipe == Pipe::Stdin {
            self.input = Some(closed.is_clean());
        }
    }

    fn process_exited(&mut self, process: &SubprocessTransport, status: ExitStatus) -> Result {
        self.callback(process, "exited");
        if self.exited || process.status() != Some(status) {
            self.violation(format!("exited twice, or differently: {status}"));
        }
        self.exited = true;
        let is_ending = self.programs.ended.borrow().contains(process.handle());
        let is_short = self.received < self.run.wrote.get() && !is_ending;
        if is_short || self.received > self.run.len as u64 {
            self.violation("an exit before the output");
        }
        // The end of a loop kills its processes.
        if !(self.run.may_end(status) || is_ending && status.signal() == Some(SIGKILL)) {
            self.violation(format!("ended as it cannot: {status}"));
        }
        let is_whole = self.input == Some(true) && status.code().is_some() && !is_ending;
        if self.run.kind == Kind::Copies && is_whole && self.received != self.run.len as u64 {
            self.violation("a copy that is not whole");
        }
        Ok(())
    }

    fn connection_lost(&mut self, process: &SubprocessTransport) {
        self.callback(process, "lost");
        self.lost = true;
        if !self.exited {
            self.violation("lost before it has exited");
        }
        let status = process.status();
        self.programs.count(|counts| {
            counts.exits += 1;
            counts.killed += u64::from(status.is_some_and(|status| status.signal().is_some()));
            counts.bytes += self.received;
        });
        self.programs.start_later(process.handle());
    }
}
