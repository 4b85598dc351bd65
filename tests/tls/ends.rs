//! How an encrypted stream ends: cleanly with a close_notify, and in no other way.

use super::{Connecting, VERSIONS, alert, client_of, lost_by, serve, server_of, tls_error};
use std::io::ErrorKind;
use std::sync::Arc;
use support::{
    Authority, BOUND, Kind, Log, MIB, Peer, Recorder, Served, TlsPeer, adopted, closed_of, drive,
    never_paused, settle, stall, text,
};
use tidegate::{CloseReason, ConnectOptions, EventLoop, ListenOptions, Transport};
use tidegate_tls::Tls;
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::{AlertDescription, Error};

/// A connection of a client to a server of the loop, whose protocol is `make`'s.
fn accepted(make: impl Fn(Recorder) -> Recorder + 'static) -> (EventLoop, Served, TlsPeer) {
    accepted_by(make, |tls| tls)
}

fn accepted_by(
    make: impl Fn(Recorder) -> Recorder + 'static,
    set: impl Fn(Tls) -> Tls + 'static,
) -> (EventLoop, Served, TlsPeer) {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let config = Arc::new(authority.server());
    let options = ListenOptions::new("127.0.0.1:0").layer(move || set(Tls::server(config.clone())));
    let served = Served::new(event_loop.handle(), options, make);
    let client = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    (event_loop, served, client)
}

/// The same, seen from the one connection.
fn connection(
    make: impl Fn(Recorder) -> Recorder + 'static,
) -> (EventLoop, Log, Transport, TlsPeer) {
    let (event_loop, served, client) = accepted(make);
    (event_loop, served.log(0), served.transport(0), client)
}

#[track_caller]
fn expect_lost(event_loop: &mut EventLoop, log: &Log) {
    drive(event_loop, "connection_lost", || log.is_lost());
}

#[test]
fn close_sends_what_is_buffered_then_a_close_notify_and_the_end_of_the_stream() {
    let (mut event_loop, log, transport, mut peer) = connection(|recorder| recorder);
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    let len = transport.written() as usize;
    transport.close();
    peer.expect_end(&mut event_loop);
    assert!(peer.received() == text(0, len));
    assert!(peer.has_close_notify() && peer.wire().saw_eof());
    expect_lost(&mut event_loop, &log);
    assert_eq!(log.reason(), "local-close");
    assert_eq!((transport.sent(), log.closed().unsent()), (len as u64, 0));
}

#[test]
fn after_write_eof_the_peer_has_the_end_and_may_go_on_sending() {
    let (mut event_loop, log, transport, mut peer) = connection(Recorder::keep_open);
    transport.write(b"last words").unwrap();
    transport.write_eof().unwrap();
    peer.expect_end(&mut event_loop);
    assert!(peer.has_close_notify() && peer.wire().saw_eof());
    assert_eq!(peer.received(), b"last words");
    peer.send(b"some more");
    drive(&mut event_loop, "data", || log.data() == b"some more");
    peer.close_notify();
    expect_lost(&mut event_loop, &log);
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert!(log.closed().is_clean());
}

#[test]
fn a_close_notify_is_one_eof_and_what_follows_it_is_ignored() {
    let (mut event_loop, log, transport, mut peer) = connection(Recorder::keep_open);
    peer.send(b"all");
    peer.close_notify();
    peer.wire().send(b"ignored, and no record at all");
    peer.wire().shutdown_write();
    drive(&mut event_loop, "the end", || log.words().len() == 3);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data", "eof"]);
    assert_eq!(log.data(), b"all");
    // Writes are still sent.
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    let len = transport.written() as usize;
    transport.close();
    peer.expect_end(&mut event_loop);
    expect_lost(&mut event_loop, &log);
    assert_eq!(transport.sent(), len as u64);
    assert!(log.closed().is_clean());
}

