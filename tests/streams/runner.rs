//! A future that is run to its end on a loop of its own, and what becomes of the rest.

use log::{Level, LevelFilter};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use support::logs::{Line, keep_log, logged};
use support::tasks::{Drops, Signal, poll, run};
use support::{BOUND, Kind, Log, Recorder, TempDir, drive, each_kind, no_limits};
use tidegate::{Address, EventLoop, Handle, ListenOptions, PanicPolicy};
use tidegate_streams::{
    Runner, block_on, open_connection, sleep, spawn, spawn_on, start_server, yield_now,
};

/// How many warnings name this number of bytes.
fn warnings_of(bytes: usize) -> usize {
    let number = format!(" {bytes} bytes");
    let named = |line: &&Line| line.level == Level::Warn && line.text.contains(&number);
    logged().iter().filter(named).count()
}

/// Reads to the end on a thread of its own, when told to begin; gives the number of bytes.
fn reader(address: Address) -> (mpsc::Sender<()>, thread::JoinHandle<usize>) {
    fn read(mut stream: impl Read, begin: &mpsc::Receiver<()>) -> usize {
        begin.recv_timeout(BOUND).unwrap();
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            Ok(read) => read,
            // Cut.
            Err(_) => all.len(),
        }
    }
    let (begin, told) = mpsc::channel();
    let thread = thread::spawn(move || match address {
        Address::Unix(path) => read(UnixStream::connect(path).unwrap(), &told),
        Address::Inet(address) => read(TcpStream::connect(address).unwrap(), &told),
        other => panic!("{other:?}"),
    });
    (begin, thread)
}

#[test]
fn the_value_of_the_future_is_the_answer() {
    let value = Rc::new(7);
    let same = value.clone();
    let answer = block_on(async move { same }).unwrap();
    assert!(Rc::ptr_eq(&answer, &value));
    assert_eq!(Rc::strong_count(&value), 2);
    let error: Result<(), &str> = block_on(async { Err("its own") }).unwrap();
    assert_eq!(error, Err("its own"));
    assert!(Handle::current().is_none());
}

#[test]
fn a_panic_of_the_future_goes_on_here_when_the_tasks_are_dropped() {
    let drops = Drops::new();
    let counted = drops.counted();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        block_on(async move {
            drop(spawn(async move {
                let _counted = counted;
                pending::<()>().await;
            }));
            yield_now().await;
            yield_now().await;
            std::panic::panic_any(17_u8);
        })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&17_u8));
    assert_eq!(drops.count(), 1);
    assert!(Handle::current().is_none());
    assert_eq!(block_on(async { 1 }).unwrap(), 1);
}

#[test]
fn a_loop_that_is_stopped_answers_with_an_error_and_drops_the_future() {
    let drops = Drops::new();
    let counted = drops.counted();
    let error = block_on(async move {
        let _counted = counted;
        Handle::current().unwrap().stop();
        pending::<()>().await;
    })
    .unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
    drops.assert_all_on(thread::current().id(), 1);
}

#[test]
fn a_panic_that_the_loop_lets_through_drops_the_tasks_too() {
    let drops = Drops::new();
    let counted = drops.counted();
    let builder = EventLoop::builder().panic_policy(PanicPolicy::Propagate);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        Runner::new().event_loop(builder).run(async move {
            let _counted = counted;
            let handle = Handle::current().unwrap();
            // One of a task comes out of its join alone.
            assert!(spawn(async { panic!("joined") }).await.is_err());
            handle.call_soon(|_| panic!("of a callback"));
            pending::<()>().await;
        })
    }));
    let payload = panic.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"of a callback"));
    drops.assert_all_on(thread::current().id(), 1);
}

#[test]
fn tasks_that_are_left_at_the_end_are_dropped_on_the_thread() {
    let drops = Drops::new();
    let (counts, kept) = (drops.clone(), Rc::<RefCell<Vec<_>>>::default());
    let joins = kept.clone();
    block_on(async move {
        for number in 0..30 {
            let counted = counts.counted();
            joins.borrow_mut().push(spawn(async move {
                let _counted = counted;
                match number % 3 {
                    0 => pending().await,
                    1 => sleep(BOUND).await,
                    _ => loop {
                        yield_now().await;
                    },
                }
            }));
        }
    })
    .unwrap();
    drops.assert_all_on(thread::current().id(), 30);
    for mut task in kept.take() {
        assert!(matches!(poll(&mut task), Poll::Ready(Err(error)) if error.is_cancelled()));
    }
}

