//! The other end of a connection: a plain non-blocking socket, TCP or Unix.

use crate::{BOUND, drive};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tidegate::{Address, EventLoop};

/// The kinds of stream sockets; most tests run on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "tests match it")]
pub enum Kind {
    /// TCP over 127.0.0.1.
    Tcp,
    /// A Unix socket.
    Unix,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Unix];

    /// A free address for the loop to listen on, as its user would write it.
    pub fn somewhere(self, dir: &TempDir) -> String {
        match self {
            Self::Tcp => "127.0.0.1:0".to_owned(),
            Self::Unix => format!("unix:{}", dir.path("server.sock").display()),
        }
    }

    /// Returns the address that a server there listens on.
    #[track_caller]
    pub fn address(self, text: &str) -> Address {
        match (self, text.parse()) {
            (Self::Tcp, Ok(addr)) => Address::Inet(addr),
            (Self::Unix, _) => Address::Unix(text.trim_start_matches("unix:").into()),
            (Self::Tcp, Err(_)) => panic!("{text:?} is no TCP address"),
        }
    }

    /// A listening plain socket and its address.
    pub fn listen(self, dir: &TempDir) -> (Socket, Address) {
        let (domain, addr) = match self {
            Self::Tcp => (Domain::IPV4, SocketAddr::from(([127, 0, 0, 1], 0)).into()),
            Self::Unix => {
                let path = dir.path("peer.sock");
                (Domain::UNIX, ok(socket2::SockAddr::unix(path)))
            }
        };
        let socket = ok(Socket::new(domain, Type::STREAM, None));
        ok(socket.bind(&addr));
        ok(socket.listen(128));
        let bound = ok(socket.local_addr());
        let address = match bound.as_socket() {
            Some(addr) => Address::Inet(addr),
            None => Address::Unix(dir.path("peer.sock")),
        };
        (socket, address)
    }

    /// A connected pair: one for the loop to adopt, one for the test. `prepare` is run on both.
    pub fn pair(self, prepare: impl Fn(&Socket)) -> (Socket, Peer) {
        let (ours, theirs) = match self {
            Self::Unix => {
                let (ours, theirs) = ok(Socket::pair(Domain::UNIX, Type::STREAM, None));
                prepare(&ours);
                prepare(&theirs);
                (ours, theirs)
            }
            Self::Tcp => {
                // An accepted socket has its listener's options.
                let (listener, address) = self.listen(&TempDir::new());
                prepare(&listener);
                let theirs = ok(Socket::new(Domain::IPV4, Type::STREAM, None));
                prepare(&theirs);
                let Some(addr) = address.as_inet() else {
                    panic!("{address} is no TCP address")
                };
                ok(theirs.connect(&addr.into()));
                (ok(listener.accept()).0, theirs)
            }
        };
        (ours, Peer::new(theirs))
    }
}

/// A plain blocking connection to an address that a loop listens on, whose reads fail when nothing
/// comes.
pub fn dial(address: &Address) -> Socket {
    let socket = open(address);
    ok(socket.set_read_timeout(Some(BOUND)));
    if address.as_inet().is_some() {
        ok(socket.set_tcp_nodelay(true));
    }
    socket
}

fn open(address: &Address) -> Socket {
    let (domain, addr) = match address {
        Address::Inet(addr) => (Domain::for_address(*addr), (*addr).into()),
        Address::Unix(path) => (Domain::UNIX, ok(socket2::SockAddr::unix(path))),
        _ => panic!("cannot connect to an unnamed socket"),
    };
    let socket = ok(Socket::new(domain, Type::STREAM, None));
    ok(socket.connect(&addr));
    socket
}

