//! Counts the allocations, the memory and the descriptors of the process.
//!
//! Very many tasks.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use support::tasks::{Drops, Signal, run};
use support::{Kind, TempDir, descriptors, resident, that_fit};
use tidegate::{EventLoop, Handle};
use tidegate_streams::{open_connection, spawn, spawn_on, start_server, yield_now};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now.
fn held() -> isize {
    let stats = ALLOCATOR.stats();
    // Bytes that a reallocation adds count as allocated, those that it takes away as deallocated.
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

const MIB: u64 = 1024 * 1024;

/// Spawns `total` in all, of which `wave` live at a time; a third each is joined, detached and
/// aborted.
async fn spawn_many(total: usize, wave: usize) {
    let (begun, live) = (Rc::new(Cell::new(0)), Rc::new(()));
    let aborted = Rc::new(Cell::new(0));
    for _ in 0..total / wave {
        let mut joins = Vec::new();
        for number in 0..wave {
            let (begun, live) = (begun.clone(), live.clone());
            let task = spawn(async move {
                begun.set(begun.get() + 1);
                yield_now().await;
                drop(live);
                number
            });
            match number % 3 {
                0 => joins.push((number, task)),
                1 => drop(task),
                _ => {
                    task.abort();
                    aborted.set(aborted.get() + 1);
                }
            }
        }
        for (number, task) in joins {
            assert_eq!(task.await.unwrap(), number);
        }
        while Rc::strong_count(&live) > 1 {
            yield_now().await;
        }
    }
    assert_eq!(begun.get() + aborted.get(), total / wave * wave);
}

fn a_million_spawns() {
    run("the first spawns", spawn_many(20_000, 10_000));
    let before = resident();
    run("a million spawns", spawn_many(1_000_000, 10_000));
    let after = resident();
    let grown = after.saturating_sub(before);
    println!("a million spawns: {before} bytes resident before, {after} after");
    // A single byte each would be one.
    assert!(grown < MIB, "{grown} bytes more after a million spawns");
}

/// The lists of a loop that once had very many tasks do not stay long.
fn many_at_once() {
    const TASKS: usize = 200_000;
    let mut event_loop = EventLoop::new().unwrap();
    let drops = Drops::new();
    let (before, resident_before) = (held(), resident());
    for _ in 0..4 {
        let (signal, counted) = (Signal::new(), Rc::new(drops.counted()));
        for _ in 0..TASKS {
            let (signal, counted) = (signal.clone(), counted.clone());
            drop(spawn_on(event_loop.handle(), async move {
                let _counted = counted;
                yield_now().await;
                drop(signal);
            }));
        }
        let peak = held() - before;
        while Rc::strong_count(&counted) > 1 {
            event_loop.run_once(None).unwrap();
        }
        println!("{TASKS} tasks at once: {peak} bytes");
        drop((signal, counted));
        let kept = held() - before;
        assert!(kept < 64 * 1024, "{kept} bytes stay of {TASKS} tasks");
        // The allocator may keep what it has, but uses it again.
        let grown = resident().saturating_sub(resident_before);
        assert!(grown < peak as u64 * 3 / 2, "{grown} bytes more");
    }
    drops.assert_all_on(thread::current().id(), 4);
}

fn a_connection_for_each_task() {
    for kind in Kind::ALL {
        let before = descriptors();
        // Both ends are here.
        let connections = that_fit(4000, 2);
        let dir = TempDir::new();
        let address = kind.somewhere(&dir);
        run("all conversations", async move {
            let served = Rc::new(Cell::new(0));
            let counts = served.clone();
            let server = start_server(address, async move |mut reader, writer| {
                while let Some(line) = next_line(&mut reader).await? {
                    writer.write_all(&line).await?;
                }
                counts.set(counts.get() + 1);
                Ok(())
            })
            .unwrap();
            let met = Signal::new();
            let tasks: Vec<_> = (0..connections)
                .map(|number| {
                    let (at, met) = (server.local_addrs()[0].clone(), met.clone());
                    spawn(async move {
                        let (mut reader, writer) = open_connection(at).await.unwrap();
                        for round in 0..3 {
                            let line = format!("{number} says {round}\n");
                            writer.write_all(line.as_bytes()).await.unwrap();
                            let answer = reader.read_line().await.unwrap();
                            assert_eq!(&answer[..], line.as_bytes());
                        }
                        met.send();
                        (reader, writer)
                    })
                })
                .collect();
            // All of them are there at once.
            let mut kept = Vec::new();
            for task in tasks {
                kept.push(task.await.unwrap());
            }
            let stats = Handle::current().unwrap().stats();
            assert_eq!(stats.connections, 2 * connections);
            drop(kept);
            while served.get() < connections {
                yield_now().await;
            }
            server.close();
        });
        println!("{kind:?}: {connections} tasks with a connection each");
        assert_eq!(descriptors(), before);
    }
}

async fn next_line(
    reader: &mut tidegate_streams::StreamReader,
) -> tidegate::Result<Option<bytes::Bytes>> {
    let line = reader.read_line().await?;
    Ok((!line.is_empty()).then_some(line))
}

#[test]
fn a_million_tasks_leave_nothing_behind_and_thousands_have_a_connection_each() {
    a_million_spawns();
    many_at_once();
    a_connection_for_each_task();
}
