//! A connection counts in bytes of the protocol.

use super::ending::sealed_scene;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::time::Instant;
use support::seal::{Said, Seal, hello, record_of, sealed, unsealed};
use support::{
    BOUND, Hooked, How, Kind, Peer, SHORT, Scene, answer, drive, each_kind, limits, never_paused,
    no_limits, put, settle, stall, text,
};
use tidegate::{CloseReason, Flow, Layer, LayerIo, Result, Transport, WriteError};

/// The number of bytes that a layer gets to send at a time.
const PIECE: u64 = 16 * 1024;

/// Makes eight bytes of each.
struct Stretch;

const FACTOR: usize = 8;

impl Layer for Stretch {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input().to_vec();
        io.consume(input.len());
        io.deliver(&input);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let bytes: Vec<u8> = data.iter().flat_map(|&byte| [byte; FACTOR]).collect();
        io.send(&bytes);
        Ok(data.len())
    }
}

#[track_caller]
fn assert_counts(transport: &Transport) {
    let stats = transport.stats();
    assert_eq!(stats.written, stats.sent + stats.write_buffer_size as u64);
    let buffer = transport.write_buffer_size();
    assert_eq!(
        (stats.written, stats.sent),
        (transport.written(), transport.sent())
    );
    assert_eq!(stats.write_buffer_size, buffer);
}

fn written_sent_and_received_are_bytes_of_the_protocol(kind: Kind) {
    for how in How::ALL {
        let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
        for len in [1, 999, 9_000, 40_000] {
            how.put(&transport, len).unwrap();
            assert_counts(&transport);
        }
        let bytes = text(0, 50_000);
        let said = [Said::Hello, Said::Data(bytes.clone())];
        peer.expect_said(&mut event_loop, &said);
        assert!(peer.received().len() > 50_100, "no layer");
        assert_eq!((transport.written(), transport.sent()), (50_000, 50_000));
        assert_eq!(transport.write_buffer_size(), 0);
        peer.send(&sealed(&bytes));
        drive(&mut event_loop, "the data", || log.data_len() == 50_000);
        assert_eq!(transport.stats().received, 50_000);
    }
}
each_kind!(written_sent_and_received_are_bytes_of_the_protocol);

/// The kernel gets eight times the bytes that count.
fn watermarks_and_cap_are_bytes_of_the_protocol(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    event_loop
        .run_until(transport.push_layer(Stretch, b""))
        .unwrap();
    stall(&mut event_loop, never_paused(&transport), 20_000);
    let before = transport.write_buffer_size();
    let marks = limits(before + 1000, before / 2).with_cap(before + 2000);
    transport.set_write_limits(marks).unwrap();
    assert_eq!(put(&transport, 1000), Flow::Open);
    assert_eq!(put(&transport, 1), Flow::Paused);
    put(&transport, 999);
    let refused = transport.write(b"x").unwrap_err();
    assert!(
        matches!(refused, WriteError::BufferFull { .. }),
        "{refused}"
    );
    assert_eq!(transport.write_buffer_size(), before + 2000);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause"]);
    let all = transport.written() as usize;
    let mut drain = transport.drain();
    drive(&mut event_loop, "all of it", || {
        assert_counts(&transport);
        let low = transport.write_buffer_size() <= before / 2;
        assert_eq!(transport.flow() == Flow::Open, low);
        assert_eq!(answer(&mut drain).is_some(), low);
        if low {
            drain = transport.drain();
        }
        peer.read_some(20_000);
        peer.received().len() == FACTOR * all
    });
    assert_eq!(transport.sent() as usize, all);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause", "resume"]);
}
each_kind!(watermarks_and_cap_are_bytes_of_the_protocol);

