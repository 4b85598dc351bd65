//! The loop in another world: nothing of it is real but the loop.

use super::by_hand::{ByHand, CAPACITY};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{Log, Recorder, pattern};
use tidegate::driver::Readiness;
use tidegate::{
    Completion, ConnectOptions, EventLoop, Handle, PanicPolicy, Protocol, Result, Transport,
    WriteLimits,
};
use tidegate_testkit::World;

// Numbers of Linux.
const ENOMEM: i32 = 12;
const ENOBUFS: i32 = 105;

const HOUR: Duration = Duration::from_secs(3600);

/// As on a real socket.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7))
}

#[test]
fn an_unchanged_echo_serves_a_client_in_memory_and_all_of_it_is_freed() {
    let mut world = World::new();
    let (server_host, host) = (
        world.add_host("server").unwrap(),
        world.add_host("client").unwrap(),
    );
    let address = server_host.addr(7);
    let server = server_host
        .handle()
        .create_server(address, || Echo)
        .unwrap();
    assert_eq!(server.local_addrs(), [address.into()]);
    let log = Log::new();
    let options = ConnectOptions::new(address).write_limits(WriteLimits::new().with_high(1));
    let connect = host
        .handle()
        .create_connection(options, Recorder::new(&log));
    let transport = world.run_until(connect).unwrap();
    let total = 100 * 64 * 1024;
    let flow = transport.write(&pattern(0, total)).unwrap();
    assert!(flow.is_paused(), "the world takes so much at once");
    transport.write_eof().unwrap();
    world.settle().unwrap();
    assert_eq!(log.data(), pattern(0, total));
    let words = ["made", "pause", "data", "resume", "data", "eof", "lost"];
    assert_eq!(log.words(), words);
    assert_eq!(log.reason(), "peer-eof");
    assert_eq!(server.connection_count(), 0);

    // A connection that is open when the loop ends is freed too.
    let other = Log::new();
    let connect = host
        .handle()
        .create_connection(address, Recorder::echo(&other));
    let kept = world.run_until(connect).unwrap();
    world.end_host(&host);
    assert_eq!(other.reason(), "shutdown");
    assert_eq!((log.dropped(), other.dropped()), (1, 1));
    drop((host, transport, kept));
    world.end_host(&server_host);
    world.settle().unwrap();
    let network = world.network();
    assert_eq!((network.sockets(), network.listeners()), (0, 0));
}

#[test]
fn a_timer_fires_when_the_hand_set_clock_says_so() {
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let handle = event_loop.handle().clone();
    let start = world.now.get();
    let fired = Rc::new(RefCell::new(Vec::new()));
    for hours in [3, 1, 2, 1] {
        let fired = fired.clone();
        handle.call_later(HOUR * hours, move |handle| {
            fired.borrow_mut().push((hours, handle.now() - start));
        });
    }
    event_loop.run_once(None).unwrap();
    world.advance(HOUR - Duration::from_nanos(1));
    event_loop.run_once(None).unwrap();
    assert!(fired.borrow().is_empty(), "a nanosecond early");
    world.advance(Duration::from_nanos(1));
    event_loop.run_once(None).unwrap();
    assert_eq!(fired.take(), [(1, HOUR), (1, HOUR)]);
    world.advance(5 * HOUR);
    event_loop.run_once(None).unwrap();
    assert_eq!(fired.take(), [(2, 6 * HOUR), (3, 6 * HOUR)]);
    // The poll was told how long it may wait: to the nanosecond, and at last for ever.
    event_loop.run_once(None).unwrap();
    let waits = [
        Some(HOUR),
        Some(Duration::from_nanos(1)),
        Some(Duration::ZERO),
    ];
    assert_eq!(world.timeouts.borrow()[..3], waits);
    assert_eq!(world.timeouts.borrow()[3..], [Some(Duration::ZERO), None]);
}

#[test]
fn a_timer_that_restarts_itself_fires_once_a_tick_even_on_a_stopped_clock() {
    fn again(handle: &Handle, fired: Rc<Cell<u32>>) {
        handle.call_later(Duration::ZERO, move |handle| {
            fired.set(fired.get() + 1);
            if fired.get() < 100 {
                again(handle, fired);
            }
        });
    }
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let fired = Rc::new(Cell::new(0));
    again(event_loop.handle(), fired.clone());
    for n in 1..=100 {
        event_loop.run_once(None).unwrap();
        assert_eq!(fired.get(), n);
    }
}

