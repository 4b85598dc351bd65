//! The effect of each fault of a simulated world, seen from outside when it strikes once.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{ConnectOptions, Transport};
use tidegate_testkit::{Fault, Faults, Host, Link, Peer, Seen, World};

const MS: Duration = Duration::from_millis(1);

/// A server that records, and peers of it.
struct Stage {
    world: World,
    host: Host,
    log: Log,
    /// The first of the server.
    transport: Rc<RefCell<Option<Transport>>>,
    /// The bytes that came, in their order.
    order: Rc<RefCell<Vec<u8>>>,
}

impl Stage {
    fn new(link: Link) -> Self {
        let mut world = World::builder().link(link).trace(true).build();
        let host = world.add_host("a").unwrap();
        let (log, order) = (Log::new(), Rc::<RefCell<Vec<u8>>>::default());
        let transport = Rc::<RefCell<Option<Transport>>>::default();
        let (last, seen, first) = (log.clone(), order.clone(), transport.clone());
        let protocol = move || {
            let (seen, first) = (seen.clone(), first.clone());
            // Connections beyond the first have records of their own.
            let log = if last.seen().is_empty() {
                last.clone()
            } else {
                Log::new()
            };
            let recorder = Recorder::new(&log).keep_open().on_made(move |transport| {
                first.borrow_mut().get_or_insert_with(|| transport.clone());
                Ok(())
            });
            recorder.on_data(move |_, data| {
                seen.borrow_mut().extend(data);
                Ok(())
            })
        };
        host.handle().create_server(host.addr(7), protocol).unwrap();
        Self {
            world,
            host,
            log,
            transport,
            order,
        }
    }

    /// With a connection.
    fn connected() -> (Self, Peer) {
        let mut stage = Self::new(Link::new());
        let peer = stage.peers(1).remove(0);
        (stage, peer)
    }

    fn peers(&mut self, count: usize) -> Vec<Peer> {
        let peers = (0..count).map(|_| {
            let peer = self.world.network().dial(self.host.addr(7)).unwrap();
            self.world.run_until_idle().unwrap();
            peer
        });
        peers.collect()
    }

    fn transport(&self) -> Transport {
        self.transport.borrow().clone().unwrap()
    }

    fn force(&self, fault: Fault) {
        self.world.network().force(fault, 1);
    }

    fn pump(&mut self) {
        self.world.pump().unwrap();
    }

    /// How long it took until nothing was left.
    fn finish(&mut self) -> Duration {
        let start = self.world.elapsed();
        self.world.run_until_idle().unwrap();
        self.world.elapsed() - start
    }

    fn ticks(&self) -> Vec<usize> {
        let trace = self.world.trace();
        let ticks = trace.lines().iter().filter_map(|line| {
            let (_, rest) = line.split_once(" tick, ")?;
            rest.strip_suffix(" events")?.parse().ok()
        });
        ticks.collect()
    }

    fn has_line(&self, text: &str) -> bool {
        let trace = self.world.trace();
        trace.lines().iter().any(|line| line.contains(text))
    }
}

#[test]
fn a_short_read_takes_a_part_and_the_next_one_the_rest() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::ShortRead);
    peer.send(b"hello").unwrap();
    stage.finish();
    assert_eq!(stage.log.data(), b"hello");
    assert!(!stage.log.has(&Seen::Data(b"hello".to_vec())));
}

#[test]
fn a_short_write_gives_a_part_and_the_next_one_the_rest() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::ShortWrite);
    let transport = stage.transport();
    transport.write(b"hello").unwrap();
    stage.finish();
    assert_eq!(peer.take(), b"hello");
    assert!(stage.has_line(" write ") && !stage.has_line(" write 5"));
}

#[test]
fn a_read_or_a_write_that_is_refused_succeeds_a_little_later() {
    for fault in [Fault::ReadAgain, Fault::NoMemory] {
        let (mut stage, peer) = Stage::connected();
        stage.force(fault);
        peer.send(b"hello").unwrap();
        stage.pump();
        assert_eq!(stage.log.data(), b"", "{fault}");
        assert!(stage.finish() > Duration::ZERO, "{fault}");
        assert_eq!(stage.log.data(), b"hello", "{fault}");
    }
    for fault in [Fault::WriteAgain, Fault::NoMemory] {
        let (mut stage, peer) = Stage::connected();
        stage.force(fault);
        let transport = stage.transport();
        transport.write(b"hello").unwrap();
        stage.pump();
        assert_eq!(transport.write_buffer_size(), 5, "{fault}");
        assert!(stage.finish() > Duration::ZERO, "{fault}");
        assert_eq!(peer.take(), b"hello", "{fault}");
    }
}

#[test]
fn an_accept_that_is_refused_succeeds_a_little_later() {
    for fault in [Fault::AcceptAgain, Fault::NoDescriptor] {
        let mut stage = Stage::new(Link::new());
        stage.force(fault);
        let peer = stage.world.network().dial(stage.host.addr(7)).unwrap();
        stage.pump();
        assert!(peer.connected().unwrap());
        assert_eq!(stage.host.handle().stats().connections, 0, "{fault}");
        stage.finish();
        assert_eq!(stage.host.handle().stats().connections, 1, "{fault}");
    }
}

