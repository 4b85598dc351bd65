//! Streams of the standard library, to be driven by the loop.

use crate::Address;
use crate::driver::{OsStream, Socket};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

mod sealed {
    use super::{Address, Socket, io};

    pub trait Adopt {
        fn into_socket(self) -> io::Result<(Socket, Address)>;
    }
}

pub(crate) use sealed::Adopt;

/// A connected stream that [`Handle::adopt`](crate::Handle::adopt) takes: [`TcpStream`] and
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
