//! The end of a handler: whether it is a failure, and what that is called.

use crate::error::is_end_of;
use crate::label::Label;
use crate::task::{JoinError, catching};
use tidegate::{CloseReason, Failure, Result, Transport};

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

    /// Returns what is to be reported of the end of a handler. The end of its own connection is not.
    pub(crate) fn fault_of(&self, ended: Result<Result, JoinError>) -> Option<CloseReason> {
        let error = match ended {
            Ok(result) => result.err()?,
            Err(error) => return error.panic_reason(),
        };
        // The text of an error, and its drop, are code of the user.
        let fault = catching(|| {
            if !is_end_of(&self.0, &*error) {
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
