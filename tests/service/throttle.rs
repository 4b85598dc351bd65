//! Limits of what connections receive, in virtual time and on real sockets.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, Wire, drive, each_wire, pattern, settle};
use tidegate::{OnPause, Protocol, ReadHold, Result, Transport};
use tidegate_service::{Bucket, ProxyProtocol, Throttle};
use tidegate_testkit::World;

const RATE: u64 = 1_000_000;
const BURST: u64 = 200_000;

/// The maximum of one read.
const READ: u64 = 128 * 1024;

/// Sends as much as the peer takes.
struct Flood;

impl Flood {
    fn send(transport: &Transport) -> Result {
        while !transport.write(&[0; 16 * 1024])?.is_paused() {}
        Ok(())
    }
}

impl Protocol for Flood {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        Self::send(transport)
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        Self::send(transport)
    }
}

/// Counts what it receives.
struct Counts {
    received: Rc<Cell<u64>>,
    buffer: Option<Vec<u8>>,
}

impl Counts {
    fn add(&self, len: usize) {
        self.received.set(self.received.get() + len as u64);
    }
}

impl Protocol for Counts {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        self.add(data.len());
        Ok(())
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        self.buffer.as_deref_mut()
    }

    fn buffer_updated(&mut self, _: &Transport, len: usize) -> Result {
        self.add(len);
        Ok(())
    }
}

/// The bytes that each of some connections has received behind each tenth of a second.
fn received(connections: usize, buffer: Option<usize>, is_shared: bool) -> Vec<Vec<u64>> {
    let mut world = World::new();
    let server = world.add_host("server.test").unwrap();
    let client = world.add_host("client.test").unwrap();
    let counts: Rc<RefCell<Vec<Rc<Cell<u64>>>>> = Rc::default();
    let (each, bucket) = (counts.clone(), Bucket::new(RATE, BURST));
    let make = move || {
        let received = Rc::new(Cell::new(0));
        each.borrow_mut().push(received.clone());
        let buffer = buffer.map(|size| vec![0; size]);
        let bucket = match is_shared {
            true => bucket.clone(),
            false => Bucket::new(RATE, BURST),
        };
        Throttle::new(bucket, Counts { received, buffer })
    };
    server.handle().create_server(server.addr(7), make).unwrap();
    for _ in 0..connections {
        let connecting = client.handle().create_connection(server.addr(7), Flood);
        connecting.detach();
    }
    let mut samples = Vec::new();
    for _ in 0..100 {
        world.advance(Duration::from_millis(100)).unwrap();
        let counts = counts.borrow();
        assert_eq!(counts.len(), connections);
        samples.push(counts.iter().map(|count| count.get()).collect());
    }
    samples
}

/// Between any two samples, and from the begin on: no more than the bound, and hardly less than the rate.
#[track_caller]
fn assert_limited(sums: &[u64], reads: u64) {
    let sums = [&[0], sums].concat();
    for from in 0..sums.len() {
        for to in from..sums.len() {
            let time = (to - from) as u64;
            let earned = RATE * time / 10;
            let got = sums[to] - sums[from];
            assert!(got <= BURST + earned + reads, "{from}..{to}: {got}");
        }
    }
    let all = sums.last().copied().unwrap();
    assert!(all >= RATE * 10, "{all}");
}

#[test]
fn in_any_time_a_connection_receives_no_more_than_the_burst_and_the_rate_and_one_read() {
    for buffer in [None, Some(1000), Some(50_000)] {
        let samples = received(1, buffer, false);
        let sums: Vec<u64> = samples.iter().map(|each| each[0]).collect();
        assert_limited(&sums, buffer.map_or(READ, |size| size as u64));
    }
}

#[test]
fn connections_that_share_a_bucket_are_limited_together_and_none_starves() {
    const CONNECTIONS: usize = 5;
    let samples = received(CONNECTIONS, None, true);
    let sums: Vec<u64> = samples.iter().map(|each| each.iter().sum()).collect();
    assert_limited(&sums, READ * CONNECTIONS as u64);
    let last = samples.last().unwrap();
    let least = last.iter().min().unwrap();
    assert!(*least >= RATE * 10 / CONNECTIONS as u64 / 2, "{last:?}");
}

#[test]
fn connections_with_buckets_of_their_own_have_the_whole_rate_each() {
    let samples = received(3, None, false);
    for connection in 0..3 {
        let sums: Vec<u64> = samples.iter().map(|each| each[connection]).collect();
        assert_limited(&sums, READ);
    }
}

/// Replies to ten bytes at a time.
struct Replier {
    buffer: [u8; 10],
    received: Rc<Cell<usize>>,
}

impl Protocol for Replier {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.write(b"hello")?;
        Ok(())
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        self.received.set(self.received.get() + len);
        transport.write(b"reply")?;
        Ok(())
    }
}

#[test]
fn reads_whose_reply_fails_because_the_peer_is_gone_are_owed_too() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(&[b'.'; 1000]).unwrap();
    drop(peer);
    let received = Rc::new(Cell::new(0));
    let replier = Replier {
        buffer: [0; 10],
        received: received.clone(),
    };
    let mut event_loop = support::strict_loop();
    let throttle = Throttle::new(Bucket::new(1, 0), replier);
    let transport = event_loop.handle().adopt(ours, throttle).unwrap();
    drive(&mut event_loop, "a read", || received.get() > 0);
    settle(&mut event_loop);
    assert_eq!(received.get(), 10);
    assert!(transport.write(b"more").is_err());
    assert!(!transport.is_reading(), "{transport:?}");
}

