//! The end of a connection that was cut, as its peer sees it: where bytes were lost a TCP peer gets a
//! reset, so that no cut stream looks complete; where none were, the end of the stream.

use std::io::ErrorKind;
use std::time::Duration;
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, Served, TempDir, adopted, drive, each_kind, settle,
    stall, stalled, text,
};
use tidegate::{Closed, EventLoop, OnEof, Transport, WriteLimits};

const MOMENT: Duration = Duration::from_millis(1);

/// All that was sent is a prefix, and the end tells whether it is the whole.
#[track_caller]
fn expect_cut(event_loop: &mut EventLoop, kind: Kind, peer: &mut Peer, closed: &Closed) {
    assert!(closed.unsent() > 0, "{closed}");
    peer.expect_end(event_loop);
    match kind {
        Kind::Tcp => assert_eq!(
            peer.saw_error(),
            Some(ErrorKind::ConnectionReset),
            "{closed}"
        ),
        // It has no reset; what the kernel had arrives.
        Kind::Unix => assert!(peer.saw_eof(), "{closed}"),
    }
    let received = peer.received();
    assert!(received == text(0, received.len()), "{closed}");
}

#[track_caller]
fn expect_whole(event_loop: &mut EventLoop, peer: &mut Peer, closed: &Closed) {
    assert_eq!(closed.unsent(), 0, "{closed}");
    peer.expect_end(event_loop);
    assert!(peer.saw_eof(), "{closed}: {:?}", peer.saw_error());
}

type End = fn(&Transport);

/// The ways in which this side ends a connection at once, whatever is buffered.
const ENDS: [(&str, End); 9] = [
    ("local-abort", Transport::abort),
    ("local-abort", |transport| {
        transport.close();
        transport.abort();
    }),
    ("timeout", |transport| transport.close_within(MOMENT)),
    ("timeout", |transport| {
        transport.set_write_timeout(Some(MOMENT));
    }),
    ("timeout", |transport| {
        transport.close();
        transport.set_write_timeout(Some(MOMENT));
    }),
    ("callback", |transport| {
        transport.call_soon::<Recorder>(|_, _| Err("no more".into()));
    }),
    ("callback", |transport| {
        transport.close();
        transport.call_soon::<Recorder>(|_, _| Err("no more".into()));
    }),
    ("panic", |transport| {
        transport.call_soon::<Recorder>(|_, _| panic!("no more"));
    }),
    ("callback", |transport| {
        // The connection is ending: an error of another connection does not count as its own.
        transport.call_soon::<Recorder>(|_, transport| {
            transport.set_write_limits(WriteLimits::new().with_high(0).with_low(0).with_cap(1))?;
            transport.write(b"one byte too many")?;
            Ok(())
        });
    }),
];

each_kind!(every_end_that_loses_bytes_resets_a_tcp_connection);
fn every_end_that_loses_bytes_resets_a_tcp_connection(kind: Kind) {
    for (reason, end) in ENDS {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
        end(&transport);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.reason(), reason);
        expect_cut(&mut event_loop, kind, &mut peer, &log.closed());
    }
}

each_kind!(the_same_ends_are_an_end_of_stream_when_no_byte_was_lost);
fn the_same_ends_are_an_end_of_stream_when_no_byte_was_lost(kind: Kind) {
    for (_, end) in &ENDS[..8] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        transport.write(&text(0, 1000)).unwrap();
        settle(&mut event_loop);
        end(&transport);
        settle(&mut event_loop);
        if !log.is_lost() {
            // A write timeout alone ends nothing.
            assert!(!transport.is_closing());
            transport.abort();
            drive(&mut event_loop, "lost", || log.is_lost());
        }
        expect_whole(&mut event_loop, &mut peer, &log.closed());
        assert!(peer.received() == text(0, 1000));
    }
}

each_kind!(a_client_that_asks_for_more_than_the_cap_at_once_sees_no_clean_end);
fn a_client_that_asks_for_more_than_the_cap_at_once_sees_no_clean_end(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    // All defaults, a hundred kilobytes for each request of two bytes, and `?`.
    let protocol = Recorder::new(&log).on_data(|transport, requests| {
        for _ in requests.chunks(2) {
            transport.write(&text(transport.written(), 100_000))?;
        }
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(&b"x\n".repeat(1000));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "callback");
    assert!(
        log.closed().to_string().contains("at its cap"),
        "{}",
        log.closed()
    );
    assert!(transport.written() < 100_000_000);
    expect_cut(&mut event_loop, kind, &mut peer, &log.closed());
}

each_kind!(an_error_in_any_callback_that_wrote_more_than_the_kernel_takes_is_a_cut);
fn an_error_in_any_callback_that_wrote_more_than_the_kernel_takes_is_a_cut(kind: Kind) {
    fn fail(transport: &Transport) -> tidegate::Result {
        transport.write(&text(transport.written(), 32 * MIB))?;
        Err("afterwards".into())
    }
    type Make = fn(Recorder) -> Recorder;
    let failing: [(&[u8], Make); 4] = [
        (b"", |it| it.on_made(fail)),
        (b"go", |it| it.on_data(|transport, _| fail(transport))),
        (b"go", |it| {
            it.buffered(100).on_data(|transport, _| fail(transport))
        }),
        (b"", |it| {
            it.on_eof(|transport| fail(transport).map(|()| OnEof::Close))
        }),
    ];
    for (request, make) in failing {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (_, mut peer) = adopted(event_loop.handle(), kind, make(Recorder::new(&log)));
        peer.send(request);
        peer.shutdown_write();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.reason(), "callback");
        expect_cut(&mut event_loop, kind, &mut peer, &log.closed());
    }
}

