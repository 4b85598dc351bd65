//! The PROXY protocol as a wrapper and as a layer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use support::{
    Authority, Log, Peer, Recorder, SHORT, Seen, Served, TlsPeer, Wire, drive, each_wire, settle,
};
use tidegate::{
    CloseReason, EventLoop, Layer, LayerIo, ListenOptions, Protocol, Result, TimeoutKind, Transport,
};
use tidegate_service::{ProxyError, ProxyHeader, ProxyLayer, ProxyProtocol};
use tidegate_testkit::{LayerCheck, Side};
use tidegate_tls::prelude::*;

const HEADER_1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
const HEADER_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC0\0\x02\x01\xC0\0\x02\x02\xDC\x04\x01\xBB";

type Told = Rc<RefCell<Vec<Option<String>>>>;

fn client(header: &ProxyHeader) -> Option<String> {
    header.client().map(ToString::to_string)
}

/// A recorder that is made with the header, and the clients that it is told of.
fn recorded(log: &Log) -> (ProxyProtocol<Recorder>, Told) {
    recorded_with(log, |recorder| recorder)
}

fn recorded_with(
    log: &Log,
    make: impl FnOnce(Recorder) -> Recorder + 'static,
) -> (ProxyProtocol<Recorder>, Told) {
    let told = Told::default();
    let (clients, log) = (told.clone(), log.clone());
    let protocol = ProxyProtocol::new(move |header| {
        clients.borrow_mut().push(client(header));
        make(Recorder::new(&log))
    });
    (protocol, told)
}

fn set(wire: Wire, protocol: impl Protocol) -> (EventLoop, Transport, Peer) {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.handle().set_error_handler(|_, _| {});
    let (transport, peer) = wire.scene().on(&mut event_loop, protocol);
    (event_loop, transport, peer)
}

/// Sends each part when the loop has had the one before.
fn send(event_loop: &mut EventLoop, transport: &Transport, peer: &mut Peer, parts: [&[u8]; 2]) {
    for part in parts {
        let before = transport.stats().received;
        peer.send(part);
        drive(event_loop, "the part", || {
            transport.stats().received == before + part.len() as u64
        });
    }
}

each_wire!(at_every_cut_the_protocol_is_made_with_the_header_and_gets_what_is_behind_it);
fn at_every_cut_the_protocol_is_made_with_the_header_and_gets_what_is_behind_it(wire: Wire) {
    for header in [HEADER_1, HEADER_2] {
        let stream = [header, b"hello"].concat();
        for cut in 1..stream.len() {
            let log = Log::new();
            let (protocol, told) = recorded(&log);
            let (mut event_loop, transport, mut peer) = set(wire, protocol);
            let (before, behind) = stream.split_at(cut);
            send(&mut event_loop, &transport, &mut peer, [before, behind]);
            drive(&mut event_loop, "the rest", || log.data() == b"hello");
            assert_eq!(log.seen()[0], Seen::Made);
            assert_eq!(*told.borrow(), [Some("192.0.2.1:56324".to_owned())]);
            assert_eq!(event_loop.handle().stats().timers, 0);
            let found = transport.with_protocol(|_: &mut Recorder, _| ());
            assert!(found.is_ok());
        }
    }
}

