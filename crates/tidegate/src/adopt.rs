//! Streams of the standard library, to be driven by the loop.

use crate::driver::{OsStream, Socket};
use crate::event_loop::Deferred;
use crate::protocol::boxed;
use crate::transport::Transport;
use crate::{Address, Detached, Handle, LoopClosed, Protocol};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

mod sealed {
    use super::{Address, Socket, io};

    pub trait Adopt {
        fn into_socket(self) -> io::Result<(Socket, Address)>;
    }
}

use sealed::Adopt;

/// # Streams of the standard library
impl Handle {
    /// Drives a connected stream of the standard library.
    ///
    /// It counts as accepted. `connection_made` comes from the loop.
    ///
    /// So both ends of a socket pair that are adopted count as accepted. With protocols or
    /// [layers](crate::Layer#the-bound-of-its-own-output) that reply to each other they may wait for each
    /// other: each stops reading until the other reads. Of two such protocols one returns
    /// [`KeepReading`](crate::OnPause::KeepReading) from `pause_writing`; layers have no such choice.
    ///
    /// The connection ends for copies of the descriptor too, which `try_clone` and a fork make: the
    /// loop shuts it down (shutdown(2)) before it closes its own. A reset is an exception: a TCP
    /// peer sees it when the last copy is closed.
    ///
    /// # Errors
    ///
    /// Those of the system; [`LoopClosed`].
    #[doc(alias = "connect_accepted_socket")]
    pub fn adopt(&self, stream: impl StdStream, protocol: impl Protocol) -> io::Result<Transport> {
        let detached = if self.core().is_closed() {
            Err(LoopClosed.into())
        } else {
            Detached::of(stream)
        };
        match detached {
            Ok(detached) => Ok(self.attach(detached, protocol)?),
            Err(error) => {
                let protocol = boxed(protocol);
                self.core().defer_drop(Deferred::Protocol(protocol));
                Err(error)
            }
        }
    }
}

/// A connected stream that [`Handle::adopt`] and [`Detached::of`] take: [`TcpStream`] and
/// [`UnixStream`] of the standard library.
pub trait StdStream: Adopt {}

impl Adopt for TcpStream {
    fn into_socket(self) -> io::Result<(Socket, Address)> {
        let (stream, peer) = OsStream::from_std(self, true)?;
        Ok((Socket::Os(stream), peer))
    }
}

impl Adopt for UnixStream {
    fn into_socket(self) -> io::Result<(Socket, Address)> {
        let (stream, peer) = OsStream::from_std(self, false)?;
        Ok((Socket::Os(stream), peer))
    }
}

impl StdStream for TcpStream {}
impl StdStream for UnixStream {}