each_kind!(graceful_closes_under_way_have_time_to_end_and_nobody_waits_longer);
fn graceful_closes_under_way_have_time_to_end_and_nobody_waits_longer(kind: Kind) {
    keep_log(LevelFilter::Warn);
    let dir = TempDir::new();
    let address = kind.somewhere(&dir);
    let limits = no_limits();
    let options = ListenOptions::new(address).write_limits(limits);
    let total = 8 * 1024 * 1024 + 1;
    let begun = Instant::now();
    let readers = Runner::new()
        .close_grace(BOUND)
        .run(async move {
            let written = Signal::new();
            let tells = written.clone();
            let server = start_server(options, async move |_reader, writer| {
                writer.write(&vec![1; total])?;
                tells.send();
                // It ends with the loop, and the writer with it.
                pending::<()>().await;
                Ok(())
            })
            .unwrap();
            let readers: Vec<_> = (0..3)
                .map(|_| reader(server.local_addrs()[0].clone()))
                .collect();
            written.wait(3).await;
            for (begin, _) in &readers {
                begin.send(()).unwrap();
            }
            readers
        })
        .unwrap();
    for (_, thread) in readers {
        assert_eq!(thread.join().unwrap(), total);
    }
    assert!(begun.elapsed() < BOUND, "it waited although all was sent");
    assert_eq!(warnings_of(total), 0);
}

/// Ends with a peer that does not read; returns the time and the unsent bytes.
fn end_beside_a_stalled_peer(kind: Kind, runner: Runner) -> (Duration, usize) {
    keep_log(LevelFilter::Warn);
    let dir = TempDir::new();
    let limits = no_limits();
    let options = ListenOptions::new(kind.somewhere(&dir)).write_limits(limits);
    let (unsent, begin, thread, begun) = runner
        .run(async move {
            let (written, unsent) = (Signal::new(), Rc::new(Cell::new(0)));
            let (tells, buffered) = (written.clone(), unsent.clone());
            let server = start_server(options, async move |_reader, writer| {
                while writer.transport().write_buffer_size() < 1024 * 1024 {
                    writer.write(&[1; 64 * 1024])?;
                    yield_now().await;
                }
                writer.close().detach();
                buffered.set(writer.transport().write_buffer_size());
                tells.send();
                Ok(())
            })
            .unwrap();
            let (begin, thread) = reader(server.local_addrs()[0].clone());
            written.wait(1).await;
            (unsent.get(), begin, thread, Instant::now())
        })
        .unwrap();
    let took = begun.elapsed();
    begin.send(()).unwrap();
    thread.join().unwrap();
    (took, unsent)
}

each_kind!(bytes_that_a_stalled_peer_did_not_take_in_time_are_lost_and_logged);
fn bytes_that_a_stalled_peer_did_not_take_in_time_are_lost_and_logged(kind: Kind) {
    // A second unless set.
    let (took, unsent) = end_beside_a_stalled_peer(kind, Runner::new());
    assert!((Duration::from_secs(1)..BOUND).contains(&took), "{took:?}");
    assert!(warnings_of(unsent) >= 1, "{unsent}");
    let grace = Duration::from_millis(1500);
    let runner = Runner::new().close_grace(grace);
    let (took, unsent) = end_beside_a_stalled_peer(kind, runner);
    assert!((grace..BOUND).contains(&took), "{took:?}");
    assert!(warnings_of(unsent) >= 1, "{unsent}");
    // None at all.
    let runner = Runner::new().close_grace(Duration::ZERO);
    let (took, unsent) = end_beside_a_stalled_peer(kind, runner);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(warnings_of(unsent) >= 1, "{unsent}");
}

#[test]
fn a_run_within_a_task_has_a_loop_of_its_own_and_the_outer_one_goes_on() {
    run("the outer task", async {
        let outer = Handle::current().unwrap();
        let (signal, done) = (Signal::new(), Signal::new());
        let (waits, tells) = (signal.clone(), done.clone());
        drop(spawn(async move {
            waits.wait(1).await;
            tells.send();
        }));
        yield_now().await;
        let known = outer.clone();
        let [task] = block_on(async move {
            let inner = Handle::current().unwrap();
            assert_ne!(inner, known);
            // Wakes and spawns from in here belong to the outer loop still.
            signal.send();
            let task = spawn_on(&known, async { Handle::current() });
            sleep(Duration::from_millis(1)).await;
            assert!(spawn(async { Handle::current() }).await.unwrap().as_ref() == Some(&inner));
            assert!(!task.is_finished());
            [task]
        })
        .unwrap();
        assert_eq!(Handle::current().as_ref(), Some(&outer));
        assert_eq!(task.await.unwrap().as_ref(), Some(&outer));
        done.wait(1).await;
    });
}

