//! A layer that is put on in mid-stream.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Calls, Said, Seal, end_of_seal, hello, sealed};
use support::{
    Hooked, Kind, Log, Recorder, SHORT, Scene, closed_of, drive, each_kind, limits, no_limits,
    once, pattern, settle, text,
};
use tidegate::{CloseReason, Flow, Layer, LayerIo, Result, TimeoutKind, Transport, WriteError};

fn data(bytes: &[u8]) -> Said {
    Said::Data(bytes.to_vec())
}

fn what_was_written_before_goes_past_the_layer_and_the_rest_through_it(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    transport.write(b"plain").unwrap();
    let pushed = transport.push_layer(Seal::server(), b"");
    transport.write(b"secret").unwrap();
    peer.expect(&mut event_loop, 5);
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    peer.send(&sealed(b"reply"));
    drive(&mut event_loop, "the reply", || log.data() == b"reply");
    assert_eq!(peer.said_behind(5), [Said::Hello, data(b"secret")]);
    assert_eq!(&peer.received()[..5], b"plain");
    assert_eq!((transport.written(), transport.sent()), (11, 11));
}
each_kind!(what_was_written_before_goes_past_the_layer_and_the_rest_through_it);

fn it_does_so_with_megabytes_queued_for_a_peer_that_does_not_read(kind: Kind) {
    const BEFORE: usize = 6 << 20;
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().limits(no_limits()).set();
    transport.write(&text(0, BEFORE)).unwrap();
    settle(&mut event_loop);
    assert!(transport.write_buffer_size() > 0);
    let pushed = transport.push_layer(Seal::client(), b"");
    let after = pattern(0, 300_000);
    for piece in after.chunks(7_000) {
        transport.write(piece).unwrap();
    }
    settle(&mut event_loop);
    // The peer opens it without having read a byte.
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    assert_eq!(transport.written() as usize, BEFORE + after.len());
    transport.close();
    peer.expect_end(&mut event_loop);
    assert!(peer.received()[..BEFORE] == text(0, BEFORE));
    assert_eq!(
        peer.said_behind(BEFORE),
        [Said::Hello, Said::Data(after), Said::End]
    );
    assert!(log.closed().is_clean());
    assert_eq!(transport.sent(), transport.written());
}
each_kind!(it_does_so_with_megabytes_queued_for_a_peer_that_does_not_read);

fn small_writes_of_one_callback_keep_their_sides(kind: Kind) {
    let (mut event_loop, log, _transport, mut peer) =
        Scene::of(kind).strict().set_with(|recorder| {
            recorder.on_data(|transport, data| {
                if data == b"STARTTLS\n" {
                    transport.write(b"go ")?;
                    transport.write(b"on\n")?;
                    transport.push_layer(Seal::server(), b"").detach();
                    transport.write(b"within ")?;
                    transport.write(b"it")?;
                }
                Ok(())
            })
        });
    peer.send(b"STARTTLS\n");
    peer.expect(&mut event_loop, 6);
    peer.send(&hello());
    drive(&mut event_loop, "the writes", || {
        peer.said_behind(6) == [Said::Hello, data(b"within it")]
    });
    assert_eq!(&peer.received()[..6], b"go on\n");
    assert_eq!(log.words(), ["made", "data"]);
}
each_kind!(small_writes_of_one_callback_keep_their_sides);

/// Replies to `STARTTLS` by a layer, which gets what follows the line. Reads into `size` bytes, or the
/// loop's buffer.
fn starts_tls(recorder: Recorder, size: Option<usize>, plain: &Rc<RefCell<Vec<u8>>>) -> Recorder {
    const LINE: &[u8] = b"STARTTLS\n";
    let plain = plain.clone();
    let recorder = recorder.on_data(move |transport, data| {
        let mut plain = plain.borrow_mut();
        if plain.starts_with(LINE) {
            plain.extend_from_slice(data);
            return Ok(());
        }
        plain.extend_from_slice(data);
        if plain.starts_with(LINE) {
            let unread = plain.split_off(LINE.len());
            transport.push_layer(Seal::server(), &unread).detach();
        }
        Ok(())
    });
    match size {
        Some(size) => recorder.buffered(size),
        None => recorder,
    }
}

