//! The values that are dropped with a task, when, and on which thread; and drops that panic, spawn and abort.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::thread;
use support::tasks::{Drops, Signal, poll, run};
use support::wakers::{leave, waker_fn};
use support::{drive, failures, settle};
use tidegate::{CloseReason, EventLoop, Handle};
use tidegate_streams::{JoinHandle, spawn, spawn_on, yield_now};

/// Runs a closure when dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn bomb() -> OnDrop<impl FnMut()> {
    OnDrop(|| panic!("the drop panicked on purpose"))
}

#[test]
fn a_loop_that_is_dropped_drops_every_future_once_and_cycles_are_gone() {
    // The loop has it as long as there is anything of the loop.
    let kept = Arc::new(());
    let held = kept.clone();
    let mut event_loop = EventLoop::builder()
        .resolver(move |_, _| {
            let _ = &held;
            Ok(Vec::new())
        })
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let (drops, alive) = (Drops::new(), Rc::new(()));
    let signal = Signal::new();
    let mut joins = Vec::new();
    for number in 0..60 {
        let (counted, alive, signal) = (drops.counted(), alive.clone(), signal.clone());
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let cycle = own.clone();
        let task = spawn_on(&handle, async move {
            let _held = (counted, alive, &cycle);
            match number % 3 {
                0 => signal.wait(1).await,
                1 => pending().await,
                _ => loop {
                    yield_now().await;
                },
            }
        });
        match number % 2 {
            // The task holds its own handle.
            0 => drop(own.replace(Some(task))),
            _ => joins.push(task),
        }
        if number == 30 {
            event_loop.run_once(None).unwrap();
            event_loop.run_once(None).unwrap();
        }
    }
    drop(event_loop);
    drops.assert_all_on(thread::current().id(), 60);
    assert_eq!(Rc::strong_count(&alive), 1);
    for mut task in joins {
        assert!(task.is_finished());
        task.abort();
        let std::task::Poll::Ready(Err(error)) = poll(&mut task) else {
            panic!("a task of a loop that is gone has no answer");
        };
        assert!(error.is_cancelled());
    }
    signal.send();
    drop(handle);
    assert_eq!(Arc::strong_count(&kept), 1, "a cycle keeps the loop");
}

#[test]
fn a_spawn_on_a_loop_that_is_gone_answers_with_an_error_and_drops_the_future() {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    drop(event_loop);
    let drops = Drops::new();
    for count in 1..100 {
        let counted = drops.counted();
        let mut task = spawn_on(&handle, async move { drop(counted) });
        assert_eq!(drops.count(), count);
        assert!(task.is_finished());
        task.abort();
        let std::task::Poll::Ready(Err(error)) = poll(&mut task) else {
            panic!("no answer");
        };
        assert!(error.is_no_loop() && !error.is_cancelled());
    }
}

#[test]
fn a_drop_that_panics_at_the_abort_comes_out_of_the_join() {
    run("the aborted", async {
        for begun in [true, false] {
            let task = spawn(async {
                let _bomb = bomb();
                pending::<()>().await;
            });
            if begun {
                yield_now().await;
                yield_now().await;
            }
            task.abort();
            let error = task.await.unwrap_err();
            // One that never began has made no bomb.
            assert_eq!(error.is_panic(), begun);
            assert_eq!(error.is_cancelled(), !begun);
        }
    });
}

#[test]
fn a_drop_that_panics_at_the_end_of_a_future_comes_out_of_the_join() {
    struct ReadyWith<B>(B);
    impl<B> Future for ReadyWith<B> {
        type Output = OnDrop<fn()>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> std::task::Poll<Self::Output> {
            std::task::Poll::Ready(OnDrop(|| panic!("the value's drop panicked too")))
        }
    }
    run("the end", async {
        let after = spawn(yield_now());
        let error = spawn(ReadyWith(bomb())).await.err().unwrap();
        assert!(error.to_string().contains("the drop panicked"), "{error}");
        after.await.unwrap();
    });
}

