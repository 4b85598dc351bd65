//! Wakers of tasks on other threads: nothing is lost, and futures are dropped on their own thread,
//! whatever comes first: the wake, the end of the loop, or the end of its thread.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;
use support::tasks::{Drops, Signal, poll, run};
use support::{BOUND, Rng, drive, settle};
use tidegate::{EventLoop, Handle};
use tidegate_streams::{block_on, spawn, spawn_on, yield_now};

const THREADS: usize = 8;

#[test]
fn wakes_from_eight_other_threads_are_never_lost() {
    const TASKS: usize = 50;
    const EACH: usize = 200;
    let drops = Drops::new();
    let counted: Vec<_> = (0..TASKS).map(|_| drops.counted()).collect();
    run("all signals", async move {
        let signals: Vec<_> = (0..TASKS).map(|_| Signal::new()).collect();
        let tasks: Vec<_> = (signals.iter().cloned().zip(counted))
            .map(|(signal, counted)| {
                spawn(async move {
                    let _counted = counted;
                    // Each step is a wait of its own, so that a lost wake is never made good.
                    for times in 1..=THREADS * EACH {
                        signal.wait(times).await;
                    }
                })
            })
            .collect();
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let signals = signals.clone();
                thread::spawn(move || {
                    let mut rng = Rng::new(number as u64);
                    let mut order: Vec<_> = (0..TASKS * EACH).map(|at| at % TASKS).collect();
                    for last in (1..order.len()).rev() {
                        order.swap(last, rng.below(last + 1));
                    }
                    for at in order {
                        match rng.below(2) {
                            0 => signals[at].send(),
                            _ => signals[at].send_by_ref(),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    drops.assert_all_on(thread::current().id(), TASKS);
}

#[test]
fn a_wake_from_another_thread_ends_the_sleep_of_the_loop() {
    run("a thousand exchanges", async {
        let (there, back) = (Signal::new(), Signal::new());
        let (ask, answers) = mpsc::channel();
        let tells = back.clone();
        let other = thread::spawn(move || {
            // One at a time: the loop has nothing else to do meanwhile.
            for () in answers {
                tells.send();
            }
        });
        for times in 1..=1000 {
            ask.send(()).unwrap();
            back.wait(times).await;
        }
        drop((ask, there));
        other.join().unwrap();
    });
}

#[test]
fn many_wakes_between_two_polls_are_one() {
    let mut event_loop = EventLoop::new().unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let (counts, slot) = (polls.clone(), Signal::new());
    let waits = slot.clone();
    let task = spawn_on(event_loop.handle(), async move {
        let mut wait = std::pin::pin!(waits.wait(usize::MAX));
        poll_fn(|context| {
            counts.fetch_add(1, Ordering::Relaxed);
            wait.as_mut().poll(context)
        })
        .await;
    });
    settle(&mut event_loop);
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..100).for_each(|_| slot.send()));
        }
    });
    (0..100).for_each(|_| slot.send());
    settle(&mut event_loop);
    assert_eq!(polls.load(Ordering::Relaxed), 2);
    assert!(!task.is_finished());
}

#[test]
fn a_wake_from_another_thread_while_the_task_runs_polls_it_again() {
    run("the second poll", async {
        for _ in 0..200 {
            let mut woken = false;
            poll_fn(|context| {
                if woken {
                    return Poll::Ready(());
                }
                woken = true;
                let waker = context.waker().clone();
                thread::spawn(move || waker.wake()).join().unwrap();
                Poll::Pending
            })
            .await;
        }
    });
}

#[test]
fn the_waker_of_a_task_that_has_ended_does_not_trouble_the_loop() {
    let mut event_loop = EventLoop::new().unwrap();
    let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
    let left = wakers.clone();
    let task = spawn_on(event_loop.handle(), async move {
        poll_fn(|context| {
            left.borrow_mut().push(context.waker().clone());
            Poll::Ready(())
        })
        .await;
    });
    settle(&mut event_loop);
    assert!(task.is_finished());
    let waker = wakers.take().remove(0);
    thread::spawn(move || waker.wake()).join().unwrap();
    let before = event_loop.handle().stats().callbacks;
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.handle().stats().callbacks, before);
}