#[test]
fn a_tick_may_wait_until_the_next_deadline_and_no_longer_than_it_was_told() {
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let handle = event_loop.handle().clone();
    let mut asked = |within: Option<Duration>| {
        event_loop.run_once(within).unwrap();
        world.timeouts.take()[0]
    };
    assert_eq!(asked(None), None);
    assert_eq!(asked(Some(HOUR)), Some(HOUR));
    let timer = handle.call_later(2 * HOUR, |_| {});
    assert_eq!(asked(None), Some(2 * HOUR));
    assert_eq!(asked(Some(HOUR)), Some(HOUR));
    assert_eq!(asked(Some(3 * HOUR)), Some(2 * HOUR));
    let held = Rc::new(());
    let sooner = handle.call_later(HOUR / 2, move |_| drop(held));
    assert_eq!(asked(None), Some(HOUR / 2));
    sooner.cancel();
    assert_eq!(
        asked(None),
        Some(Duration::ZERO),
        "its closure is to be dropped"
    );
    assert_eq!(
        asked(None),
        Some(2 * HOUR),
        "a cancelled timer wakes nobody"
    );
    timer.cancel();
    asked(None);
    assert_eq!(asked(None), None);
    handle.call_later(Duration::MAX, |_| {});
    assert_eq!(asked(None), None, "it never comes");
    handle.call_soon(|_| {});
    assert_eq!(asked(None), Some(Duration::ZERO));
    handle.stop();
    assert_eq!(asked(None), Some(Duration::ZERO));
    assert_eq!(asked(None), None);
}

#[test]
fn the_clock_is_read_once_a_tick_and_only_when_somebody_asks() {
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let handle = event_loop.handle().clone();
    let reads = |event_loop: &mut EventLoop| {
        world.clock_reads.set(0);
        event_loop.run_once(None).unwrap();
        world.clock_reads.get()
    };
    for _ in 0..3 {
        handle.call_soon(|_| {});
    }
    assert_eq!(reads(&mut event_loop), 0, "nobody has asked");
    let times = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..3 {
        let (times, slow) = (times.clone(), world.clone());
        handle.call_soon(move |handle| {
            times.borrow_mut().push(handle.now());
            slow.advance(HOUR);
        });
    }
    assert_eq!(reads(&mut event_loop), 1);
    let times = times.take();
    assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
    assert_eq!(
        handle.now(),
        times[0] + 3 * HOUR,
        "between ticks it goes on"
    );

    // A timer starts when it is made, not when the tick began.
    let (slow, fired) = (world.clone(), Rc::new(Cell::new(false)));
    let seen = fired.clone();
    handle.call_soon(move |handle| {
        handle.now();
        slow.advance(2 * HOUR);
        handle.call_later(HOUR, move |_| seen.set(true));
    });
    event_loop.run_once(None).unwrap();
    world.timeouts.take();
    event_loop.run_once(None).unwrap();
    assert!(!fired.get(), "an hour early");
    assert_eq!(world.timeouts.take(), [Some(HOUR)]);
    world.advance(HOUR);
    event_loop.run_once(None).unwrap();
    assert!(fired.get());
}

#[test]
fn without_a_threshold_no_callback_is_timed() {
    let reads = |slow: Option<Duration>| {
        let world = ByHand::new();
        let mut builder = EventLoop::builder().driver(world.driver());
        if let Some(limit) = slow {
            builder = builder.slow_callback(limit);
        }
        let mut event_loop = builder.build().unwrap();
        let handle = event_loop.handle().clone();
        let log = Log::new();
        let connect = handle.create_connection(address(), Recorder::new(&log));
        let transport = event_loop.run_until(connect).unwrap();
        transport.write(b"hello").unwrap();
        handle.call_soon(|_| {});
        world.run(&mut event_loop);
        assert_eq!(log.data(), b"hello");
        let callbacks = handle.stats().callbacks as usize;
        (world.clock_reads.get(), callbacks)
    };
    assert_eq!(reads(None).0, 0);
    let (reads, callbacks) = reads(Some(HOUR));
    assert_eq!(reads, 2 * callbacks);
}

#[test]
fn calls_from_another_thread_wake_any_world_once_between_two_ticks() {
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let ran = Arc::new(AtomicUsize::new(0));
    for n in 1..=3 {
        std::thread::scope(|scope| {
            let remote = event_loop.handle().remote();
            let ran = &ran;
            scope.spawn(move || {
                for _ in 0..100 {
                    let ran = ran.clone();
                    let call = move |_: &Handle| {
                        ran.fetch_add(1, Ordering::SeqCst);
                    };
                    remote.call_soon_threadsafe(call).unwrap();
                }
            });
        });
        assert_eq!(world.woken.0.load(Ordering::SeqCst), 1);
        event_loop.run_once(None).unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 100 * n);
        assert_eq!(event_loop.handle().stats().events, n as u64);
    }
}

