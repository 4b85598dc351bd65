//! Streams of the standard library, to be driven by the loop.

use crate::driver::{OsStream, Socket};
use crate::event_loop::Deferred;
use crate::flow::WriteLimits;
use crate::protocol::boxed;
use crate::transport::{NewConnection, Transport};
use crate::{Address, Handle, LoopClosed, Protocol};
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
        let protocol = boxed(protocol);
        let prepared = if self.core().is_closed() {
            Err(LoopClosed.into())
        } else {
            WriteLimits::new()
                .resolve()
                .and_then(|marks| Ok((stream.into_socket()?, marks)))
        };
        let ((mut socket, peer), marks) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.core().defer_drop(Deferred::Protocol(protocol));
                return Err(error);
            }
        };
        socket.set_nodelay_at_start(&peer);
        let connection = NewConnection {
            socket,
            peer,
            protocol,
            accepted: true,
            marks,
            server: None,
        };
        let transport = Transport::start(self, connection)?;
        transport.touch();
        Ok(transport)
    }
}

/// A connected stream that [`Handle::adopt`] takes: [`TcpStream`] and
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