#[test]
fn of_a_panic_in_a_poll_and_one_in_a_drop_the_first_is_reported() {
    struct Twice;
    impl Future for Twice {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> std::task::Poll<()> {
            panic!("the first")
        }
    }
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    run("the panic", async {
        let error = spawn(Twice).await.unwrap_err();
        assert_eq!(error.to_string(), "the task panicked: the first");
    });
}

#[test]
fn drops_that_panic_at_the_end_of_the_loop_harm_nobody() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let drops = Drops::new();
    for begun in [true, false] {
        for _ in 0..10 {
            let (bomb, counted) = (bomb(), drops.counted());
            drop(spawn_on(&handle, async move {
                let _held = (bomb, counted);
                pending::<()>().await;
            }));
        }
        if begun {
            settle(&mut event_loop);
        }
    }
    drop(event_loop);
    drops.assert_all_on(thread::current().id(), 20);
}

/// A task that is joined with a waker whose wake panics.
fn joined_with_a_panic(
    handle: &Handle,
    future: impl Future<Output = ()> + 'static,
) -> JoinHandle<()> {
    let mut join = spawn_on(handle, future);
    leave(
        &mut join,
        &waker_fn(|| panic!("the waker panicked on purpose")),
    );
    join
}

#[test]
fn a_waker_of_a_join_that_panics_at_the_end_of_the_loop_keeps_no_other_task() {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let drops = Drops::new();
    let joins: Vec<_> = (0..3)
        .map(|_| {
            let counted = drops.counted();
            joined_with_a_panic(&handle, async move {
                let _held = counted;
                pending().await
            })
        })
        .collect();
    drop(event_loop);
    drops.assert_all_on(thread::current().id(), 3);
    assert!(joins.iter().all(JoinHandle::is_finished));
    assert!(spawn_on(&handle, async {}).is_finished(), "not closed");
}

#[test]
fn a_waker_of_a_join_that_panics_when_a_task_ends_harms_nobody() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let failed = failures(&handle);
    let mut join = joined_with_a_panic(&handle, async {});
    let other = Rc::new(Cell::new(false));
    let ran = other.clone();
    spawn_on(&handle, async move { ran.set(true) });
    drive(&mut event_loop, "the other task", || other.get());
    assert!(matches!(poll(&mut join), std::task::Poll::Ready(Ok(()))));
    assert_eq!(failed.borrow().len(), 0, "it goes to the log");
}

#[test]
fn a_value_that_nobody_joins_and_whose_drop_panics_is_reported() {
    for early in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let reported = failures(&handle);
        let task = spawn_on(&handle, async { bomb() });
        if !early {
            drive(&mut event_loop, "the end", || task.is_finished());
        }
        drop(task);
        settle(&mut event_loop);
        let reported = reported.take();
        assert_eq!(reported.len(), 1);
        assert!(
            matches!(reported[0].reason(), CloseReason::Panic(text) if text.contains("purpose"))
        );
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_is_reported_too() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("the payload's drop panicked on purpose");
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let reported = failures(event_loop.handle());
    drop(spawn_on(event_loop.handle(), async {
        std::panic::panic_any(Payload);
    }));
    settle(&mut event_loop);
    assert_eq!(reported.take().len(), 1);
}

#[test]
fn a_drop_may_spawn_and_abort_when_its_task_is_aborted() {
    run("what the drop began", async {
        let signal = Signal::new();
        let (victim_drops, tells) = (Drops::new(), signal.clone());
        let counted = victim_drops.counted();
        let victim = spawn(async move {
            let _counted = counted;
            pending::<()>().await;
        });
        let victim = Rc::new(victim);
        let (known, own) = (
            victim.clone(),
            Rc::<RefCell<Option<JoinHandle<()>>>>::default(),
        );
        let mine = own.clone();
        let task = spawn(async move {
            let _on_drop = OnDrop(move || {
                known.abort();
                mine.borrow().as_ref().unwrap().abort();
                let tells = tells.clone();
                drop(spawn(async move { tells.send() }));
            });
            pending::<()>().await;
        });
        yield_now().await;
        yield_now().await;
        own.replace(Some(task));
        own.borrow().as_ref().unwrap().abort();
        signal.wait(1).await;
        while !victim.is_finished() {
            yield_now().await;
        }
        assert!(own.borrow().as_ref().unwrap().is_finished());
        assert_eq!(victim_drops.count(), 1);
    });
}

