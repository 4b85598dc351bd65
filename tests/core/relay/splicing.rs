//! Bytes that a relay moves by splice(2): when it does, and what becomes of those in the pipe.

use std::cell::Cell;
use std::rc::Rc;
use support::{
    BOUND, Hooked, Kind, Log, Peer, Recorder, accept, adopted, drive, pattern, settle,
    splicing_from, tick, tie, untied,
};
use tidegate::{
    CloseReason, Completion, EventLoop, Protocol, Relay, RelayReport, Result, Transport, Wrap,
};

/// Maximum number of bytes in a pipe.
const PIPE: usize = 128 * 1024;

/// Two tied connections, the first of which has sent more than the second takes: the rest is in a pipe.
struct Piped {
    event_loop: EventLoop,
    a: Transport,
    a_peer: Peer,
    b: Transport,
    b_peer: Peer,
    report: Completion<RelayReport>,
    sent: usize,
}

impl Piped {
    fn new() -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, mut a_peer), (b, b_peer)] = untied(&mut event_loop, Kind::Tcp);
        let mut report = None;
        splicing_from(0, || report = Some(tie(&a, &b)));
        let sent = a_peer.fill(&mut event_loop);
        let piped = Self {
            event_loop,
            a,
            a_peer,
            b,
            b_peer,
            report: report.unwrap(),
            sent,
        };
        assert!(is_piped(&piped.b), "{:?}", piped.b);
        piped
    }

    /// The number of bytes that the relay has received.
    fn received(&self) -> usize {
        self.a.stats().received as usize
    }

    #[track_caller]
    fn report(self) -> RelayReport {
        let (mut event_loop, report) = (self.event_loop, self.report);
        event_loop.run_until(report.within(BOUND)).unwrap()
    }
}

/// Whether bytes for it are in a pipe.
fn is_piped(transport: &Transport) -> bool {
    format!("{transport:?}").contains("piped")
}

/// Whether the bytes that come from it are spliced next.
fn is_spliced(transport: &Transport) -> bool {
    format!("{transport:?}").contains("spliced")
}

#[test]
fn bulk_is_spliced_after_two_reads_of_it_until_less_comes_at_a_time() {
    const BULK: usize = 50_000;
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, Kind::Tcp);
    let report = Relay::between_with(&a, &b, |relay| relay.splice_from(BULK));
    let mut sent = 0;
    for (len, spliced) in [
        (BULK, false),
        (BULK - 1, false),
        (BULK, false),
        (BULK, true),
        (BULK, true),
        (1, false),
        (BULK, false),
        (BULK, true),
    ] {
        a_peer.send(&pattern(sent as u64, len));
        sent += len;
        b_peer.expect(&mut event_loop, sent);
        settle(&mut event_loop);
        assert_eq!(is_spliced(&a), spliced, "at {sent}");
    }
    assert!(b_peer.received() == pattern(0, sent));
    assert!(!is_spliced(&b));
    a_peer.shutdown_write();
    b_peer.shutdown_write();
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.to_back.sent, sent as u64);
}

#[test]
fn on_unix_sockets_and_under_a_layer_bytes_are_copied() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
        if kind == Kind::Tcp {
            b.push_layer(Hooked::new(|_, _| Ok(())), b"").detach();
        }
        splicing_from(0, || tie(&a, &b).detach());
        let sent = a_peer.fill(&mut event_loop);
        assert!(!is_piped(&b) && !is_spliced(&a), "{a:?} {b:?}");
        assert!(b.write_buffer_size() > 0);
        b_peer.expect(&mut event_loop, sent);
        assert!(b_peer.received() == pattern(0, sent));
    }
}

