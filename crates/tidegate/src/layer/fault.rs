//! The failure of a layer: what it returned, its panic, or a misuse of what it was given.

use crate::BoxError;
use crate::panics::{PanicPayload, panic_message};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The failure of a layer. There is one at most: the layer is not called afterwards.
#[derive(Debug)]
pub(super) struct Fault {
    /// Until it is told.
    error: Option<io::Error>,
    kind: io::ErrorKind,
    panic: Option<PanicPayload>,
    /// The reader above was told.
    pub(super) is_read: bool,
}

impl Fault {
    /// An error of the layer's. An [`io::Error`] is kept as it is, unless it would look like one of
    /// the socket below after which the same call may succeed.
    pub(super) fn of_error(error: BoxError) -> Self {
        Self::new(match error.downcast::<io::Error>() {
            Ok(error) if !may_be_over(&error) => *error,
            Ok(error) => io::Error::other(error),
            Err(error) => io::Error::other(error),
        })
    }

    pub(super) fn of_panic(payload: PanicPayload) -> Self {
        let error = io::Error::other(LayerPanicked(panic_message(&payload)));
        Self {
            panic: Some(payload),
            ..Self::new(error)
        }
    }

    pub(super) fn new(error: io::Error) -> Self {
        Self {
            kind: error.kind(),
            error: Some(error),
            panic: None,
            is_read: false,
        }
    }

    /// Returns the error; the second time, and later, one of the same kind.
    pub(super) fn tell(&mut self) -> io::Error {
        match self.error.take() {
            Some(error) => error,
            None => io::Error::new(self.kind, "a layer of the connection has failed before"),
        }
    }

    pub(super) fn is_told(&self) -> bool {
        self.error.is_none()
    }

    pub(super) fn take_panic(&mut self) -> Option<PanicPayload> {
        self.panic.take()
    }
}

/// Returns whether a call that met this error may succeed when it is made again: nothing is wrong
/// with the connection.
pub(super) fn may_be_over(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::WouldBlock
        || kind == io::ErrorKind::Interrupted
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// The error that stands for a panic of a layer.
#[derive(Debug)]
struct LayerPanicked(Arc<str>);

impl fmt::Display for LayerPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a layer panicked: {}", self.0)
    }
}

impl Error for LayerPanicked {}
