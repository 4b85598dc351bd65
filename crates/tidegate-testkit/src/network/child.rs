//! Pipes and processes as the driver gives them to a loop.

use super::Network;
use super::pipe::PipeId;
use super::process::Pid;
use super::state::HostId;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::process::{Command, ExitStatus};
use tidegate::driver::{ChildProcess, Process, Socket, Spawned, StreamSocket};

/// Starts the program of a command.
pub(super) fn spawn(network: &Network, host: HostId, command: &Command) -> io::Result<Spawned> {
    let text = |text: &OsStr| text.to_string_lossy().into_owned();
    let (name, args) = (text(command.get_program()), command.get_args().map(text));
    let args = args.collect();
    let (pid, pipes) = network.with(|state| state.spawn(host, &name, args))?;
    let [stdin, stdout, stderr] = pipes.map(|pipe| {
        let network = network.clone();
        pipe.map(|id| Socket::foreign(SimulatedPipe { network, id }))
    });
    let network = network.clone();
    Ok(Spawned {
        process: Process::foreign(SimulatedChild { network, pid }),
        stdin,
        stdout,
        stderr,
    })
}

/// The loop's end of a pipe.
#[derive(Debug)]
pub(super) struct SimulatedPipe {
    network: Network,
    pub(super) id: PipeId,
}

impl StreamSocket for SimulatedPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.network.with(|state| state.read_pipe(self.id, buffer))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.network.with(|state| state.write_pipe(self.id, slices))
    }

    /// Closing does it.
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.network.with(|state| state.pipe_error(self.id)))
    }

    fn lingers(&self) -> bool {
        false
    }
}

impl Drop for SimulatedPipe {
    fn drop(&mut self) {
        self.network.with(|state| state.close_pipe(self.id));
    }
}

/// A process that nobody has reaped.
#[derive(Debug)]
struct SimulatedChild {
    network: Network,
    pid: Pid,
}

impl ChildProcess for SimulatedChild {
    fn id(&self) -> u32 {
        self.pid.0
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.network.with(|state| state.reap(self.pid))
    }

    fn signal(&mut self, signal: i32) -> io::Result<()> {
        self.network.with(|state| state.signal(self.pid, signal))
    }

    fn signal_group(&mut self, signal: i32) -> io::Result<()> {
        self.network
            .with(|state| state.signal_group(self.pid, signal))
    }
}

impl Drop for SimulatedChild {
    fn drop(&mut self) {
        self.network.with(|state| state.abandon(self.pid));
    }
}