#[test]
fn wakers_cloned_and_dropped_on_other_threads_leave_the_drop_to_the_loop() {
    const TASKS: usize = 400;
    let mut event_loop = EventLoop::new().unwrap();
    let drops = Drops::new();
    let (give, take) = mpsc::channel::<Waker>();
    let other = thread::spawn(move || {
        for (number, waker) in take.into_iter().enumerate() {
            let clone = waker.clone();
            match number % 4 {
                0 => drop(waker),
                1 => waker.wake(),
                2 => waker.wake_by_ref(),
                _ => {}
            }
            drop(clone);
        }
    });
    let mut joins = Vec::new();
    for number in 0..TASKS {
        let (counted, give) = (drops.counted(), give.clone());
        let task = spawn_on(event_loop.handle(), async move {
            let _counted = counted;
            let mut left = number % 3;
            poll_fn(|context| {
                give.send(context.waker().clone()).unwrap();
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        });
        // Some are detached, so that the last waker is all that is left of them.
        match number % 2 {
            0 => drop(task),
            _ => joins.push(task),
        }
    }
    drop(give);
    drive(&mut event_loop, "all tasks", || drops.count() == TASKS);
    other.join().unwrap();
    settle(&mut event_loop);
    assert!(joins.iter().all(|task| task.is_finished()));
    drops.assert_all_on(thread::current().id(), TASKS);
}

/// Starts tasks that wait for ever; gives their wakers.
fn waiting(event_loop: &mut EventLoop, count: usize, drops: &Drops) -> Vec<Waker> {
    let signals: Vec<_> = (0..count).map(|_| Signal::new()).collect();
    for (number, signal) in signals.iter().cloned().enumerate() {
        let counted = drops.counted();
        let task = spawn_on(event_loop.handle(), async move {
            let _counted = counted;
            signal.wait(usize::MAX).await;
        });
        if number % 3 == 0 {
            task.abort();
        }
    }
    // The aborted ones never waited.
    settle(event_loop);
    signals.iter().filter_map(Signal::waker).collect()
}

/// Uses up wakers in every way.
fn use_up(wakers: Vec<Waker>) {
    for (number, waker) in wakers.into_iter().enumerate() {
        let clone = waker.clone();
        match number % 3 {
            0 => waker.wake(),
            1 => waker.wake_by_ref(),
            _ => {}
        }
        drop(clone);
    }
}

#[test]
fn wakers_may_be_used_and_dropped_anywhere_when_the_loop_is_gone() {
    const TASKS: usize = 90;
    let drops = Drops::new();
    let mut event_loop = EventLoop::new().unwrap();
    let mut wakers = waiting(&mut event_loop, TASKS, &drops);
    assert_eq!(wakers.len(), TASKS - TASKS / 3);
    drop(event_loop);
    drops.assert_all_on(thread::current().id(), TASKS);
    let other = wakers.split_off(wakers.len() / 2);
    thread::spawn(move || use_up(other)).join().unwrap();
    use_up(wakers);
    drops.assert_all_on(thread::current().id(), TASKS);
    // The thread is as good as new.
    run("a task", async { spawn(yield_now()).await.unwrap() });
}

#[test]
fn wakers_may_be_used_and_dropped_when_the_thread_of_the_loop_has_ended() {
    const TASKS: usize = 90;
    let drops = Drops::new();
    let counts = drops.clone();
    let thread = thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        waiting(&mut event_loop, TASKS, &counts)
    });
    let id = thread.thread().id();
    let wakers = thread.join().unwrap();
    drops.assert_all_on(id, TASKS);
    use_up(wakers);
    drops.assert_all_on(id, TASKS);
}