fn nothing_of_the_segment_with_the_handshake_in_it_is_lost(kind: Kind) {
    for size in [
        None,
        Some(1),
        Some(3),
        Some(9),
        Some(10),
        Some(64),
        Some(4096),
    ] {
        let plain = Rc::default();
        let (mut event_loop, log, _transport, mut peer) = Scene::of(kind)
            .strict()
            .set_with(|recorder| starts_tls(recorder, size, &plain));
        let bytes = pattern(0, 5_000);
        peer.send(&[b"STARTTLS\n", &hello()[..], &sealed(&bytes)].concat());
        let all = [b"STARTTLS\n", &bytes[..]].concat();
        drive(&mut event_loop, "all of it", || *plain.borrow() == all);
        peer.send(&end_of_seal());
        drive(&mut event_loop, "the end", || log.is_lost());
        assert!(log.closed().is_clean(), "{size:?}: {}", log.closed());
    }
}
each_kind!(nothing_of_the_segment_with_the_handshake_in_it_is_lost);

/// The bytes came as the `unread` of `set_protocol`, so the transport holds what a buffer has no room
/// for.
fn what_the_transport_holds_for_the_protocol_goes_to_the_layer(kind: Kind) {
    for size in [
        None,
        Some(1),
        Some(3),
        Some(9),
        Some(10),
        Some(64),
        Some(4096),
    ] {
        let plain = Rc::default();
        let next_log = Log::new().switched_in();
        let mut next = once(starts_tls(Recorder::new(&next_log), size, &plain));
        let (mut event_loop, _log, _transport, mut peer) =
            Scene::of(kind).strict().set_with(|recorder| {
                recorder.on_data(move |transport, data| {
                    if let Some(next) = next() {
                        transport.set_protocol(next, data)?;
                    }
                    Ok(())
                })
            });
        let bytes = pattern(0, 700);
        peer.send(&[b"STARTTLS\n", &hello()[..], &sealed(&bytes)].concat());
        let all = [b"STARTTLS\n", &bytes[..]].concat();
        drive(&mut event_loop, "all of it", || *plain.borrow() == all);
        peer.send(&end_of_seal());
        drive(&mut event_loop, "the end", || next_log.is_lost());
        assert!(
            next_log.closed().is_clean(),
            "{size:?}: {}",
            next_log.closed()
        );
    }
}
each_kind!(what_the_transport_holds_for_the_protocol_goes_to_the_layer);

/// A protocol that hands on what it has read too much, and then has the layer put on.
fn the_unread_of_a_set_protocol_before_it_in_the_callback_goes_to_the_layer(kind: Kind) {
    let next_log = Log::new().switched_in();
    let mut next = once(Recorder::new(&next_log));
    let (mut event_loop, _log, _transport, mut peer) =
        Scene::of(kind).strict().set_with(|recorder| {
            recorder.on_data(move |transport, data| {
                if let Some(next) = next() {
                    let (first, second) = data.split_at(2);
                    transport.set_protocol(next, second)?;
                    transport.push_layer(Seal::server(), first).detach();
                }
                Ok(())
            })
        });
    peer.send(&[&hello()[..], &sealed(b"in order")].concat());
    drive(&mut event_loop, "the data", || {
        next_log.data() == b"in order"
    });
    peer.expect_said(&mut event_loop, &[Said::Hello]);
}
each_kind!(the_unread_of_a_set_protocol_before_it_in_the_callback_goes_to_the_layer);

fn writes_before_it_is_open_count_for_watermarks_and_cap_at_once(kind: Kind) {
    let limits = limits(1000, 100).with_cap(5000);
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().limits(limits).set();
    settle(&mut event_loop);
    let pushed = transport.push_layer(Seal::server(), b"");
    assert_eq!(transport.write(&pattern(0, 1000)).unwrap(), Flow::Open);
    assert_eq!(transport.write(&pattern(1000, 4500)).unwrap(), Flow::Paused);
    assert_eq!(transport.write_buffer_size(), 5500);
    let refused = transport.write(b"more").unwrap_err();
    assert!(
        matches!(refused, WriteError::BufferFull { .. }),
        "{refused}"
    );
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause"]);
    assert_eq!((transport.written(), transport.sent()), (5500, 0));
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    peer.expect_said(
        &mut event_loop,
        &[Said::Hello, Said::Data(pattern(0, 5500))],
    );
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause", "resume"]);
    assert_eq!((transport.write_buffer_size(), transport.sent()), (0, 5500));
}
each_kind!(writes_before_it_is_open_count_for_watermarks_and_cap_at_once);

