//! The programs of the hosts, as a test puts them there.

use super::pipe::CAPACITY;
use super::process::{Pid, Turn};
use super::state::{HostId, State};
use super::{Host, Network};
use crate::program::{Make, Program};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

/// A program of a host, of which the processes are made.
pub(super) struct Installed {
    pub(super) make: Make,
    /// Which of its standard streams are pipes.
    pub(super) has_pipe: [bool; 3],
    pub(super) capacity: usize,
    pub(super) starts: u64,
}

/// A program that [`Network::program`] has put on a host.
#[derive(Debug, Clone)]
pub struct InstalledProgram {
    network: Network,
    host: HostId,
    name: String,
}

/// # Programs
impl Network {
    /// Puts a program on a host, where its loop starts it by this very name, or replaces the one of that name.
    ///
    /// `make` makes the [steps](Program) of each run, of the arguments of the command. It is called as the first
    /// step of the run, not within the call that starts it. Arguments that are not UTF-8 have replacement characters.
    /// Environment, folder and all else that a command may set are ignored.
    ///
    /// A [`Command`](std::process::Command) does not tell which of its standard streams are pipes. So all three are,
    /// unless [`InstalledProgram::without_stdin`] and its like say otherwise: the test says what the code under test
    /// asks for. Likewise each process leads a process group of its own.
    ///
    /// ```
    /// use std::process::Command;
    /// use tidegate_streams::Process;
    /// use tidegate_testkit::{Program, World};
    ///
    /// # fn main() -> tidegate::Result {
    /// let mut world = World::new();
    /// let host = world.add_host("a")?;
    /// world.network().program(&host, "tr", |args| {
    ///     assert_eq!(args, ["a-z", "A-Z"]);
    ///     Program::new().reply(|line| line.to_ascii_uppercase())
    /// });
    /// let output = world.block_on(&host, async {
    ///     let mut process = Process::spawn(Command::new("tr").args(["a-z", "A-Z"]))?;
    ///     process.communicate(b"hello\nworld", 100).await
    /// })??;
    /// assert_eq!(output.stdout, b"HELLO\nWORLD");
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn program(
        &self,
        host: &Host,
        name: &str,
        make: impl FnMut(&[String]) -> Program + 'static,
    ) -> InstalledProgram {
        let installed = InstalledProgram {
            network: self.clone(),
            host: self.id_of(host),
            name: name.to_owned(),
        };
        let program = Installed {
            make: Rc::new(RefCell::new(make)),
            has_pipe: [true; 3],
            capacity: CAPACITY,
            starts: 0,
        };
        let before = self.with(|state| state.install(installed.key(), program));
        // Its closure may hold the network.
        drop(before);
        installed
    }

    /// Returns the number of programs of all hosts that run, or have ended and were not reaped.
    pub fn processes(&self) -> usize {
        self.with(|state| state.count_processes())
    }

    /// Lets a process take its next step.
    pub(crate) fn run_process(&self, pid: Pid) {
        match self.with(|state| state.next_turn(pid)) {
            Turn::Step(step) => {
                let ran = step.run(self, pid);
                let discarded = self.with(|state| state.after_step(pid, ran));
                drop(discarded);
            }
            Turn::Discard(discarded) => drop(discarded),
            Turn::Nothing => {}
        }
    }
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "the program is changed in any case"
)]
impl InstalledProgram {
    fn key(&self) -> (HostId, String) {
        (self.host, self.name.clone())
    }

    fn change(self, change: impl FnOnce(&mut Installed)) -> Self {
        self.network.with(|state| {
            if let Some(program) = state.programs.get_mut(&self.key()) {
                change(program);
            }
        });
        self
    }

    /// Makes no pipe of its standard input in processes that are started from now on: it reads an end at once, as from
    /// /dev/null.
    pub fn without_stdin(self) -> Self {
        self.change(|program| program.has_pipe[0] = false)
    }

    /// Makes no pipe of its standard output in processes that are started from now on: its writes go nowhere.
    pub fn without_stdout(self) -> Self {
        self.change(|program| program.has_pipe[1] = false)
    }

    /// Makes no pipe of its standard error in processes that are started from now on: its writes go nowhere.
    pub fn without_stderr(self) -> Self {
        self.change(|program| program.has_pipe[2] = false)
    }

    /// Sets the number of bytes that each of its pipes holds, in processes that are started from now on; 64 KiB unless
    /// set, and at least 1.
    pub fn pipe_capacity(self, bytes: usize) -> Self {
        self.change(|program| program.capacity = bytes.max(1))
    }

    /// Returns how often it was started.
    pub fn starts(&self) -> u64 {
        self.network.with(|state| {
            let program = state.programs.get(&self.key());
            program.map_or(0, |program| program.starts)
        })
    }

    /// Returns the number of its processes that have not ended, those that they have forked included.
    pub fn running(&self) -> usize {
        self.network
            .with(|state| state.running(self.host, &self.name).len())
    }

    /// Sends a signal to each of its processes, as another program would.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that is no signal.
    /// [`Unsupported`](io::ErrorKind::Unsupported) for those that stop a process.
    pub fn signal(&self, signal: impl Into<i32>) -> io::Result<()> {
        let signal = signal.into();
        self.network.with(|state| {
            let running = state.running(self.host, &self.name);
            running
                .into_iter()
                .try_for_each(|pid| state.signal(pid, signal))
        })
    }

    /// Takes it from its host. Processes of it go on.
    pub fn remove(self) {
        let before = self
            .network
            .with(|state| state.programs.remove(&self.key()));
        drop(before);
    }
}

impl State {
    fn install(&mut self, key: (HostId, String), program: Installed) -> Option<Installed> {
        if self.is_over() {
            return Some(program);
        }
        self.programs.insert(key, program)
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed")
            .field("has_pipe", &self.has_pipe)
            .field("starts", &self.starts)
            .finish_non_exhaustive()
    }
}