/// Eight threads wake tasks of a loop, over and over, while it is dropped.
fn end_under_fire(rounds: usize, after: impl Fn() + Send + Sync + 'static) {
    const TASKS: usize = 16;
    let drops = Drops::new();
    let counts = drops.clone();
    let loops = thread::spawn(move || {
        for round in 0..rounds {
            let mut event_loop = EventLoop::new().unwrap();
            let signals: Vec<_> = (0..TASKS).map(|_| Signal::new()).collect();
            for signal in &signals {
                let (signal, counted) = (signal.clone(), counts.counted());
                drop(spawn_on(event_loop.handle(), async move {
                    let _counted = counted;
                    for times in 1.. {
                        signal.wait(times).await;
                    }
                }));
            }
            settle(&mut event_loop);
            let (over, start) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(Barrier::new(THREADS + 1)),
            );
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (signals, over, start) = (signals.clone(), over.clone(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        while !over.load(Ordering::Relaxed) {
                            signals.iter().for_each(Signal::send);
                        }
                    })
                })
                .collect();
            start.wait();
            for _ in 0..round % 4 {
                event_loop.run_once(None).unwrap();
            }
            drop(event_loop);
            over.store(true, Ordering::Relaxed);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            after();
        }
    });
    let id = loops.thread().id();
    loops.join().unwrap();
    drops.assert_all_on(id, rounds * TASKS);
}

#[test]
fn a_loop_that_ends_while_threads_wake_its_tasks_drops_each_once_on_its_thread() {
    end_under_fire(60, || {});
}

#[test]
fn what_was_woken_while_a_loop_ended_is_dropped_by_the_next_one_of_the_thread() {
    end_under_fire(60, || {
        block_on(async { spawn(yield_now()).await.unwrap() }).unwrap();
    });
}

#[test]
fn a_waker_in_a_thread_local_value_may_be_used_when_the_thread_ends() {
    struct WakesAtEnd(Option<Waker>, Option<Handle>);
    impl Drop for WakesAtEnd {
        fn drop(&mut self) {
            if let Some(waker) = self.0.take() {
                waker.wake_by_ref();
            }
            if let Some(handle) = self.1.take() {
                let mut task = spawn_on(&handle, async {});
                assert!(matches!(poll(&mut task), Poll::Ready(Err(error)) if error.is_no_loop()));
            }
        }
    }
    thread_local! {
        static KEPT: RefCell<WakesAtEnd> = const { RefCell::new(WakesAtEnd(None, None)) };
    }
    // Values of a thread are dropped in the opposite order of their first use, or in that order.
    for first in [true, false] {
        let drops = Drops::new();
        let counted = drops.counted();
        let thread = thread::spawn(move || {
            if first {
                KEPT.with_borrow(|_| ());
            }
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle().clone();
            drop(spawn_on(&handle, async move {
                let _counted = counted;
                poll_fn(|context| {
                    KEPT.with_borrow_mut(|kept| kept.0 = Some(context.waker().clone()));
                    Poll::<()>::Pending
                })
                .await;
            }));
            settle(&mut event_loop);
            KEPT.with_borrow_mut(|kept| kept.1 = Some(handle));
        });
        let id = thread.thread().id();
        thread.join().unwrap();
        drops.assert_all_on(id, 1);
    }
}

#[test]
fn a_loop_in_a_thread_local_value_drops_its_tasks_when_the_thread_ends() {
    thread_local! {
        static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    }
    for first in [true, false] {
        let drops = Drops::new();
        let counts = drops.clone();
        let (give, take) = mpsc::channel();
        let thread = thread::spawn(move || {
            if first {
                LOOP.with_borrow(|_| ());
            }
            let mut event_loop = EventLoop::new().unwrap();
            give.send(waiting(&mut event_loop, 30, &counts)).unwrap();
            let counted = counts.counted();
            drop(spawn_on(event_loop.handle(), async move {
                let _counted = counted;
                pending::<()>().await;
            }));
            LOOP.set(Some(event_loop));
        });
        let id = thread.thread().id();
        let wakers = take.recv_timeout(BOUND).unwrap();
        thread.join().unwrap();
        use_up(wakers);
        drops.assert_all_on(id, 31);
    }
}