#[test]
fn a_close_notify_alone_ends_the_stream_of_a_peer_that_keeps_its_socket() {
    let (mut event_loop, log, _, mut peer) = connection(|recorder| recorder);
    peer.close_notify();
    expect_lost(&mut event_loop, &log);
    assert_eq!(log.words(), ["made", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
    peer.expect_end(&mut event_loop);
    assert!(peer.has_close_notify() && peer.wire().saw_eof());
}

#[test]
fn a_stream_that_ends_without_a_close_notify_was_cut() {
    for set in [(|tls| tls) as fn(Tls) -> Tls, |tls| {
        tls.truncation_is_end(true).truncation_is_end(false)
    }] {
        let (mut event_loop, served, mut peer) = accepted_by(|recorder| recorder, set);
        peer.send(b"incomplete");
        peer.wire().shutdown_write();
        let log = served.log(0);
        expect_lost(&mut event_loop, &log);
        assert_eq!(log.words(), ["made", "data", "lost"]);
        assert_eq!(log.data(), b"incomplete");
        assert_eq!(lost_by(&log), (ErrorKind::UnexpectedEof, None));
    }
}

#[test]
fn a_cut_stream_ends_as_a_whole_one_if_truncation_is_end() {
    let set = |tls: Tls| tls.truncation_is_end(true);
    let (mut event_loop, served, mut peer) = accepted_by(|recorder| recorder, set);
    peer.send(b"with a length");
    let cut = peer.records_of(b"cut");
    peer.wire().send(&cut[..cut.len() - 1]);
    peer.wire().shutdown_write();
    let log = served.log(0);
    expect_lost(&mut event_loop, &log);
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
}

#[test]
fn a_peer_that_leaves_in_the_handshake_is_no_end_of_a_stream_even_if_truncation_is() {
    let mut event_loop = EventLoop::new().unwrap();
    let config = Arc::new(Authority::new().server());
    let options = ListenOptions::new("127.0.0.1:0")
        .layer(move || Tls::server(config.clone()).truncation_is_end(true));
    let served = Served::echo(event_loop.handle(), options);
    let peer = Peer::connect(&served.address());
    let connections = || served.server.connection_count();
    drive(&mut event_loop, "a connection", || connections() == 1);
    peer.shutdown_write();
    drive(&mut event_loop, "its end", || connections() == 0);
    let log = served.log(0);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));

    let config = Arc::new(Authority::new().client());
    let options = |to: ConnectOptions| {
        let tls = Tls::client(config, "localhost".try_into().unwrap());
        to.layer(tls.truncation_is_end(true))
    };
    let (connecting, mut peer) = Connecting::new(&mut event_loop, options, |it| it);
    peer.expect(&mut event_loop, 1);
    peer.shutdown_write();
    drive(&mut event_loop, "the failure", || connecting.is_decided());
    let error = connecting.error();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    let text = error.to_string();
    assert!(text.contains("in the TLS handshake"), "{text}");
}

#[test]
fn abort_sends_no_close_notify_and_a_reset_where_bytes_are_lost() {
    for (lossy, resets, stop) in [
        (false, false, Transport::abort as fn(&Transport)),
        (true, true, Transport::abort),
        (false, true, Transport::reset),
    ] {
        let (mut event_loop, log, transport, mut peer) = connection(|recorder| recorder);
        never_paused(&transport);
        transport.write(b"sent").unwrap();
        event_loop.run_until(transport.flush()).unwrap();
        peer.expect(&mut event_loop, 4);
        if lossy {
            stall(&mut event_loop, &transport, MIB);
        }
        stop(&transport);
        peer.expect_end(&mut event_loop);
        assert!(!peer.has_close_notify() && peer.error().is_none());
        assert_eq!(peer.wire().saw_eof(), !resets);
        expect_lost(&mut event_loop, &log);
        let closed = log.closed();
        assert_eq!(closed.unsent() + transport.sent(), transport.written());
        // The peer can decrypt no more than counts as sent.
        if lossy {
            assert!(peer.received().len() as u64 <= transport.sent());
        }
        assert_eq!(closed.reason(), &CloseReason::LocalAbort);
    }
}

/// A Unix socket keeps what its kernel has taken, and a record counts with its last byte.
#[test]
fn after_an_abort_the_peer_decrypts_what_counts_as_sent_and_no_byte_more() {
    for versions in VERSIONS {
        let mut event_loop = EventLoop::new().unwrap();
        let authority = Authority::new();
        let log = Log::new();
        let (transport, peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&log));
        let config = Arc::new(authority.server_of(versions));
        let started = transport.start_tls_server(config, b"");
        let mut peer = TlsPeer::client(peer, &Arc::new(authority.client()));
        peer.shake_hands(&mut event_loop);
        event_loop.run_until(started.within(BOUND)).unwrap();
        never_paused(&transport);
        stall(&mut event_loop, &transport, MIB);
        for _ in 0..5 {
            peer.wire().read_some(33_333);
            settle(&mut event_loop);
        }
        transport.abort();
        peer.expect_end(&mut event_loop);
        expect_lost(&mut event_loop, &log);
        let sent = transport.sent() as usize;
        assert!(sent > 100_000, "{sent}");
        assert_eq!(peer.received().len(), sent);
        assert!(peer.received() == text(0, sent));
        assert_eq!(
            log.closed().unsent() + transport.sent(),
            transport.written()
        );
    }
}