each_kind!(a_server_that_cuts_its_clients_resets_those_that_lose_bytes_and_no_others);
fn a_server_that_cuts_its_clients_resets_those_that_lose_bytes_and_no_others(kind: Kind) {
    type Cut = fn(&Served);
    let cuts: [Cut; 2] = [
        |served| served.server.abort_clients(),
        |served| served.server.shutdown(MOMENT).detach(),
    ];
    for cut in cuts {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::new(event_loop.handle(), &*kind.somewhere(&dir), |it| it);
        let [mut slow, mut idle] = served.connect(&mut event_loop);
        stall(&mut event_loop, &served.transport(0), MIB);
        cut(&served);
        drive(&mut event_loop, "lost", || {
            served.log(0).is_lost() && served.log(1).is_lost()
        });
        expect_cut(&mut event_loop, kind, &mut slow, &served.log(0).closed());
        expect_whole(&mut event_loop, &mut idle, &served.log(1).closed());
    }
}

each_kind!(the_end_of_the_loop_resets_connections_that_lose_bytes_and_no_others);
fn the_end_of_the_loop_resets_connections_that_lose_bytes_and_no_others(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let logs = [Log::new(), Log::new(), Log::new(), Log::new()];
    let (_, mut slow) = stalled(&mut event_loop, kind, Recorder::new(&logs[0]));
    let (closing, mut slow_closing) = stalled(&mut event_loop, kind, Recorder::new(&logs[1]));
    closing.close();
    let (_, mut idle) = adopted(event_loop.handle(), kind, Recorder::new(&logs[2]));
    let (transport, mut new) = adopted(event_loop.handle(), kind, Recorder::new(&logs[3]));
    settle(&mut event_loop);
    // The loop has not offered it to the kernel, and will not.
    transport.write(b"x").unwrap();
    drop(event_loop);
    let mut other = EventLoop::new().unwrap();
    for (peer, log) in [(&mut slow, &logs[0]), (&mut slow_closing, &logs[1])] {
        expect_cut(&mut other, kind, peer, &log.closed());
    }
    expect_cut(&mut other, kind, &mut new, &logs[3].closed());
    expect_whole(&mut other, &mut idle, &logs[2].closed());
}

each_kind!(a_peer_that_has_ended_its_stream_sees_the_cut_of_ours_too);
fn a_peer_that_has_ended_its_stream_sees_the_cut_of_ours_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log).keep_open());
    peer.shutdown_write();
    drive(&mut event_loop, "eof", || {
        log.words().contains(&"eof".to_owned())
    });
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    expect_cut(&mut event_loop, kind, &mut peer, &log.closed());
}

each_kind!(a_reset_after_a_close_that_had_sent_all_is_no_clean_end);
fn a_reset_after_a_close_that_had_sent_all_is_no_clean_end(kind: Kind) {
    // In the callback that closed, and while the close waits for the loop.
    for inside in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let end = |transport: &Transport| {
            transport.write(&text(0, 32 * 1024)).unwrap();
            assert_eq!(transport.sent(), transport.written());
            transport.close();
            transport.reset();
        };
        let protocol = Recorder::new(&log).on_data(move |transport, _| {
            end(transport);
            Ok(())
        });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        settle(&mut event_loop);
        if inside {
            peer.send(b"go");
        } else {
            end(&transport);
        }
        drive(&mut event_loop, "lost", || log.is_lost());
        let closed = log.closed();
        assert_eq!(
            (log.reason(), closed.unsent()),
            ("local-abort".to_owned(), 0)
        );
        assert!(!closed.is_clean());
        peer.expect_end(&mut event_loop);
        let error = (kind == Kind::Tcp).then_some(ErrorKind::ConnectionReset);
        assert_eq!(peer.saw_error(), error);
    }
}

each_kind!(a_reset_after_the_end_was_fixed_as_clean_leaves_it_clean_for_the_peer_too);
fn a_reset_after_the_end_was_fixed_as_clean_leaves_it_clean_for_the_peer_too(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    transport.write(&text(0, 32 * 1024)).unwrap();
    transport.close();
    // All is sent: the abort ends the close at once, and it is one.
    transport.abort();
    transport.reset();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(log.closed().is_clean());
    expect_whole(&mut event_loop, &mut peer, &log.closed());
    assert!(peer.received() == text(0, 32 * 1024));
}
