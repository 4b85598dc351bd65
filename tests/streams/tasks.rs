//! Tasks and their handles: joining, detaching, aborting, panics.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use support::tasks::{Signal, poll, run};
use support::{Kind, drive, each_kind, failures, settle};
use tidegate::{CloseReason, EventLoop, Handle};
use tidegate_streams::{JoinHandle, sleep, spawn, spawn_on, yield_now};

fn flag() -> (Rc<Cell<bool>>, Rc<Cell<bool>>) {
    let flag = Rc::new(Cell::new(false));
    (flag.clone(), flag)
}

/// Sets its flag when dropped.
struct Sets(Rc<Cell<bool>>);

impl Drop for Sets {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn a_task_begins_after_the_call_that_spawned_it_and_in_the_order_of_the_calls() {
    run("three tasks", async {
        let order: Rc<RefCell<Vec<_>>> = Rc::default();
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let order = order.clone();
                spawn(async move { order.borrow_mut().push(number) })
            })
            .collect();
        assert!(order.borrow().is_empty(), "it ran inside of spawn");
        assert!(!tasks[2].is_finished());
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(order.take(), [0, 1, 2]);
    });
}

#[test]
fn joining_gives_the_value_also_long_after_the_end() {
    run("the value", async {
        let task = spawn(async { Rc::new(42) });
        while !task.is_finished() {
            yield_now().await;
        }
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(*task.await.unwrap(), 42);
    });
}

#[test]
fn dropping_the_handle_lets_the_task_go_on() {
    run("a detached task", async {
        let done = Signal::new();
        let tells = done.clone();
        drop(spawn(async move {
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
            tells.send();
        }));
        done.wait(1).await;
    });
}

#[test]
fn a_value_that_nobody_joins_is_dropped_once() {
    for early in [true, false] {
        run("the drop", async move {
            let (dropped, sets) = flag();
            let task = spawn(async move { Sets(sets) });
            if early {
                drop(task);
                while !dropped.get() {
                    yield_now().await;
                }
            } else {
                while !task.is_finished() {
                    yield_now().await;
                }
                assert!(!dropped.get());
                drop(task);
                assert!(dropped.get());
            }
        });
    }
}

#[test]
fn a_panic_comes_out_of_the_join_with_its_payload_and_is_not_reported() {
    let mut event_loop = EventLoop::new().unwrap();
    let reported = failures(event_loop.handle());
    let outcome: Rc<RefCell<Vec<_>>> = Rc::default();
    let told = outcome.clone();
    let test = spawn_on(event_loop.handle(), async move {
        for kind in 0..3 {
            let error = spawn(async move {
                yield_now().await;
                match kind {
                    0 => panic!("plain"),
                    1 => panic!("with {}", "words"),
                    _ => std::panic::panic_any(7_u8),
                }
            })
            .await
            .unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled() && !error.is_no_loop());
            told.borrow_mut().push(error.to_string());
            let payload = error.try_into_panic().unwrap();
            assert_eq!(payload.is::<u8>(), kind == 2);
        }
    });
    drive(&mut event_loop, "three panics", || test.is_finished());
    assert_eq!(
        outcome.take(),
        [
            "the task panicked: plain",
            "the task panicked: with words",
            "the task panicked: a panic without a message"
        ]
    );
    settle(&mut event_loop);
    assert!(reported.take().is_empty());
}

#[test]
fn a_panic_that_nobody_joins_reaches_the_error_handler_once_and_harms_nobody() {
    for early in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let reported = failures(&handle);
        let other = spawn_on(&handle, async {
            for _ in 0..5 {
                yield_now().await;
            }
        });
        let task = spawn_on(&handle, async { panic!("unseen") });
        if !early {
            drive(&mut event_loop, "the end", || task.is_finished());
        }
        drop(task);
        drive(&mut event_loop, "the other", || other.is_finished());
        settle(&mut event_loop);
        let reported = reported.take();
        assert_eq!(reported.len(), 1);
        assert_eq!(reported[0].context(), "a task");
        assert!(
            matches!(reported[0].reason(), CloseReason::Panic(text) if text.contains("unseen"))
        );
    }
}