/// A record that was changed on the way.
fn bad_record(peer: &mut TlsPeer) -> Vec<u8> {
    let mut record = peer.records_of(b"changed on the way");
    *record.last_mut().unwrap() ^= 1;
    record
}

#[test]
fn a_bad_record_ends_the_connection_after_the_data_before_it_and_the_peer_gets_an_alert() {
    let (mut event_loop, log, _, mut peer) = connection(|recorder| recorder);
    let mut wire = peer.records_of(b"good");
    wire.extend(bad_record(&mut peer));
    // The peer goes on; none of this is read.
    wire.extend(vec![0; 200_000]);
    let sent = peer.wire().write(&wire);
    assert!(sent > 100);
    peer.until(&mut event_loop, "the alert", |peer| peer.error().is_some());
    assert_eq!(peer.error(), Some(&alert(AlertDescription::BadRecordMac)));
    expect_lost(&mut event_loop, &log);
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert_eq!(log.data(), b"good");
    let error = (ErrorKind::InvalidData, Some(Error::DecryptError));
    assert_eq!(lost_by(&log), error);
}

/// A connection that has delivered data and then met a bad record, and has stopped reading.
fn paused_before_a_bad_record() -> (EventLoop, Log, Transport, TlsPeer) {
    let (mut event_loop, log, transport, mut peer) = connection(|recorder| {
        recorder.on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        })
    });
    let mut wire = peer.records_of(b"good");
    wire.extend(bad_record(&mut peer));
    peer.wire().send(&wire);
    drive(&mut event_loop, "data", || log.data() == b"good");
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    (event_loop, log, transport, peer)
}

#[test]
fn a_bad_record_behind_a_pause_is_met_on_resume() {
    let (mut event_loop, log, transport, _peer) = paused_before_a_bad_record();
    transport.resume_reading();
    expect_lost(&mut event_loop, &log);
    let error = (ErrorKind::InvalidData, Some(Error::DecryptError));
    assert_eq!(lost_by(&log), error);
}

#[test]
fn a_write_after_a_bad_record_behind_a_pause_fails_with_its_error() {
    let (mut event_loop, log, transport, _peer) = paused_before_a_bad_record();
    let flushed = match transport.write(b"too late") {
        Ok(_) => event_loop.run_until(transport.flush()),
        Err(error) => Err(error.into()),
    };
    assert_eq!(tls_error(&closed_of(flushed)), Error::DecryptError);
    assert_eq!(transport.closed().unwrap().unsent(), 8);
    transport.resume_reading();
    expect_lost(&mut event_loop, &log);
    let error = (ErrorKind::InvalidData, Some(Error::DecryptError));
    assert_eq!(lost_by(&log), error);
}

#[test]
fn an_alert_of_the_peer_is_the_reason() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let server = Arc::new(authority.server());
    let (log, _, mut peer) = server_of(&mut event_loop, authority.client(), &server, |recorder| {
        recorder
    });
    peer.tls.read_tls(&mut &[23, 3, 3, 0, 1, 0][..]).unwrap();
    peer.tls.process_new_packets().unwrap_err();
    peer.step();
    expect_lost(&mut event_loop, &log);
    assert_eq!(log.words(), ["made", "lost"]);
    let error = alert(AlertDescription::BadRecordMac);
    assert_eq!(lost_by(&log), (ErrorKind::InvalidData, Some(error)));
}

#[test]
fn servers_that_close_their_clients_say_so_in_tls() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut peer = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    let shutdown = served.server.shutdown(BOUND);
    peer.expect_end(&mut event_loop);
    assert!(peer.has_close_notify() && peer.wire().saw_eof());
    peer.wire().close();
    assert_eq!(event_loop.run_until(shutdown).unwrap().unsent, 0);
}
