//! Counts the allocated bytes of the process.
//!
//! A loop gives back the memory that a burst took, also when something of the burst is left.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use support::{Kind, Log, Recorder, adopted, drive, never_paused, settle, stall, that_fit};
use tidegate::{EventLoop, Handle, Protocol};
use tidegate_streams::{JoinHandle, spawn_on};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const COUNT: usize = 200_000;

/// The least that the lists of a burst take: a pointer for each part of it.
const PEAK: isize = 8 * COUNT as isize;

/// Most of it is what lists keep while they are empty, 1,024 places of 16 to 40 bytes each.
const LEFT: isize = 256 * 1024;

/// Bytes that are allocated now.
fn held() -> isize {
    let stats = ALLOCATOR.stats();
    // A reallocation that grows counts as allocated, one that shrinks as deallocated.
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Fails unless most of what a burst took since `before` is given back.
#[track_caller]
fn assert_given_back(what: &str, before: isize, peak: isize) {
    let left = held() - before;
    println!("{what}: {peak} bytes at the peak, {left} left");
    assert!(peak > PEAK, "{what}: only {peak} bytes at the peak");
    assert!(left < LEFT, "{what}: {left} bytes are left of {peak}");
}

const HOUR: Duration = Duration::from_secs(3600);

fn timers(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    let before = held();
    let timers: Vec<_> = (0..COUNT)
        .map(|_| handle.call_later(HOUR, |_| {}))
        .collect();
    let peak = held() - before;
    timers.iter().for_each(|timer| timer.cancel());
    drop(timers);
    settle(event_loop);
    assert_given_back("cancelled timers", before, peak);

    // One that began at the very end is left, and still known by its handle.
    let before = held();
    let ran = Rc::new(Cell::new(0));
    for _ in 0..COUNT {
        let ran = ran.clone();
        handle.call_later(Duration::ZERO, move |_| ran.set(ran.get() + 1));
    }
    let last = handle.call_later(HOUR, |_| panic!("it was cancelled"));
    let peak = held() - before;
    drive(event_loop, "the timers", || ran.get() == COUNT);
    settle(event_loop);
    assert_given_back("timers that fired", before, peak);
    assert_eq!(handle.stats().timers, 1);
    last.cancel();
    assert_eq!(handle.stats().timers, 0);
    settle(event_loop);
}

fn callbacks(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    let before = held();
    (0..COUNT).for_each(|_| drop(handle.call_soon(|_| {})));
    let peak = held() - before;
    settle(event_loop);
    assert_given_back("call_soon", before, peak);

    let before = held();
    let remote = handle.remote();
    let calls = move || (0..COUNT).for_each(|_| remote.call_soon_threadsafe(|_| {}).unwrap());
    thread::spawn(calls).join().unwrap();
    let peak = held() - before;
    settle(event_loop);
    assert_given_back("call_soon_threadsafe", before, peak);

    let before = held();
    let callbacks: Vec<_> = (0..COUNT).map(|_| handle.callback(|_| {})).collect();
    callbacks.iter().for_each(|callback| callback.schedule());
    let peak = held() - before;
    settle(event_loop);
    drop(callbacks);
    settle(event_loop);
    assert_given_back("callback", before, peak);

    // Cancelled closures wait for the end of the tick.
    let before = held();
    let held_back = Rc::new(Cell::new(0));
    let peak = held_back.clone();
    handle.call_soon(move |handle| {
        let calls: Vec<_> = (0..COUNT).map(|_| handle.call_soon(|_| {})).collect();
        calls.iter().for_each(|call| call.cancel());
        peak.set(held() - before);
    });
    settle(event_loop);
    assert_given_back("cancelled call_soon", before, held_back.get());
}

fn completions(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    let live = handle.completion::<()>();
    let before = held();
    let pairs: Vec<_> = (0..COUNT).map(|_| handle.completion::<()>()).collect();
    let peak = held() - before;
    drop(pairs);
    assert_given_back("dropped completions", before, peak);

    let before = held();
    let pairs: Vec<_> = (0..COUNT).map(|_| handle.completion()).collect();
    for (completer, completion) in pairs {
        completion.then(|_, _| {});
        completer.complete(Ok(()));
    }
    let peak = held() - before;
    settle(event_loop);
    assert_given_back("completions", before, peak);

    // They are completed while they are held, and dropped later.
    let before = held();
    let (completers, completions): (Vec<_>, Vec<_>) =
        (0..COUNT).map(|_| handle.completion()).unzip();
    completers
        .into_iter()
        .for_each(|pending| pending.complete(Ok(())));
    let peak = held() - before;
    drop(completions);
    assert_given_back("completions that were kept", before, peak);
    drop(live);
}

fn waiters(event_loop: &mut EventLoop) {
    // A bare socket at the other end, which keeps nothing of what it reads.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let transport = event_loop.handle().adopt(ours, Nothing).unwrap();
    stall(event_loop, never_paused(&transport), 1000);
    let before = held();
    let flushes: Vec<_> = (0..COUNT).map(|_| transport.flush()).collect();
    let peak = held() - before;
    drive(event_loop, "the flush", || {
        while theirs.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
        transport.write_buffer_size() == 0
    });
    drop(flushes);
    settle(event_loop);
    assert_given_back("flush", before, peak);
    transport.abort();
    settle(event_loop);
}

fn jobs(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    let before = held();
    let jobs: Vec<_> = (0..COUNT).map(|_| handle.run_in_executor(|| {})).collect();
    let peak = held() - before;
    drop(jobs);
    drive(event_loop, "no jobs", || handle.stats().jobs == 0);
    settle(event_loop);
    assert_given_back("jobs", before, peak);
}

struct Nothing;

impl Protocol for Nothing {}

fn connections(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    let count = that_fit(20_000, 2);
    let before = held();
    let open = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (handle.adopt(ours, Nothing).unwrap(), theirs)
    };
    let mut pairs: Vec<_> = (0..count).map(|_| open()).collect();
    settle(event_loop);
    let peak = held() - before;
    // Those that are left began in slots that are gone.
    let rest = pairs.split_off(count - 3);
    pairs.iter().for_each(|(transport, _)| transport.abort());
    drop(pairs);
    settle(event_loop);
    let left = held() - before;
    println!("{count} connections: {peak} bytes at the peak, {left} left");
    assert!(left < LEFT, "{left} bytes are left of {peak}");
    // They are found by their ids and by their events, beside new ones in the slots of others.
    let new: Vec<_> = (0..100).map(|_| open()).collect();
    settle(event_loop);
    assert_eq!(handle.stats().connections, 3 + new.len());
    for (transport, _) in rest.iter().chain(&new) {
        let found = handle.transport(transport.id()).unwrap();
        assert_eq!(found.id(), transport.id());
        assert!(!found.is_closing());
    }
    drop(rest);
    settle(event_loop);
    assert_eq!(handle.stats().connections, new.len());
    drop(new);
    settle(event_loop);
    assert_eq!(handle.stats().connections, 0);
}

