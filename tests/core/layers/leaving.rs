//! A layer that leaves, and what stays of it.

use super::early::polls_in_a_while;
use support::seal::{Calls, Said, Seal, hello, sealed};
use support::{
    Hooked, Kind, Peer, Recorder, SHORT, Scene, Served, TempDir, closed_of, drive, each_kind,
    no_limits, pattern, put, settle, stall, strict_loop, text,
};
use tidegate::{Layer, LayerIo, ListenOptions, Result, Transport};

/// Reads a line, and leaves.
#[derive(Default)]
struct Header {
    line: Vec<u8>,
    calls: Calls,
}

impl Header {
    /// Notes its drop.
    fn noted_in(calls: &Calls) -> Self {
        Self {
            line: Vec::new(),
            calls: calls.clone(),
        }
    }
}

impl Layer for Header {
    fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input();
        if let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            self.line = input[..end].to_vec();
            io.consume(end + 1);
            io.open();
            io.leave();
        }
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Err("a layer that leaves when it opens was to send".into())
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        self.calls.borrow_mut().push("drop");
    }
}

fn line_of(transport: &Transport) -> Option<Vec<u8>> {
    transport.with_layer(|header: &mut Header, _| header.line.clone())
}

fn it_is_found_in_each_callback_and_after_the_end(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let calls = Calls::default();
    let noted = calls.clone();
    let options = ListenOptions::new(kind.somewhere(&dir)).layer(move || Header::noted_in(&noted));
    let served = Served::new(event_loop.handle(), options, |recorder| {
        recorder
            .on_data(|transport, _| {
                transport.write(&line_of(transport).unwrap_or_default())?;
                Ok(())
            })
            .on_lost(|transport, _| {
                assert_eq!(line_of(transport).unwrap(), b"a header");
            })
    });
    let mut peer = Peer::connect(&served.address());
    peer.send(b"a header\nping");
    peer.expect(&mut event_loop, 8);
    assert_eq!(peer.received(), b"a header");
    let transport = served.transport(0);
    settle(&mut event_loop);
    assert_eq!(line_of(&transport).unwrap(), b"a header");
    peer.close();
    drive(&mut event_loop, "the end", || served.log(0).is_lost());
    settle(&mut event_loop);
    assert_eq!(line_of(&transport).unwrap(), b"a header");
    drop((event_loop, peer));
    assert_eq!(*calls.borrow(), ["drop"]);
    assert_eq!(line_of(&transport), None);
}
each_kind!(it_is_found_in_each_callback_and_after_the_end);

fn its_words_reach_nobody(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let opened = transport.push_layer(Header::default(), b"line\n");
    event_loop.run_until(opened).unwrap();
    settle(&mut event_loop);
    peer.send(b"input");
    let seen = transport.with_layer(|_: &mut Header, io| {
        io.send(b"to nobody");
        io.deliver(b"from nobody");
        io.consume(0);
        io.end_of_stream();
        io.more();
        io.wake_after(SHORT);
        (io.input().len(), io.room())
    });
    assert_eq!(seen, Some((0, 0)));
    transport.write(b"plain").unwrap();
    peer.expect(&mut event_loop, 5);
    drive(&mut event_loop, "the data", || log.data() == b"input");
    settle(&mut event_loop);
    peer.read_available();
    assert_eq!(peer.received(), b"plain");
    assert_eq!(log.words(), ["made", "data"]);
    assert_eq!(event_loop.handle().stats().timers, 0);
}
each_kind!(its_words_reach_nobody);

fn one_that_is_still_there_is_found_before_it_and_then_the_one_that_left_last(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    for line in [&b"first\n"[..], b"second\n"] {
        let opened = transport.push_layer(Header::default(), line);
        event_loop.run_until(opened).unwrap();
        settle(&mut event_loop);
        assert_eq!(line_of(&transport).unwrap(), line[..line.len() - 1]);
    }
    // Both come off at a time.
    let low = transport.push_layer(Header::default(), b"");
    let high = transport.push_layer(Header::default(), b"");
    assert_eq!(line_of(&transport).unwrap(), b"");
    peer.send(b"low\nhigh\nrest");
    event_loop.run_until(low).unwrap();
    event_loop.run_until(high).unwrap();
    drive(&mut event_loop, "the data", || log.data() == b"rest");
    assert_eq!(line_of(&transport).unwrap(), b"high");
    transport.push_layer(Seal::server(), b"").detach();
    assert_eq!(line_of(&transport).unwrap(), b"high");
    transport.push_layer(Header::default(), b"").detach();
    for _ in 0..2 {
        assert_eq!(line_of(&transport).unwrap(), b"");
        transport.abort();
        drive(&mut event_loop, "the end", || log.is_lost());
    }
}
each_kind!(one_that_is_still_there_is_found_before_it_and_then_the_one_that_left_last);