#[test]
fn an_accept_that_is_aborted_is_a_reset_for_the_peer() {
    let mut stage = Stage::new(Link::new());
    stage.force(Fault::AcceptAborted);
    let peers = stage.peers(2);
    assert!(peers[0].is_reset() && !peers[1].is_reset());
    assert_eq!(stage.host.handle().stats().connections, 1);
}

#[test]
fn a_poll_that_is_interrupted_is_made_again_and_a_spurious_event_is_one_more() {
    let count = |fault: Option<Fault>| {
        let (mut stage, peer) = Stage::connected();
        if let Some(fault) = fault {
            stage.force(fault);
        }
        let before = stage.host.handle().stats();
        peer.send(b"x").unwrap();
        stage.finish();
        assert_eq!(stage.log.data(), b"x");
        let after = stage.host.handle().stats();
        (after.polls - before.polls, after.events - before.events)
    };
    let (polls, events) = count(None);
    assert_eq!(count(Some(Fault::Interrupted)), (polls + 1, events));
    assert_eq!(count(Some(Fault::SpuriousEvent)), (polls, events + 1));
}

#[test]
fn events_that_are_held_back_come_with_the_next_ticks() {
    let mut stage = Stage::new(Link::new());
    let peers = stage.peers(4);
    let before = stage.ticks().len();
    stage.force(Fault::SlowHost);
    stage.force(Fault::FewEvents);
    for peer in &peers {
        peer.send(b"x").unwrap();
    }
    stage.finish();
    let ticks = stage.ticks().split_off(before);
    assert!(ticks.len() > 1 && ticks[0] < 4, "{ticks:?}");
    assert_eq!(stage.order.borrow().len(), 4);
}

#[test]
fn events_of_a_tick_come_in_order_of_arrival_unless_they_are_reordered() {
    for reordered in [false, true] {
        let mut stage = Stage::new(Link::new());
        let peers = stage.peers(6);
        for (n, peer) in peers.iter().enumerate() {
            peer.send(&[n as u8]).unwrap();
        }
        stage.force(Fault::SlowHost);
        if reordered {
            stage.force(Fault::Reorder);
        }
        let before = stage.ticks().len();
        stage.finish();
        assert_eq!(stage.ticks()[before..], [6]);
        let mut order = stage.order.take();
        assert_eq!(order != [0, 1, 2, 3, 4, 5], reordered, "{order:?}");
        order.sort();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn what_is_reordered_on_the_wire_comes_after_what_was_sent_later() {
    for reordered in [false, true] {
        let mut stage = Stage::new(Link::new());
        let peers = stage.peers(2);
        if reordered {
            stage.force(Fault::Reorder);
        }
        peers[0].send(b"1").unwrap();
        peers[1].send(b"2").unwrap();
        stage.finish();
        let expected: &[u8] = if reordered { b"21" } else { b"12" };
        assert_eq!(stage.order.take(), expected);
    }
}

#[test]
fn a_slow_host_runs_later_and_finds_everything_that_came() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::SlowHost);
    peer.send(b"hello").unwrap();
    stage.pump();
    assert_eq!((stage.log.data(), peer.is_delivered()), (vec![], true));
    let took = stage.finish();
    assert!(took > Duration::ZERO && took <= Faults::SLOW_HOST);
    assert_eq!(stage.log.data(), b"hello");
}

#[test]
fn events_that_gather_are_those_of_one_tick() {
    for gather in [false, true] {
        let mut stage = Stage::new(Link::new().latency(10 * MS));
        let peers = stage.peers(3);
        let before = stage.ticks().len();
        for peer in &peers {
            peer.send(b"x").unwrap();
            stage.world.advance(MS).unwrap();
        }
        if gather {
            stage.force(Fault::Crowd);
        }
        stage.finish();
        let ticks = stage.ticks().split_off(before);
        assert_eq!(ticks.iter().sum::<usize>(), 3);
        assert_eq!(ticks[0] > 1, gather, "{ticks:?}");
    }
}

#[test]
fn ticks_of_several_events_are_common_where_everything_goes_wrong() {
    let (mut several, mut held) = (0, 0);
    for seed in 0..20 {
        let link = Link::new().latency(5 * MS).jitter(20 * MS);
        let builder = World::builder().seed(seed).link(link).trace(true);
        let mut world = builder.build();
        let host = world.add_host("a").unwrap();
        let protocol = || Recorder::echo(&Log::new());
        host.handle().create_server(host.addr(7), protocol).unwrap();
        world.network().set_faults(&Faults::all());
        let dial = |_| world.network().dial(host.addr(7)).unwrap();
        let peers: Vec<_> = (0..5).map(dial).collect();
        for _ in 0..20 {
            // It may be gone, or not be there yet.
            peers.iter().for_each(|peer| _ = peer.send(b"x"));
            world.advance(10 * MS).unwrap();
        }
        let trace = world.trace();
        let ticks = trace.lines().iter().filter(|line| line.contains(" tick, "));
        let ticks = ticks.filter(|line| {
            !["0 events", "1 events"]
                .iter()
                .any(|few| line.ends_with(few))
        });
        several += ticks.count();
        held += world.fault_counts().times(Fault::FewEvents);
    }
    assert!(
        several > 100 && held > 4,
        "{several} ticks, {held} held back"
    );
}

