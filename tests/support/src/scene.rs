//! A connection and its peer, set up as a test needs them.

use crate::{Hooked, Kind, Log, MIB, Peer, Recorder, TempDir, no_limits, stall, strict_loop};
use socket2::Socket;
use std::fmt;
use std::os::fd::OwnedFd;
use tidegate::{ConnectOptions, EventLoop, Handle, Protocol, Transport, WriteLimits};

/// How a connection is to be made, and in which state it is to be.
///
/// ```
/// # use tidegate_test_support::{Kind, MIB, Scene};
/// let (mut event_loop, log, transport, mut peer) = Scene::of(Kind::Unix).stalled(MIB).set();
/// ```
#[must_use]
pub struct Scene {
    kind: Kind,
    prepare: Box<dyn Fn(&Socket)>,
    options: Option<Options>,
    is_strict: bool,
    is_layered: bool,
    limits: Option<WriteLimits>,
    stalled: usize,
}

type Options = Box<dyn FnOnce(ConnectOptions) -> ConnectOptions>;

impl Scene {
    /// Begins with a connection that the loop adopts, so on the accepted side.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            prepare: Box::new(|_| {}),
            options: None,
            is_strict: false,
            is_layered: false,
            limits: None,
            stalled: 0,
        }
    }

    /// Begins with a connection without limits, of which the kernel takes nothing more and a little
    /// waits in the transport. A failed check inside a callback reaches the test.
    pub fn full(kind: Kind) -> Self {
        Self::of(kind).strict().limits(no_limits()).stalled(1000)
    }

    /// Lets the loop open the connection.
    pub fn connected(self) -> Self {
        self.connected_with(|options| options)
    }

    /// Lets the loop open the connection, with these options.
    pub fn connected_with(
        mut self,
        options: impl FnOnce(ConnectOptions) -> ConnectOptions + 'static,
    ) -> Self {
        self.options = Some(Box::new(options));
        self
    }

    /// Sets options on both sockets, before a TCP connection is made.
    pub fn sockets(mut self, prepare: impl Fn(&Socket) + 'static) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// Lets a failed check inside a callback through to the test.
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// Puts a layer on the connection that passes bytes as they are.
    pub fn layered(mut self) -> Self {
        self.is_layered = true;
        self
    }

    /// Sets the limits for writing.
    pub fn limits(mut self, limits: WriteLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Has `least` bytes or more wait in the transport for a peer that does not read. A pause is due
    /// then, unless the limits are above.
    pub fn stalled(mut self, least: usize) -> Self {
        self.stalled = least;
        self
    }

    /// Makes the connection on a loop of its own, with a protocol that records.
    #[track_caller]
    pub fn set(self) -> (EventLoop, Log, Transport, Peer) {
        self.set_with(|recorder| recorder)
    }

    /// Makes the connection on a loop of its own, with a protocol that records and does more.
    #[track_caller]
    pub fn set_with(
        self,
        make: impl FnOnce(Recorder) -> Recorder,
    ) -> (EventLoop, Log, Transport, Peer) {
        let mut event_loop = match self.is_strict {
            true => strict_loop(),
            false => ok(EventLoop::new()),
        };
        let log = Log::new();
        let (transport, peer) = self.on(&mut event_loop, make(Recorder::new(&log)));
        (event_loop, log, transport, peer)
    }

    /// Makes the connection on this loop, with this protocol.
    #[track_caller]
    pub fn on(self, event_loop: &mut EventLoop, protocol: impl Protocol) -> (Transport, Peer) {
        let (transport, peer) = match self.options {
            Some(options) => open(event_loop, self.kind, self.prepare, options, protocol),
            None => adopt(event_loop.handle(), self.kind, self.prepare, protocol),
        };
        if self.is_layered {
            let layer = Hooked::new(|_, _| Ok(()));
            transport.push_layer(layer, b"").detach();
        }
        if let Some(limits) = self.limits {
            ok(transport.set_write_limits(limits));
        }
        if self.stalled > 0 {
            stall(event_loop, &transport, self.stalled);
        }
        (transport, peer)
    }
}

/// A kind of socket, with or without a layer on it that passes bytes as they are.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    kind: Kind,
    is_layered: bool,
}

impl Wire {
    /// A bare socket of this kind.
    pub fn bare(kind: Kind) -> Self {
        Self {
            kind,
            is_layered: false,
        }
    }

    /// A socket of this kind with a layer on it.
    pub fn layered(kind: Kind) -> Self {
        Self {
            kind,
            is_layered: true,
        }
    }

    /// Begins with a connection that the loop adopts. A failed check inside a callback reaches the test.
    pub fn scene(self) -> Scene {
        let scene = Scene::of(self.kind).strict();
        if self.is_layered {
            scene.layered()
        } else {
            scene
        }
    }
}

/// Makes four tests of a function that takes a [`Wire`]: `NAME::tcp` and `NAME::unix`, and those with a
/// layer.
#[macro_export]
macro_rules! each_wire {
    ($test:ident) => {
        mod $test {
            #[test]
            fn tcp() {
                super::$test($crate::Wire::bare($crate::Kind::Tcp));
            }

            #[test]
            fn unix() {
                super::$test($crate::Wire::bare($crate::Kind::Unix));
            }

            #[test]
            fn tcp_layered() {
                super::$test($crate::Wire::layered($crate::Kind::Tcp));
            }

            #[test]
            fn unix_layered() {
                super::$test($crate::Wire::layered($crate::Kind::Unix));
            }
        }
    };
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene")
            .field("kind", &self.kind)
            .field("limits", &self.limits)
            .field("stalled", &self.stalled)
            .finish_non_exhaustive()
    }
}

/// Adopts a connection, so on the accepted side; returns the peer too. All that a callback can do.
#[track_caller]
pub fn adopted(handle: &Handle, kind: Kind, protocol: impl Protocol) -> (Transport, Peer) {
    adopt(handle, kind, |_| {}, protocol)
}

/// Adopts a connection that has more than a MiB waiting for a peer that does not read, and is
/// never paused.
#[track_caller]
pub fn stalled(
    event_loop: &mut EventLoop,
    kind: Kind,
    protocol: impl Protocol,
) -> (Transport, Peer) {
    let scene = Scene::of(kind).limits(no_limits()).stalled(MIB);
    scene.on(event_loop, protocol)
}

fn adopt(
    handle: &Handle,
    kind: Kind,
    prepare: impl Fn(&Socket),
    protocol: impl Protocol,
) -> (Transport, Peer) {
    let (ours, peer) = kind.pair(prepare);
    let fd = OwnedFd::from(ours);
    let transport = match kind {
        Kind::Tcp => handle.adopt(std::net::TcpStream::from(fd), protocol),
        Kind::Unix => handle.adopt(std::os::unix::net::UnixStream::from(fd), protocol),
    };
    (ok(transport), peer)
}

fn open(
    event_loop: &mut EventLoop,
    kind: Kind,
    prepare: impl Fn(&Socket),
    options: Options,
    protocol: impl Protocol,
) -> (Transport, Peer) {
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    prepare(&listener);
    let options = options(ConnectOptions::new(&address));
    let completion = event_loop.handle().create_connection(options, protocol);
    let transport = ok(event_loop.run_until(completion));
    (transport, Peer::new(ok(listener.accept()).0))
}

#[track_caller]
fn ok<T>(result: std::io::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