#[test]
fn a_spawn_by_a_drop_at_the_end_of_the_loop_is_refused_and_all_drop_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (drops, refused) = (Drops::new(), Rc::new(Cell::new(0)));
    for _ in 0..10 {
        let (handle, refused, drops) = (handle.clone(), refused.clone(), drops.clone());
        drop(spawn_on(&handle.clone(), async move {
            let _counted = drops.counted();
            let _on_drop = OnDrop(move || {
                for handle in [Some(handle.clone()), Handle::current()].iter().flatten() {
                    let counted = drops.counted();
                    let mut task = spawn_on(handle, async move { drop(counted) });
                    if matches!(poll(&mut task), std::task::Poll::Ready(Err(error)) if error.is_no_loop())
                    {
                        refused.set(refused.get() + 1);
                    }
                }
            });
            pending::<()>().await;
        }));
    }
    settle(&mut event_loop);
    drop(event_loop);
    assert!(refused.get() >= 10);
    drops.assert_all_on(thread::current().id(), 10 + refused.get());
}

/// A chain of tasks of which each joins the one before; the first never ends by itself.
fn chain(handle: &Handle, length: usize, drops: &Drops) -> (JoinHandle<()>, Signal) {
    let signal = Signal::new();
    let waits = signal.clone();
    let mut last = spawn_on(handle, async move { waits.wait(1).await });
    for _ in 0..length {
        let counted = drops.counted();
        last = spawn_on(handle, async move {
            let _counted = counted;
            // An abort of the one before is no reason to go on: this one is to be dropped.
            if last.await.is_err() {
                pending::<()>().await;
            }
        });
    }
    (last, signal)
}

const CHAIN: usize = 50_000;

#[test]
fn a_long_chain_of_joins_ends_one_after_the_other() {
    let mut event_loop = EventLoop::new().unwrap();
    let drops = Drops::new();
    let (last, signal) = chain(event_loop.handle(), CHAIN, &drops);
    settle(&mut event_loop);
    signal.send();
    while !last.is_finished() {
        event_loop.run_once(None).unwrap();
    }
    drops.assert_all_on(thread::current().id(), CHAIN);
}

#[test]
fn a_long_chain_of_joins_does_not_fill_the_stack_at_the_end_of_the_loop() {
    // Threads of tests have a small stack.
    let mut event_loop = EventLoop::new().unwrap();
    let drops = Drops::new();
    let (last, _signal) = chain(event_loop.handle(), CHAIN, &drops);
    settle(&mut event_loop);
    drop(event_loop);
    drops.assert_all_on(thread::current().id(), CHAIN);
    assert!(last.is_finished());
}

#[test]
fn two_loops_of_a_thread_have_their_own_tasks() {
    let (mut one, mut two) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
    let (of_one, of_two) = (Drops::new(), Drops::new());
    let signal = Signal::new();
    let (waits, counted) = (signal.clone(), of_one.counted());
    let first = spawn_on(one.handle(), async move {
        let _counted = counted;
        waits.wait(1).await;
        Handle::current()
    });
    let counted = of_two.counted();
    let joins = spawn_on(two.handle(), async move {
        let _counted = counted;
        (first.await.unwrap(), Handle::current())
    });
    settle(&mut one);
    settle(&mut two);
    signal.send();
    settle(&mut two);
    assert!(!joins.is_finished(), "the first loop did not run");
    settle(&mut one);
    assert_eq!(of_one.count(), 1);
    let mut joins = joins;
    drive(&mut two, "the join", || joins.is_finished());
    let std::task::Poll::Ready(Ok((first, second))) = poll(&mut joins) else {
        panic!("no answer");
    };
    assert_eq!(first.as_ref(), Some(one.handle()));
    assert_eq!(second.as_ref(), Some(two.handle()));
    drop(one);
    let mut late = spawn_on(two.handle(), async { 1 });
    drive(&mut two, "the late one", || late.is_finished());
    assert!(matches!(poll(&mut late), std::task::Poll::Ready(Ok(1))));
    assert_eq!(of_two.count(), 1);
}
