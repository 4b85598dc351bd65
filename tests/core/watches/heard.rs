//! For the tests of watches: a socket that is watched, and a record of the calls.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use tidegate::{EventLoop, Handle, Watch, WatchFor};

/// Two connected sockets, of which the first does not block.
pub(super) fn pair() -> (UnixDatagram, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// Returns whether the other end of a socket of [`pair`] is closed.
pub(super) fn is_closed(theirs: &UnixDatagram) -> bool {
    match theirs.send(b"") {
        Ok(_) => false,
        Err(error) => {
            let kinds = [
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::NotConnected,
            ];
            assert!(kinds.contains(&error.kind()), "{error}");
            true
        }
    }
}

/// The calls of a closure, and the bytes that it has received.
#[derive(Clone, Default)]
pub(super) struct Heard {
    calls: Rc<Cell<usize>>,
    bytes: Rc<RefCell<Vec<u8>>>,
}

impl Heard {
    /// Watches a socket, and receives one datagram in each call.
    pub(super) fn watch(&self, event_loop: &EventLoop, socket: UnixDatagram) -> Watch {
        let heard = self.clone();
        let ready = move |_: &Handle, socket: &UnixDatagram| heard.receive(socket);
        let handle = event_loop.handle();
        handle.watch(socket, WatchFor::Read, ready).unwrap()
    }

    pub(super) fn receive(&self, socket: &UnixDatagram) -> io::Result<()> {
        self.calls.set(self.calls() + 1);
        let mut data = [0; 16];
        let len = socket.recv(&mut data)?;
        self.bytes.borrow_mut().extend_from_slice(&data[..len]);
        Ok(())
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.get()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.borrow().clone()
    }
}
