//! Failures of user code, as they are reported.

use crate::{Address, CloseReason, Transport, TransportId};
use std::fmt;
use std::sync::Arc;

/// An error or a panic of user code, or an error that the loop met on a user's behalf, as the
/// [error handler](crate::Handle::set_error_handler) gets it.
#[derive(Debug, Clone)]
#[must_use]
pub struct Failure {
    context: &'static str,
    name: Option<Arc<str>>,
    transport: Option<TransportId>,
    peer: Option<Address>,
    protocol: Option<&'static str>,
    reason: CloseReason,
}

impl Failure {
    /// Makes a failure to [report](crate::Handle::report). `context` names the code that was running.
    pub fn new(context: &'static str, reason: CloseReason) -> Self {
        Self {
            context,
            name: None,
            transport: None,
            peer: None,
            protocol: None,
            reason,
        }
    }

    /// Sets the connection that the failure belongs to: its id, and the address of its peer.
    pub fn of_transport(mut self, transport: &Transport) -> Self {
        self.transport = Some(transport.id());
        self.of_peer(transport.peer_addr().clone())
    }

    /// Sets the endpoint of datagrams that the failure belongs to.
    pub(crate) fn of_endpoint(mut self, id: TransportId, remote: Option<Address>) -> Self {
        self.transport = Some(id);
        self.peer = remote;
        self
    }

    pub(crate) fn of_peer(mut self, peer: Address) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Sets the name that the user gave to what was running.
    pub fn named(mut self, name: Arc<str>) -> Self {
        self.name = Some(name);
        self
    }

    pub(crate) fn of_protocol(mut self, protocol: Option<&'static str>) -> Self {
        self.protocol = protocol;
        self
    }

    /// Returns the name of the code that was running, such as `data_received`.
    pub fn context(&self) -> &'static str {
        self.context
    }

    /// Returns the name of the task that was running, if the user gave it one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the connection that it belongs to.
    pub fn transport(&self) -> Option<TransportId> {
        self.transport
    }

    /// Returns the address of the connection's peer. It is also there when the connection could not
    /// be made, and so has no id.
    pub fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Returns the type name of the connection's protocol.
    pub fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// Returns the error, or the message of the panic.
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.context)?;
        if let Some(name) = &self.name {
            write!(f, " named {name}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " of {protocol}")?;
        }
        if let Some(transport) = self.transport {
            write!(f, " on {transport}")?;
        }
        if let Some(peer) = &self.peer {
            write!(f, " (peer {peer})")?;
        }
        match &self.reason {
            CloseReason::Callback(error) => write!(f, " failed: {error}"),
            CloseReason::Panic(message) => write!(f, " panicked: {message}"),
            reason => write!(f, ": {reason}"),
        }
    }
}

/// The policy for panics in user code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// It ends the connection it happened in and is reported.
    #[default]
    Isolate,
    /// The same, and at the end of the tick it goes on out of the `run` method.
    Propagate,
}