/// A connection whose debt is paid in an hour.
fn in_debt(wire: Wire, recorder: Recorder) -> (tidegate::EventLoop, Transport, support::Peer) {
    let mut event_loop = support::strict_loop();
    let throttle = Throttle::new(Bucket::new(1, 0), recorder);
    let (transport, mut peer) = wire.scene().on(&mut event_loop, throttle);
    peer.send(&[b'.'; 3600]);
    drive(&mut event_loop, "the debt", || !transport.is_reading());
    (event_loop, transport, peer)
}

each_wire!(while_the_bucket_is_in_debt_nothing_is_read_and_the_writer_is_not_touched);
fn while_the_bucket_is_in_debt_nothing_is_read_and_the_writer_is_not_touched(wire: Wire) {
    let log = Log::new();
    let (mut event_loop, transport, mut peer) = in_debt(wire, Recorder::new(&log));
    peer.send(b"more");
    settle(&mut event_loop);
    assert_eq!(log.data_len(), 3600);
    transport.write(b"reply").unwrap();
    peer.expect(&mut event_loop, 5);
    // The protocol's own pause neither ends it nor hides it.
    transport.pause_reading();
    transport.resume_reading();
    settle(&mut event_loop);
    assert_eq!(log.data_len(), 3600);
    assert_eq!(event_loop.handle().stats().timers, 1);
}

each_wire!(a_protocol_that_takes_the_place_of_a_throttle_is_not_held_and_no_timer_stays);
fn a_protocol_that_takes_the_place_of_a_throttle_is_not_held_and_no_timer_stays(wire: Wire) {
    let (mut event_loop, transport, mut peer) = in_debt(wire, Recorder::default());
    let new = Log::new().switched_in();
    transport.set_protocol(Recorder::new(&new), b"").unwrap();
    peer.send(b"more");
    drive(&mut event_loop, "more", || new.data() == b"more");
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_wire!(the_end_of_a_connection_that_is_held_leaves_no_timer);
fn the_end_of_a_connection_that_is_held_leaves_no_timer(wire: Wire) {
    let log = Log::new();
    let (mut event_loop, transport, _peer) = in_debt(wire, Recorder::new(&log));
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().timers, 0);
}

#[test]
fn what_came_behind_a_header_counts_also_when_it_is_read_in_pieces() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let received = Rc::new(Cell::new(0));
    let counted = received.clone();
    let serve = move || {
        let counts = Counts {
            received: counted.clone(),
            buffer: Some(vec![0; 4]),
        };
        ProxyProtocol::new(|_| Throttle::new(Bucket::new(10, 10), counts))
    };
    host.handle().create_server(host.addr(7), serve).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.settle().unwrap();
    let behind = "x".repeat(100);
    peer.send(format!("PROXY UNKNOWN\r\n{behind}").as_bytes())
        .unwrap();
    world.settle().unwrap();
    // Ninety bytes above the burst.
    peer.send(b"x").unwrap();
    world.advance(Duration::from_millis(8_900)).unwrap();
    assert_eq!(received.get(), 4);
    world.advance(Duration::from_millis(200)).unwrap();
    assert_eq!(received.get(), 101);
}

each_wire!(bytes_that_are_given_back_count_once);
fn bytes_that_are_given_back_count_once(wire: Wire) {
    const LEN: usize = 1000;
    let log = Log::new();
    let recorder = Recorder::new(&log).on_data(|transport, data| {
        transport.unread(&data[1..]);
        Ok(())
    });
    let mut event_loop = support::strict_loop();
    // Counted each time they were half a million.
    let throttle = Throttle::new(Bucket::new(1, LEN as u64), recorder);
    let (transport, mut peer) = wire.scene().on(&mut event_loop, throttle);
    peer.send(&pattern(0, LEN));
    drive(&mut event_loop, "each byte", || log.seen().len() == 1 + LEN);
    assert!(transport.is_reading());
}

each_wire!(a_hold_of_the_protocols_own_is_another_one);
fn a_hold_of_the_protocols_own_is_another_one(wire: Wire) {
    let holds: Rc<RefCell<Vec<ReadHold>>> = Rc::default();
    let taken = holds.clone();
    let recorder = Recorder::default().on_data(move |transport, _| {
        taken.borrow_mut().push(transport.hold_reading());
        Ok(())
    });
    let (mut event_loop, transport, _peer) = in_debt(wire, recorder);
    holds.take();
    settle(&mut event_loop);
    assert!(!transport.is_reading());
}

#[test]
fn a_debt_that_lasts_longer_than_the_idle_limit_does_not_end_an_honest_sender() {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let options = tidegate::ListenOptions::new(host.addr(7)).idle_timeout(LIMIT);
    let received = Rc::new(Cell::new(0));
    let counted = received.clone();
    let make = move || {
        let received = counted.clone();
        let protocol = Counts {
            received,
            buffer: None,
        };
        Throttle::new(Bucket::new(100, 100), protocol)
    };
    let server = host.handle().create_server(options, make).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.settle().unwrap();
    // The debt of each piece lasts six times the limit.
    for piece in 1..=3 {
        assert_eq!(peer.send(&[0; 6000]).unwrap(), 6000);
        world.settle().unwrap();
        world.advance(6 * LIMIT).unwrap();
        assert_eq!(
            (received.get(), server.connection_count()),
            (6000 * piece, 1)
        );
    }
    // Silent without a debt.
    world.advance(2 * LIMIT).unwrap();
    assert_eq!(server.connection_count(), 0);
}