fn a_close_behind_writes_waits_for_the_layer_to_open(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let pushed = transport.push_layer(Seal::server(), b"");
    transport.write(b"the last words").unwrap();
    transport.close();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    peer.send(&hello());
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    let all = [Said::Hello, data(b"the last words"), Said::End];
    assert_eq!(peer.said_behind(0), all);
    event_loop.run_until(pushed).unwrap();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert!(log.closed().is_clean());
}
each_kind!(a_close_behind_writes_waits_for_the_layer_to_open);

fn the_limit_of_the_layer_bounds_that_wait(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let pushed = transport.push_layer(Seal::server().limit(SHORT), b"");
    transport.write(b"the last words").unwrap();
    transport.close();
    let closed = closed_of(event_loop.run_until(pushed));
    assert_eq!(
        *closed.reason(),
        CloseReason::Timeout(TimeoutKind::Handshake)
    );
    assert_eq!(closed.unsent(), 14);
    assert_eq!(log.words(), ["made", "lost"]);
}
each_kind!(the_limit_of_the_layer_bounds_that_wait);

fn a_close_with_nothing_written_does_not_wait(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    transport.write(b"plain").unwrap();
    let pushed = transport.push_layer(Seal::server(), b"");
    transport.close();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"plain");
    assert!(peer.saw_eof());
    assert!(closed_of(event_loop.run_until(pushed)).is_clean());
    assert_eq!(log.words(), ["made", "lost"]);
}
each_kind!(a_close_with_nothing_written_does_not_wait);

/// Makes a connection in which no layer can be put on any more.
type Refuse = fn(&Transport);

fn a_layer_is_refused_when_it_could_not_open_and_nothing_changes(kind: Kind) {
    let table: [(&str, Refuse, ErrorKind); 5] = [
        ("closing", Transport::close, ErrorKind::BrokenPipe),
        ("aborted", Transport::abort, ErrorKind::NotConnected),
        (
            "after write_eof",
            |transport| transport.write_eof().unwrap(),
            ErrorKind::BrokenPipe,
        ),
        ("open", |_| {}, ErrorKind::InvalidInput),
        ("paused", Transport::pause_reading, ErrorKind::InvalidInput),
    ];
    for (name, refuse, expected) in table {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        transport.write(b"first ").unwrap();
        refuse(&transport);
        let before = (format!("{transport:?}"), log.words());
        let calls = Calls::default();
        let limit = match expected {
            ErrorKind::InvalidInput => Duration::ZERO,
            _ => Duration::MAX,
        };
        let layer = Seal::server().limit(limit).noted_in(&calls);
        let refused = transport.push_layer(layer, b"unread");
        assert_eq!((format!("{transport:?}"), log.words()), before);
        let error = event_loop.run_until(refused).unwrap_err();
        assert_eq!(error.kind(), expected, "{name}: {error}");
        drive(&mut event_loop, "the drop", || *calls.borrow() == ["drop"]);
        if transport.write(b"second").is_ok() {
            transport.close();
        }
        if name != "aborted" {
            peer.expect_end(&mut event_loop);
            let all: &[u8] = match name {
                "open" | "paused" => b"first second",
                _ => b"first ",
            };
            assert_eq!(peer.received(), all, "{name}");
        }
    }
}
each_kind!(a_layer_is_refused_when_it_could_not_open_and_nothing_changes);

/// Has no limit.
struct Unlimited(Rc<Cell<u32>>);

impl Layer for Unlimited {
    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        panic!("it is called")
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        panic!("it is called")
    }

    fn open_limit(&self) -> Duration {
        panic!("provoked")
    }
}

