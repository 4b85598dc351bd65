//! A server with TLS in the simulated world, with rustls at the other end of the wire: its limits, which
//! count bytes of the wire and sockets in the handshake, and peers that it refuses.

use super::VERSIONS;
use std::sync::Arc;
use std::time::Duration;
use support::{Authority, Log, Recorder, Served, no_limits};
use tidegate::{CloseReason, ListenOptions, OnPause, TimeoutKind};
use tidegate_testkit::{Host, Link, Peer, World};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::client::ClientConnection;
use tidegate_tls::rustls::{AlertDescription, ClientConfig, Error};

const LIMIT: Duration = Duration::from_secs(60);
const INSTANT: Duration = Duration::from_nanos(1);

/// The time that the looks of an idle limit may take more than five quarters of it, by rounding.
const LATE: Duration = Duration::from_micros(5);

/// The number of bytes that the kernels of both ends take.
const CAPACITY: usize = 4_000;

/// A server of the simulated world.
struct Timed {
    world: World,
    host: Host,
    served: Served,
    config: Arc<ClientConfig>,
}

/// A client that holds its wire in its hand.
struct Client {
    peer: Peer,
    tls: ClientConnection,
}

impl Timed {
    fn new(
        config: impl FnOnce(&Authority) -> ClientConfig,
        options: impl FnOnce(ListenOptions) -> ListenOptions,
    ) -> Self {
        let authority = Authority::new();
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let link = Link::new().send_buffer(1).receive_buffer(CAPACITY - 1);
        world.network().set_link_to_peers(&host, link);
        let listen = ListenOptions::new(host.addr(7)).tls(Arc::new(authority.server()));
        let served = Served::new(host.handle(), options(listen), |recorder: Recorder| {
            recorder.on_pause(|_| Ok(OnPause::KeepReading))
        });
        Self {
            world,
            host,
            served,
            config: Arc::new(config(&authority)),
        }
    }

    fn dial(&mut self) -> Client {
        let peer = self.world.network().dial(self.host.addr(7)).unwrap();
        self.world.settle().unwrap();
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(self.config.clone(), name).unwrap();
        Client { peer, tls }
    }

    /// Returns a client that has shaken hands, and has read all that the server has sent.
    fn connect(&mut self) -> Client {
        let before = self.served.accepted();
        let mut client = self.dial();
        while self.served.accepted() == before {
            client.step();
            self.world.settle().unwrap();
            assert!(!client.peer.is_ended());
        }
        client.step();
        self.world.settle().unwrap();
        client
    }

    fn pass(&mut self, time: Duration) {
        self.world.advance(time).unwrap();
    }

    #[track_caller]
    fn assert_is_cut_when_idle(&mut self) {
        self.pass(LIMIT - INSTANT);
        let log = self.served.log(0);
        assert!(!log.is_lost(), "early: {}", log.closed());
        self.pass(LIMIT / 4 + LATE);
        assert_cut(&log, TimeoutKind::Idle);
    }
}

#[track_caller]
fn assert_cut(log: &Log, kind: TimeoutKind) {
    assert!(log.is_lost(), "late");
    assert_eq!(*log.closed().reason(), CloseReason::Timeout(kind));
}

impl Client {
    /// Takes what has come, and sends what is to be sent.
    fn step(&mut self) {
        let wire = self.peer.take();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
            self.tls.process_new_packets().unwrap();
        }
        let output = self.output();
        assert_eq!(self.peer.send(&output).unwrap_or(0), output.len());
    }

    fn output(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut output).unwrap();
        }
        output
    }

    /// Encrypts.
    fn record_of(&mut self, data: &[u8]) -> Vec<u8> {
        use std::io::Write;
        self.tls.writer().write_all(data).unwrap();
        self.output()
    }
}

fn idle_limit(options: ListenOptions) -> ListenOptions {
    options.idle_timeout(LIMIT)
}

#[test]
fn a_silent_connection_that_has_shaken_hands_is_cut_when_it_is_idle() {
    for versions in VERSIONS {
        let mut timed = Timed::new(|authority| authority.client_of(versions), idle_limit);
        let client = timed.connect();
        timed.assert_is_cut_when_idle();
        assert!(client.peer.is_ended() || client.peer.is_reset());
        assert_eq!(timed.host.handle().stats().timers, 0);
    }
}

#[test]
fn a_key_update_keeps_a_connection_that_would_be_idle() {
    let mut timed = Timed::new(Authority::client, idle_limit);
    let mut client = timed.connect();
    for _ in 0..10 {
        timed.pass(LIMIT - INSTANT);
        client.tls.refresh_traffic_keys().unwrap();
        client.step();
        timed.world.settle().unwrap();
    }
    let log = timed.served.log(0);
    assert_eq!(log.words(), ["made"]);
    timed.assert_is_cut_when_idle();
}

#[test]
fn half_a_record_keeps_a_connection_a_byte_at_a_time() {
    let mut timed = Timed::new(Authority::client, idle_limit);
    let mut client = timed.connect();
    let record = client.record_of(b"slow");
    let half = record.len() / 2;
    for byte in &record[..half] {
        timed.pass(LIMIT - INSTANT);
        client.peer.send(&[*byte]).unwrap();
        timed.world.settle().unwrap();
        assert_eq!(timed.served.log(0).words(), ["made"]);
    }
    client.peer.send(&record[half..]).unwrap();
    timed.world.settle().unwrap();
    assert_eq!(timed.served.log(0).data(), b"slow");
    timed.assert_is_cut_when_idle();
}

