//! The end of a handler: whether it is a failure, and what that is called.

use crate::error::is_end_of;
use crate::label::Label;
use crate::task::{JoinError, catching};
use std::error::Error;
use tidegate::{CloseReason, Failure, Result, Transport, WriteError};

/// Names the task of a handler, by the connection that it handles.
pub(crate) struct Handling(Transport);

const HANDLER: &str = "a stream handler";

impl Label for Handling {
    fn failure(&self, reason: CloseReason) -> Failure {
        Failure::new(HANDLER, reason).of_transport(&self.0)
    }

    fn name(&self, _: &str) -> String {
        format!("{HANDLER} on {} (peer {})", self.0.id(), self.0.peer_addr())
    }
}

impl Handling {
    pub(crate) fn of(transport: &Transport) -> Self {
        Self(transport.clone())
    }

    /// Ends the connection of a handler that failed because a write to it was refused at the cap, also
    /// when the writer was given away.
    fn cut_if_refused(&self, error: &(dyn Error + 'static)) {
        if let Some(refused @ WriteError::BufferFull { transport, .. }) = WriteError::of(error)
            && *transport == self.0.id()
        {
            self.0.fail(refused.clone());
        }
    }

    /// Returns what is to be reported of the end of a handler. The end of its own connection is not.
    pub(crate) fn fault_of(&self, ended: Result<Result, JoinError>) -> Option<CloseReason> {
        let error = match ended {
            Ok(result) => result.err()?,
            Err(error) => return error.panic_reason(),
        };
        // The text of an error, its source, and its drop, are code of the user.
        let fault = catching(|| {
            if !is_end_of(&self.0, &*error) {
                self.cut_if_refused(&*error);
                return Some(CloseReason::Callback(error.into()));
            }
            let (id, peer) = (self.0.id(), self.0.peer_addr());
            log::debug!(
                target: "tidegate::streams",
                "the handler of {id} (peer {peer}) ended with its connection: {error}"
            );
            None
        });
        fault.unwrap_or_else(|panic| Some(panic.reason()))
    }
}