#[test]
fn bytes_that_are_not_taken_stay_in_the_pipe_and_stop_reading_until_it_is_empty() {
    let piped = Piped::new();
    let buffered = piped.b.write_buffer_size();
    assert!((1..=PIPE).contains(&buffered), "{buffered}");
    assert_eq!(piped.event_loop.handle().stats().buffered, buffered as u64);
    assert!(piped.b.flow().is_paused() && !piped.a.is_reading());
    let stats = piped.b.stats();
    assert_eq!(stats.written, piped.received() as u64);
    assert_eq!(stats.written - stats.sent, buffered as u64);
    let Piped {
        mut event_loop,
        a,
        b,
        mut b_peer,
        sent,
        ..
    } = piped;
    drive(&mut event_loop, "all of it", || {
        b_peer.read_some(64 * 1024);
        assert!(!is_piped(&b) || !a.is_reading(), "{a:?} {b:?}");
        b_peer.received().len() == sent
    });
    assert!(b_peer.received() == pattern(0, sent));
    settle(&mut event_loop);
    assert!(!is_piped(&b) && a.is_reading());
    assert_eq!(event_loop.handle().stats().buffered, 0);
}

#[test]
fn what_others_write_comes_behind_the_bytes_in_the_pipe() {
    let mut piped = Piped::new();
    let received = piped.received();
    piped.b.write(b"by others").unwrap();
    let event_loop = &mut piped.event_loop;
    piped.b_peer.expect(event_loop, piped.sent + 9);
    let (before, rest) = piped.b_peer.received().split_at(received);
    let (others, after) = rest.split_at(9);
    assert!(before == pattern(0, received));
    assert_eq!(others, b"by others");
    assert!(after == pattern(received as u64, piped.sent - received));
}

#[test]
fn bytes_in_a_pipe_are_unsent_when_their_connection_is_aborted() {
    let piped = Piped::new();
    let buffered = piped.b.write_buffer_size() as u64;
    let handle = piped.event_loop.handle().clone();
    piped.b.abort();
    assert!(!is_piped(&piped.b));
    assert_eq!(handle.stats().buffered, 0);
    let report = piped.report();
    assert_eq!(report.back.as_ref().unwrap().unsent(), buffered);
    assert!(report.to_back.lost >= buffered, "{report:?}");
    assert_eq!(handle.stats().bytes_sent, report.to_back.sent);
}

#[test]
fn bytes_in_a_pipe_are_unsent_when_the_peer_they_are_for_resets() {
    let mut piped = Piped::new();
    let handle = piped.event_loop.handle().clone();
    piped.b_peer.reset();
    let report = piped.report();
    assert!(report.back.as_ref().unwrap().unsent() > 0);
    assert_eq!(handle.stats().bytes_sent, report.to_back.sent);
    let received = handle.stats().bytes_received;
    assert_eq!(report.to_back.sent + report.to_back.lost, received);
}

#[test]
fn a_reset_and_an_end_of_stream_come_behind_the_bytes_in_the_pipe() {
    for resets in [true, false] {
        let mut piped = Piped::new();
        let received = piped.received();
        if resets {
            piped.a.reset();
        } else {
            piped.a_peer.shutdown_write();
        }
        settle(&mut piped.event_loop);
        assert!(is_piped(&piped.b));
        piped.b_peer.expect_end(&mut piped.event_loop);
        assert_eq!(piped.b_peer.saw_eof(), !resets);
        let len = if resets { received } else { piped.sent };
        assert!(piped.b_peer.received() == pattern(0, len));
    }
}

#[test]
fn a_connection_takes_the_bytes_of_its_pipe_along_to_another_loop() {
    let mut piped = Piped::new();
    let received = piped.received();
    let detached = piped.b.detach();
    let detached = piped.event_loop.run_until(detached.within(BOUND)).unwrap();
    assert!(matches!(
        piped.b.closed().unwrap().reason(),
        CloseReason::Detached
    ));
    assert_eq!(piped.event_loop.handle().stats().buffered, 0);
    let mut other = EventLoop::new().unwrap();
    let log = Log::new().switched_in();
    let b = other
        .handle()
        .attach(detached, Recorder::new(&log))
        .unwrap();
    b.write(b"there").unwrap();
    piped.b_peer.expect(&mut other, received + 5);
    let (before, after) = piped.b_peer.received().split_at(received);
    assert!(before == pattern(0, received));
    assert_eq!(after, b"there");
}

