//! How layers open, and what a connection is until then.

use std::cell::Cell;
use std::io::{Error, ErrorKind};
use std::rc::Rc;
use support::logs::{keep_log, logged};
use support::seal::{Calls, Said, Seal, alert, end_of_seal, hello, record_of, sealed};
use support::{
    Hooked, Kind, Log, Peer, Recorder, Scene, Served, TempDir, closed_of, drive, each_kind,
    failures, pattern, settle, strict_loop,
};
use tidegate::{
    CloseReason, ConnectError, ConnectOptions, EventLoop, ListenOptions, OnPause, Transport,
};

fn data(bytes: &[u8]) -> Said {
    Said::Data(bytes.to_vec())
}

/// The sources of a loop that has nothing to do: one listener, if any.
#[track_caller]
fn assert_nothing_left(event_loop: &EventLoop) {
    let stats = event_loop.handle().stats();
    let left = (
        stats.connections,
        stats.connecting,
        stats.timers,
        stats.completions,
    );
    assert_eq!(left, (0, 0, 0, 0), "{stats:#?}");
}

fn a_server_is_made_when_its_layer_is_open(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    drive(&mut event_loop, "the connection", || {
        served.server.connection_count() == 1
    });
    settle(&mut event_loop);
    assert_eq!(served.accepted(), 0);
    peer.send(&hello());
    drive(&mut event_loop, "connection_made", || {
        served.accepted() == 1
    });
    peer.send(&sealed(b"hello"));
    peer.expect_said(&mut event_loop, &[Said::Hello, data(b"hello")]);
    peer.send(&end_of_seal());
    drive(&mut event_loop, "the end", || served.log(0).is_lost());
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    peer.expect_said(&mut event_loop, &[Said::Hello, data(b"hello"), Said::End]);
    assert_eq!(served.log(0).words(), ["made", "data", "eof", "lost"]);
    assert_eq!(served.log(0).reason(), "peer-eof");
    drive(&mut event_loop, "the linger", || {
        peer.close();
        event_loop_is_idle(&served)
    });
    assert_nothing_left(&event_loop);
}
each_kind!(a_server_is_made_when_its_layer_is_open);

fn event_loop_is_idle(served: &Served) -> bool {
    served.server.handle().stats().lingering == 0
}

fn a_connect_completes_when_its_layer_is_open(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let options = ConnectOptions::new(&address).layer(Seal::client());
    let recorder = Recorder::new(&log);
    let completion = event_loop.handle().create_connection(options, recorder);
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect_said(&mut event_loop, &[Said::Hello]);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.connections), (1, 0));
    assert!(!completion.is_ready());
    assert_eq!(log.words(), [""; 0]);
    peer.send(&hello());
    let transport = event_loop.run_until(completion).unwrap();
    assert_eq!(log.words(), ["made"]);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.connections), (0, 1));
    let bytes = pattern(0, 300_000);
    transport.write(&bytes).unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    peer.expect_said(
        &mut event_loop,
        &[Said::Hello, Said::Data(bytes), Said::End],
    );
    assert_eq!((transport.sent(), transport.written()), (300_000, 300_000));
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
}
each_kind!(a_connect_completes_when_its_layer_is_open);

/// How the other end of a connect keeps its layer from opening.
type Hinder = fn(&mut Peer);

