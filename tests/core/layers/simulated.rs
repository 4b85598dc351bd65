//! How layers open in the simulated world, to the nanosecond and to the byte.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;
use support::logs::{keep_log, logged};
use support::seal::{Calls, Said, Seal, alert, end_of_seal, hello, record_of, sealed, unsealed};
use support::{Log, Recorder, closed_of};
use tidegate::{
    CloseReason, Completion, ConnectError, ConnectOptions, ListenOptions, TimeoutKind, Transport,
};
use tidegate_testkit::{Host, Peer, World};

pub(super) const LIMIT: Duration = Duration::from_secs(7);
pub(super) const INSTANT: Duration = Duration::from_nanos(1);

/// A host, a connection that it has made, and the other end.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) host: Host,
    pub(super) log: Log,
    pub(super) transport: Transport,
    pub(super) peer: Peer,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(World::new(), |recorder| recorder)
    }

    pub(super) fn with(mut world: World, make: impl FnOnce(Recorder) -> Recorder) -> Self {
        let host = world.add_host("host").unwrap();
        let log = Log::new();
        let listener = world.network().listen(7).unwrap();
        let recorder = make(Recorder::new(&log));
        let connect = host.handle().create_connection(listener.addr(), recorder);
        let transport = world.run_until(connect).unwrap();
        Self {
            peer: listener.accept().unwrap(),
            world,
            host,
            log,
            transport,
        }
    }

    /// The same, with a layer that is open.
    pub(super) fn sealed(world: World, make: impl FnOnce(Recorder) -> Recorder) -> Self {
        let mut stage = Self::with(world, make);
        let pushed = stage.transport.push_layer(Seal::server(), b"");
        stage.send(&hello());
        assert!(pushed.is_ready());
        let mut heard = Vec::new();
        while heard.len() < hello().len() {
            heard.extend(stage.peer.take());
            stage.settle();
        }
        assert_eq!(heard, hello());
        stage
    }

    pub(super) fn settle(&mut self) {
        self.world.settle().unwrap();
    }

    /// Has the peer send something, in parts if its kernel has no room for it, and the world do what
    /// comes of it.
    pub(super) fn send(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let sent = self.peer.send(data).unwrap();
            assert!(sent > 0, "the host does not read");
            data = &data[sent..];
            self.settle();
        }
    }

    /// Returns what the peer has not taken yet.
    pub(super) fn said(&self) -> Vec<Said> {
        unsealed(&self.peer.take())
    }
}

#[track_caller]
pub(super) fn assert_nothing_left(host: &Host) {
    let stats = host.handle().stats();
    let left = (
        stats.connections,
        stats.connecting,
        stats.lingering,
        stats.timers,
        stats.completions,
    );
    assert_eq!(left, (0, 0, 0, 0, 0), "{stats:#?}");
}

/// How a peer keeps the layer of the other end from opening. It keeps its socket, or has none any more.
type Hinder = fn(Peer) -> Option<Peer>;

const HINDERED: [(&str, Hinder, ErrorKind, &str); 7] = [
    (
        "a bad record",
        |peer| {
            peer.send(&record_of(b'G', b"ET / HTTP/1.1")).unwrap();
            Some(peer)
        },
        ErrorKind::InvalidData,
        "a bad record",
    ),
    (
        "an alert",
        |peer| {
            peer.send(&alert("no")).unwrap();
            Some(peer)
        },
        ErrorKind::PermissionDenied,
        "no",
    ),
    (
        "its end",
        |peer| {
            peer.send_eof().unwrap();
            Some(peer)
        },
        ErrorKind::UnexpectedEof,
        "a cut stream",
    ),
    (
        "its end within a record",
        |peer| {
            peer.send(&hello()[..3]).unwrap();
            peer.send_eof().unwrap();
            Some(peer)
        },
        ErrorKind::UnexpectedEof,
        "a cut stream",
    ),
    (
        "a reset",
        |peer| {
            peer.reset();
            None
        },
        ErrorKind::ConnectionReset,
        "reset",
    ),
    (
        "an alert and a reset",
        |peer| {
            peer.send(&alert("a certificate is required")).unwrap();
            peer.reset();
            None
        },
        ErrorKind::PermissionDenied,
        "a certificate is required",
    ),
    ("silence", Some, ErrorKind::TimedOut, ""),
];

