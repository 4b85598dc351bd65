//! The timeouts of connections that the options of a server or of a connect set.

use std::io;
use std::time::Duration;

/// The timeouts that are set. A server keeps those of all its connections, which need no memory for
/// them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timeouts {
    /// The time in which a byte must come or go.
    pub(crate) idle: Option<Duration>,
    /// The time in which the kernel must take one of the buffered bytes.
    pub(crate) write: Option<Duration>,
    /// The time in which the rest must be sent after a close.
    pub(crate) close: Option<Duration>,
}

impl Timeouts {
    pub(crate) fn check(&self) -> io::Result<()> {
        let each = [
            ("idle_timeout", self.idle),
            ("write_timeout", self.write),
            ("close_timeout", self.close),
        ];
        match each
            .iter()
            .find(|(_, limit)| *limit == Some(Duration::ZERO))
        {
            Some((name, _)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} of 0: every connection would be ended; leave it unset for none"),
            )),
            None => Ok(()),
        }
    }
}