each_wire!(before_the_header_nothing_is_told_and_no_protocol_is_made);
fn before_the_header_nothing_is_told_and_no_protocol_is_made(wire: Wire) {
    let log = Log::new();
    let (protocol, told) = recorded(&log);
    let (mut event_loop, transport, mut peer) = set(wire, protocol);
    peer.send(&HEADER_2[..20]);
    settle(&mut event_loop);
    assert!(log.seen().is_empty() && told.borrow().is_empty());
    // A flood of somebody else's is a pause that nobody hears of.
    support::flood(&transport);
    settle(&mut event_loop);
    peer.send(&HEADER_2[20..]);
    settle(&mut event_loop);
    assert!(log.seen().is_empty() && told.borrow().is_empty());
    drive(&mut event_loop, "the header", || {
        peer.read_available();
        log.has(&Seen::Made)
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
}

each_wire!(what_is_behind_the_header_waits_and_moves_like_bytes_that_were_given_back);
fn what_is_behind_the_header_waits_and_moves_like_bytes_that_were_given_back(wire: Wire) {
    let stream = [HEADER_1, b"hello"].concat();
    // Paused in `connection_made`: it waits.
    let log = Log::new();
    let (protocol, _) = recorded_with(&log, |recorder| {
        recorder.on_made(|transport| {
            transport.pause_reading();
            Ok(())
        })
    });
    let (mut event_loop, transport, mut peer) = set(wire, protocol);
    peer.send(&stream);
    drive(&mut event_loop, "made", || log.has(&Seen::Made));
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "the rest", || log.data() == b"hello");
    // Closed: it does not come.
    let log = Log::new();
    let (protocol, _) = recorded_with(&log, |recorder| {
        recorder.on_made(|transport| {
            transport.close();
            Ok(())
        })
    });
    let (mut event_loop, _, mut peer) = set(wire, protocol);
    peer.send(&stream);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
    // Another protocol: it comes to that one.
    let (log, new) = (Log::new(), Log::new().switched_in());
    let other = new.clone();
    let (protocol, _) = recorded_with(&log, |recorder| {
        recorder.on_made(move |transport| {
            transport.set_protocol(Recorder::new(&other), b"unread, ")?;
            Ok(())
        })
    });
    let (mut event_loop, _, mut peer) = set(wire, protocol);
    peer.send(&stream);
    drive(&mut event_loop, "the rest", || {
        new.data() == b"unread, hello"
    });
}

fn reason(transport: &Transport) -> Option<ProxyError> {
    let closed = transport.closed()?;
    match closed.reason() {
        CloseReason::Callback(error) => error.downcast_ref().copied(),
        _ => None,
    }
}

each_wire!(anything_else_ends_the_connection_without_a_protocol);
fn anything_else_ends_the_connection_without_a_protocol(wire: Wire) {
    let long = [&HEADER_2[..13], &[0x11, 0xFF, 0xFF]].concat();
    let cases: [(&[u8], ProxyError); 3] = [
        (b"GET / HTTP/1.1\r\n", ProxyError::NoHeader),
        (b"PROXY TCP4 \r\n", ProxyError::Malformed),
        (&long, ProxyError::TooLong),
    ];
    for (stream, error) in cases {
        let log = Log::new();
        let (protocol, told) = recorded(&log);
        let (mut event_loop, transport, mut peer) = set(wire, protocol);
        let (before, behind) = stream.split_at(1);
        peer.send(before);
        settle(&mut event_loop);
        // It fails when the first byte was wrong.
        let _ = peer.try_write(behind);
        drive(&mut event_loop, "the end", || transport.closed().is_some());
        assert_eq!(reason(&transport), Some(error));
        settle(&mut event_loop);
        assert!(log.seen().is_empty() && told.borrow().is_empty());
    }
}

each_wire!(a_stream_that_ends_within_the_header_is_an_error_and_one_without_a_byte_none);
fn a_stream_that_ends_within_the_header_is_an_error_and_one_without_a_byte_none(wire: Wire) {
    for (begun, error) in [(&HEADER_1[..9], Some(ProxyError::Ended)), (b"", None)] {
        let (protocol, told) = recorded(&Log::new());
        let (mut event_loop, transport, mut peer) = set(wire, protocol);
        peer.send(begun);
        peer.close();
        drive(&mut event_loop, "the end", || transport.closed().is_some());
        assert_eq!(reason(&transport), error);
        assert!(told.borrow().is_empty());
        let clean = transport.closed().unwrap().is_clean();
        assert_eq!(clean, error.is_none());
        assert_eq!(event_loop.handle().stats().timers, 0);
    }
}

each_wire!(a_header_that_does_not_come_in_time_ends_the_connection);
fn a_header_that_does_not_come_in_time_ends_the_connection(wire: Wire) {
    for begun in [&HEADER_1[..9], b""] {
        let (protocol, told) = recorded(&Log::new());
        let (mut event_loop, transport, mut peer) = set(wire, protocol.within(SHORT));
        peer.send(begun);
        drive(&mut event_loop, "the end", || transport.closed().is_some());
        assert_eq!(reason(&transport), Some(ProxyError::TooLate));
        assert!(told.borrow().is_empty());
    }
    // One that came by `set_protocol` waits no longer.
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = wire.scene().on(&mut event_loop, Recorder::default());
    settle(&mut event_loop);
    let (protocol, _) = recorded(&Log::new().switched_in());
    transport.set_protocol(protocol.within(SHORT), b"").unwrap();
    peer.send(&HEADER_1[..9]);
    drive(&mut event_loop, "the end", || transport.closed().is_some());
    assert_eq!(reason(&transport), Some(ProxyError::TooLate));
    // Nor without a byte, if it is told.
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, _peer) = wire.scene().on(&mut event_loop, Recorder::default());
    settle(&mut event_loop);
    let (protocol, _) = recorded(&Log::new().switched_in());
    let protocol = protocol.within(SHORT).start(&transport);
    transport.set_protocol(protocol, b"").unwrap();
    drive(&mut event_loop, "the end", || transport.closed().is_some());
    assert_eq!(reason(&transport), Some(ProxyError::TooLate));
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_wire!(another_protocol_gets_what_there_is_of_a_header);
fn another_protocol_gets_what_there_is_of_a_header(wire: Wire) {
    let (protocol, told) = recorded(&Log::new());
    let (mut event_loop, transport, mut peer) = set(wire, protocol);
    peer.send(&HEADER_1[..9]);
    settle(&mut event_loop);
    let new = Log::new().switched_in();
    transport.set_protocol(Recorder::new(&new), b"").unwrap();
    peer.send(b"!");
    drive(&mut event_loop, "all of it", || new.data() == b"PROXY TCP!");
    assert!(told.borrow().is_empty());
    assert_eq!(event_loop.handle().stats().timers, 0);
}

fn layered(wire: Wire, log: &Log, within: Duration) -> (EventLoop, Transport, Peer) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, peer) = wire.scene().on(&mut event_loop, Recorder::new(log));
    let layer = ProxyLayer::new().within(within);
    transport.push_layer(layer, b"").detach();
    (event_loop, transport, peer)
}

