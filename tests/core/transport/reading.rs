//! Reading stopped, by `pause_reading` and by the hold of a paused writer.

use std::cell::Cell;
use std::rc::Rc;
use support::{
    Kind, Log, Peer, Recorder, Scene, Seen, TempDir, adopted, drive, each_kind, limits,
    never_paused, no_limits, pattern, put, settle, stall, strict_loop,
};
use tidegate::{ConnectOptions, Flow, OnEof, OnPause, Protocol, Result, Transport, WriteLimits};

each_kind!(nothing_is_delivered_while_reading_is_paused_and_nothing_is_lost);
fn nothing_is_delivered_while_reading_is_paused_and_nothing_is_lost(kind: Kind) {
    for buffered in [false, true] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let mut protocol = Recorder::new(&log).on_made(|transport| {
            assert!(transport.is_reading());
            transport.pause_reading();
            transport.pause_reading();
            assert!(!transport.is_reading());
            Ok(())
        });
        if buffered {
            protocol = protocol.buffered(1000);
        }
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        peer.send(&pattern(0, 50_000));
        settle(&mut event_loop);
        peer.send(&pattern(50_000, 10_000));
        peer.shutdown_write();
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made"]);
        // All is here, so no new readiness event can be what brings it.
        let events = event_loop.handle().stats().events;
        transport.resume_reading();
        assert!(transport.is_reading());
        assert_eq!(log.words(), ["made"], "delivered inside resume_reading");
        drive(&mut event_loop, "the data", || log.data_len() == 60_000);
        assert_eq!(event_loop.handle().stats().events, events);
        assert_eq!(log.data(), pattern(0, 60_000));
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    }
}