#[test]
fn a_layer_that_is_put_on_leaves_the_bytes_of_the_pipe_before_it() {
    let mut piped = Piped::new();
    let received = piped.received();
    let sends = Rc::new(Cell::new(0));
    let seen = sends.clone();
    let layer = Hooked::on("send", move |_| {
        seen.set(seen.get() + 1);
        Ok(())
    });
    piped.b.push_layer(layer, b"").detach();
    assert!(!is_piped(&piped.b));
    let event_loop = &mut piped.event_loop;
    piped.b_peer.expect(event_loop, piped.sent);
    assert!(piped.b_peer.received() == pattern(0, piped.sent));
    assert!(received < piped.sent && sends.get() > 0);
    assert!(!is_piped(&piped.b) && !is_spliced(&piped.a));
}

/// Counts the bytes that a protocol receives.
struct Counted {
    relay: Relay,
    bytes: Rc<Cell<usize>>,
}

impl Wrap for Counted {
    type Inner = Relay;

    fn wrapped(&mut self) -> &mut Relay {
        &mut self.relay
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.bytes.set(self.bytes.get() + data.len());
        self.relay.data_received(transport, data)
    }
}

#[test]
fn a_protocol_around_the_relay_sees_every_byte() {
    let mut event_loop = EventLoop::new().unwrap();
    let (listener, address) = Kind::Tcp.listen(&support::TempDir::new());
    let bytes = Rc::new(Cell::new(0));
    let counted = Counted {
        relay: Relay::to(&address).splice_from(0),
        bytes: bytes.clone(),
    };
    let (_, mut front) = adopted(event_loop.handle(), Kind::Tcp, counted);
    let mut back = accept(&mut event_loop, &listener);
    let sent = front.fill(&mut event_loop);
    back.expect(&mut event_loop, sent);
    assert!(back.received() == pattern(0, sent));
    assert_eq!(bytes.get(), sent);
}

#[test]
fn an_urgent_byte_stops_no_relay_and_is_left_out_as_by_any_read() {
    for splice_from in [0, usize::MAX] {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, Kind::Tcp);
        splicing_from(splice_from, || tie(&a, &b).detach());
        a_peer.send(&pattern(0, 1000));
        b_peer.expect(&mut event_loop, 1000);
        a_peer.send(&pattern(1000, 1000));
        a_peer.as_sock().send_out_of_band(b"!").unwrap();
        a_peer.send(&pattern(2000, 1000));
        a_peer.shutdown_write();
        b_peer.expect_end(&mut event_loop);
        assert!(b_peer.saw_eof());
        assert!(b_peer.received() == pattern(0, 3000));
    }
}

#[test]
fn bulk_of_one_connection_leaves_another_its_turn_in_each_tick() {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, Kind::Tcp);
    splicing_from(0, || tie(&a, &b).detach());
    let echo = Recorder::new(&Log::new()).on_data(|transport, data| {
        transport.write(data)?;
        Ok(())
    });
    let (_, mut asker) = adopted(event_loop.handle(), Kind::Tcp, echo);
    settle(&mut event_loop);
    let mut sent: usize = 0;
    for round in 1..=50 {
        sent += a_peer.write(&pattern(sent as u64, 512 * 1024));
        asker.send(b"?");
        drive(&mut event_loop, "the question with the loop", || {
            asker.read_available();
            asker.received().len() == round
        });
        let before = event_loop.handle().stats();
        tick(&mut event_loop);
        let after = event_loop.handle().stats();
        assert!(after.bytes_received - before.bytes_received <= 2 * 16 * PIPE as u64);
        b_peer.read_available();
    }
    b_peer.expect(&mut event_loop, sent);
    assert!(b_peer.received() == pattern(0, sent));
}
