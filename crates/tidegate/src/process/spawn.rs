//! Starts a program, and gives its parts.

use super::ChildHandle;
use super::start_error::explained;
use crate::driver::Spawned;
use crate::pipe::Way;
use crate::{Handle, LoopClosed, PipeEnd};
use std::io;
use std::process::Command;

/// A program that [`Handle::spawn_child`] has started.
#[derive(Debug)]
#[non_exhaustive]
pub struct SpawnedChild {
    /// The process.
    pub child: ChildHandle,
    /// Our end of its standard input, for [`Handle::connect_write_pipe`].
    pub stdin: Option<PipeEnd>,
    /// Our end of its standard output, for [`Handle::connect_read_pipe`].
    pub stdout: Option<PipeEnd>,
    /// Our end of its standard error, for [`Handle::connect_read_pipe`].
    pub stderr: Option<PipeEnd>,
}

impl SpawnedChild {
    pub(super) fn start(handle: &Handle, command: &mut Command) -> io::Result<Self> {
        let core = handle.core();
        if core.is_closed() {
            return Err(LoopClosed.into());
        }
        let spawned = core.with_driver(|driver| driver.as_dyn().spawn(command));
        let Spawned {
            process,
            stdin,
            stdout,
            stderr,
        } = spawned.map_err(|error| explained(command, error))?;
        let readable = |socket| PipeEnd::of_socket(socket, Way::Read);
        Ok(Self {
            child: ChildHandle::watch(handle, process)?,
            stdin: stdin.map(|socket| PipeEnd::of_socket(socket, Way::Write)),
            stdout: stdout.map(readable),
            stderr: stderr.map(readable),
        })
    }
}
