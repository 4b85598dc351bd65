//! What went wrong in user code, and where it is reported.

use crate::{CloseReason, TransportId};
use std::fmt;

/// An error or a panic of user code, or an error that the loop met on a user's behalf, as the
/// [error handler](crate::Handle::set_error_handler) gets it.
#[derive(Debug, Clone)]
#[must_use]
pub struct Failure {
    context: &'static str,
    transport: Option<TransportId>,
    protocol: Option<&'static str>,
    reason: CloseReason,
}

impl Failure {
    /// A failure to [report](crate::Handle::report). `context`: what was running.
    pub fn new(context: &'static str, reason: CloseReason) -> Self {
        Self {
            context,
            transport: None,
            protocol: None,
            reason,
        }
    }

    /// Sets the connection that the failure belongs to.
    pub fn of_transport(mut self, id: TransportId) -> Self {
        self.transport = Some(id);
        self
    }

    pub(crate) fn of_protocol(mut self, protocol: Option<&'static str>) -> Self {
        self.protocol = protocol;
        self
    }

    /// What was running, such as `data_received`.
    pub fn context(&self) -> &'static str {
        self.context
    }

    /// The connection that it belongs to.
    pub fn transport(&self) -> Option<TransportId> {
        self.transport
    }

    /// The type name of the connection's protocol.
    pub fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// The error, or the message of the panic.
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.context)?;
        if let Some(protocol) = self.protocol {
            write!(f, " of {protocol}")?;
        }
        if let Some(transport) = self.transport {
            write!(f, " on {transport}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What happens to a panic in user code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// It ends the connection it happened in and is reported.
    #[default]
    Isolate,
    /// The same, and at the end of the tick it goes on out of the `run` method.
    Propagate,
}
