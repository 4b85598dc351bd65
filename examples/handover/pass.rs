//! A listening socket on its way from a process to the one that takes its place.
//!
//! The standard library gives a child its three standard streams, and no other descriptor. So the standard input
//! of the new process is one end of a Unix socket, and stdout and stderr stay what they are. The listening socket
//! comes over it (SCM_RIGHTS, unix(7)). A byte goes back when the new process serves; an EOF before that says that
//! it has ended.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

/// Is set for a process that takes the place of another.
const SUCCESSOR: &str = "TIDEGATE_SUCCESSOR";

/// Room for the descriptor of one socket.
const ROOM: usize = rustix::cmsg_space!(ScmRights(1));

/// Starts this program again, with the same arguments, and gives it the listening socket.
///
/// The program is the file that has its name now: after an upgrade, the new one.
pub(crate) fn start_successor(listener: &TcpListener) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut words = env::args_os();
    let mut command = Command::new(words.next().unwrap_or_default());
    let child = command
        .args(words)
        .env(SUCCESSOR, "1")
        .stdin(OwnedFd::from(theirs))
        .spawn()?;
    // If it fails, the child sees EOF, and ends.
    send(&ours, listener)?;
    Ok((child, ours))
}

/// Returns the listening socket of the process whose place this one takes, and the way back to it; `None` for
/// a process that takes nobody's place.
pub(crate) fn from_predecessor() -> io::Result<Option<(TcpListener, UnixStream)>> {
    if env::var_os(SUCCESSOR).is_none() {
        return Ok(None);
    }
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let listener = receive(&channel)?;
    Ok(Some((listener, channel)))
}

fn send(channel: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let sockets = [listener.as_fd()];
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    // Descriptors need a byte to go with.
    let byte = [IoSlice::new(b"L")];
    sendmsg(channel, &byte, &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(channel: &UnixStream) -> io::Result<TcpListener> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    let mut byte = [IoSliceMut::new(&mut byte)];
    recvmsg(channel, &mut byte, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message
            && let Some(socket) = sockets.next()
        {
            return Ok(TcpListener::from(socket));
        }
    }
    Err(io::Error::other(
        "the predecessor has given no listening socket",
    ))
}