fn it_is_found_below_one_that_is_still_there(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir))
        .layer(Header::default)
        .layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    peer.send(&[b"a header\n", &hello()[..], &sealed(b"ping")].concat());
    let said = [Said::Hello, Said::Data(b"ping".to_vec())];
    peer.expect_said(&mut event_loop, &said);
    assert_eq!(line_of(&served.transport(0)).unwrap(), b"a header");
    served.transport(0).abort();
    drive(&mut event_loop, "the end", || served.log(0).is_lost());
    assert_eq!(line_of(&served.transport(0)).unwrap(), b"a header");
}
each_kind!(it_is_found_below_one_that_is_still_there);

/// The loop runs, and ends, within a call with a layer that has left.
#[test]
fn others_may_leave_and_the_loop_may_end_while_it_is_in_use() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Tcp).strict().set();
    let calls = Calls::default();
    let header = || Header::noted_in(&calls);
    let opened = transport.push_layer(header(), b"first\n");
    event_loop.run_until(opened).unwrap();
    transport.with_layer(|_: &mut Header, _| {
        let opened = transport.push_layer(header(), b"second\n");
        event_loop.run_until(opened).unwrap();
        settle(&mut event_loop);
        assert_eq!(line_of(&transport).unwrap(), b"second");
    });
    assert_eq!(line_of(&transport).unwrap(), b"second");
    assert_eq!(calls.borrow().len(), 0);
    let mut event_loop = Some(event_loop);
    transport.with_layer(|header: &mut Header, _| {
        event_loop = None;
        assert_eq!(header.line, b"second");
        assert_eq!(log.words(), ["made", "lost"]);
    });
    assert_eq!(*calls.borrow(), ["drop", "drop"]);
    assert_eq!(line_of(&transport), None);
}

fn what_it_did_not_consume_goes_up_whatever_the_buffer(kind: Kind) {
    for size in [None, Some(1), Some(3), Some(64), Some(4096)] {
        for pauses in [false, true] {
            let bytes = pattern(0, 700);
            let (mut event_loop, log, transport, mut peer) =
                Scene::of(kind).strict().set_with(|recorder| {
                    let recorder = recorder.on_data(move |transport, _| {
                        if pauses {
                            transport.pause_reading();
                        }
                        Ok(())
                    });
                    match size {
                        Some(size) => recorder.buffered(size),
                        None => recorder,
                    }
                });
            let pushed = transport.push_layer(Header::default(), b"a ");
            peer.send(&[b"header\n", &bytes[..]].concat());
            peer.shutdown_write();
            event_loop.run_until(pushed).unwrap();
            drive(&mut event_loop, "the end", || {
                transport.resume_reading();
                log.is_lost()
            });
            assert!(log.data() == bytes, "{size:?}");
            assert_eq!(log.reason(), "peer-eof", "{size:?}");
            assert_eq!(transport.stats().received, 700);
            assert_eq!(line_of(&transport).unwrap(), b"a header");
        }
    }
}
each_kind!(what_it_did_not_consume_goes_up_whatever_the_buffer);

/// Changes all bytes both ways until it receives its mark.
#[derive(Default)]
struct Until {
    /// The number of bytes that it took to send.
    took: usize,
}

const MARK: u8 = b'!';

impl Layer for Until {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input().to_vec();
        let end = input.iter().position(|byte| *byte == MARK);
        let own = &input[..end.unwrap_or(input.len())];
        let changed: Vec<u8> = own.iter().map(|byte| byte ^ 1).collect();
        io.deliver(&changed);
        io.consume(own.len());
        if end.is_some() {
            io.consume(1);
            io.leave();
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.took += data.len();
        let changed: Vec<u8> = data.iter().map(|byte| byte ^ 1).collect();
        io.send(&changed);
        Ok(data.len())
    }
}

