//! The processes of the hosts: how they start, how signals and their own steps end them, and their reaping.

use super::agenda::Event;
use super::kernel::Source;
use super::pipe::{Input, LoopEnd, Output, PipeId};
use super::state::{HostId, State, os_error};
use crate::faults::{Fault, Faults};
use crate::program::{Program, Ran, Step, Stream, Waits};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tidegate::driver::{Readiness, Token};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pid(pub(super) u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// The first number of a process: none that a test would write down.
const FIRST: u32 = 1001;

/// A process, until it has ended, was reaped and its steps were dropped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) host: HostId,
    name: String,
    /// The leader of its group.
    group: Pid,
    streams: [Option<PipeId>; 3],
    status: Option<ExitStatus>,
    /// The loop that has started it has not reaped it.
    is_awaited: bool,
    pub(super) token: Option<Token>,
    waits: Option<Waits>,
    /// The number of the next event that lets it go on.
    turn: u64,
    steps: VecDeque<Step>,
    /// Those of a signal, which take the place of the others.
    interrupt: Option<Program>,
    /// The steps for a signal; `None` ignores it.
    traps: BTreeMap<i32, Option<Program>>,
    /// It has ended, and holds no closure of the user any more.
    is_empty: bool,
}

/// Values that hold closures of the user, to be dropped when nothing is borrowed.
pub(super) type Discarded = Box<dyn std::any::Any>;

/// The next act of a process.
pub(super) enum Turn {
    Step(Step),
    Discard(Discarded),
    Nothing,
}

impl Process {
    pub(super) fn readiness(&self) -> Readiness {
        match self.status {
            Some(_) => Readiness::new().with_readable(),
            None => Readiness::new(),
        }
    }

    pub(super) fn is_turn(&self, turn: u64) -> bool {
        self.turn == turn
    }

    fn discard(&mut self) -> Discarded {
        self.is_empty = true;
        let steps = std::mem::take(&mut self.steps);
        Box::new((
            steps,
            self.interrupt.take(),
            std::mem::take(&mut self.traps),
        ))
    }
}

impl From<Pid> for Source {
    fn from(pid: Pid) -> Self {
        Self::Process(pid)
    }
}

impl State {
    /// Starts a program as a child of a host's loop. Returns the loop's ends of the pipes.
    pub(super) fn spawn(
        &mut self,
        host: HostId,
        name: &str,
        args: Vec<String>,
    ) -> io::Result<(Pid, [Option<PipeId>; 3])> {
        let program = self.programs.get_mut(&(host, name.to_owned()));
        let program = program.ok_or_else(|| {
            let message = format!("the host has no program {name:?}: see Network::program");
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let (has_pipe, capacity, make) = (program.has_pipe, program.capacity, program.make.clone());
        let count = has_pipe.iter().filter(|has| **has).count();
        for opened in 0..count {
            if let Err(error) = self.open_descriptor(host) {
                (0..opened).for_each(|_| self.close_descriptor(host));
                return Err(error);
            }
        }
        let ends = [LoopEnd::Writes, LoopEnd::Reads, LoopEnd::Reads];
        let pipes = [0, 1, 2].map(|n| has_pipe[n].then(|| self.add_pipe(host, ends[n], capacity)));
        if let Some(program) = self.programs.get_mut(&(host, name.to_owned())) {
            program.starts += 1;
        }
        let start = Step::Start(make, args);
        let pid = self.add_process(host, name, None, pipes, VecDeque::from([start]));
        Ok((pid, pipes))
    }

    /// `group`: that of the parent, for a process that is no child of a loop.
    fn add_process(
        &mut self,
        host: HostId,
        name: &str,
        group: Option<Pid>,
        streams: [Option<PipeId>; 3],
        steps: VecDeque<Step>,
    ) -> Pid {
        let pid = Pid(FIRST + self.started);
        self.started += 1;
        let process = Process {
            host,
            name: name.to_owned(),
            group: group.unwrap_or(pid),
            streams,
            status: None,
            is_awaited: group.is_none(),
            token: None,
            waits: None,
            turn: 0,
            steps,
            interrupt: None,
            traps: BTreeMap::new(),
            is_empty: false,
        };
        self.processes.insert(pid, process);
        self.note(
            ("start", pid.0.into(), host.0 as u64),
            name.as_bytes(),
            || format!("{host} {pid} starts"),
        );
        self.rouse(pid);
        pid
    }

    // Calls of the loop.

    pub(super) fn watch_process(&mut self, pid: Pid, token: Token) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.token = Some(token);
            let ready = process.readiness();
            if ready != Readiness::new() {
                self.tell(pid, ready);
            }
        }
    }