fn a_connect_fails_with_the_kind_of_what_kept_its_layer_from_opening(kind: Kind) {
    let resets: Hinder = |peer| peer.reset();
    let mut table: Vec<(&str, Hinder, ErrorKind)> = vec![
        (
            "a bad record",
            |peer| peer.send(&record_of(b'x', b"")),
            ErrorKind::InvalidData,
        ),
        (
            "an alert",
            |peer| peer.send(&alert("no")),
            ErrorKind::PermissionDenied,
        ),
        (
            "its end",
            |peer| peer.shutdown_write(),
            ErrorKind::UnexpectedEof,
        ),
        (
            "its end within a record",
            |peer| {
                peer.send(&hello()[..2]);
                peer.shutdown_write();
            },
            ErrorKind::UnexpectedEof,
        ),
        ("silence", |_| {}, ErrorKind::TimedOut),
    ];
    if kind == Kind::Tcp {
        table.push(("a reset", resets, ErrorKind::ConnectionReset));
    }
    for (name, hinder, expected) in table {
        let mut event_loop = strict_loop();
        let dir = TempDir::new();
        let (listener, address) = kind.listen(&dir);
        let log = Log::new();
        let calls = Calls::default();
        let limit = match expected {
            ErrorKind::TimedOut => support::SHORT,
            _ => support::BOUND,
        };
        let layer = Seal::client().limit(limit).noted_in(&calls);
        let options = ConnectOptions::new(&address).layer(layer);
        let recorder = Recorder::new(&log);
        let completion = event_loop.handle().create_connection(options, recorder);
        let mut peer = Peer::new(listener.accept().unwrap().0);
        peer.expect_said(&mut event_loop, &[Said::Hello]);
        hinder(&mut peer);
        let error = event_loop.run_until(completion).unwrap_err();
        assert_eq!(error.kind(), expected, "{name}: {error}");
        assert!(ConnectError::of(&error).is_some(), "{name}: {error:?}");
        peer.close();
        drive(&mut event_loop, "the linger", || log.dropped() == 1);
        settle(&mut event_loop);
        assert_eq!(log.words(), [""; 0], "{name}");
        assert_eq!(*calls.borrow(), ["start", "drop"], "{name}");
        assert_nothing_left(&event_loop);
    }
}
each_kind!(a_connect_fails_with_the_kind_of_what_kept_its_layer_from_opening);

#[test]
fn the_layers_error_is_the_source_of_the_connects() {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let (listener, address) = Kind::Tcp.listen(&dir);
    let options = ConnectOptions::new(&address).layer(Seal::client());
    let completion = event_loop
        .handle()
        .create_connection(options, Recorder::new(&Log::new()));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.send(&alert("a certificate is required"));
    let error = event_loop.run_until(completion).unwrap_err();
    let text = format!("cannot connect to {address}: a certificate is required");
    assert_eq!(error.to_string(), text);
    let connect = ConnectError::of(&error).unwrap();
    assert_eq!(connect.attempts().count(), 0);
    let source = std::error::Error::source(connect).unwrap();
    let source = source.downcast_ref::<Error>().unwrap();
    assert_eq!(source.kind(), ErrorKind::PermissionDenied);
}

fn a_server_whose_layer_fails_drops_the_protocol_without_a_callback(kind: Kind) {
    let mut event_loop = strict_loop();
    keep_log(log::LevelFilter::Debug);
    let dir = TempDir::new();
    let calls = Calls::default();
    let noted = calls.clone();
    let options =
        ListenOptions::new(kind.somewhere(&dir)).layer(move || Seal::server().noted_in(&noted));
    let failures = failures(event_loop.handle());
    let log = Log::new();
    let made = log.clone();
    let server = event_loop
        .handle()
        .create_server(options, move || Recorder::new(&made))
        .unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    let from = peer.as_sock().local_addr().unwrap();
    peer.send(&record_of(b'G', b"ET / HTTP/1.1"));
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    peer.expect_said(&mut event_loop, &[Said::Alert("a bad record".to_owned())]);
    drive(&mut event_loop, "the end", || {
        server.connection_count() == 0
    });
    peer.close();
    drive(&mut event_loop, "the linger", || {
        server.handle().stats().lingering == 0
    });
    assert_eq!(log.words(), [""; 0]);
    assert_eq!(log.dropped(), 1);
    assert_eq!(*calls.borrow(), ["start", "drop"]);
    assert!(failures.borrow().is_empty(), "{failures:?}");
    let from = from
        .as_socket()
        .map_or("unnamed".to_owned(), |from| from.to_string());
    let text = format!("no connection with {from}: a bad record");
    let lines: Vec<_> = logged()
        .into_iter()
        .map(|line| (line.level, line.target, line.text))
        .collect();
    assert_eq!(
        lines,
        [(log::Level::Debug, "tidegate::server".to_owned(), text)]
    );
    assert_nothing_left(&event_loop);
}
each_kind!(a_server_whose_layer_fails_drops_the_protocol_without_a_callback);

#[test]
fn of_many_connections_that_are_not_made_ten_a_second_are_logged() {
    let mut event_loop = strict_loop();
    keep_log(log::LevelFilter::Debug);
    let options = ListenOptions::new("127.0.0.1:0").layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let scan = |event_loop: &mut EventLoop| {
        let peer = Peer::connect(&served.address());
        drive(event_loop, "the connection", || {
            served.server.connection_count() == 1
        });
        drop(peer);
        drive(event_loop, "its end", || {
            served.server.connection_count() == 0
        });
    };
    for _ in 0..30 {
        scan(&mut event_loop);
    }
    let lines = logged();
    assert!((10..30).contains(&lines.len()), "{lines:?}");
    assert!(lines.iter().all(|line| line.level == log::Level::Debug));
    assert_eq!(served.accepted(), 0);
}

