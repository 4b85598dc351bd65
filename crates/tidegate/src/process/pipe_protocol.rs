//! The protocol of one pipe of a child, which hands on to that of the process.

use super::protocol::Pipe;
use super::subprocess::SubprocessTransport;
use crate::{Closed, OnPause, Protocol, Result, Transport};

/// Dropped when the pipe has ended, or another protocol has taken it over.
pub(super) struct PipeProtocol {
    process: SubprocessTransport,
    pipe: Pipe,
}

impl PipeProtocol {
    pub(super) fn new(process: &SubprocessTransport, pipe: Pipe) -> Self {
        Self {
            process: process.clone(),
            pipe,
        }
    }
}

impl Protocol for PipeProtocol {
    /// Before anything is read: the process's protocol may stop reading in its `connection_made`.
    fn connection_made(&mut self, _: &Transport) -> Result {
        self.process.make();
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        let pipe = self.pipe;
        self.process
            .call("pipe_data_received", |protocol, process| {
                protocol.pipe_data_received(process, pipe, data)
            });
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        self.process.call("pause_writing", |protocol, process| {
            protocol.pause_writing(process)
        });
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, _: &Transport) -> Result {
        self.process.call("resume_writing", |protocol, process| {
            protocol.resume_writing(process)
        });
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        let pipe = self.pipe;
        self.process
            .call("pipe_connection_lost", |protocol, process| {
                protocol.pipe_connection_lost(process, pipe, closed);
                Ok(())
            });
    }
}

impl Drop for PipeProtocol {
    fn drop(&mut self) {
        self.process.pipe_ended();
    }
}