each_kind!(a_pause_inside_data_received_holds_at_once);
fn a_pause_inside_data_received_holds_at_once(kind: Kind) {
    const PIECE: usize = 1000;
    let mut event_loop = strict_loop();
    let log = Log::new();
    let protocol = Recorder::new(&log).buffered(PIECE).on_data(|transport, _| {
        transport.pause_reading();
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    let data = pattern(0, 20 * PIECE);
    peer.send(&data);
    peer.shutdown_write();
    for pieces in 1..=20 {
        drive(&mut event_loop, "a piece", || {
            log.data_len() == pieces * PIECE
        });
        settle(&mut event_loop);
        assert_eq!(log.data_len(), pieces * PIECE);
        assert_eq!(log.words(), ["made", "data"]);
        let events = event_loop.handle().stats().events;
        transport.resume_reading();
        drive(&mut event_loop, "more", || {
            log.data_len() > pieces * PIECE || log.is_lost()
        });
        assert_eq!(event_loop.handle().stats().events, events);
    }
    assert_eq!(log.data(), data);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

each_kind!(a_pause_right_before_the_end_of_stream_holds_it_back);
fn a_pause_right_before_the_end_of_stream_holds_it_back(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let protocol = Recorder::new(&log)
        .on_eof(|_| Ok(OnEof::Close))
        .on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"last");
    peer.shutdown_write();
    drive(&mut event_loop, "data", || log.data_len() == 4);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    assert!(!transport.is_closing());
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

each_kind!(resume_inside_the_callback_that_paused_changes_nothing);
fn resume_inside_the_callback_that_paused_changes_nothing(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let protocol = Recorder::new(&log).buffered(1).on_data(|transport, _| {
        transport.pause_reading();
        transport.resume_reading();
        transport.resume_reading();
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"abcdef");
    drive(&mut event_loop, "data", || log.data() == b"abcdef");
}

each_kind!(the_hold_and_pause_reading_are_two_bits_and_neither_undoes_the_other);
fn the_hold_and_pause_reading_are_two_bits_and_neither_undoes_the_other(kind: Kind) {
    let table = [(false, false), (false, true), (true, false), (true, true)];
    for (held, paused) in table {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log)
            .on_pause(move |_| {
                Ok(if held {
                    OnPause::StopReading
                } else {
                    OnPause::KeepReading
                })
            })
            .on_resume(move |transport| {
                assert_eq!(transport.is_reading(), !paused, "the hold is off by now");
                Ok(())
            });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, never_paused(&transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause"]);
        if paused {
            transport.pause_reading();
        }
        peer.send(b"abc");
        settle(&mut event_loop);
        let reading = !held && !paused;
        assert_eq!(transport.is_reading(), reading, "{held} {paused}");
        assert_eq!(log.data_len(), if reading { 3 } else { 0 });
        if held {
            // Not even a resume takes the hold off.
            transport.resume_reading();
            settle(&mut event_loop);
            assert!(!transport.is_reading());
            assert_eq!(log.data_len(), 0);
            if paused {
                transport.pause_reading();
            }
        }
        // The fall does, and the peer has nothing more to send.
        peer.expect(&mut event_loop, transport.written() as usize);
        settle(&mut event_loop);
        let expected: &[&str] = match (held, paused) {
            (false, false) => &["made", "pause", "data", "resume"],
            (true, false) => &["made", "pause", "resume", "data"],
            (_, true) => &["made", "pause", "resume"],
        };
        assert_eq!(log.words(), expected);
        transport.resume_reading();
        settle(&mut event_loop);
        assert_eq!(log.data(), b"abc");
    }
}

each_kind!(the_hold_is_set_only_if_the_writer_is_still_paused_after_pause_writing);
fn the_hold_is_set_only_if_the_writer_is_still_paused_after_pause_writing(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_pause(|transport| {
        transport.set_write_limits(no_limits())?;
        Ok(OnPause::StopReading)
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    stall(&mut event_loop, never_paused(&transport), 1000);
    transport.set_write_limits(limits(0, 0)).unwrap();
    peer.send(b"abc");
    settle(&mut event_loop);
    assert!(transport.is_reading());
    assert_eq!(log.data(), b"abc");
    assert_eq!(log.count(&Seen::Resume), 1);
}

each_kind!(the_default_pause_writing_stops_the_accepted_side_and_not_the_opened_one);
fn the_default_pause_writing_stops_the_accepted_side_and_not_the_opened_one(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("s").display()),
    };
    let served = Rc::new(Cell::new(None));
    let accepted = served.clone();
    let accepted_log = Log::new();
    let log = accepted_log.clone();
    let server = event_loop
        .handle()
        .create_server(at, move || {
            let accepted = accepted.clone();
            Recorder::new(&log).on_made(move |transport| {
                accepted.set(Some(transport.clone()));
                Ok(())
            })
        })
        .unwrap();
    let _client = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "a connection", || {
        accepted_log.has(&Seen::Made)
    });
    let served = served.take().unwrap();
    let adopted_log = Log::new();
    let (adopted, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&adopted_log));
    let connected_log = Log::new();
    let boxed: Box<dyn Protocol> = Box::new(Recorder::new(&connected_log));
    let (connected, _other) = Scene::of(kind).connected().on(&mut event_loop, boxed);
    for (transport, reads) in [(&served, false), (&adopted, false), (&connected, true)] {
        assert_eq!(transport.is_accepted(), !reads);
        stall(&mut event_loop, never_paused(transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        settle(&mut event_loop);
        assert_eq!(transport.flow(), Flow::Paused);
        assert_eq!(transport.is_reading(), reads);
    }
}

each_kind!(after_set_protocol_the_new_answer_decides_whether_the_hold_stays);
fn after_set_protocol_the_new_answer_decides_whether_the_hold_stays(kind: Kind) {
    let (stop, keep) = (OnPause::StopReading, OnPause::KeepReading);
    let table = [(stop, keep), (keep, stop), (stop, stop), (keep, keep)];
    for (old, new) in table {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log).on_pause(move |_| Ok(old));
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, never_paused(&transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        settle(&mut event_loop);
        assert_eq!(transport.is_reading(), old == keep);
        let next = Log::new().switched_in();
        let protocol = Recorder::new(&next).on_pause(move |_| Ok(new));
        transport.set_protocol(protocol, b"unread").unwrap();
        settle(&mut event_loop);
        let expected: &[&str] = if new == keep {
            &["made", "pause", "data"]
        } else {
            &["made", "pause"]
        };
        assert_eq!(next.words(), expected);
        assert_eq!(transport.is_reading(), new == keep);
        peer.expect(&mut event_loop, transport.written() as usize);
        drive(&mut event_loop, "unread", || next.data() == b"unread");
        assert_eq!(next.count(&Seen::Resume), 1);
        assert_eq!(log.words(), ["made", "pause"]);
    }
}

each_kind!(a_protocol_set_by_a_resume_that_pauses_again_is_paused_before_its_unread);
fn a_protocol_set_by_a_resume_that_pauses_again_is_paused_before_its_unread(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let next = Log::new().switched_in();
    let mut new = Some(Recorder::new(&next));
    let protocol = Recorder::new(&log).on_resume(move |transport| {
        while !put(transport, 100_000).is_paused() {}
        if let Some(new) = new.take() {
            transport.set_protocol(new, b"unread")?;
        }
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    stall(&mut event_loop, never_paused(&transport), 1000);
    transport.set_write_limits(limits(0, 0)).unwrap();
    settle(&mut event_loop);
    // Room for more and more to read, in one event.
    peer.send(b"abc");
    peer.read_available();
    drive(&mut event_loop, "the switch", || {
        next.has(&Seen::Pause) || peer.read_some(50_000) == 0
    });
    settle(&mut event_loop);
    assert_eq!(next.words(), ["made", "pause"]);
    peer.expect(&mut event_loop, transport.written() as usize);
    drive(&mut event_loop, "unread", || next.data() == b"unreadabc");
    assert_eq!(next.words(), ["made", "pause", "resume", "data"]);
}

/// The default echo server; only its largest numbers are noted.
#[derive(Default, Clone)]
struct Echo {
    most_read: Rc<Cell<usize>>,
    most_buffered: Rc<Cell<usize>>,
}

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        self.most_read.set(self.most_read.get().max(data.len()));
        let buffered = transport.write_buffer_size();
        self.most_buffered
            .set(self.most_buffered.get().max(buffered));
        Ok(())
    }
}

const BULK: usize = 64 << 20;

/// Sends all it has as fast as it may and checks what comes back.
#[derive(Default)]
struct Bulk {
    received: u64,
    good: Rc<Cell<bool>>,
}

impl Bulk {
    fn produce(transport: &Transport) -> Result {
        let mut written = transport.written();
        while written < BULK as u64 {
            let flow = transport.write(&pattern(written, 32 * 1024))?;
            written = transport.written();
            if flow.is_paused() {
                break;
            }
        }
        Ok(())
    }
}

impl Protocol for Bulk {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        Self::produce(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        assert!(data == pattern(self.received, data.len()));
        self.received += data.len() as u64;
        if self.received == BULK as u64 {
            self.good.set(true);
            transport.close();
        }
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        Self::produce(transport)
    }
}

each_kind!(a_bulk_client_and_the_default_echo_server_do_not_deadlock);
fn a_bulk_client_and_the_default_echo_server_do_not_deadlock(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("s").display()),
    };
    let echo = Echo::default();
    let serving = echo.clone();
    let server = event_loop
        .handle()
        .create_server(at, move || serving.clone())
        .unwrap();
    let good = Rc::new(Cell::new(false));
    let bulk = Bulk {
        good: good.clone(),
        ..Bulk::default()
    };
    let options = ConnectOptions::new(&server.local_addrs()[0]);
    let client = event_loop.handle().create_connection(options, bulk);
    let client = event_loop.run_until(client).unwrap();
    // Until the client listens, all buffers on the way fill up and both sides stand still.
    client.pause_reading();
    settle(&mut event_loop);
    assert!(client.flow().is_paused());
    client.resume_reading();
    drive(&mut event_loop, "64 MiB there and back", || good.get());
    let closed = client.wait_closed();
    let closed = event_loop.run_until(closed).unwrap();
    assert!(closed.is_clean(), "{closed}");
    assert!(client.stats().pauses > 1, "{:?}", client.stats());
    // The server stops reading while it cannot reply: its buffer is bounded by the
    // high-water mark and the read that crossed it.
    let bound = WriteLimits::new().high() + echo.most_read.get();
    let most = echo.most_buffered.get();
    assert!(most > WriteLimits::new().high(), "it never had to wait");
    assert!(
        most <= bound,
        "{most} bytes were buffered, {bound} at most expected"
    );
}