#[test]
fn a_connection_that_is_ended_here_before_its_layers_are_open_is_not_logged() {
    let mut event_loop = strict_loop();
    keep_log(log::LevelFilter::Debug);
    let options = ListenOptions::new("127.0.0.1:0").layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let _peer = Peer::connect(&served.address());
    drive(&mut event_loop, "the connection", || {
        served.server.connection_count() == 1
    });
    served.server.close_clients();
    drive(&mut event_loop, "its end", || {
        served.server.connection_count() == 0
    });
    assert_eq!(logged(), []);
}

fn layers_start_from_the_wire_up_each_when_the_one_below_is_open(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let calls = Calls::default();
    let (low, high) = (calls.clone(), calls.clone());
    let options = ListenOptions::new(kind.somewhere(&dir))
        .layer(move || Seal::server().noted_in(&low))
        .layer(move || Seal::server().noted_in(&high));
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    peer.send(&hello());
    peer.expect_said(&mut event_loop, &[Said::Hello]);
    settle(&mut event_loop);
    assert_eq!(*calls.borrow(), ["start", "open", "start"]);
    assert_eq!(served.accepted(), 0);
    peer.send(&sealed(&hello()));
    drive(&mut event_loop, "connection_made", || {
        served.accepted() == 1
    });
    assert_eq!(*calls.borrow(), ["start", "open", "start", "open"]);
    peer.send(&sealed(&sealed(b"twice")));
    let all = [hello(), sealed(b"twice")].concat();
    peer.expect_said(&mut event_loop, &[Said::Hello, Said::Data(all)]);
}
each_kind!(layers_start_from_the_wire_up_each_when_the_one_below_is_open);

fn bytes_of_the_segment_that_opens_come_after_connection_made(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).layer(Seal::server);
    let served = Served::new(event_loop.handle(), options, |recorder| recorder);
    let mut peer = Peer::connect(&served.address());
    peer.send(&[hello(), sealed(b"at once"), end_of_seal()].concat());
    drive(&mut event_loop, "the end", || {
        served.accepted() == 1 && served.log(0).is_lost()
    });
    assert_eq!(served.log(0).words(), ["made", "data", "eof", "lost"]);
    assert_eq!(served.log(0).data(), b"at once");
}
each_kind!(bytes_of_the_segment_that_opens_come_after_connection_made);

fn a_pause_in_connection_made_holds_them_and_the_end_behind_them(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let options = ConnectOptions::new(&address).layer(Seal::client());
    let recorder = Recorder::new(&log).on_made(|transport| {
        transport.pause_reading();
        Ok(())
    });
    let completion = event_loop.handle().create_connection(options, recorder);
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.send(&[hello(), sealed(b"at once"), end_of_seal()].concat());
    peer.shutdown_write();
    let transport = event_loop.run_until(completion).unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.data(), b"at once");
}
each_kind!(a_pause_in_connection_made_holds_them_and_the_end_behind_them);

/// Puts a layer on, and has it open whatever stops the bytes of the protocol.
#[track_caller]
fn open_stopped(event_loop: &mut EventLoop, transport: &Transport, peer: &mut Peer, log: &Log) {
    let before = log.words();
    let opened = transport.push_layer(Seal::server(), b"");
    peer.send(&[hello(), sealed(b"later")].concat());
    event_loop.run_until(opened).unwrap();
    settle(event_loop);
    assert_eq!(log.words(), before);
}

fn a_layer_opens_while_reading_is_paused(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    transport.pause_reading();
    settle(&mut event_loop);
    open_stopped(&mut event_loop, &transport, &mut peer, &log);
    peer.expect_said(&mut event_loop, &[Said::Hello]);
    transport.resume_reading();
    drive(&mut event_loop, "the data", || log.data() == b"later");
}
each_kind!(a_layer_opens_while_reading_is_paused);

fn a_layer_opens_while_the_writer_is_paused_and_reading_is_held(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind)
        .strict()
        .stalled(1 << 20)
        .set_with(|recorder| recorder.on_pause(|_| Ok(OnPause::StopReading)));
    assert!(!transport.is_reading());
    let written = transport.written() as usize;
    open_stopped(&mut event_loop, &transport, &mut peer, &log);
    drive(&mut event_loop, "the data", || {
        peer.read_available();
        log.data() == b"later"
    });
    peer.expect(&mut event_loop, written + hello().len());
    assert_eq!(peer.said_behind(written), [Said::Hello]);
}
each_kind!(a_layer_opens_while_the_writer_is_paused_and_reading_is_held);

