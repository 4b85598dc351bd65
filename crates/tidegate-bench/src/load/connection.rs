//! Opening connections.

use super::Plan;
use mio::net::TcpStream;
use std::io;

/// All connections of a plan, established, one after the other.
pub(super) fn dial(plan: &Plan) -> io::Result<Vec<TcpStream>> {
    let one = |_| {
        let stream = std::net::TcpStream::connect(plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(TcpStream::from_std(stream))
    };
    (0..plan.connections).map(one).collect()
}

/// What a system call that moves bytes came to.
pub(super) enum Moved {
    Bytes(usize),
    /// It would block.
    Nothing,
    /// The end of the stream.
    End,
    /// An error.
    Broken,
}

/// Repeats a call that a signal interrupts.
pub(super) fn moved(mut call: impl FnMut() -> io::Result<usize>) -> Moved {
    loop {
        match call() {
            Ok(0) => return Moved::End,
            Ok(len) => return Moved::Bytes(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Moved::Broken,
        }
    }
}