/// The low mark is no multiple of a record's content.
fn a_drain_completes_when_the_low_mark_is_reached(kind: Kind) {
    const LOW: u64 = 100_001;
    let (mut event_loop, _log, transport, mut peer) =
        sealed_scene(Scene::of(kind).limits(no_limits()), |r| r);
    stall(&mut event_loop, &transport, 600_000);
    transport
        .set_write_limits(limits(LOW as usize, LOW as usize))
        .unwrap();
    let mut drain = transport.drain();
    drive(&mut event_loop, "the drain", || {
        let drained = answer(&mut drain).is_some();
        let unsent = transport.write_buffer_size() as u64;
        assert_eq!(drained, unsent <= LOW, "{unsent} are unsent");
        peer.read_some(16_000);
        drained
    });
}
each_kind!(a_drain_completes_when_the_low_mark_is_reached);

/// A connection whose kernel has room for little.
pub(super) fn small(kind: Kind) -> Scene {
    Scene::of(kind).sockets(|socket| {
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
    })
}

/// The loop does not run any more when the peer reads.
fn a_flush_completes_when_all_that_stands_for_its_bytes_is_in_the_kernel(kind: Kind) {
    let (mut event_loop, _log, transport, mut peer) =
        sealed_scene(small(kind).limits(no_limits()), |r| r);
    stall(&mut event_loop, &transport, 300_000);
    let mut flush = transport.flush();
    let all = hello().len() + sealed(&text(0, transport.written() as usize)).len();
    drive(&mut event_loop, "the flush", || {
        let flushed = answer(&mut flush).is_some();
        assert_eq!(flushed, transport.sent() == transport.written());
        peer.read_some(3_000);
        flushed
    });
    assert!(peer.received().len() < all, "nothing was left to see");
    let began = Instant::now();
    while peer.received().len() < all {
        peer.read_available();
        assert!(
            began.elapsed() < BOUND,
            "{} of {all}",
            peer.received().len()
        );
    }
    drop(event_loop);
}
each_kind!(a_flush_completes_when_all_that_stands_for_its_bytes_is_in_the_kernel);

/// Ends a connection that has much to send.
type End = fn(&Transport, &mut Peer);

const ENDS: [(&str, End); 8] = [
    ("abort", |transport, _| transport.abort()),
    ("reset", |transport, _| transport.reset()),
    ("close", |transport, _| transport.close_within(SHORT)),
    ("write timeout", |transport, _| {
        transport.set_write_timeout(Some(SHORT));
    }),
    ("a bad record", |_, peer| peer.send(&record_of(b'x', b""))),
    ("a cut stream", |_, peer| peer.shutdown_write()),
    ("the peer's close", |_, peer| peer.close()),
    ("the peer's reset", |_, peer| peer.reset()),
];

fn at_every_end_what_was_written_is_sent_or_unsent(kind: Kind) {
    for (name, end) in ENDS {
        let (mut event_loop, log, transport, mut peer) =
            sealed_scene(Scene::of(kind).limits(no_limits()), |r| r);
        stall(&mut event_loop, &transport, 300_000);
        peer.read_some(50_000);
        settle(&mut event_loop);
        put(&transport, 77_777);
        end(&transport, &mut peer);
        drive(&mut event_loop, name, || log.is_lost());
        let closed = log.closed();
        assert!(closed.unsent() > 0, "{name}");
        let counted = closed.unsent() + transport.sent();
        assert_eq!(counted, transport.written(), "{name}: {closed}");
    }
}
each_kind!(at_every_end_what_was_written_is_sent_or_unsent);

/// A Unix socket keeps what its kernel has taken. There the peer gets each byte that counts as sent,
/// and no further piece.
#[test]
fn after_an_abort_the_peer_has_what_counts_as_sent() {
    let (mut event_loop, log, transport, mut peer) =
        sealed_scene(Scene::of(Kind::Unix).limits(no_limits()), |r| r);
    stall(&mut event_loop, &transport, 300_000);
    for _ in 0..5 {
        peer.read_some(33_333);
        settle(&mut event_loop);
    }
    transport.abort();
    peer.expect_end(&mut event_loop);
    assert!(log.is_lost());
    let said = unsealed(peer.received());
    let [Said::Hello, Said::Data(data), ..] = &said[..] else {
        panic!("{} things said", said.len());
    };
    let (got, sent) = (data.len() as u64, transport.sent());
    assert!((sent..sent + PIECE).contains(&got), "{got} of {sent}");
    assert!(*data == text(0, data.len()));
}

