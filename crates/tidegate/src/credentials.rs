//! The process at the other end of a Unix socket.

use crate::Transport;
use std::io;

/// The process, user and group at the other end of a Unix socket; see
/// [`Transport::peer_credentials`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process id, or `None` if the process is in a PID namespace that ours cannot see
    /// (pid_namespaces(7)).
    pub pid: Option<i32>,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

/// # Credentials
impl Transport {
    /// Returns the credentials of the peer of a Unix socket (SO_PEERCRED, unix(7)).
    ///
    /// They are those at the time of the peer's connect(2), listen(2) or socketpair(2). A process
    /// may have passed its socket to another since, and its id may name a new process.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on TCP, on a simulated network, and on systems
    /// other than Linux and Android; the [`Closed`](crate::Closed) of an ended connection.
    #[doc(alias = "SO_PEERCRED")]
    #[doc(alias = "peer_cred")]
    #[doc(alias = "get_extra_info")]
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        self.with_socket(|socket| socket.peer_credentials())
    }
}