/// A layer that takes as much as the peer grants it: without a read, both ends would wait for ever.
fn a_layer_that_must_receive_to_send_more_is_read_for_while_reading_is_stopped(kind: Kind) {
    for pauses in [false, true] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        let takes = Rc::new(Cell::new(0));
        let granted = takes.clone();
        let layer = Hooked::on("receive", move |io| {
            granted.set(granted.get() + 100_000 * io.input().len());
            Ok(())
        });
        let opened = transport.push_layer(layer.taking(&takes), b"");
        event_loop.run_until(opened).unwrap();
        if pauses {
            transport.pause_reading();
        }
        transport.write(&[7; 250_000]).unwrap();
        settle(&mut event_loop);
        assert!(!transport.is_reading());
        for (grants, expected) in [(1, 100_000), (1, 200_000)] {
            peer.send(&[b'x'; 1][..grants]);
            peer.expect(&mut event_loop, expected);
            settle(&mut event_loop);
            peer.read_available();
            assert_eq!(peer.received().len(), expected);
            assert_eq!(transport.sent(), expected as u64);
            assert_eq!(log.data(), b"");
        }
        let polls = event_loop.handle().stats().polls;
        assert!(polls < 200, "{polls}");
        peer.send(b"x");
        peer.expect(&mut event_loop, 250_000);
        settle(&mut event_loop);
        let words: &[&str] = match pauses {
            true => &["made", "pause", "resume"],
            false => &["made", "pause", "resume", "data"],
        };
        assert_eq!(log.words(), words);
        transport.resume_reading();
        drive(&mut event_loop, "the data", || log.data() == b"xxx");
    }
}
each_kind!(a_layer_that_must_receive_to_send_more_is_read_for_while_reading_is_stopped);

/// The rest stays with the kernel, whose buffer stops the peer.
fn what_is_read_for_a_layer_alone_is_bounded(kind: Kind) {
    const BOUND: usize = 256 * 1024;
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let takes = Rc::new(Cell::new(0));
    let read = Rc::new(Cell::new(0));
    let counted = read.clone();
    let layer = Hooked::on("receive", move |io| {
        counted.set(counted.get() + io.input().len());
        Ok(())
    });
    let opened = transport.push_layer(layer.taking(&takes), b"");
    event_loop.run_until(opened).unwrap();
    transport.pause_reading();
    transport.write(b"waiting").unwrap();
    settle(&mut event_loop);
    let sent = peer.fill(&mut event_loop);
    assert!(
        0 < read.get() && read.get() <= BOUND,
        "{} of {sent}",
        read.get()
    );
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "the data", || log.data_len() == sent);
    assert_eq!(log.data(), pattern(0, sent));
}
each_kind!(what_is_read_for_a_layer_alone_is_bounded);

/// A peer that says why it leaves, and closes with unread bytes: over TCP a reset.
fn the_last_words_of_a_peer_are_read_before_a_failed_write_is_told(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    transport.write(b"unread").unwrap();
    settle(&mut event_loop);
    peer.send(&alert("a certificate is required"));
    peer.close();
    let failed = event_loop.run_until(transport.push_layer(Seal::client(), b""));
    let closed = closed_of(failed);
    let CloseReason::Io(error) = closed.reason() else {
        panic!("{closed:?}");
    };
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(error.to_string(), "a certificate is required");
    assert_eq!(log.words(), ["made", "lost"]);
}
each_kind!(the_last_words_of_a_peer_are_read_before_a_failed_write_is_told);

/// Without last words the write's own error is the reason.
fn a_failed_write_behind_which_is_nothing_is_the_reason(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    peer.reset();
    let began = Rc::new(Cell::new(false));
    let started = began.clone();
    let layer = Seal::client();
    let below = Hooked::on("start", move |_| {
        started.set(true);
        Ok(())
    });
    transport.push_layer(below, b"").detach();
    let closed = closed_of(event_loop.run_until(transport.push_layer(layer, b"")));
    assert!(closed.is_reset(), "{closed}");
    assert!(began.get());
    assert_eq!(log.words(), ["made", "lost"]);
}
each_kind!(a_failed_write_behind_which_is_nothing_is_the_reason);