each_wire!(as_a_layer_it_leaves_at_every_cut_and_the_protocol_asks_it_for_the_header);
fn as_a_layer_it_leaves_at_every_cut_and_the_protocol_asks_it_for_the_header(wire: Wire) {
    const LONG: Duration = Duration::from_secs(60);
    for header in [HEADER_1, HEADER_2] {
        let stream = [header, b"hello"].concat();
        for cut in 1..=stream.len() {
            let log = Log::new();
            let (mut event_loop, transport, mut peer) = layered(wire, &log, LONG);
            let (before, behind) = stream.split_at(cut);
            peer.send(before);
            settle(&mut event_loop);
            assert_eq!(log.has(&Seen::Made), cut >= header.len());
            peer.send(behind);
            drive(&mut event_loop, "the rest", || log.data() == b"hello");
            let client =
                transport.with_layer(|layer: &mut ProxyLayer, _| layer.header().and_then(client));
            assert_eq!(client.flatten().as_deref(), Some("192.0.2.1:56324"));
        }
    }
}

each_wire!(as_a_layer_it_refuses_anything_else_and_waits_no_longer_than_its_time);
fn as_a_layer_it_refuses_anything_else_and_waits_no_longer_than_its_time(wire: Wire) {
    for stream in [&b"GET / HTTP/1.1\r\n"[..], &HEADER_1[..9], b""] {
        for ends in [false, true] {
            let log = Log::new();
            let (mut event_loop, transport, mut peer) = layered(wire, &log, SHORT);
            peer.send(stream);
            if ends {
                peer.shutdown_write();
            }
            drive(&mut event_loop, "the end", || transport.closed().is_some());
            let closed = transport.closed().unwrap();
            let late = matches!(
                closed.reason(),
                CloseReason::Timeout(TimeoutKind::Handshake)
            );
            let waits = !ends && stream.len() < 16;
            assert_eq!(late, waits, "{closed}");
            let is_refused = !waits && !stream.is_empty();
            assert_eq!(
                closed.to_string().contains("PROXY header"),
                is_refused,
                "{closed}"
            );
            settle(&mut event_loop);
            assert!(log.seen().is_empty());
        }
    }
}

/// The proxy's end: it tells of its client, and leaves.
struct WritesHeader(&'static [u8]);

impl Layer for WritesHeader {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(self.0);
        io.leave();
        Ok(())
    }

    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        unreachable!("it has left")
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        unreachable!("it has left")
    }
}

