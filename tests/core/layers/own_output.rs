//! Output of the layers' own: its bound, the input that waits for it, and the last words.

use super::early::polls_in_a_while;
use socket2::Socket;
use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Seal, alert, hello, sealed};
use support::{
    Hooked, Kind, Peer, SHORT, Scene, closed_of, drive, each_kind, once, pattern, settle,
};
use tidegate::{CloseReason, EventLoop, Layer, LayerIo, LingerLimits, Result, Transport};

/// Replies to each byte with one, and delivers nothing. Counts its input.
#[derive(Default)]
struct Replies(Rc<Cell<usize>>);

impl Layer for Replies {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let reply = io.input().to_vec();
        self.0.set(self.0.get() + reply.len());
        io.consume(reply.len());
        io.send(&reply);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

/// The number of bytes of a layer's own that wait.
fn waiting(transport: &Transport) -> usize {
    let text = transport.with_layer(|_: &mut Replies, io| format!("{io:?}"));
    let text = text.unwrap();
    let (_, rest) = text.split_once("to_send: ").unwrap();
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}

#[track_caller]
fn push(event_loop: &mut EventLoop, transport: &Transport) -> Rc<Cell<usize>> {
    let layer = Replies::default();
    let read = layer.0.clone();
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    read
}

/// A batch waits, and the replies to one read more: the kernel's buffers stop the peer.
fn a_peer_that_reads_no_replies_is_read_no_further_until_it_does(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let read = push(&mut event_loop, &transport);
    let sent = peer.fill(&mut event_loop);
    let held = waiting(&transport);
    assert!((128 * 1024..=256 * 1024).contains(&held), "{held} wait");
    assert!(read.get() < sent, "it was read to the end");
    let before = read.get();
    assert!(polls_in_a_while(&mut event_loop) < 50);
    assert_eq!(read.get(), before);
    // Its bytes of that time, and its end, come when there is room.
    peer.shutdown_write();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    peer.expect(&mut event_loop, sent);
    assert_eq!(peer.received(), pattern(0, sent));
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
    assert!(log.closed().is_clean(), "{}", log.closed());
}
each_kind!(a_peer_that_reads_no_replies_is_read_no_further_until_it_does);

/// Of two ends that reply to each other one must read on.
fn on_a_connection_that_we_opened_its_replies_are_an_error_at_the_maximum(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).connected().strict().set();
    let read = push(&mut event_loop, &transport);
    let part = [7; 16 * 1024];
    drive(&mut event_loop, "the end", || {
        let _ = peer.try_write(&part);
        log.is_lost()
    });
    assert!(read.get() > 1024 * 1024);
    let closed = log.closed();
    assert!(closed.to_string().contains("sent far more"), "{closed}");
}
each_kind!(on_a_connection_that_we_opened_its_replies_are_an_error_at_the_maximum);

/// All other bytes are 0.
const WORD: u8 = 0xff;

/// The bytes that nobody reads are in no way any more.
fn a_close_behind_a_layer_that_waits_for_a_word_reads_all_that_comes_before_that(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let takes = Rc::new(Cell::new(0));
    let granted = takes.clone();
    let layer = Hooked::on("receive", move |io| {
        if io.input().contains(&WORD) {
            granted.set(usize::MAX);
        }
        Ok(())
    });
    let opened = transport.push_layer(layer.taking(&takes), b"");
    event_loop.run_until(opened).unwrap();
    transport.pause_reading();
    transport.write(b"waiting").unwrap();
    let mut sent = 0;
    loop {
        let taken = peer.write(&[0; 64 * 1024]);
        sent += taken;
        settle(&mut event_loop);
        if taken == 0 {
            break;
        }
    }
    assert!(sent > 128 * 1024, "{sent}");
    transport.close();
    let mut rest = &[&[0; 300_000][..], &[WORD]].concat()[..];
    drive(&mut event_loop, "all of it to be read", || {
        rest = &rest[peer.try_write(rest).unwrap_or(0)..];
        rest.is_empty()
    });
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"waiting");
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
    assert!(log.closed().is_clean(), "{}", log.closed());
}
each_kind!(a_close_behind_a_layer_that_waits_for_a_word_reads_all_that_comes_before_that);

/// Two layers of one callback: the wire is the lower one's.
fn bytes_given_back_go_to_the_layer_that_was_put_on_first(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().set_with(|recorder| {
            let mut first = once(());
            recorder.on_data(move |transport, data| {
                if first().is_some() {
                    transport.push_layer(Seal::server(), b"").detach();
                    transport.push_layer(Seal::server(), b"").detach();
                    transport.unread(data);
                }
                Ok(())
            })
        });
    let inner = [hello(), sealed(b"data")].concat();
    peer.send(&[hello(), sealed(&inner)].concat());
    drive(&mut event_loop, "the data", || {
        log.data().ends_with(b"data")
    });
    assert_eq!(transport.closed(), None);
}
each_kind!(bytes_given_back_go_to_the_layer_that_was_put_on_first);

/// Waits for ever, and counts its calls.
struct Waits(Rc<Cell<usize>>);

impl Layer for Waits {
    fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        self.0.set(self.0.get() + 1);
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Ok(0)
    }
}

/// They would come out of order, or reach the protocol as if they had come through the layer.
fn bytes_given_back_behind_later_input_of_the_layer_end_the_connection(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let calls = Rc::new(Cell::new(0));
    drive(&mut event_loop, "the beginning", || log.words() == ["made"]);
    let pushed = transport.push_layer(Waits(calls.clone()), b"");
    peer.send(b"later");
    drive(&mut event_loop, "the call", || calls.get() == 1);
    transport.unread(b"late");
    let closed = closed_of(event_loop.run_until(pushed));
    let CloseReason::Io(error) = closed.reason() else {
        panic!("{closed}");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.data(), b"");
}
each_kind!(bytes_given_back_behind_later_input_of_the_layer_end_the_connection);

