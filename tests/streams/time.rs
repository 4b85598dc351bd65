//! Waiting for time: exact by a clock that is set by hand, and never early by the real one.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use support::tasks::{Drops, Signal, poll, run};
use tidegate::Handle;
use tidegate_streams::{
    Elapsed, JoinHandle, Sleep, block_on, sleep, sleep_until, spawn, spawn_on, timeout, timeout_at,
    yield_now,
};
use tidegate_testkit::{Host, World};

const NS: Duration = Duration::from_nanos(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A loop in a world whose clock moves when the test says so.
struct Virtual {
    world: World,
    host: Host,
}

impl Virtual {
    fn new() -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        Self { world, host }
    }

    fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        spawn_on(self.host.handle(), future)
    }

    /// Runs ticks until nothing is left to do at this time.
    fn ticks(&mut self) {
        self.world.pump().unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.world.advance(time).unwrap();
    }

    /// It is over after this time, and not a nanosecond before.
    #[track_caller]
    fn assert_ends_after<T>(&mut self, task: &JoinHandle<T>, time: Duration) {
        self.ticks();
        assert!(!task.is_finished(), "at once");
        self.pass(time - NS);
        assert!(!task.is_finished(), "a nanosecond early");
        self.pass(NS);
        assert!(task.is_finished(), "late");
        assert_eq!(self.timers(), 0);
    }

    fn timers(&self) -> usize {
        self.host.handle().stats().timers
    }
}

/// Returns the value of a finished task.
#[track_caller]
fn result<T>(mut task: JoinHandle<T>) -> T {
    match poll(&mut task) {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("not finished"),
    }
}

#[test]
fn a_sleep_ends_at_its_time_to_the_nanosecond() {
    for time in [NS, Duration::from_millis(1), HOUR] {
        let mut virt = Virtual::new();
        let task = virt.spawn(async move { sleep(time).await });
        virt.assert_ends_after(&task, time);
        let task = virt.spawn(async move {
            sleep_until(Handle::current().unwrap().now() + time).await;
        });
        virt.assert_ends_after(&task, time);
    }
}

#[test]
fn a_sleep_counts_from_the_call_that_made_it() {
    let mut virt = Virtual::new();
    let signal = Signal::new();
    let waits = signal.clone();
    let task = virt.spawn(async move {
        let (first, second) = (sleep(2 * HOUR), sleep(HOUR));
        waits.wait(1).await;
        second.await;
        first.await;
    });
    virt.ticks();
    virt.pass(HOUR);
    assert_eq!(virt.timers(), 1);
    signal.send();
    virt.assert_ends_after(&task, HOUR);
}

#[test]
fn sleeps_end_in_the_order_of_their_times_and_then_of_their_calls() {
    let mut virt = Virtual::new();
    let order: Rc<RefCell<Vec<_>>> = Rc::default();
    for (number, hours) in [(0, 3), (1, 1), (2, 2), (3, 1)] {
        let order = order.clone();
        drop(virt.spawn(async move {
            sleep(HOUR * hours).await;
            order.borrow_mut().push(number);
        }));
    }
    virt.ticks();
    virt.pass(4 * HOUR);
    assert_eq!(order.take(), [1, 3, 2, 0]);
}

#[test]
fn a_time_that_is_past_lets_the_others_run_first() {
    let mut virt = Virtual::new();
    for zero in [true, false] {
        let other = Rc::new(Cell::new(false));
        let seen = other.clone();
        let task = virt.spawn(async move {
            match zero {
                true => sleep(Duration::ZERO).await,
                false => sleep_until(Handle::current().unwrap().now() - NS).await,
            }
            seen.get()
        });
        let runs = virt.spawn(async move { other.set(true) });
        virt.ticks();
        assert!(runs.is_finished());
        assert!(result(task), "it did not wait at all");
    }
}

#[test]
fn a_time_that_the_clock_cannot_say_never_comes() {
    let mut virt = Virtual::new();
    let task = virt.spawn(async { sleep(Duration::MAX).await });
    let limited = virt.spawn(timeout(Duration::MAX, sleep(Duration::MAX)));
    virt.ticks();
    virt.pass(10_000 * HOUR);
    assert!(!task.is_finished() && !limited.is_finished());
}