/// Lets the layer meet what hinders it, or its limit.
fn hinder(world: &mut World, hinder: Hinder, kind: ErrorKind, peer: Peer, gone: impl Fn() -> bool) {
    let peer = hinder(peer);
    world.settle().unwrap();
    if kind == ErrorKind::TimedOut {
        world.advance(LIMIT - INSTANT).unwrap();
        assert!(!gone(), "early");
        world.advance(INSTANT).unwrap();
    }
    assert!(gone(), "late");
    let said = peer.as_ref().map(|peer| unsealed(&peer.take()));
    let has_alert = said.is_some_and(|said| said.contains(&Said::Alert("a bad record".to_owned())));
    assert_eq!(has_alert, kind == ErrorKind::InvalidData);
    drop(peer);
    world.run_until_idle().unwrap();
}

#[test]
fn a_connect_fails_with_the_kind_of_what_kept_its_layer_from_opening() {
    for (name, how, kind, text) in HINDERED {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let listener = world.network().listen(7).unwrap();
        let (log, calls) = (Log::new(), Calls::default());
        let layer = Seal::client().limit(LIMIT).noted_in(&calls);
        let options = ConnectOptions::new(listener.addr()).layer(layer);
        let error = Rc::new(RefCell::new(None));
        let told = error.clone();
        let connect: Completion<Transport> = host
            .handle()
            .create_connection(options, Recorder::new(&log));
        connect.then(move |_, result| {
            told.replace(result.err());
        });
        world.settle().unwrap();
        let peer = listener.accept().unwrap();
        hinder(&mut world, how, kind, peer, || error.borrow().is_some());
        let error: io::Error = error.take().unwrap();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(ConnectError::of(&error).is_some(), "{name}: {error:?}");
        assert_eq!((log.words().len(), log.dropped()), (0, 1), "{name}");
        assert_eq!(*calls.borrow(), ["start", "drop"], "{name}");
        assert_nothing_left(&host);
    }
}

#[test]
fn a_server_makes_no_connection_whose_layer_does_not_open() {
    for (name, how, kind, text) in HINDERED {
        keep_log(log::LevelFilter::Debug);
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let (log, calls) = (Log::new(), Calls::default());
        let (made, noted) = (log.clone(), calls.clone());
        let options = ListenOptions::new(host.addr(7))
            .layer(move || Seal::server().limit(LIMIT).noted_in(&noted));
        let server = host
            .handle()
            .create_server(options, move || Recorder::new(&made))
            .unwrap();
        let peer = world.network().dial(host.addr(7)).unwrap();
        world.settle().unwrap();
        assert_eq!(server.connection_count(), 1);
        hinder(&mut world, how, kind, peer, || {
            server.connection_count() == 0
        });
        assert_eq!((log.words().len(), log.dropped()), (0, 1), "{name}");
        assert_eq!(*calls.borrow(), ["start", "drop"], "{name}");
        assert_nothing_left(&host);
        let lines = logged();
        assert!(
            lines.len() == 1 && lines[0].text.contains(text),
            "{lines:?}"
        );
        assert!(lines[0].text.starts_with("no connection with "));
    }
}

#[test]
fn layers_open_from_the_wire_up_each_with_the_last_byte_of_its_hello() {
    let mut stage = Stage::new();
    let calls = [Calls::default(), Calls::default()];
    let pushed = calls.each_ref().map(|calls| {
        let layer = Seal::server().noted_in(calls);
        stage.transport.push_layer(layer, b"")
    });
    stage.settle();
    let called = || calls.each_ref().map(|calls| calls.borrow().len());
    for (hello, layer, before, behind) in [
        (hello(), 0, [1, 0], [2, 1]),
        (sealed(&hello()), 1, [2, 1], [2, 2]),
    ] {
        for byte in &hello {
            assert!(!pushed[layer].is_ready());
            assert_eq!(called(), before);
            stage.send(&[*byte]);
        }
        assert!(pushed[layer].is_ready());
        assert_eq!(called(), behind);
    }
    assert!(
        calls
            .iter()
            .all(|calls| *calls.borrow() == ["start", "open"])
    );
    stage.send(&sealed(&sealed(b"twice")));
    assert_eq!(stage.log.data(), b"twice");
    assert_eq!(stage.said(), [Said::Hello, Said::Data(hello())]);
}