/// A read has the layers send what they hold, and the callback comes before a write tells of it.
#[test]
fn an_abort_in_a_callback_counts_what_its_read_has_sent() {
    for layers in [1, 2] {
        let (mut event_loop, log, transport, mut peer) =
            sealed_scene(Scene::of(Kind::Unix).limits(no_limits()), |recorder| {
                recorder.on_data(|transport, _| {
                    transport.abort();
                    Ok(())
                })
            });
        let mut stop = sealed(b"stop");
        if layers == 2 {
            let pushed = transport.push_layer(Seal::server(), b"");
            peer.send(&sealed(&hello()));
            event_loop.run_until(pushed).unwrap();
            stop = sealed(&stop);
        }
        stall(&mut event_loop, &transport, 300_000);
        let before = transport.sent();
        // Too little for the kernel to tell of it.
        peer.read_some(100_000);
        peer.send(&stop);
        drive(&mut event_loop, "the end", || log.is_lost());
        assert!(transport.sent() > before, "no room was made");
        peer.expect_end(&mut event_loop);
        let mut said = unsealed(peer.received());
        if layers == 2 {
            let Said::Data(inner) = &said[1] else {
                panic!("{} things said", said.len());
            };
            said = unsealed(inner);
        }
        let Said::Data(data) = &said[1] else {
            panic!("{} things said", said.len());
        };
        let (got, sent) = (data.len() as u64, transport.sent());
        assert!(
            (sent..sent + layers * PIECE).contains(&got),
            "{got} of {sent}"
        );
        assert_eq!(log.closed().unsent() + sent, transport.written());
    }
}

/// The error of a write that meets the end.
fn a_refused_write_counts_for_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    put(&transport, 5_000);
    peer.send(&record_of(b'x', b""));
    drive(&mut event_loop, "the end", || log.is_lost());
    let refused = transport.write(&[1; 99]).unwrap_err();
    let error = std::io::Error::from(refused);
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert_eq!((transport.written(), transport.sent()), (5_000, 5_000));
    assert_eq!(log.closed().unsent(), 0);
}
each_kind!(a_refused_write_counts_for_nothing);

/// The peer goes in the middle of a write of which the kernel has taken a part already.
fn an_error_behind_bytes_that_were_sent_is_told_by_the_same_write(kind: Kind) {
    let (mut event_loop, log, transport, peer) = Scene::of(kind).strict().set();
    transport.set_write_limits(no_limits()).unwrap();
    // Room for two batches, also while others fill the kernel's memory.
    transport.set_send_buffer_size(1 << 20).unwrap();
    let peer = RefCell::new(Some(peer));
    let pieces = Cell::new(0);
    let layer = Hooked::on("send", move |_| {
        pieces.set(pieces.get() + 1);
        // The first batch is out.
        if pieces.get() == 9
            && let Some(mut peer) = peer.take()
        {
            match kind {
                Kind::Tcp => peer.reset(),
                Kind::Unix => peer.close(),
            }
        }
        Ok(())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    let told = transport.write(&[1; 400_000]);
    let closed = transport.closed().expect("the error");
    if let Err(error) = told {
        assert_eq!(error.closed(), Some(&closed));
    }
    let sent = transport.sent();
    assert!((1..400_000).contains(&sent), "{sent} bytes");
    assert_eq!(closed.unsent(), 400_000 - sent);
    let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    match closed.reason() {
        CloseReason::Io(error) => assert!(expected.contains(&error.kind()), "{error}"),
        other => panic!("{other:?}"),
    }
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.closed(), closed);
}
each_kind!(an_error_behind_bytes_that_were_sent_is_told_by_the_same_write);