#[test]
fn a_sleep_that_is_dropped_leaves_no_timer() {
    let mut virt = Virtual::new();
    let task = virt.spawn(async {
        drop(sleep(HOUR));
        let mut polled = sleep(HOUR);
        assert!(poll(&mut polled).is_pending());
        drop(polled);
        timeout(HOUR, yield_now()).await.unwrap();
        sleep(HOUR).await;
    });
    virt.ticks();
    assert_eq!(virt.timers(), 1);
    task.abort();
    virt.ticks();
    assert_eq!(virt.timers(), 0);
}

#[test]
fn a_sleep_that_two_tasks_poll_wakes_the_last_one_and_stays_over() {
    let mut virt = Virtual::new();
    let shared = Rc::new(RefCell::new(None));
    let wait = |shared: Rc<RefCell<Option<Sleep>>>| {
        std::future::poll_fn(move |context| {
            let mut made = shared.borrow_mut();
            Pin::new(made.get_or_insert_with(|| sleep(HOUR))).poll(context)
        })
    };
    let first = virt.spawn(wait(shared.clone()));
    virt.ticks();
    let second = virt.spawn(wait(shared.clone()));
    virt.assert_ends_after(&second, HOUR);
    assert!(!first.is_finished());
    let third = virt.spawn(wait(shared));
    virt.ticks();
    assert!(third.is_finished());
}

#[test]
fn a_timeout_answers_exactly_at_its_time_and_drops_the_future_first() {
    for at in [true, false] {
        let mut virt = Virtual::new();
        let drops = Drops::new();
        let (counted, counts) = (drops.counted(), drops.clone());
        let task = virt.spawn(async move {
            let never = async move {
                let _counted = counted;
                pending::<()>().await;
            };
            let answer = match at {
                true => timeout_at(Handle::current().unwrap().now() + HOUR, never).await,
                false => timeout(HOUR, never).await,
            };
            (answer, counts.count())
        });
        virt.assert_ends_after(&task, HOUR);
        let (answer, dropped) = result(task);
        let elapsed: Elapsed = answer.unwrap_err();
        assert!(!elapsed.is_no_loop());
        assert_eq!(io::Error::from(elapsed).kind(), io::ErrorKind::TimedOut);
        assert_eq!(dropped, 1);
    }
}

#[test]
fn a_timeout_gives_what_comes_in_time_and_leaves_no_timer() {
    let mut virt = Virtual::new();
    let task = virt.spawn(timeout(2 * HOUR, async {
        sleep(HOUR).await;
        1
    }));
    virt.assert_ends_after(&task, HOUR);
    assert_eq!(result(task), Ok(1));
    // At one time, the future is asked first.
    let task = virt.spawn(async { timeout(HOUR, sleep(HOUR)).await });
    virt.ticks();
    virt.pass(HOUR);
    assert_eq!(result(task), Ok(()));
}

#[test]
fn a_future_that_is_ready_at_once_wins_over_a_time_that_is_past() {
    let mut virt = Virtual::new();
    let past = virt.host.handle().now() - HOUR;
    let ready_at_once = virt.spawn(async move {
        assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
        assert_eq!(timeout_at(past, ready(2)).await, Ok(2));
        assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
        assert!(timeout_at(past, pending::<()>()).await.is_err());
    });
    virt.ticks();
    result(ready_at_once);
}

#[test]
fn a_timeout_of_a_future_that_is_ready_makes_no_timer() {
    let mut world = Virtual::new();
    let timers = world.host.handle().clone();
    let seen = world.spawn(async move {
        let later = Instant::now() + HOUR;
        let mut seen = Vec::new();
        // A future that looks at the timers in the poll in which it is ready.
        let look = || async { timers.stats().timers };
        seen.push(timeout(HOUR, look()).await.unwrap());
        seen.push(timeout_at(later, look()).await.unwrap());
        // A timeout whose future has to wait has its timer until then.
        let waits = async {
            yield_now().await;
            timers.stats().timers
        };
        seen.push(timeout(HOUR, waits).await.unwrap());
        seen.push(timers.stats().timers);
        seen
    });
    world.ticks();
    assert_eq!(result(seen), [0, 0, 1, 0]);
}

