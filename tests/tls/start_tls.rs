//! TLS that begins in the middle of a plain connection.

use super::{Connecting, lost_by, tls_error};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use support::{
    Authority, BOUND, Kind, Log, Peer, Recorder, Served, TlsPeer, adopted, drive, each_kind, text,
};
use tidegate::{Closed, ConnectOptions, EventLoop, Result, Transport};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::server::ServerConfig;
use tidegate_tls::rustls::{AlertDescription, Error};

const COMMAND: &[u8] = b"STARTTLS\r\n";

/// The result of the handshake, when it is there.
type Started = Rc<RefCell<Option<io::Result<()>>>>;

/// A server that speaks plainly until it is asked for TLS, and echoes afterwards.
fn mail_server(
    event_loop: &EventLoop,
    kind: Kind,
    config: Arc<ServerConfig>,
    make: impl FnOnce(Recorder) -> Recorder,
) -> (Log, Started, Transport, Peer) {
    let (log, started) = (Log::new(), Started::default());
    let (told, mut is_secure) = (started.clone(), false);
    let mut line = Vec::new();
    let recorder = make(Recorder::new(&log)).on_data(move |transport, data| -> Result {
        if is_secure {
            transport.write(data)?;
            return Ok(());
        }
        line.extend(data);
        if let Some(unread) = line.strip_prefix(COMMAND) {
            is_secure = true;
            transport.write(b"220 go ahead\r\n")?;
            let told = told.clone();
            transport
                .start_tls_server(config.clone(), unread)
                .then(move |_, result| {
                    told.replace(Some(result));
                });
            transport.write(b"220 now in secret\r\n")?;
        }
        Ok(())
    });
    let (transport, peer) = adopted(event_loop.handle(), kind, recorder);
    (log, started, transport, peer)
}

#[track_caller]
fn expect_started(event_loop: &mut EventLoop, started: &Started) {
    drive(event_loop, "the handshake", || started.borrow().is_some());
    assert!(matches!(*started.borrow(), Some(Ok(()))), "{started:?}");
}

/// The plain bytes that the peer has before its handshake begins.
#[track_caller]
fn expect_line(event_loop: &mut EventLoop, peer: &mut Peer, line: &[u8]) {
    peer.expect(event_loop, line.len());
    assert_eq!(peer.received(), line);
}

each_kind!(a_server_starts_tls_when_it_is_asked_to);
fn a_server_starts_tls_when_it_is_asked_to(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let config = Arc::new(authority.server());
    let (log, started, transport, mut peer) = mail_server(&event_loop, kind, config, |it| it);
    peer.send(COMMAND);
    expect_line(&mut event_loop, &mut peer, b"220 go ahead\r\n");
    let mut peer = TlsPeer::client(peer, &Arc::new(authority.client()));
    peer.shake_hands(&mut event_loop);
    expect_started(&mut event_loop, &started);
    peer.send(b"secret");
    peer.expect(&mut event_loop, 19 + 6);
    assert_eq!(peer.received(), b"220 now in secret\r\nsecret");
    assert_eq!(
        transport.tls().unwrap().server_name.as_deref(),
        Some("localhost")
    );
    assert_eq!(transport.written(), 14 + 19 + 6);
    peer.close_notify();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(transport.sent(), transport.written());
}

#[test]
fn the_client_hello_may_be_in_the_segment_of_the_command_at_any_cut() {
    let authority = Authority::new();
    let (server, client) = (Arc::new(authority.server()), Arc::new(authority.client()));
    // The size of get_buffer cuts the segment.
    for size in [1, 3, 9, 10, 64, 4096, 0] {
        let mut event_loop = EventLoop::new().unwrap();
        let make = |recorder: Recorder| match size {
            0 => recorder,
            size => recorder.buffered(size),
        };
        let (_, started, _, peer) = mail_server(&event_loop, Kind::Tcp, server.clone(), make);
        let mut peer = TlsPeer::client(peer, &client);
        peer.hold_output(true);
        let hello = peer.take_output();
        peer.wire().send(&[COMMAND, &hello].concat());
        peer.hold_output(false);
        peer.expect_plain(&mut event_loop, b"220 go ahead\r\n");
        peer.shake_hands(&mut event_loop);
        expect_started(&mut event_loop, &started);
        peer.send(b"secret");
        peer.expect(&mut event_loop, 25);
        assert_eq!(peer.received(), b"220 now in secret\r\nsecret", "{size}");
    }
}