#[test]
fn half_a_handshake_is_cut_at_its_own_limit_or_when_it_is_idle_whichever_is_earlier() {
    for (idle, cut_after) in [(2 * LIMIT, LIMIT), (LIMIT / 2, LIMIT / 2)] {
        let options = |options: ListenOptions| options.idle_timeout(idle);
        let mut timed = Timed::new(Authority::client, options);
        let mut client = timed.dial();
        let hello = client.output();
        client.peer.send(&hello[..9]).unwrap();
        timed.world.settle().unwrap();
        timed.pass(cut_after - INSTANT);
        assert_eq!(timed.served.server.connection_count(), 1);
        timed.pass(cut_after / 4 + LATE);
        assert_eq!(timed.served.server.connection_count(), 0);
        assert_eq!(timed.host.handle().stats().timers, 0);
    }
}

#[test]
fn a_close_notify_that_cannot_go_is_a_part_of_the_close() {
    let options = |options: ListenOptions| options.close_timeout(LIMIT).write_limits(no_limits());
    let mut timed = Timed::new(Authority::client, options);
    let client = timed.connect();
    let transport = timed.served.transport(0);
    // The kernel takes the data, and not the close_notify.
    while transport.write_buffer_size() == 0 {
        transport.write(b"x").unwrap();
        timed.world.settle().unwrap();
    }
    while transport.write_buffer_size() > 0 {
        assert_eq!(client.peer.read(&mut [0]).unwrap(), 1);
        timed.world.settle().unwrap();
    }
    transport.close();
    timed.world.settle().unwrap();
    timed.pass(LIMIT - INSTANT);
    assert!(!timed.served.log(0).is_lost());
    timed.pass(INSTANT);
    let log = timed.served.log(0);
    assert_cut(&log, TimeoutKind::Close);
    assert_eq!(log.closed().unsent(), 0);
    assert_eq!(timed.host.handle().stats().timers, 0);
}

#[test]
fn what_is_no_tls_gets_an_alert_and_no_connection_and_the_others_are_served() {
    const DECODE_ERROR: u8 = 50;
    let mut timed = Timed::new(Authority::client, |options| options);
    let mut other = timed.connect();
    let stranger = timed.dial();
    stranger.peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    timed.world.settle().unwrap();
    // Fatal, and in the clear.
    let wire = stranger.peer.take();
    assert!(
        matches!(wire[..], [21, 3, _, 0, 2, 2, DECODE_ERROR]),
        "{wire:?}"
    );
    assert!(stranger.peer.is_ended() && !stranger.peer.is_reset());
    let log = timed.served.log(1);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
    assert_eq!(timed.served.server.connection_count(), 1);
    let record = other.record_of(b"still served");
    other.peer.send(&record).unwrap();
    timed.world.settle().unwrap();
    assert_eq!(timed.served.log(0).data(), b"still served");
    drop(stranger);
    timed.world.run_until_idle().unwrap();
    assert_eq!(timed.host.handle().stats().lingering, 0);
}

#[test]
fn a_bad_record_ends_its_connection_and_the_alert_arrives_before_the_end() {
    use std::io::{ErrorKind, Read};
    for versions in VERSIONS {
        let mut timed = Timed::new(|authority| authority.client_of(versions), |options| options);
        let mut client = timed.connect();
        let mut wire = client.record_of(b"good");
        wire.extend(client.record_of(b"changed on the way"));
        *wire.last_mut().unwrap() ^= 1;
        assert_eq!(client.peer.send(&wire).unwrap(), wire.len());
        timed.world.settle().unwrap();
        let log = timed.served.log(0);
        assert_eq!(log.words(), ["made", "data", "lost"]);
        assert_eq!(log.data(), b"good");
        let CloseReason::Io(error) = log.closed().reason().clone() else {
            panic!("{}", log.closed());
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let last = client.peer.take();
        client.tls.read_tls(&mut &last[..]).unwrap();
        let told = client.tls.process_new_packets().unwrap_err();
        let alert = AlertDescription::BadRecordMac;
        assert_eq!(told, Error::AlertReceived(alert));
        assert!(client.tls.reader().read(&mut [0]).is_err());
        assert!(client.peer.is_ended() && !client.peer.is_reset());
    }
}

#[test]
fn a_connection_in_the_handshake_counts_for_the_maximum() {
    let options = |options: ListenOptions| options.max_connections(1);
    let mut timed = Timed::new(Authority::client, options);
    let mut silent = timed.dial();
    let hello = silent.output();
    silent.peer.send(&hello[..hello.len() / 2]).unwrap();
    let mut second = timed.dial();
    for _ in 0..5 {
        second.step();
        timed.world.settle().unwrap();
    }
    let count = || {
        (
            timed.served.server.connection_count(),
            timed.served.accepted(),
        )
    };
    assert_eq!(count(), (1, 0));
    drop(silent);
    timed.world.settle().unwrap();
    for _ in 0..5 {
        second.step();
        timed.world.settle().unwrap();
    }
    assert_eq!(timed.served.accepted(), 1);
    assert!(!second.tls.is_handshaking());
}