/// The call with it is the only one in its tick: others are served.
fn a_layer_whose_timer_starts_anew_at_once_is_called_once_a_tick(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let layer = Hooked::new(move |method, io| {
        if method == "timer" {
            counted.set(counted.get() + 1);
        }
        if method != "send" {
            io.wake_after(Duration::ZERO);
        }
        Ok(())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    let before = calls.get();
    let polls = polls_in_a_while(&mut event_loop);
    let called = calls.get() - before;
    assert!(called > 1, "{called} calls");
    assert!(called <= polls + 1, "{called} calls in {polls} ticks");
    peer.send(b"data");
    drive(&mut event_loop, "the data", || log.data() == b"data");
    transport.write(b"reply").unwrap();
    peer.expect(&mut event_loop, 5);
}
each_kind!(a_layer_whose_timer_starts_anew_at_once_is_called_once_a_tick);

/// Fills what lies between the two ends with a layer's own output, so that some of it waits.
#[track_caller]
fn fill_with_output(event_loop: &mut EventLoop, transport: &Transport) -> usize {
    let mut said = 0;
    loop {
        for _ in 0..2 {
            let sent = transport.with_layer(|_: &mut Hooked, io| {
                io.send(&[7; 20_000]);
                format!("{io:?}")
            });
            said += 20_000;
            settle(event_loop);
            assert!(sent.is_some());
        }
        let text = transport.with_layer(|_: &mut Hooked, io| format!("{io:?}"));
        if !text.unwrap().contains("to_send: 0 ") {
            return said;
        }
    }
}

/// The kernel had no room for it when the layer failed.
fn the_last_words_of_a_failed_layer_reach_a_peer_that_reads_later(kind: Kind) {
    for half_closed in [false, true] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        let layer = Hooked::on("receive", |io| {
            io.send(&alert("no"));
            Err("no".into())
        });
        event_loop
            .run_until(transport.push_layer(layer, b""))
            .unwrap();
        let said = fill_with_output(&mut event_loop, &transport);
        peer.send(b"x");
        if half_closed {
            peer.shutdown_write();
        }
        drive(&mut event_loop, "the end", || log.is_lost());
        assert_eq!(event_loop.handle().stats().lingering, 1, "{half_closed}");
        let all = [&vec![7; said][..], &alert("no")].concat();
        peer.expect(&mut event_loop, all.len());
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof(), "{:?}", peer.saw_error());
        assert!(peer.received() == all);
        peer.close();
        let handle = event_loop.handle().clone();
        drive(&mut event_loop, "the linger", || {
            handle.stats().lingering == 0
        });
    }
}
each_kind!(the_last_words_of_a_failed_layer_reach_a_peer_that_reads_later);

/// Keeps the kernel from taking more later.
fn small(socket: &Socket) {
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
}

/// An EOF would look complete.
#[track_caller]
fn assert_missing(event_loop: &mut EventLoop, peer: &mut Peer) {
    drive(event_loop, "the end of the peer", || {
        peer.read_available();
        peer.is_ended()
    });
    assert_eq!(peer.saw_error().is_some(), peer.is_tcp(), "a reset");
}

/// No more than 128 KiB is kept.
fn last_words_that_are_too_many_to_be_kept_end_in_a_reset(kind: Kind) {
    let scene = Scene::of(kind).strict().sockets(small);
    let (mut event_loop, log, transport, mut peer) = scene.set();
    let layer = Hooked::on("receive", |io| {
        io.send(&[7; 900_000]);
        Err("no".into())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    fill_with_output(&mut event_loop, &transport);
    peer.send(b"x");
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_missing(&mut event_loop, &mut peer);
}
each_kind!(last_words_that_are_too_many_to_be_kept_end_in_a_reset);

/// The one below takes nothing for now.
fn last_words_that_wait_for_a_layer_below_end_in_a_reset(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let takes = Rc::new(Cell::new(0));
    let below = Hooked::on("never", |_| Ok(())).taking(&takes);
    let above = Hooked::on("receive", |io| {
        io.send(&alert("no"));
        Err("no".into())
    });
    for layer in [below, above] {
        event_loop
            .run_until(transport.push_layer(layer, b""))
            .unwrap();
    }
    peer.send(b"x");
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_missing(&mut event_loop, &mut peer);
}
each_kind!(last_words_that_wait_for_a_layer_below_end_in_a_reset);

/// The linger's limit bounds the wait.
fn last_words_that_nobody_reads_are_given_up_at_the_limit_of_the_linger(kind: Kind) {
    let scene = Scene::of(kind).strict().sockets(small);
    let (mut event_loop, log, transport, mut peer) = scene.set();
    let limits = LingerLimits::new().with_time(SHORT);
    transport.set_linger_limits(limits);
    let layer = Hooked::on("receive", |io| {
        io.send(&alert("no"));
        Err("no".into())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    fill_with_output(&mut event_loop, &transport);
    peer.send(b"x");
    drive(&mut event_loop, "the end", || log.is_lost());
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the linger", || {
        handle.stats().lingering == 0
    });
    assert_eq!(handle.stats().timers, 0);
}
each_kind!(last_words_that_nobody_reads_are_given_up_at_the_limit_of_the_linger);