each_kind!(a_client_starts_tls_after_the_reply_of_its_server);
fn a_client_starts_tls_after_the_reply_of_its_server(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let (log, started) = (Log::new(), Started::default());
    let (told, config) = (started.clone(), Arc::new(authority.client()));
    let mut is_secure = false;
    let recorder = Recorder::new(&log).on_data(move |transport, data| {
        if !is_secure && data.ends_with(b"\r\n") {
            is_secure = true;
            let told = told.clone();
            transport
                .start_tls_client(config.clone(), "localhost", b"")
                .then(move |_, result| {
                    told.replace(Some(result));
                });
            transport.write(b"secret")?;
        }
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, recorder);
    transport.write(COMMAND).unwrap();
    expect_line(&mut event_loop, &mut peer, COMMAND);
    peer.send(b"220 go ahead\r\n");
    let mut peer = TlsPeer::server(peer, &Arc::new(authority.server()));
    peer.expect(&mut event_loop, 6);
    assert_eq!(peer.received(), b"secret");
    expect_started(&mut event_loop, &started);
    peer.send(b"reply");
    drive(&mut event_loop, "the reply", || {
        log.data().ends_with(b"reply")
    });
    assert_eq!(transport.peer_certificates().len(), 1);
}

#[test]
fn both_ends_of_one_loop_start_tls_with_megabytes_before_and_behind() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let (server, client) = (Arc::new(authority.server()), Arc::new(authority.client()));
    const LEN: usize = 3_000_000;
    let all: Rc<RefCell<Vec<u8>>> = Rc::default();
    let received = all.clone();
    let served = Served::new(event_loop.handle(), "127.0.0.1:0", move |recorder| {
        let (server, received, mut got) = (server.clone(), received.clone(), 0);
        recorder.on_data(move |transport, data| {
            let (plain, before) = (data.len().min(LEN - got), got);
            got += plain;
            received.borrow_mut().extend(match before < LEN {
                true => &data[..plain],
                false => data,
            });
            if before < got && got == LEN {
                let unread = &data[plain..];
                transport.start_tls_server(server.clone(), unread).detach();
            }
            Ok(())
        })
    });
    let connecting = Connecting::to(&event_loop, ConnectOptions::new(served.address()), |it| it);
    drive(&mut event_loop, "a connection", || connecting.is_decided());
    let transport = connecting.transport();
    transport.write(&text(0, LEN)).unwrap();
    // The plain bytes are still buffered.
    let started = transport.start_tls_client(client, "localhost", b"");
    transport.write(&text(LEN as u64, LEN)).unwrap();
    event_loop.run_until(started.within(BOUND)).unwrap();
    drive(&mut event_loop, "all bytes", || {
        all.borrow().len() == 2 * LEN
    });
    assert!(*all.borrow() == text(0, 2 * LEN));
    assert!(served.transport(0).tls().is_some());
    assert_eq!(transport.sent(), 2 * LEN as u64);
}

#[test]
fn plain_text_behind_the_command_is_no_command_but_a_failed_handshake() {
    // Anyone on the way may put it there, and it must not be taken for the client's.
    let mut event_loop = EventLoop::new().unwrap();
    let config = Arc::new(Authority::new().server());
    let (log, started, _, mut peer) = mail_server(&event_loop, Kind::Tcp, config, |it| it);
    peer.send(b"STARTTLS\r\nMAIL FROM:<injected@test>\r\n");
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "lost"]);
    let (kind, error) = lost_by(&log);
    assert_eq!((kind, error.is_some()), (ErrorKind::InvalidData, true));
    drive(&mut event_loop, "the completion", || {
        started.borrow().is_some()
    });
    let failed = started.take().unwrap().unwrap_err();
    assert!(Closed::of(&failed).is_some());
    tls_error(&failed);
}

#[test]
fn a_client_s_handshake_begins_with_what_was_read_ahead() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&log));
    let config = Arc::new(Authority::new().client());
    // A server that refuses TLS says so behind its reply: fatal, handshake_failure.
    let unread = [21, 3, 3, 0, 2, 2, 40];
    let started = transport.start_tls_client(config, "localhost", &unread);
    let failed = event_loop.run_until(started.within(BOUND)).unwrap_err();
    let refused = Error::AlertReceived(AlertDescription::HandshakeFailure);
    assert_eq!(tls_error(&failed), refused);
}

#[test]
fn a_connection_with_tls_may_start_tls_within_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let (server, client) = (Arc::new(authority.server()), Arc::new(authority.client()));
    let inner = server.clone();
    let options = tidegate::ListenOptions::new("127.0.0.1:0").tls(server);
    let served = Served::new(event_loop.handle(), options, move |recorder| {
        let inner = inner.clone();
        recorder.on_data(move |transport, data| {
            if let Some(unread) = data.strip_prefix(b"begin") {
                transport.start_tls_server(inner.clone(), unread).detach();
            } else {
                transport.write(data)?;
            }
            Ok(())
        })
    });
    let to = ConnectOptions::new(served.address()).tls_as(client.clone(), "localhost");
    let connecting = Connecting::to(&event_loop, to, |it| it);
    drive(&mut event_loop, "a connection", || connecting.is_decided());
    let transport = connecting.transport();
    transport.write(b"begin").unwrap();
    let started = transport.start_tls_client(client, "localhost", b"");
    transport.write(b"twice encrypted").unwrap();
    event_loop.run_until(started.within(BOUND)).unwrap();
    drive(&mut event_loop, "the echo", || {
        connecting.log.data() == b"twice encrypted"
    });
    transport.close();
    drive(&mut event_loop, "lost", || served.log(0).is_lost());
    assert_eq!(served.log(0).reason(), "peer-eof");
}