    pub(super) fn reap(&mut self, pid: Pid) -> io::Result<Option<ExitStatus>> {
        let process = self.processes.get_mut(&pid);
        let process = process.ok_or_else(|| os_error(libc::ECHILD))?;
        let Some(status) = process.status else {
            return Ok(None);
        };
        self.note(("reap", pid.0.into(), 0), &[], || {
            format!("{pid} is reaped")
        });
        self.abandon(pid);
        Ok(Some(status))
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&mut self, pid: Pid) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.is_awaited = false;
            process.token = None;
            self.drop_ended(pid);
        }
    }

    fn drop_ended(&mut self, pid: Pid) {
        let is_gone = |process: &Process| process.is_empty && !process.is_awaited;
        if self.processes.get(&pid).is_some_and(is_gone) {
            self.processes.remove(&pid);
        }
    }

    /// Sends a signal. One that has ended is no error.
    pub(crate) fn signal(&mut self, pid: Pid, signal: i32) -> io::Result<()> {
        let default = default_action(signal)?;
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(());
        };
        if process.status.is_some() {
            return Ok(());
        }
        // From now on it ignores one that it has steps for.
        let acts = process.traps.get_mut(&signal).map(Option::take);
        let has_steps = matches!(acts, Some(Some(_)));
        let ends = acts.is_none() && default == Action::End;
        if let Some(Some(steps)) = acts {
            process.waits = None;
            if let Some(before) = process.interrupt.replace(steps) {
                // They hold closures of the user, and are dropped with the steps that are left.
                process.steps.extend(before.into_steps());
            }
        }
        self.note(("signal", pid.0.into(), signal as u64), &[], || {
            format!("{pid} gets signal {signal}")
        });
        if ends {
            self.end_process(pid, ExitStatus::from_raw(signal));
        } else if has_steps {
            self.rouse(pid);
        }
        Ok(())
    }

    /// Sends a signal to all of a group.
    pub(super) fn signal_group(&mut self, leader: Pid, signal: i32) -> io::Result<()> {
        let all = self.processes.iter();
        let group = all.filter(|(_, process)| process.group == leader);
        let group: Vec<_> = group.map(|(pid, _)| *pid).collect();
        group
            .into_iter()
            .try_for_each(|pid| self.signal(pid, signal))
    }

    /// Returns those of this program that have not ended.
    pub(super) fn running(&self, host: HostId, name: &str) -> Vec<Pid> {
        let all = self.processes.iter();
        let running = all.filter(|(_, process)| {
            process.status.is_none() && process.host == host && process.name == name
        });
        running.map(|(pid, _)| *pid).collect()
    }

    /// Returns the number of those that run, or that nobody has reaped.
    pub(super) fn count_processes(&self) -> usize {
        let all = self.processes.values();
        all.filter(|process| process.status.is_none() || process.is_awaited)
            .count()
    }

    // Acts of the process.

    /// Lets it go on, in an event of its own.
    fn rouse(&mut self, pid: Pid) {
        let mut at = self.now();
        if self.dice.strikes(Fault::SlowProgram) {
            at += self.dice.within(Duration::ZERO, Faults::SLOW_PROGRAM);
        }
        self.rouse_at(pid, at);
    }

    fn rouse_at(&mut self, pid: Pid, at: Duration) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.turn += 1;
            let turn = process.turn;
            self.schedule(at, Event::Program { pid, turn });
        }
    }

    /// A pipe has changed: the processes that wait for it go on.
    pub(super) fn rouse_holders(&mut self, pipe: PipeId) {
        let waiting = self.processes.iter_mut().filter(|(_, process)| {
            let waits = match process.waits {
                Some(Waits::For(stream)) => process.streams[stream as usize],
                _ => None,
            };
            waits == Some(pipe)
        });
        let roused: Vec<_> = waiting
            .map(|(pid, process)| {
                process.waits = None;
                *pid
            })
            .collect();
        roused.into_iter().for_each(|pid| self.rouse(pid));
    }

    pub(super) fn next_turn(&mut self, pid: Pid) -> Turn {
        let Some(process) = self.processes.get_mut(&pid) else {
            return Turn::Nothing;
        };
        process.waits = None;
        if process.status.is_some() {
            let discarded = process.discard();
            self.drop_ended(pid);
            return Turn::Discard(discarded);
        }
        if let Some(program) = process.interrupt.take() {
            let before = std::mem::replace(&mut process.steps, program.into_steps());
            self.rouse(pid);
            return Turn::Discard(Box::new(before));
        }
        match process.steps.pop_front() {
            Some(step) => Turn::Step(step),
            None => {
                self.end_process(pid, ExitStatus::from_raw(0));
                Turn::Nothing
            }
        }
    }

    /// A step has run. Returns what is left of it when the process has ended meanwhile.
    pub(super) fn after_step(&mut self, pid: Pid, ran: Ran) -> Option<Discarded> {
        let Some(process) = self
            .processes
            .get_mut(&pid)
            .filter(|own| own.status.is_none())
        else {
            return Some(Box::new(ran));
        };
        let Ran { next, waits } = ran;
        let interrupted = process.interrupt.is_some();
        for step in next.into_iter().rev() {
            process.steps.push_front(step);
        }
        match waits {
            Some(Waits::Until(at)) if !interrupted => {
                process.waits = waits;
                self.rouse_at(pid, at);
            }
            Some(_) if !interrupted => process.waits = waits,
            _ => self.rouse(pid),
        }
        None
    }

    pub(crate) fn process_read(&mut self, pid: Pid, most: usize) -> Input {
        match self.stream_of(pid, Stream::Stdin) {
            Some(pipe) => self.take_input(pipe, most),
            None => Input::End,
        }
    }

    /// Returns the length of the line that waits in the standard input.
    pub(crate) fn line_of(&mut self, pid: Pid) -> Option<usize> {
        let pipe = self.stream_of(pid, Stream::Stdin)?;
        self.line_in(pipe)
    }

    /// Writes, and returns the number of bytes taken. When nobody reads it gets SIGPIPE, and all count as taken.
    pub(crate) fn process_write(&mut self, pid: Pid, stream: Stream, data: &[u8]) -> usize {
        let Some(pipe) = self.stream_of(pid, stream) else {
            return data.len();
        };
        match self.put_output(pipe, data) {
            Output::Taken(len) => len,
            Output::Broken => {
                // It is a signal that there is.
                let _ = self.signal(pid, libc::SIGPIPE);
                data.len()
            }
        }
    }

    pub(crate) fn close_stream_of(&mut self, pid: Pid, stream: Stream) {
        let process = self.processes.get_mut(&pid);
        let pipe = process.and_then(|process| process.streams[stream as usize].take());
        if let Some(pipe) = pipe {
            self.release_pipe(pipe);
        }
    }

    pub(crate) fn fork(&mut self, pid: Pid, program: Program) {
        let Some(process) = self.processes.get(&pid) else {
            return;
        };
        let (host, name, group) = (process.host, process.name.clone(), process.group);
        let streams = process.streams;
        streams
            .iter()
            .flatten()
            .for_each(|&pipe| self.hold_pipe(pipe));
        self.add_process(host, &name, Some(group), streams, program.into_steps());
    }

    /// Returns what was there before, for the caller to drop.
    pub(crate) fn trap(
        &mut self,
        pid: Pid,
        signal: i32,
        acts: Option<Program>,
    ) -> impl Sized + use<> {
        let process = self.processes.get_mut(&pid);
        process.map(|process| process.traps.insert(signal, acts))
    }

    pub(crate) fn end_process(&mut self, pid: Pid, status: ExitStatus) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.status = Some(status);
        let (streams, is_child) = (std::mem::take(&mut process.streams), process.is_awaited);
        self.note(("end", pid.0.into(), status.into_raw() as u64), &[], || {
            format!("{pid} ends: {status}")
        });
        if is_child {
            streams
                .iter()
                .flatten()
                .for_each(|&pipe| self.settle_pipe(pipe));
        }
        streams
            .into_iter()
            .flatten()
            .for_each(|pipe| self.release_pipe(pipe));
        self.tell(pid, Readiness::new().with_readable());
        // Its steps are dropped in an event, when nothing is borrowed.
        let now = self.now();
        self.rouse_at(pid, now);
    }

    fn stream_of(&self, pid: Pid, stream: Stream) -> Option<PipeId> {
        self.processes.get(&pid)?.streams[stream as usize]
    }
}

/// The default action of a signal (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    End,
    Nothing,
}

fn default_action(signal: i32) -> io::Result<Action> {
    match signal {
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => Ok(Action::Nothing),
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a simulated program is not stopped by signals",
        )),
        1..=31 => Ok(Action::End),
        _ => {
            let message = format!("there is no signal of the number {signal}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}