#[test]
fn a_segment_that_is_stalled_comes_later() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::Stall);
    peer.send(b"hello").unwrap();
    let took = stage.finish();
    assert!(took > Duration::ZERO && took <= Faults::STALL, "{took:?}");
    assert_eq!(stage.log.data(), b"hello");
}

#[test]
fn a_reset_ends_both_sides_and_the_segment_is_lost() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::Reset);
    peer.send(b"hello").unwrap();
    stage.finish();
    assert!(stage.log.closed().is_reset() && peer.is_reset());
    assert_eq!(stage.log.data(), b"");
}

#[test]
fn a_reset_leaves_what_had_arrived_unless_it_discards_that() {
    for discards in [false, true] {
        let (mut stage, peer) = Stage::connected();
        peer.send(b"hello").unwrap();
        stage.force(Fault::SlowHost);
        if discards {
            stage.force(Fault::ResetDiscards);
        }
        stage.pump();
        peer.reset();
        stage.finish();
        let left: &[u8] = if discards { b"" } else { b"hello" };
        assert_eq!(stage.log.data(), left);
        assert!(stage.log.closed().is_reset());
    }
}

#[test]
fn a_connect_fails_with_the_error_of_its_fault_at_its_time() {
    for (fault, text, time) in [
        (Fault::ConnectUnreachable, "No route", Duration::ZERO),
        (Fault::ConnectRefused, "refused", Duration::ZERO),
        (Fault::ConnectTimedOut, "timed out", Faults::CONNECT_TIMEOUT),
        (Fault::NoDescriptor, "Too many open files", Duration::ZERO),
        (Fault::ResolveFailed, "temporary failure", Duration::ZERO),
    ] {
        let mut stage = Stage::new(Link::new());
        let other = stage.world.add_host("b").unwrap();
        let addr = stage.host.addr(7);
        let connect = || {
            let to = match fault {
                Fault::ResolveFailed => ConnectOptions::new("a:7"),
                _ => ConnectOptions::new(addr),
            };
            let to = to.timeout(10 * Faults::CONNECT_TIMEOUT);
            let recorder = Recorder::new(&Log::new());
            other.handle().create_connection(to, recorder)
        };
        stage.force(fault);
        let error = stage.world.run_until(connect()).unwrap_err();
        assert!(error.to_string().contains(text), "{fault}: {error}");
        assert_eq!(stage.world.elapsed(), time, "{fault}");
        stage.world.run_until(connect()).unwrap();
    }
}

#[test]
fn a_slow_job_keeps_a_name_from_being_resolved() {
    let mut stage = Stage::new(Link::new());
    stage.force(Fault::SlowJob);
    let resolved = stage.host.handle().resolve("a", 1);
    stage.world.run_until(resolved).unwrap();
    let took = stage.world.elapsed();
    assert!(took > Duration::ZERO && took <= Faults::SLOW_JOB);
}

#[test]
fn a_partition_holds_what_is_sent_until_it_has_ended() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::Partition);
    peer.send(b"hello").unwrap();
    stage.pump();
    assert!(stage.has_line("are parted"));
    assert_eq!((stage.log.data(), peer.is_delivered()), (vec![], false));
    let took = stage.finish();
    assert!(took > Duration::ZERO && took <= Faults::PARTITION);
    assert_eq!(stage.log.data(), b"hello");
}

#[test]
fn a_jump_of_the_clock_lets_time_pass_where_none_would() {
    let (mut stage, peer) = Stage::connected();
    stage.force(Fault::ClockJump);
    peer.send(b"hello").unwrap();
    stage.pump();
    assert!(stage.has_line("the clock jumps"));
    let jump = stage.world.elapsed();
    assert!(jump > Duration::ZERO && jump <= Faults::CLOCK_JUMP);
    assert_eq!(stage.log.data(), b"hello");
}

#[test]
fn a_sender_hears_of_room_once_a_third_of_its_buffer_is_free() {
    let link = Link::new().send_buffer(90).receive_buffer(10);
    let mut stage = Stage::new(link);
    let peer = stage.peers(1).remove(0);
    let transport = stage.transport();
    transport.write(&[7; 500]).unwrap();
    let mut left = Vec::new();
    for _ in 0..5 {
        stage.finish();
        left.push(transport.write_buffer_size());
        assert_eq!(peer.take().len(), 10);
    }
    assert_eq!(left, [410, 410, 380, 380, 380]);
}
