//! Errors of single datagrams.

use crate::Address;
use std::error::Error;
use std::fmt;
use std::io;

/// The error of one datagram, as [`error_received`](super::DatagramProtocol::error_received) gets it.
#[derive(Debug)]
pub struct DatagramError {
    error: io::Error,
    to: Option<Address>,
    len: Option<usize>,
}

impl DatagramError {
    pub(super) fn new(error: io::Error, to: Option<Address>, len: Option<usize>) -> Self {
        Self { error, to, len }
    }

    /// Returns the error of the system.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// Returns the address that the datagram was sent to. `None` when the error is one of receiving,
    /// and the endpoint has no remote address.
    pub fn to(&self) -> Option<&Address> {
        self.to.as_ref()
    }

    /// Returns the length in bytes of the datagram that was not sent. `None` when the system tells of
    /// an earlier one: it has forgotten which.
    #[expect(
        clippy::len_without_is_empty,
        reason = "it is the length of a datagram, which an error has or has not"
    )]
    pub fn len(&self) -> Option<usize> {
        self.len
    }

    /// Returns whether nothing receives at the destination: ECONNREFUSED, from an ICMP message
    /// (RFC 1122, 4.1.3.3), or a Unix socket that is gone.
    pub fn is_refused(&self) -> bool {
        self.error.kind() == io::ErrorKind::ConnectionRefused
    }

    /// Returns whether the datagram is longer than the socket or the path takes: EMSGSIZE, udp(7).
    pub fn is_too_long(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EMSGSIZE)
    }
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.to, self.len) {
            (Some(to), Some(len)) => write!(f, "a datagram of {len} bytes to {to}: ")?,
            (Some(to), None) => write!(f, "a datagram to {to}: ")?,
            (None, _) => f.write_str("a datagram: ")?,
        }
        self.error.fmt(f)
    }
}

impl Error for DatagramError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Whether an error says that the kernel has nothing, or takes nothing, now.
#[inline]
pub(super) fn is_would_block(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // Costs less than its kind.
        Some(code) => code == libc::EAGAIN,
        None => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Whether an error of receiving says that the socket itself is of no more use.
pub(super) fn is_of_the_socket(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT)
    )
}

/// Whether an error of sending says that this call found no memory: no earlier datagram has it.
pub(super) fn is_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