#[test]
fn as_a_layer_it_passes_the_check_of_layers() {
    for header in [HEADER_1, HEADER_2] {
        let check = LayerCheck::new(move || WritesHeader(header), ProxyLayer::new);
        // From the header on it is a plain stream, whose end is that of TCP.
        let report = check.cut_is_end().run();
        let report = report.unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(report.bytes_to(Side::Server), header.len() + 200);
    }
}

/// A server whose options put layers on.
fn listening(options: impl FnOnce(ListenOptions) -> ListenOptions) -> (EventLoop, Served) {
    let event_loop = EventLoop::new().unwrap();
    let options = options(ListenOptions::new("127.0.0.1:0"));
    let served = Served::new(event_loop.handle(), options, greets);
    (event_loop, served)
}

/// A layer that changes each byte.
struct Xor;

impl Xor {
    const KEY: u8 = 0x5a;

    fn of(data: &[u8]) -> Vec<u8> {
        data.iter().map(|byte| byte ^ Self::KEY).collect()
    }
}

impl Layer for Xor {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let plain = Self::of(io.input());
        io.consume(plain.len());
        io.deliver(&plain);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(&Self::of(data));
        Ok(data.len())
    }
}

/// Sends back what comes, behind the client's address.
fn greets(recorder: Recorder) -> Recorder {
    recorder.on_data(|transport, data| {
        let client =
            transport.with_layer(|layer: &mut ProxyLayer, _| layer.header().and_then(client));
        transport.write(client.flatten().unwrap().as_bytes())?;
        transport.write(data)?;
        Ok(())
    })
}

#[test]
fn as_a_layer_of_a_server_it_is_below_tls_and_other_layers_and_tells_the_header() {
    const CLIENT: &[u8] = b"192.0.2.1:56324";
    let authority = Authority::new();
    let config = Arc::new(authority.server());
    let clients = Arc::new(authority.client());
    let (mut event_loop, served) = listening(|options| options.layer(ProxyLayer::new).tls(config));
    for cut in [1, 20, HEADER_1.len()] {
        let mut peer = Peer::connect(&served.address());
        peer.send(&HEADER_1[..cut]);
        settle(&mut event_loop);
        peer.send(&HEADER_1[cut..]);
        let mut peer = TlsPeer::client(peer, &clients);
        peer.shake_hands(&mut event_loop);
        peer.send(b"hello");
        peer.expect(&mut event_loop, CLIENT.len() + 5);
        assert_eq!(peer.received(), [CLIENT, b"hello"].concat());
    }
    // Without a header the handshake is none of TLS.
    let peer = Peer::connect(&served.address());
    let mut peer = TlsPeer::client(peer, &clients);
    peer.expect_end(&mut event_loop);
    assert!(peer.received().is_empty() && served.accepted() == 3);

    let (mut event_loop, served) =
        listening(|options| options.layer(ProxyLayer::new).layer(|| Xor));
    let mut peer = Peer::connect(&served.address());
    peer.send(&[HEADER_2, &Xor::of(b"hello")].concat());
    peer.expect(&mut event_loop, CLIENT.len() + 5);
    assert_eq!(Xor::of(peer.received()), [CLIENT, b"hello"].concat());
}

#[test]
fn for_a_check_of_the_servers_health_no_protocol_is_made_nor_told() {
    let (mut event_loop, served) = listening(|options| options.layer(ProxyLayer::new));
    let handle = event_loop.handle().clone();
    let made: Rc<Cell<usize>> = Rc::default();
    let counted = made.clone();
    let make = move || {
        let made = counted.clone();
        ProxyProtocol::new(move |_| {
            made.set(made.get() + 1);
            Recorder::default()
        })
    };
    let server = handle.create_server("127.0.0.1:0", make).unwrap();
    for address in [served.address(), server.local_addrs()[0].clone()] {
        let mut peer = Peer::connect(&address);
        settle(&mut event_loop);
        assert_eq!(handle.stats().connections, 1);
        peer.close();
        drive(&mut event_loop, "the end", || {
            handle.stats().connections == 0
        });
    }
    assert_eq!((made.get(), served.accepted()), (0, 0));
}