#[test]
fn an_aborted_task_is_dropped_by_the_loop_and_joins_as_cancelled() {
    run("the aborted", async {
        for polls in 0..3 {
            let (dropped, sets) = flag();
            let (polled, counts) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let count = counts.clone();
            let sets = Sets(sets);
            let task: JoinHandle<()> = spawn(async move {
                let _sets = sets;
                loop {
                    count.set(count.get() + 1);
                    yield_now().await;
                }
            });
            while counts.get() < polls {
                yield_now().await;
            }
            polled.set(counts.get());
            task.abort();
            task.abort();
            assert!(!dropped.get() && !task.is_finished(), "not within the call");
            let error = task.await.unwrap_err();
            assert!(error.is_cancelled() && !error.is_panic());
            assert!(error.try_into_panic().is_err());
            assert!(dropped.get());
            assert_eq!(counts.get(), polled.get(), "it was polled after the abort");
        }
    });
}

#[test]
fn a_task_that_waits_for_nothing_can_be_aborted_too() {
    run("the aborted", async {
        let (dropped, sets) = flag();
        let task = spawn(async move {
            let _sets = Sets(sets);
            pending::<()>().await;
        });
        yield_now().await;
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(dropped.get());
    });
}

#[test]
fn an_abort_whose_handle_is_dropped_still_ends_the_task_and_is_not_reported() {
    let mut event_loop = EventLoop::new().unwrap();
    let reported = failures(event_loop.handle());
    let (dropped, sets) = flag();
    let task = spawn_on(event_loop.handle(), async move {
        let _sets = Sets(sets);
        pending::<()>().await;
    });
    settle(&mut event_loop);
    task.abort();
    drop(task);
    drive(&mut event_loop, "the drop", || dropped.get());
    settle(&mut event_loop);
    assert!(reported.take().is_empty());
}

#[test]
fn a_task_that_aborts_itself_ends_where_it_next_waits_or_with_its_value() {
    run("the aborted", async {
        for waits in [true, false] {
            let own: Rc<RefCell<Option<JoinHandle<i32>>>> = Rc::default();
            let (went_on, sets) = flag();
            let mine = own.clone();
            let task = spawn(async move {
                mine.borrow().as_ref().unwrap().abort();
                sets.set(true);
                if waits {
                    yield_now().await;
                    sets.set(false);
                }
                3
            });
            own.replace(Some(task));
            while !own.borrow().as_ref().unwrap().is_finished() {
                yield_now().await;
            }
            let task = own.take().unwrap();
            let result = task.await;
            match waits {
                true => assert!(result.unwrap_err().is_cancelled()),
                false => assert_eq!(result.unwrap(), 3),
            }
            assert!(went_on.get(), "it ended inside of abort, or went on");
        }
    });
}

#[test]
fn of_an_abort_and_an_end_in_one_tick_the_first_one_counts() {
    run("both orders", async {
        // The task is ready to end, and is aborted before it runs.
        let signal = Signal::new();
        let waits = signal.clone();
        let task = spawn(async move { waits.wait(1).await });
        yield_now().await;
        yield_now().await;
        signal.send();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());

        // It ends first; the abort comes later in the same tick.
        let task = Rc::new(spawn(async { 5 }));
        let same = task.clone();
        let polls = Handle::current().unwrap().stats().polls;
        let aborts = spawn(async move {
            assert!(same.is_finished());
            same.abort();
            Handle::current().unwrap().stats().polls
        });
        assert!(aborts.await.unwrap() <= polls + 1);
        assert_eq!(Rc::into_inner(task).unwrap().await.unwrap(), 5);
    });
}