#[track_caller]
fn ok<T>(result: io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// The test's end of a connection; never blocks.
#[derive(Debug)]
pub struct Peer {
    socket: Option<Socket>,
    received: Vec<u8>,
    ended: Option<Option<io::ErrorKind>>,
}

impl Peer {
    /// Takes over a connected socket.
    pub fn new(socket: Socket) -> Self {
        ok(socket.set_nonblocking(true));
        Self {
            socket: Some(socket),
            received: Vec::new(),
            ended: None,
        }
    }

    /// Connects to an address that the loop listens on.
    pub fn connect(address: &Address) -> Self {
        Self::new(open(address))
    }

    #[track_caller]
    fn socket(&self) -> &Socket {
        match &self.socket {
            Some(socket) => socket,
            None => panic!("the peer was closed"),
        }
    }

    /// The socket, for options.
    pub fn as_sock(&self) -> SockRef<'_> {
        SockRef::from(self.socket())
    }

    /// Returns whether it is a TCP socket.
    pub fn is_tcp(&self) -> bool {
        ok(self.socket().local_addr()).as_socket().is_some()
    }

    /// Writes as much as the kernel takes.
    pub fn write(&mut self, data: &[u8]) -> usize {
        match self.try_write(data) {
            Ok(n) => n,
            Err(error) => panic!("peer write: {error}"),
        }
    }

    /// Writes as much as the kernel takes, to a connection that may have ended.
    pub fn try_write(&mut self, data: &[u8]) -> io::Result<usize> {
        match (&mut self.socket()).write(data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Writes all of it; for amounts that fit into the kernel's buffers.
    #[track_caller]
    pub fn send(&mut self, data: &[u8]) {
        let sent = self.write(data);
        assert_eq!(sent, data.len(), "the kernel did not take it all at once");
    }

    /// Reads at most `most` bytes; returns their number.
    pub fn read_some(&mut self, most: usize) -> usize {
        if self.ended.is_some() || most == 0 {
            return 0;
        }
        let mut buffer = vec![0; most];
        match (&mut self.socket()).read(&mut buffer) {
            Ok(0) => {
                self.ended = Some(None);
                0
            }
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                n
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.ended = Some(Some(error.kind()));
                0
            }
        }
    }

    /// Reads all that is there now.
    pub fn read_available(&mut self) {
        while self.read_some(256 * 1024) > 0 {}
    }

    /// Returns the bytes read so far.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Whether the end of the stream was read.
    pub fn saw_eof(&self) -> bool {
        self.ended == Some(None)
    }

    /// The error that reading ended with.
    pub fn saw_error(&self) -> Option<io::ErrorKind> {
        self.ended.flatten()
    }

    /// Whether reading has ended, in whatever way.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Runs the loop and reads until `len` bytes have come in all.
    #[track_caller]
    pub fn expect(&mut self, event_loop: &mut EventLoop, len: usize) {
        drive(event_loop, &format!("{len} bytes at the peer"), || {
            self.read_available();
            self.received.len() >= len || self.is_ended()
        });
        assert!(
            self.received.len() >= len,
            "the peer got {} of {len} bytes, then {:?}",
            self.received.len(),
            self.ended
        );
    }

    /// Runs the loop and reads until the stream has ended, in whatever way.
    #[track_caller]
    pub fn expect_end(&mut self, event_loop: &mut EventLoop) {
        drive(event_loop, "the end of the stream at the peer", || {
            self.read_available();
            self.is_ended()
        });
    }

    /// Ends the peer's side of the stream.
    pub fn shutdown_write(&self) {
        ok(self.socket().shutdown(Shutdown::Write));
    }

    /// Whether it was closed, or reset, here.
    pub fn is_closed(&self) -> bool {
        self.socket.is_none()
    }

    /// Closes the socket.
    pub fn close(&mut self) {
        self.socket = None;
    }

    /// Resets a TCP connection; a Unix socket is closed.
    pub fn reset(&mut self) {
        if let Some(socket) = self.socket.take() {
            ok(socket.set_linger(Some(Duration::ZERO)));
        }
    }
}

/// A folder for Unix sockets, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new, empty one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tidegate-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        ok(std::fs::create_dir_all(&path));
        Self(path)
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A rest in the temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes that tell where in the stream they belong.
pub fn pattern(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// Makes two tests of a function that takes the kind of socket: `NAME::tcp` and `NAME::unix`.
#[macro_export]
macro_rules! each_kind {
    ($test:ident) => {
        mod $test {
            #[test]
            fn tcp() {
                super::$test($crate::Kind::Tcp);
            }

            #[test]
            fn unix() {
                super::$test($crate::Kind::Unix);
            }
        }
    };
}
