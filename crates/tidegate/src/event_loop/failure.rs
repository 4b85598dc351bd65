//! What went wrong in user code, and where it is reported.

use crate::{CloseReason, TransportId};
use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// An error or a panic of user code, or an error that the loop met on a user's behalf, as the
/// [error handler](crate::Handle::set_error_handler) gets it.
#[derive(Debug, Clone)]
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
    #[must_use]
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
    /// The same, and at the end of the turn it goes on out of the `run` method.
    Propagate,
}

pub(crate) type PanicPayload = Box<dyn Any + Send>;

pub(crate) fn panic_message(payload: &PanicPayload) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str().into()
    } else {
        "a panic without a message".into()
    }
}

/// Calls user code whose panic becomes an error; answers the panic's message.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let message = panic_message(&payload);
        // Its drop may panic too.
        mem::forget(payload);
        message
    })
}
