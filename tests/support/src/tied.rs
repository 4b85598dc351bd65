//! Two plain sockets with a relay between them.

use crate::{Kind, Log, Peer, Recorder, Scene, TempDir, adopted, drive};
use socket2::{SockRef, Socket};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use tidegate::{
    Address, Completion, ConnectOptions, EventLoop, Handle, ListenOptions, Relay, RelayReport,
    Server, Transport, WriteLimits,
};

thread_local! {
    /// From how many bytes on relays splice.
    static SPLICE_FROM: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Runs a test whose relays splice from `bytes` on; other tests copy.
pub fn splicing_from(bytes: usize, test: impl FnOnce()) {
    struct Again(usize);
    impl Drop for Again {
        fn drop(&mut self) {
            SPLICE_FROM.set(self.0);
        }
    }
    let _again = Again(SPLICE_FROM.replace(bytes));
    test();
}

/// Has a relay splice as the test wants it.
pub fn relayed(relay: Relay) -> Relay {
    relay.splice_from(SPLICE_FROM.get())
}

/// Ties two connections together, by a relay that splices as the test wants it.
pub fn tie(front: &Transport, back: &Transport) -> Completion<RelayReport> {
    Relay::between_with(front, back, relayed)
}

/// Makes three tests of a function that takes the kind of socket: `NAME::tcp`, `NAME::tcp_spliced`, whose
/// relays splice all bytes, and `NAME::unix`.
#[macro_export]
macro_rules! each_way {
    ($test:ident) => {
        mod $test {
            #[test]
            fn tcp() {
                super::$test($crate::Kind::Tcp);
            }

            #[test]
            fn tcp_spliced() {
                $crate::splicing_from(0, || super::$test($crate::Kind::Tcp));
            }

            #[test]
            fn unix() {
                super::$test($crate::Kind::Unix);
            }
        }
    };
}

/// How relays ended, in the order of their ends.
pub type Reports = Rc<RefCell<Vec<RelayReport>>>;

/// The peers of both sides of a relay.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct Tied {
    /// The relay's server.
    pub server: Server,
    /// The peer that connected to the relay.
    pub front: Peer,
    /// Whom the relay connected to.
    pub back: Peer,
    /// How the relay ended.
    pub reports: Reports,
    /// Where its Unix sockets are.
    pub dir: TempDir,
}

/// A server that relays to an address.
#[track_caller]
pub fn relay_server(
    handle: &Handle,
    listen: impl Into<ListenOptions>,
    limits: WriteLimits,
    to: &Address,
) -> (Server, Reports) {
    let reports: Reports = Rc::default();
    let (told, to) = (reports.clone(), to.clone());
    let created = handle.create_server(listen.into().write_limits(limits), move || {
        let told = told.clone();
        relayed(Relay::to(ConnectOptions::new(&to).write_limits(limits)))
            .on_end(move |_, report| told.borrow_mut().push(report.clone()))
    });
    match created {
        Ok(server) => (server, reports),
        Err(error) => panic!("{error}"),
    }
}

/// Takes a connection from a plain listener, running the loop meanwhile.
#[track_caller]
pub fn accept(event_loop: &mut EventLoop, listener: &Socket) -> Peer {
    let mut accepted = None;
    listener
        .set_nonblocking(true)
        .unwrap_or_else(|error| panic!("{error}"));
    drive(event_loop, "a connection to the back", || {
        accepted = match listener.accept() {
            Ok((socket, _)) => Some(Peer::new(socket)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        };
        accepted.is_some()
    });
    match accepted {
        Some(peer) => peer,
        None => unreachable!("the loop above waits for it"),
    }
}

impl Tied {
    /// Both sides of the kind, with the default limits.
    #[track_caller]
    pub fn new(event_loop: &mut EventLoop, kind: Kind) -> Self {
        Self::with(event_loop, kind, WriteLimits::new(), |_| {})
    }

    /// With limits for both sides, and options for the sockets of both peers.
    #[track_caller]
    pub fn with(
        event_loop: &mut EventLoop,
        kind: Kind,
        limits: WriteLimits,
        prepare: impl Fn(SockRef<'_>),
    ) -> Self {
        let dir = TempDir::new();
        let (listener, address) = kind.listen(&dir);
        prepare(SockRef::from(&listener));
        let (server, reports) = relay_server(
            event_loop.handle(),
            kind.somewhere(&dir).as_str(),
            limits,
            &address,
        );
        let front = Peer::connect(&server.local_addrs()[0]);
        prepare(front.as_sock());
        let back = accept(event_loop, &listener);
        Self {
            server,
            front,
            back,
            reports,
            dir,
        }
    }

    /// Waits for the end of the relay.
    #[track_caller]
    pub fn report(&self, event_loop: &mut EventLoop) -> RelayReport {
        drive(event_loop, "the report", || {
            !self.reports.borrow().is_empty()
        });
        self.reports.borrow()[0].clone()
    }

    /// Both peers take what is there.
    pub fn read_available(&mut self) {
        for peer in [&mut self.front, &mut self.back] {
            if !peer.is_closed() {
                peer.read_available();
            }
        }
    }
}

/// Two connections that a relay may tie together, one accepted and one opened, and their peers.
#[track_caller]
pub fn untied(event_loop: &mut EventLoop, kind: Kind) -> [(Transport, Peer); 2] {
    let recorder = || Recorder::new(&Log::new());
    let accepted = adopted(event_loop.handle(), kind, recorder());
    let opened = Scene::of(kind).connected().on(event_loop, recorder());
    [accepted, opened]
}