#[test]
fn a_transfer_without_memory_is_tried_again_though_no_event_says_when() {
    for code in [ENOBUFS, ENOMEM] {
        let world = ByHand::new();
        let mut event_loop = world.event_loop();
        let handle = event_loop.handle().clone();
        let log = Log::new();
        let connect = handle.create_connection(address(), Recorder::new(&log));
        let transport = event_loop.run_until(connect).unwrap();
        let total = 20 * CAPACITY;
        transport.write(&pattern(0, total)).unwrap();
        for _ in 0..5 {
            // In mid traffic: the events that are refused now will not come again.
            event_loop.run_once(None).unwrap();
            world.refusal.set(Some(code));
            let before = handle.stats();
            for tries in 1..=3 {
                world.run(&mut event_loop);
                let now = handle.stats();
                assert_eq!(now.bytes_received, before.bytes_received);
                assert_eq!(now.bytes_sent, before.bytes_sent);
                // In each direction; and the connection is not given up.
                let calls = now.reads + now.writes - before.reads - before.writes;
                assert!((tries..=2 * tries).contains(&calls), "{calls} calls");
                assert_eq!(now.connections, 1);
                world.advance(Duration::from_millis(20));
            }
            world.refusal.set(None);
        }
        assert!(log.data().len() < total, "no refusal was in mid traffic");
        world.run(&mut event_loop);
        assert_eq!(log.data(), pattern(0, total));
        transport.write_eof().unwrap();
        world.run(&mut event_loop);
        assert_eq!(log.reason(), "peer-eof");
        assert_eq!(handle.stats().timers, 0);
        drop((event_loop, handle, transport));
        assert_eq!(Rc::strong_count(&world), 1, "a cycle keeps the loop");
    }
}

#[test]
fn without_threads_jobs_run_on_the_loop_in_order_one_tick_after_their_start() {
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let handle = event_loop.handle().clone();
    let here = std::thread::current().id();
    let ran = Arc::new(AtomicUsize::new(0));
    let answers = Rc::new(RefCell::new(Vec::new()));
    for number in 0..100 {
        let (ran, answers) = (ran.clone(), answers.clone());
        let job = handle.run_in_executor(move || {
            assert_eq!(std::thread::current().id(), here);
            assert_eq!(ran.fetch_add(1, Ordering::SeqCst), number);
            number
        });
        job.then(move |_, answer| answers.borrow_mut().push(answer.unwrap()));
    }
    assert_eq!(ran.load(Ordering::SeqCst), 0, "never within the call");
    assert_eq!(handle.stats().jobs, 100);
    event_loop.run_once(None).unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 100);
    assert!(answers.borrow().is_empty(), "answers come as from a thread");
    world.run(&mut event_loop);
    assert_eq!(*answers.borrow(), (0..100).collect::<Vec<_>>());
    assert_eq!(handle.stats().jobs, 0);

    let name = event_loop
        .run_until(handle.resolve("localhost", 7))
        .unwrap();
    assert!(name.iter().all(|addr| addr.ip().is_loopback()));
}

#[test]
fn where_jobs_run_on_the_loop_a_cancelled_one_does_not_and_a_panic_is_an_error() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let world = ByHand::new();
    let builder = EventLoop::builder().driver(world.driver());
    let policy = PanicPolicy::Propagate;
    let mut event_loop = builder.panic_policy(policy).build().unwrap();
    let handle = event_loop.handle().clone();
    let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let uncalled = |handle: &Handle| {
        let (ran, value) = (ran.clone(), Counts(dropped.clone()));
        handle.run_in_executor(move || {
            ran.fetch_add(1, Ordering::SeqCst);
            drop(value);
        })
    };
    drop(uncalled(&handle));
    let panics: Completion<()> = handle.run_in_executor(|| panic!("inside"));
    let limited = uncalled(&handle).within(HOUR);
    world.advance(HOUR);
    // Timers come before what is ready.
    let error = event_loop.run_until(limited).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let error = event_loop.run_until(panics).unwrap_err();
    assert_eq!(error.to_string(), "a job panicked: inside");
    assert_eq!(dropped.load(Ordering::SeqCst), 2);

    let left = uncalled(&handle);
    drop(event_loop);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_eq!(handle.stats().jobs, 0);
    drop((left, handle));
    assert_eq!(Rc::strong_count(&world), 1, "a cycle keeps the loop");
}

#[test]
fn an_event_of_a_failure_alone_has_an_attempt_to_connect_look_at_its_socket() {
    let world = ByHand::new();
    world.first.set(Readiness::new().with_failed());
    let mut event_loop = world.event_loop();
    let mut connect = event_loop
        .handle()
        .create_connection(address(), Recorder::new(&Log::new()));
    world.run(&mut event_loop);
    assert!(support::answer(&mut connect).unwrap().is_ok());
}