#[test]
fn a_panic_in_a_run_within_a_task_is_the_panic_of_that_task() {
    run("the join", async {
        let error = spawn(async {
            block_on(async { panic!("inside") }).unwrap();
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "the task panicked: inside");
        sleep(Duration::ZERO).await;
    });
}

#[test]
fn runs_may_be_nested_deeply() {
    fn nested(depth: usize) -> usize {
        block_on(async move {
            yield_now().await;
            let inner = if depth == 0 { 0 } else { nested(depth - 1) };
            spawn(async move { inner + 1 }).await.unwrap()
        })
        .unwrap()
    }
    assert_eq!(nested(20), 21);
}

#[test]
fn what_is_spawned_before_a_loop_runs_begins_with_its_first_tick() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let begun = Rc::new(Cell::new(false));
    let seen = begun.clone();
    let task = spawn_on(&handle, async move {
        seen.set(true);
        assert!(Handle::current().is_some());
        spawn(sleep(Duration::ZERO)).await.unwrap();
    });
    assert!(!begun.get());
    event_loop.run_once(Some(BOUND)).unwrap();
    assert!(begun.get());
    drive(&mut event_loop, "the task", || task.is_finished());
}

#[test]
fn where_no_loop_runs_everything_answers_with_an_error() {
    let drops = Drops::new();
    let counted = drops.counted();
    let mut task = spawn(async move { drop(counted) });
    assert_eq!(drops.count(), 1, "the future is dropped");
    assert!(task.is_finished());
    task.abort();
    let Poll::Ready(Err(error)) = poll(&mut task) else {
        panic!("no answer");
    };
    assert!(error.is_no_loop() && !error.is_cancelled() && !error.is_panic());
    assert_eq!(error.to_string(), "no event loop is running on this thread");
    assert!(std::io::Error::from(error).get_ref().is_some());
    let mut open = Box::pin(open_connection("127.0.0.1:1"));
    assert!(matches!(poll(&mut open), Poll::Ready(Err(_))));
    assert!(start_server("127.0.0.1:0", async |_, _| Ok(())).is_err());

    // A loop that is there but does not run is not asked.
    let mut event_loop = EventLoop::new().unwrap();
    let known = spawn_on(event_loop.handle(), async {});
    let mut task = spawn(async {});
    assert!(matches!(poll(&mut task), Poll::Ready(Err(error)) if error.is_no_loop()));
    drive(&mut event_loop, "the task", || known.is_finished());
}

each_kind!(callbacks_and_tasks_that_are_still_at_work_do_not_delay_the_end);
fn callbacks_and_tasks_that_are_still_at_work_do_not_delay_the_end(kind: Kind) {
    let dir = TempDir::new();
    let address = kind.somewhere(&dir);
    let begun = Instant::now();
    let log = Log::new();
    let made = log.clone();
    Runner::new()
        .close_grace(BOUND)
        .run(async move {
            let handle = Handle::current().unwrap();
            let server = handle.create_server(address, move || Recorder::echo(&made));
            let server = server.unwrap();
            let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await.unwrap();
            writer.write(b"x").unwrap();
            assert_eq!(&reader.read_chunk(1).await.unwrap()[..], b"x");
            handle.call_later(2 * BOUND, |_| {});
            spawn(sleep(2 * BOUND));
        })
        .unwrap();
    assert!(begun.elapsed() < BOUND);
    assert!(log.is_lost());
}

#[test]
fn what_is_spawned_while_connections_are_being_closed_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let ran = Rc::new(Cell::new(false));
    let (refused, begins) = (Rc::new(Cell::new(None)), ran.clone());
    let answer = refused.clone();
    Runner::new()
        .close_grace(Duration::from_millis(300))
        .run(async move {
            // Its peer takes nothing, so the closing lasts.
            let (_reader, writer) = open_connection(addr).await.unwrap();
            writer.write(&vec![1; 32 * 1024 * 1024]).unwrap();
            let handle = Handle::current().unwrap();
            handle.call_later(Duration::from_millis(20), move |handle| {
                let task = spawn_on(handle, async move { begins.set(true) });
                answer.set(Some(task.is_finished()));
            });
        })
        .unwrap();
    assert_eq!(refused.get(), Some(true));
    assert!(!ran.get());
}