impl Drop for Unlimited {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn a_panic_of_open_limit_goes_to_the_caller_and_nothing_changes(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    transport.write(b"first ").unwrap();
    let before = (format!("{transport:?}"), log.words());
    let drops = Rc::new(Cell::new(0));
    let layer = Unlimited(drops.clone());
    let pushed = catch_unwind(AssertUnwindSafe(|| {
        transport.push_layer(layer, b"unread").detach();
    }));
    let payload = pushed.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"provoked"));
    assert_eq!(drops.get(), 1);
    assert_eq!((format!("{transport:?}"), log.words()), before);
    peer.send(b"plain");
    drive(&mut event_loop, "the data", || log.data() == b"plain");
    transport.write(b"second").unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"first second");
}
each_kind!(a_panic_of_open_limit_goes_to_the_caller_and_nothing_changes);

fn a_layer_is_refused_when_the_peer_has_ended_its_side(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().set_with(Recorder::keep_open);
    peer.shutdown_write();
    drive(&mut event_loop, "the end of stream", || {
        log.words() == ["made", "eof"]
    });
    let error = event_loop
        .run_until(transport.push_layer(Seal::server(), b""))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    transport.write(b"still here").unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"still here");
}
each_kind!(a_layer_is_refused_when_the_peer_has_ended_its_side);

fn a_layer_is_refused_within_the_code_of_another(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let refused = Rc::new(Cell::new(None));
    let (own, told) = (transport.clone(), refused.clone());
    let calls = Calls::default();
    let noted = calls.clone();
    let layer = Hooked::on("receive", move |_| {
        let layer = Seal::server().noted_in(&noted);
        let told = told.clone();
        own.push_layer(layer, b"").then(move |_, answer| {
            told.set(answer.err().map(|error| error.kind()));
        });
        Ok(())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(b"hello");
    drive(&mut event_loop, "the data", || log.data() == b"hello");
    drive(&mut event_loop, "the refusal", || {
        refused.get() == Some(ErrorKind::ResourceBusy)
    });
    assert_eq!(*calls.borrow(), ["drop"]);
}
each_kind!(a_layer_is_refused_within_the_code_of_another);

fn the_completion_fails_with_the_end_of_the_connection(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let pushed = transport.push_layer(Seal::server(), b"");
    transport.write(b"unsent").unwrap();
    transport.abort();
    let closed = closed_of(event_loop.run_until(pushed));
    assert_eq!(closed, log.closed());
    assert_eq!(
        (closed.reason().clone(), closed.unsent()),
        (CloseReason::LocalAbort, 6)
    );
}
each_kind!(the_completion_fails_with_the_end_of_the_connection);

fn of_two_layers_each_completes_when_it_is_open_itself(kind: Kind) {
    let (mut event_loop, _log, transport, mut peer) = Scene::of(kind).strict().set();
    let low = transport.push_layer(Seal::server(), b"");
    let high = transport.push_layer(Seal::server(), b"");
    peer.send(&hello());
    event_loop.run_until(low).unwrap();
    settle(&mut event_loop);
    assert!(!high.is_ready());
    peer.send(&sealed(&hello()));
    event_loop.run_until(high).unwrap();
    transport.write(b"twice").unwrap();
    let all = [hello(), sealed(b"twice")].concat();
    peer.expect_said(&mut event_loop, &[Said::Hello, Said::Data(all)]);
}
each_kind!(of_two_layers_each_completes_when_it_is_open_itself);

fn a_layer_may_be_put_on_before_connection_made_which_waits_for_it(kind: Kind) {
    let mut event_loop = support::strict_loop();
    let log = Log::new();
    let (transport, mut peer) = support::adopted(event_loop.handle(), kind, Recorder::new(&log));
    let pushed = transport.push_layer(Seal::server(), b"");
    let noted = log.clone();
    transport.call_soon(move |_: &mut Recorder, _| {
        noted.note("soon");
        Ok(())
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), [""; 0]);
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    drive(&mut event_loop, "the callback", || log.words().len() == 2);
    assert_eq!(log.words(), ["made", "soon"]);
}
each_kind!(a_layer_may_be_put_on_before_connection_made_which_waits_for_it);
