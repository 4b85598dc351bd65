//! Counts the resident memory of the process.
//!
//! The example `key_value`: its limit holds for what its entries really take.

#[path = "../../examples/key_value.rs"]
#[expect(dead_code, reason = "the main program")]
mod key_value;

use key_value::clients;
use std::fmt::Write;
use support::{Kind, Scene, resident};
use tidegate::EventLoop;

const MEMORY: usize = 16 << 20;

/// The maximum memory of the loop, the allocator and the test itself beside the entries.
const CONSTANT: usize = 4 << 20;

/// The number of requests before the replies are read.
const BATCH: usize = 100;

/// Requests with a number, and the length of their replies.
type Requests = fn(&mut String, usize) -> usize;

#[test]
fn the_memory_of_a_full_store_is_at_most_a_quarter_above_its_limit() {
    let shapes: [(&str, usize, Requests); 5] = [
        ("short values", 200_000, |out, n| {
            let _ = writeln!(out, "SET {n} v");
            5
        }),
        ("values of 1,000 bytes", 40_000, |out, n| {
            let _ = writeln!(out, "SET {n} {n:01000}");
            5
        }),
        ("short values that were long", 100_000, |out, n| {
            let _ = writeln!(out, "SET {n} {n:01000}\nSET {n} v");
            10
        }),
        ("short values that expire", 200_000, |out, n| {
            let _ = writeln!(out, "SET {n} v\nEXPIRE {n} 1000");
            9
        }),
        ("lists", 20_000, |out, n| {
            let _ = writeln!(out, "LPUSH {n} {}", "e ".repeat(50));
            5
        }),
    ];
    let before = resident();
    for (what, requests, request) in shapes {
        let mut event_loop = EventLoop::new().unwrap();
        let client = clients(MEMORY)();
        let (_transport, mut peer) = Scene::of(Kind::Unix).on(&mut event_loop, client);
        let mut expected = 0;
        for batch in 0..requests / BATCH {
            let mut sent = String::new();
            for n in batch * BATCH..(batch + 1) * BATCH {
                expected += request(&mut sent, n);
            }
            peer.send(sent.as_bytes());
            peer.expect(&mut event_loop, expected);
        }
        let grown = resident().saturating_sub(before) as usize - peer.received().len();
        println!("{what}: {grown} bytes, {}%", 100 * grown / MEMORY);
        assert!(grown > MEMORY / 2, "{what}: {grown} bytes: is it full?");
        assert!(
            grown < MEMORY + MEMORY / 4 + CONSTANT,
            "{what}: {grown} bytes"
        );
    }
}
