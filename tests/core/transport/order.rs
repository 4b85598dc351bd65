//! The order of bytes is the order of the calls, whatever mixture of writes, inside and outside
//! of callbacks, small and large, and however the kernel takes them.

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use support::wakers::{leave, local_waker};
use support::{
    How, Kind, Log, Recorder, Scene, Seen, adopted, drive, each_kind, limits, put, settle,
    strict_loop, text,
};
use tidegate::{OnPause, Transport};

type Batch = Vec<(How, usize)>;

#[derive(Debug, Clone)]
enum Op {
    /// From outside of all callbacks.
    Outside(Batch),
    /// In a callback of the loop.
    Loop(Batch),
    /// In `call_soon` of the transport.
    Soon(Batch),
    /// In `data_received`.
    Data(Batch),
    Limits(usize, usize),
    Read(usize),
    Tick,
}

fn batch() -> impl Strategy<Value = Batch> {
    let how = prop::sample::select(&How::ALL[..]);
    let size = prop_oneof![
        6 => 0..40usize,
        2 => 1000..20_000usize,
        1 => 60_000..70_000usize,
        1 => 1_000_000..1_200_000usize,
    ];
    prop::collection::vec((how, size), 1..6)
}

fn op() -> impl Strategy<Value = Op> {
    let mark = prop_oneof![Just(0usize), 1..200usize, 10_000..2_000_000usize];
    prop_oneof![
        2 => batch().prop_map(Op::Outside),
        2 => batch().prop_map(Op::Loop),
        3 => batch().prop_map(Op::Soon),
        3 => batch().prop_map(Op::Data),
        1 => (mark.clone(), mark).prop_map(|(a, b)| Op::Limits(a.max(b), a.min(b))),
        3 => prop_oneof![1..5000usize, 100_000..4_000_000usize].prop_map(Op::Read),
        4 => Just(Op::Tick),
    ]
}

fn put_all(transport: &Transport, batch: &Batch) {
    for (how, len) in batch {
        let written = transport.written();
        how.put(transport, *len).unwrap();
        assert_eq!(transport.written(), written + *len as u64);
        let buffered = transport.write_buffer_size() as u64;
        assert_eq!(buffered, transport.written() - transport.sent());
    }
}

fn bytes_arrive_in_the_order_of_the_calls(kind: Kind, ops: Vec<Op>, refill: Batch) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let at_data: Rc<RefCell<VecDeque<Batch>>> = Rc::default();
    let batches = at_data.clone();
    let mut refills = 3;
    let protocol = Recorder::new(&log)
        .buffered(1)
        .on_pause(|_| Ok(OnPause::KeepReading))
        .on_data(move |transport, _| {
            let batch = batches.borrow_mut().pop_front().unwrap();
            put_all(transport, &batch);
            Ok(())
        })
        .on_resume(move |transport| {
            if refills > 0 {
                refills -= 1;
                put_all(transport, &refill);
            }
            Ok(())
        });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    transport.set_write_limits(limits(100_000, 50_000)).unwrap();
    for op in ops {
        match op {
            Op::Outside(batch) => put_all(&transport, &batch),
            Op::Loop(batch) => {
                let transport = transport.clone();
                event_loop
                    .handle()
                    .call_soon(move |_| put_all(&transport, &batch));
            }
            Op::Soon(batch) => {
                transport.call_soon(move |_: &mut Recorder, transport| {
                    put_all(transport, &batch);
                    Ok(())
                });
            }
            Op::Data(batch) => {
                at_data.borrow_mut().push_back(batch);
                peer.send(b".");
            }
            Op::Limits(high, low) => transport.set_write_limits(limits(high, low)).unwrap(),
            Op::Read(most) => {
                peer.read_some(most);
            }
            Op::Tick => event_loop.run_once(Some(Duration::ZERO)).unwrap(),
        }
    }
    // Scheduled calls run first; then every pause has its resume, which may write again.
    settle(&mut event_loop);
    drive(&mut event_loop, "the whole stream", || {
        peer.read_available();
        at_data.borrow().is_empty()
            && log.count(&Seen::Pause) == log.count(&Seen::Resume)
            && !transport.flow().is_paused()
            && peer.received().len() as u64 == transport.written()
    });
    settle(&mut event_loop);
    assert!(peer.received() == text(0, transport.written() as usize));
    assert_eq!(log.count(&Seen::Pause), log.count(&Seen::Resume));
    transport.close();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received().len() as u64, transport.written());
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.closed().unsent(), 0);
}

each_kind!(any_mixture_of_writes_arrives_in_the_order_of_the_calls);
/// Another history each time; the seed is printed, and `PROPTEST_RNG_SEED` gives it back.
fn any_mixture_of_writes_arrives_in_the_order_of_the_calls(kind: Kind) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = match std::env::var("PROPTEST_RNG_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => now.unwrap().subsec_nanos().into(),
    };
    println!("PROPTEST_RNG_SEED={seed}");
    let config = ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::with_cases(50)
    };
    let histories = (prop::collection::vec(op(), 1..50), batch());
    let result = TestRunner::new(config).run(&histories, |(ops, refill)| {
        bytes_arrive_in_the_order_of_the_calls(kind, ops, refill);
        Ok(())
    });
    if let Err(error) = result {
        panic!("seed {seed}: {error}");
    }
}

each_kind!(a_small_write_of_a_waker_woken_by_a_callback_s_writes_reaches_its_own_peer);
fn a_small_write_of_a_waker_woken_by_a_callback_s_writes_reaches_its_own_peer(kind: Kind) {
    let (mut event_loop, log, one, mut peer) = Scene::of(kind).strict().set();
    let (other, mut other_peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    settle(&mut event_loop);
    let waiting = Rc::new(Cell::new(None));
    let flush = waiting.clone();
    one.call_soon(move |_: &mut Recorder, transport| {
        put(transport, 200);
        let (woken, own) = (Cell::new(false), transport.clone());
        let waker = local_waker(move || {
            if !woken.replace(true) {
                put(&own, 7);
            }
        });
        let mut completion = transport.flush();
        leave(&mut completion, &waker);
        flush.set(Some(completion));
        Ok(())
    });
    drive(&mut event_loop, "the first", || one.sent() >= 200);
    other.call_soon(|_: &mut Recorder, transport| {
        put(transport, 10);
        Ok(())
    });
    drive(&mut event_loop, "the second", || other.sent() == 10);
    drive(&mut event_loop, "what the waker wrote", || {
        one.sent() == 207
    });
    peer.expect_text(&mut event_loop, &one);
    other_peer.expect_text(&mut event_loop, &other);
}