#[test]
fn of_nested_timeouts_the_shorter_one_answers() {
    let mut virt = Virtual::new();
    let inner = virt.spawn(timeout(2 * HOUR, timeout(HOUR, pending::<()>())));
    virt.assert_ends_after(&inner, HOUR);
    assert!(matches!(result(inner), Ok(Err(_))));
    let outer = virt.spawn(timeout(HOUR, timeout(2 * HOUR, pending::<()>())));
    virt.assert_ends_after(&outer, HOUR);
    assert!(result(outer).is_err());
}

#[test]
fn a_timeout_that_is_dropped_leaves_no_timer_and_drops_its_future() {
    let mut virt = Virtual::new();
    let drops = Drops::new();
    let counted = drops.counted();
    let task = virt.spawn(timeout(HOUR, async move {
        let _counted = counted;
        pending::<()>().await;
    }));
    virt.ticks();
    task.abort();
    virt.ticks();
    assert_eq!((virt.timers(), drops.count()), (0, 1));
}

#[test]
fn a_panic_under_a_timeout_is_the_panic_of_its_task() {
    let mut virt = Virtual::new();
    let mut task = virt.spawn(timeout(HOUR, async { panic!("on purpose") }));
    virt.ticks();
    assert!(matches!(poll(&mut task), Poll::Ready(Err(error)) if error.is_panic()));
    assert_eq!(virt.timers(), 0);
}

#[test]
fn each_yield_takes_one_tick_of_the_loop_in_which_the_others_run() {
    run("three yields", async {
        let handle = Handle::current().unwrap();
        let other = Rc::new(Cell::new(0));
        let counts = other.clone();
        drop(spawn(async move {
            loop {
                counts.set(counts.get() + 1);
                yield_now().await;
            }
        }));
        yield_now().await;
        let (polls, runs) = (handle.stats().polls, other.get());
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(handle.stats().polls - polls, 10);
        assert_eq!(other.get() - runs, 10);
    });
}

#[test]
fn a_sleep_may_be_made_before_its_loop_runs_and_still_counts_from_then() {
    let begun = Instant::now();
    let time = Duration::from_millis(20);
    block_on(sleep(time)).unwrap();
    assert!(begun.elapsed() >= time);
    // This one is over when the loop begins.
    let early = sleep_until(Instant::now());
    block_on(early).unwrap();
    let mut virt = Virtual::new();
    let never = sleep(Duration::MAX);
    let task = virt.spawn(never);
    virt.ticks();
    virt.pass(HOUR);
    assert!(!task.is_finished());
}

#[test]
fn the_real_clock_never_ends_a_sleep_early() {
    run("the sleeps", async {
        let sleeps: Vec<_> = (0..20)
            .map(|ms| {
                spawn(async move {
                    let (begun, time) = (Instant::now(), Duration::from_micros(ms * 777));
                    sleep(time).await;
                    assert!(begun.elapsed() >= time);
                    let (begun, now) = (Instant::now(), Handle::current().unwrap().now());
                    assert!(timeout_at(now + time, pending::<()>()).await.is_err());
                    assert!(now + time <= Instant::now() && begun.elapsed() <= support::BOUND);
                })
            })
            .collect();
        for sleep in sleeps {
            sleep.await.unwrap();
        }
    });
}

#[test]
fn without_a_loop_a_timeout_returns_an_error_unless_the_future_is_ready() {
    let mut limited = Box::pin(timeout(Duration::ZERO, ready(1)));
    assert_eq!(poll(&mut limited), Poll::Ready(Ok(1)));
    let drops = Drops::new();
    let counted = drops.counted();
    let mut limited = Box::pin(timeout_at(Instant::now() + HOUR, async move {
        let _counted = counted;
        pending::<()>().await;
    }));
    let Poll::Ready(Err(elapsed)) = poll(&mut limited) else {
        panic!("nothing could ever end it");
    };
    assert!(elapsed.is_no_loop());
    assert_eq!(io::Error::from(elapsed).kind(), io::ErrorKind::Other);
    assert_eq!(drops.count(), 1);
    assert!(poll(&mut sleep(Duration::ZERO)).is_pending());
}