fn it_leaves_in_mid_stream_with_input_and_writes_waiting(kind: Kind) {
    for stalled in [false, true] {
        let (mut event_loop, log, transport, mut peer) =
            Scene::of(kind).strict().limits(no_limits()).set();
        event_loop
            .run_until(transport.push_layer(Until::default(), b""))
            .unwrap();
        if stalled {
            stall(&mut event_loop, &transport, 500_000);
        } else {
            put(&transport, 5_000);
        }
        let plain = text(9, 3_000);
        peer.send(&[b"changed!", &plain[..]].concat());
        drive(&mut event_loop, "the data", || log.data_len() == 3_007);
        assert_eq!(&log.data()[..7], b"bi`ofde");
        assert!(log.data()[7..] == plain);
        put(&transport, 70_000);
        let all = transport.written() as usize;
        peer.expect(&mut event_loop, all);
        settle(&mut event_loop);
        assert_eq!(transport.sent() as usize, all);
        let took = transport.with_layer(|until: &mut Until, _| until.took);
        let mut expected = text(0, all);
        let (changed, _) = expected.split_at_mut(took.unwrap());
        assert!(!changed.is_empty() && changed.len() < all);
        for byte in changed {
            *byte ^= 1;
        }
        assert!(peer.received() == expected, "stalled: {stalled}");
    }
}
each_kind!(it_leaves_in_mid_stream_with_input_and_writes_waiting);

fn from_then_on_the_connection_is_a_plain_one(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let plain = format!("{transport:?}");
    let layer = Hooked::new(|method, io| {
        match method {
            "start" => io.wake_after(SHORT),
            "receive" => io.leave(),
            _ => {}
        }
        Ok(())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    assert_ne!(format!("{transport:?}"), plain);
    peer.send(b"leave");
    drive(&mut event_loop, "the data", || log.data() == b"leave");
    settle(&mut event_loop);
    assert_eq!(format!("{transport:?}"), plain);
    assert_eq!(event_loop.handle().stats().timers, 0);
    let before = event_loop.handle().stats();
    for n in 1..=10 {
        peer.send(b"ping");
        drive(&mut event_loop, "the data", || log.data_len() == 5 + 4 * n);
    }
    let after = event_loop.handle().stats();
    assert_eq!(after.reads - before.reads, 10);
    assert_eq!(after.events - before.events, 10);
    transport.close();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
}
each_kind!(from_then_on_the_connection_is_a_plain_one);

/// Says more than the kernel takes, and waits for a word.
struct Loud;

impl Layer for Loud {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(&pattern(0, 100_000));
        Ok(())
    }

    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Err("it is never open".into())
    }
}

/// Nothing is there that could end, whether one has left below or not.
fn a_close_while_one_opens_above_it_does_not_wait_for_room(kind: Kind) {
    for below in [false, true] {
        let scene = Scene::of(kind).sockets(|socket| {
            socket.set_send_buffer_size(4 * 1024).unwrap();
            socket.set_recv_buffer_size(4 * 1024).unwrap();
        });
        let (mut event_loop, log, transport, mut peer) = scene.strict().set();
        settle(&mut event_loop);
        if below {
            transport.push_layer(Header::default(), b"").detach();
        }
        let pushed = transport.push_layer(Loud, b"");
        peer.send(b"header\n");
        settle(&mut event_loop);
        transport.close();
        drive(&mut event_loop, "the end", || log.is_lost());
        assert!(log.closed().is_clean(), "{below}: {}", log.closed());
        assert!(closed_of(event_loop.run_until(pushed)).is_clean());
        peer.expect_end(&mut event_loop);
        assert!((1..100_000).contains(&peer.received().len()));
    }
}
each_kind!(a_close_while_one_opens_above_it_does_not_wait_for_room);

/// Ends the stream with the first bytes, and leaves in the same call.
fn ends_and_leaves() -> Hooked {
    Hooked::on("receive", |io| {
        io.deliver(b"last");
        io.end_of_stream();
        io.leave();
        Ok(())
    })
}

fn the_end_of_its_stream_holds_when_it_leaves(kind: Kind) {
    let stacks: [&dyn Fn() -> [Option<Hooked>; 2]; 3] = [
        &|| [Some(ends_and_leaves()), None],
        &|| [Some(ends_and_leaves()), Some(Hooked::new(|_, _| Ok(())))],
        &|| [Some(Hooked::new(|_, _| Ok(()))), Some(ends_and_leaves())],
    ];
    for stack in stacks {
        let (mut event_loop, log, transport, mut peer) =
            Scene::of(kind).strict().set_with(Recorder::keep_open);
        for layer in stack().into_iter().flatten() {
            let pushed = transport.push_layer(layer, b"");
            event_loop.run_until(pushed).unwrap();
        }
        peer.send(b"input");
        drive(&mut event_loop, "the end of stream", || {
            log.words() == ["made", "data", "eof"]
        });
        peer.send(b"ignored");
        let polls = polls_in_a_while(&mut event_loop);
        assert!(polls < 50, "{polls} polls");
        assert_eq!(log.data(), b"last");
        transport.write(b"as it is").unwrap();
        transport.close();
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received(), b"as it is");
        assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
        assert_eq!(log.reason(), "peer-eof");
    }
}
each_kind!(the_end_of_its_stream_holds_when_it_leaves);