#[test]
fn bytes_and_the_end_in_the_segment_that_opens_come_after_connection_made_and_wait_for_a_pause() {
    for pauses in [false, true] {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let listener = world.network().listen(7).unwrap();
        let log = Log::new();
        let recorder = Recorder::new(&log).on_made(move |transport| {
            if pauses {
                transport.pause_reading();
            }
            Ok(())
        });
        let options = ConnectOptions::new(listener.addr()).layer(Seal::client());
        let connect = host.handle().create_connection(options, recorder);
        world.settle().unwrap();
        let peer = listener.accept().unwrap();
        let segment = [hello(), sealed(b"at once"), end_of_seal()].concat();
        assert_eq!(peer.send(&segment).unwrap(), segment.len());
        peer.send_eof().unwrap();
        let transport = world.run_until(connect).unwrap();
        world.settle().unwrap();
        if pauses {
            world.advance(LIMIT).unwrap();
            assert_eq!(log.words(), ["made"]);
            transport.resume_reading();
            world.settle().unwrap();
        }
        assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
        assert_eq!(log.data(), b"at once");
        assert_eq!(log.reason(), "peer-eof");
        assert_eq!(unsealed(&peer.take()), [Said::Hello, Said::End]);
    }
}

#[test]
fn a_layer_opens_while_reading_is_paused() {
    let mut stage = Stage::new();
    stage.transport.pause_reading();
    stage.settle();
    let pushed = stage.transport.push_layer(Seal::server(), b"");
    stage.send(&[hello(), sealed(b"later")].concat());
    assert!(pushed.is_ready());
    assert_eq!(stage.said(), [Said::Hello]);
    stage.world.advance(LIMIT).unwrap();
    assert_eq!(stage.log.words(), ["made"]);
    stage.transport.resume_reading();
    stage.settle();
    assert_eq!(stage.log.data(), b"later");
}

const LAST: &[u8] = b"the last words";

#[test]
fn a_close_behind_writes_waits_for_the_layer_up_to_its_limit() {
    for opens in [false, true] {
        let mut stage = Stage::new();
        let layer = Seal::server().limit(LIMIT);
        let pushed = stage.transport.push_layer(layer, b"");
        stage.transport.write(LAST).unwrap();
        stage.transport.close();
        stage.world.advance(LIMIT - INSTANT).unwrap();
        assert_eq!(stage.log.words(), ["made"]);
        assert_eq!((stage.said(), stage.peer.is_ended()), (vec![], false));
        if opens {
            stage.send(&hello());
            let all = [Said::Hello, Said::Data(LAST.to_vec()), Said::End];
            assert_eq!(stage.said(), all);
            assert!(stage.peer.is_ended() && pushed.is_ready());
            assert!(stage.log.closed().is_clean());
        } else {
            stage.world.advance(INSTANT).unwrap();
            let closed = closed_of(stage.world.run_until(pushed));
            let late = CloseReason::Timeout(TimeoutKind::Handshake);
            assert_eq!(
                (closed.reason(), closed.unsent()),
                (&late, LAST.len() as u64)
            );
            assert_eq!(stage.said(), []);
        }
        assert_eq!(stage.log.words(), ["made", "lost"]);
        drop(stage.peer);
        stage.world.run_until_idle().unwrap();
        assert_nothing_left(&stage.host);
    }
}

#[test]
fn a_close_with_nothing_written_does_not_wait_for_the_layer() {
    let mut stage = Stage::new();
    stage.transport.write(b"plain").unwrap();
    let pushed = stage.transport.push_layer(Seal::client(), b"");
    let began = stage.world.elapsed();
    stage.settle();
    stage.transport.close();
    stage.settle();
    assert_eq!(stage.log.words(), ["made", "lost"]);
    assert_eq!(stage.world.elapsed(), began);
    let all = [b"plain".to_vec(), hello()].concat();
    assert_eq!(stage.peer.take(), all);
    assert!(stage.peer.is_ended());
    assert!(closed_of(stage.world.run_until(pushed)).is_clean());
}