#[test]
fn a_handle_says_that_it_is_finished_in_every_way_to_end() {
    run("four ends", async {
        let returned = spawn(async {});
        let panicked = spawn(async { panic!("on purpose") });
        let aborted = spawn(pending::<()>());
        aborted.abort();
        for task in [&returned, &panicked, &aborted] {
            while !task.is_finished() {
                yield_now().await;
            }
            task.abort();
        }
        assert!(returned.await.is_ok());
        assert!(panicked.await.unwrap_err().is_panic());
        assert!(aborted.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn a_handle_that_gave_its_answer_says_so_when_asked_again() {
    run("the answer", async {
        let mut task = spawn(async { 1 });
        assert_eq!((&mut task).await.unwrap(), 1);
        assert!(task.is_finished());
        task.abort();
        let Poll::Ready(Err(error)) = poll(&mut task) else {
            panic!("a second answer");
        };
        assert_eq!(error.to_string(), "the task was joined already");
        assert!(!error.is_cancelled() && !error.is_panic() && !error.is_no_loop());
    });
}

#[test]
fn the_last_task_that_waits_for_a_handle_gets_its_answer() {
    run("the join", async {
        let signal = Signal::new();
        let waits = signal.clone();
        let shared = Rc::new(RefCell::new(spawn(async move {
            waits.wait(1).await;
            9
        })));
        let joins = |shared: Rc<RefCell<JoinHandle<i32>>>| {
            spawn(std::future::poll_fn(move |context| {
                let mut join = shared.borrow_mut();
                Future::poll(std::pin::Pin::new(&mut *join), context)
            }))
        };
        let first = joins(shared.clone());
        yield_now().await;
        let second = joins(shared.clone());
        yield_now().await;
        yield_now().await;
        signal.send();
        assert_eq!(second.await.unwrap().unwrap(), 9);
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
    });
}

each_kind!(tasks_and_callback_protocols_share_one_loop);
fn tasks_and_callback_protocols_share_one_loop(kind: Kind) {
    use support::{Log, Recorder, adopted};
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let recorder = Recorder::new(&log).on_data(|transport, data| {
        let (transport, data) = (transport.clone(), data.to_vec());
        spawn(async move {
            yield_now().await;
            transport.write(&data).unwrap();
        });
        Ok(())
    });
    let (_transport, mut peer) = adopted(event_loop.handle(), kind, recorder);
    peer.send(b"from a task");
    peer.expect(&mut event_loop, 11);
    assert_eq!(peer.received(), b"from a task");
}

each_kind!(a_task_that_is_always_ready_starves_nobody);
fn a_task_that_is_always_ready_starves_nobody(kind: Kind) {
    use support::{Log, Recorder, adopted};
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let spins = Rc::new(Cell::new(0_u64));
    for _ in 0..3 {
        let spins = spins.clone();
        drop(spawn_on(&handle, async move {
            loop {
                spins.set(spins.get() + 1);
                yield_now().await;
            }
        }));
    }
    let others = Rc::new(Cell::new(0_u64));
    let counts = others.clone();
    drop(spawn_on(&handle, async move {
        loop {
            sleep(Duration::ZERO).await;
            counts.set(counts.get() + 1);
        }
    }));
    let (_, mut peer) = adopted(&handle, kind, Recorder::echo(&Log::new()));
    let (mut asked, rounds) = (0, 200);
    let before = handle.stats().polls;
    while peer.received().len() < rounds {
        if peer.received().len() == asked {
            peer.send(b"?");
            asked += 1;
        }
        event_loop.run_once(Some(Duration::from_secs(5))).unwrap();
        peer.read_available();
    }
    let ticks = handle.stats().polls - before;
    assert!(ticks < 3 * rounds as u64, "{ticks} ticks");
    // Each of them runs once a tick, no more: the loop polls in between.
    assert!(spins.get() <= 3 * (ticks + 1), "{} in {ticks}", spins.get());
    assert!(spins.get() >= 3 * (ticks - 1), "{} in {ticks}", spins.get());
    let slept = others.get();
    assert!(3 * slept >= ticks, "{slept} sleeps in {ticks} ticks");
}

#[test]
fn a_task_that_is_always_ready_runs_once_a_tick_beside_busy_connections() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let read = Rc::new(Cell::new(0));
    let mut peers = Vec::new();
    for _ in 0..20 {
        let (mut reader, writer, peer) = support::opened(&mut event_loop, Kind::Tcp);
        let read = read.clone();
        drop(spawn_on(&handle, async move {
            let _writer = writer;
            while reader.read(&mut [0]).await.is_ok_and(|len| len > 0) {
                read.set(read.get() + 1);
            }
        }));
        peers.push(peer);
    }
    settle(&mut event_loop);
    let spins = Rc::new(Cell::new(0_u64));
    let counts = spins.clone();
    drop(spawn_on(&handle, async move {
        loop {
            counts.set(counts.get() + 1);
            yield_now().await;
        }
    }));
    let before = handle.stats().polls;
    for round in 1..=10 {
        peers.iter_mut().for_each(|peer| peer.send(b"?"));
        drive(&mut event_loop, "what was sent", || {
            read.get() == 20 * round
        });
    }
    let ticks = handle.stats().polls - before;
    assert!(spins.get() <= ticks + 1, "{} in {ticks}", spins.get());
}
