//! The error of a connect.

use crate::Address;
use crate::address::Target;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The error of a connect: every address that was tried and its reason.
///
/// It is inside the [`io::Error`] of
/// [`Handle::create_connection`](crate::Handle::create_connection): [`ConnectError::of`] finds it.
/// The kind of that error is the resolver's when the name could not be resolved,
/// [`TimedOut`](io::ErrorKind::TimedOut) at the time limit, a layer's when one did not
/// [open](crate::ConnectOptions::layer), and else that of the first address.
#[derive(Debug, Clone)]
pub struct ConnectError {
    target: Target,
    /// The error of the whole connect: of resolving, of the time limit, or of a layer.
    cause: Option<Arc<io::Error>>,
    attempts: Vec<(Address, Arc<io::Error>)>,
}

impl ConnectError {
    /// The layers of a connection that stood did not open.
    pub(super) fn of_layers(
        target: Target,
        cause: Arc<io::Error>,
        attempts: Vec<(Address, Option<io::Error>)>,
    ) -> Self {
        let failed =
            |(address, reason): (Address, Option<io::Error>)| Some((address, Arc::new(reason?)));
        Self {
            target,
            cause: Some(cause),
            attempts: attempts.into_iter().filter_map(failed).collect(),
        }
    }

    pub(super) fn new(
        target: Target,
        cause: Option<io::Error>,
        attempts: Vec<(Address, io::Error)>,
    ) -> Self {
        let shared = |(address, error)| (address, Arc::new(error));
        Self {
            target,
            cause: cause.map(Arc::new),
            attempts: attempts.into_iter().map(shared).collect(),
        }
    }

    /// Returns the addresses that were tried, in that order, and the reason of each.
    ///
    /// An address without a reply at the time limit has [`TimedOut`](io::ErrorKind::TimedOut). There are
    /// none when the name could not be resolved. An address that connected is not among them, also
    /// when its layers did not open.
    pub fn attempts(&self) -> impl Iterator<Item = (&Address, &io::Error)> {
        let attempts = self.attempts.iter();
        attempts.map(|(address, error)| (address, &**error))
    }

    /// Returns the `ConnectError` in the error of a completion, if a connect failed.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    fn first(&self) -> Option<&Arc<io::Error>> {
        let attempt = self.attempts.first().map(|(_, error)| error);
        self.cause.as_ref().or(attempt)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}", self.target)?;
        let mut separator = ": ";
        if let Some(cause) = &self.cause {
            write!(f, "{separator}{cause}")?;
            separator = "; ";
        }
        for (address, error) in &self.attempts {
            f.write_str(separator)?;
            if self.target != Target::Address(address.clone()) {
                write!(f, "{address}: ")?;
            }
            error.fmt(f)?;
            separator = "; ";
        }
        Ok(())
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first().map(|error| &**error as &(dyn Error + 'static))
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = error
            .first()
            .map_or(io::ErrorKind::Other, |first| first.kind());
        Self::new(kind, error)
    }
}