/// Spawns tasks that wait until their wakers are used; the number that have ended.
fn spawn_waiting(
    handle: &Handle,
) -> (
    Vec<JoinHandle<()>>,
    Arc<Mutex<Vec<Waker>>>,
    Arc<AtomicUsize>,
) {
    let (wakers, ended) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicUsize::new(0)),
    );
    let spawn = |_| {
        let (wakers, ended) = (wakers.clone(), ended.clone());
        let mut waited = false;
        let wait = move |context: &mut Context<'_>| {
            if waited {
                ended.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(());
            }
            waited = true;
            wakers.lock().unwrap().push(context.waker().clone());
            Poll::Pending
        };
        spawn_on(handle, std::future::poll_fn(wait))
    };
    let tasks = (0..COUNT).map(spawn).collect();
    (tasks, wakers, ended)
}

fn tasks(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    let before = held();
    let (tasks, wakers, ended) = spawn_waiting(&handle);
    settle(event_loop);
    let peak = held() - before;
    let mut woken = std::mem::take(&mut *wakers.lock().unwrap());
    // Those that are left began in places that are gone.
    let late = woken.split_off(COUNT - 3);
    thread::spawn(move || woken.into_iter().for_each(Waker::wake))
        .join()
        .unwrap();
    drop(tasks);
    drive(event_loop, "most tasks", || {
        ended.load(Ordering::Relaxed) == COUNT - 3
    });
    settle(event_loop);
    assert_given_back("tasks", before, peak);
    late.into_iter().for_each(Waker::wake);
    drive(event_loop, "the others", || {
        ended.load(Ordering::Relaxed) == COUNT
    });
}

#[test]
fn the_memory_of_a_burst_is_given_back_whatever_it_was() {
    let mut event_loop = EventLoop::new().unwrap();
    // The loop gets the memory that it keeps.
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&log));
    settle(&mut event_loop);
    transport.abort();
    settle(&mut event_loop);
    let bursts = [
        timers,
        callbacks,
        completions,
        waiters,
        jobs,
        connections,
        tasks,
    ];
    for burst in bursts {
        burst(&mut event_loop);
    }
}
