//! The results of writes, and the state after them.

use super::{Scene, WOULD_BLOCK, kind};
use crate::driver::StreamSocket;
use crate::layer::LayeredSocket;
use crate::layer::pieces::PIECE;
use crate::layer::shared::SCRATCH;
use crate::layer::socket::FULL_WIRE;
use crate::layer::testing::layers::{CUSTOM, Custom, Framing, Slow, frame, unframed};
use std::io::IoSlice;
use std::time::Duration;

#[test]
fn a_count_is_short_only_when_below_has_refused_also_when_a_layer_takes_little_at_a_time() {
    let mut scene = Scene::new(Custom {
        send: |data, io| {
            io.send(&data[..1]);
            Ok(1)
        },
        ..CUSTOM
    });
    assert_eq!(scene.write(&[7; 100_000]).unwrap(), 100_000);
    assert!(scene.line.sent() == [7; 100_000]);
    scene.line.set_capacity(100_010);
    assert_eq!(scene.write(&[8; 100]).unwrap(), 10);
    assert_eq!(scene.line.writes().last(), Some(&64), "it was not refused");
}

#[test]
fn bytes_are_counted_with_the_last_byte_of_what_stands_for_them() {
    let mut scene = Scene::new(Framing);
    scene.line.script([Ok(PIECE + 2 + 5)]);
    let data = vec![3; PIECE + 10];
    assert_eq!(scene.write(&data).unwrap(), PIECE);
    // The held bytes are the first of the next call, and not sent twice.
    scene.line.script([Ok(6)]);
    assert_eq!(kind(scene.write(&data[PIECE..])), WOULD_BLOCK);
    assert_eq!(scene.write(&data[PIECE..]).unwrap(), 10);
    assert!(unframed(scene.line.sent()) == data);
}

#[test]
fn bytes_that_were_not_offered_again_are_told_of_later() {
    let mut scene = Scene::new(Framing);
    scene.line.script([Ok(0)]);
    assert_eq!(kind(scene.write(&[3; 100])), WOULD_BLOCK);
    assert!(!scene.socket.wants_write(), "there is nothing to tell");
    // They go out on their own, and then less is offered than is through.
    scene.socket.flush_output().unwrap();
    assert!(scene.socket.wants_write());
    assert_eq!(scene.write(&[3; 30]).unwrap(), 30);
    assert!(scene.socket.wants_write());
    assert_eq!(scene.write(&[3; 69]).unwrap(), 69);
    assert_eq!(scene.write(&[3; 2]).unwrap(), 2);
    assert_eq!(unframed(scene.line.sent()), [3; 101]);
}

#[test]
fn an_error_behind_progress_is_told_in_the_same_account() {
    for errno in [libc::ENOBUFS, libc::EPIPE] {
        let mut scene = Scene::new(Framing);
        scene.line.script([Ok(SCRATCH), Err(errno)]);
        let data = vec![3; 2 * SCRATCH];
        let sent = scene.write(&data).unwrap();
        assert_eq!(sent % PIECE, 0);
        assert!(0 < sent && sent < SCRATCH);
        let error = scene.socket.take_write_error().unwrap();
        assert_eq!(error.raw_os_error(), Some(errno));
        assert!(scene.socket.take_write_error().is_none(), "told twice");
    }
}

#[test]
fn an_error_costs_no_byte_of_what_was_made() {
    let mut scene = Scene::new(Framing);
    scene
        .line
        .script([Ok(1), Err(libc::ENOBUFS), Err(libc::ENOBUFS)]);
    assert_eq!(kind(scene.write(b"record")), WOULD_BLOCK);
    for _ in 0..2 {
        let error = scene.write(b"record").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    }
    assert_eq!(scene.write(b"record").unwrap(), 6);
    assert_eq!(scene.line.sent(), frame(b"record"));
}

#[test]
fn an_error_that_may_be_over_is_not_told_later() {
    let mut scene = Scene::new(Framing);
    scene.line.script([Ok(SCRATCH), Err(libc::ENOBUFS)]);
    assert_eq!(scene.write(&[1; 8 * PIECE]).unwrap(), 7 * PIECE);
    // Nobody asks for it.
    assert_eq!(scene.write(&[1; PIECE]).unwrap(), PIECE);
    assert!(scene.socket.take_write_error().is_none());
}

#[test]
fn one_system_call_takes_a_batch_and_no_more_than_that_waits() {
    let mut scene = Scene::new(Framing);
    let data = vec![3; 1024 * 1024];
    assert_eq!(scene.write(&data).unwrap(), data.len());
    let writes = scene.line.writes();
    assert!(writes.len() < 11, "{writes:?}");
    assert!(writes.iter().all(|len| *len <= SCRATCH), "{writes:?}");
    scene.line.script([Ok(0)]);
    assert_eq!(kind(scene.write(&data)), WOULD_BLOCK);
    scene.socket.check_memory();
    assert!(scene.line.writes()[0] >= FULL_WIRE);
}

#[test]
fn small_slices_are_put_together() {
    let mut scene = Scene::new(Framing);
    let data: Vec<_> = (0..64 * 100).map(|at| at as u8).collect();
    for (size, records) in [(1, 1), (100, 1), (64, 1)] {
        let data = &data[..64 * size];
        let slices: Vec<_> = data.chunks(size).map(IoSlice::new).collect();
        let before = scene.line.sent().len();
        assert_eq!(scene.socket.write(&slices).unwrap(), data.len());
        let wire = &scene.line.sent()[before..];
        assert_eq!(wire.len(), data.len() + 2 * records);
        assert!(unframed(wire.to_vec()) == data);
    }
    // A small one, two large ones, a small one.
    let data = vec![5; 2 * PIECE + 20];
    let (front, rest) = data.split_at(10);
    let slices = [front, rest].map(IoSlice::new);
    let before = scene.line.sent().len();
    assert_eq!(scene.socket.write(&slices).unwrap(), data.len());
    assert!(unframed(scene.line.sent()[before..].to_vec()) == data);
}

#[test]
fn what_was_written_before_a_layer_goes_past_it_and_its_own_words_wait_for_that() {
    let mut scene = Scene::with_past(
        Custom {
            start: |io| {
                io.send(b"hello");
                io.open();
                Ok(())
            },
            send: |data, io| {
                io.send(b"<");
                io.send(data);
                Ok(data.len())
            },
            ..CUSTOM
        },
        6,
    );
    scene.line.script([Ok(4), Ok(2), Ok(3)]);
    scene.socket.advance().unwrap();
    assert!(!scene.socket.has_output(), "it would overtake");
    assert_eq!(scene.write(b"beforeafter").unwrap(), 4);
    assert_eq!(scene.line.sent(), b"befo");
    assert_eq!(scene.write(b"reafter").unwrap(), 2);
    assert_eq!(scene.line.sent(), b"beforehel");
    assert_eq!(scene.write(b"after").unwrap(), 5);
    assert_eq!(scene.line.sent(), b"beforehello<after");
}

#[test]
fn a_layer_that_takes_nothing_is_asked_again_when_it_was_called_and_not_before() {
    let mut scene = Scene::new(Slow::new(3));
    assert_eq!(kind(scene.write(b"abcdef")), WOULD_BLOCK);
    assert!(!scene.socket.needs_input(), "it waits for its timer");
    assert_eq!(kind(scene.write(b"abcdef")), WOULD_BLOCK);
    assert!(!scene.socket.wants_write());
    let deadline = scene.socket.deadline().unwrap();
    scene.clock.set(deadline);
    scene.socket.timer(deadline);
    assert!(scene.socket.wants_write());
    assert_eq!(scene.write(b"abcdef").unwrap(), 3);
    assert!(!scene.socket.wants_write());
    assert_eq!(
        scene.socket.deadline(),
        Some(deadline + Duration::from_millis(1))
    );
}

#[test]
fn an_echo_takes_no_memory_that_was_not_there_and_an_idle_one_has_none() {
    let mut scene = Scene::new(Framing).push(Framing, 0).opened();
    for _ in 0..3 {
        scene.arrive(&frame(&frame(b"message")));
        assert_eq!(scene.read(100).unwrap(), b"message");
        assert_eq!(scene.write(b"message").unwrap(), 7);
        scene.socket.check_idle();
    }
    // The input, and at both layers what is to be sent.
    assert_eq!(scene.shared.kept(), 2);
}

#[test]
fn the_stream_ends_from_the_top_down_and_nothing_follows() {
    let layer = || Custom {
        end: |io| {
            io.send(b"end");
            Ok(())
        },
        receive: |io| {
            let len = io.input().len();
            io.consume(len);
            io.send(b"a word that comes too late");
            Ok(())
        },
        ..CUSTOM
    };
    let mut scene = Scene::new(layer())
        .push(Framing, 0)
        .opened()
        .push(layer(), 0)
        .opened();
    scene.line.script([Ok(2), Ok(0)]);
    assert_eq!(kind(scene.socket.end()), WOULD_BLOCK);
    assert_eq!(kind(scene.socket.end()), WOULD_BLOCK);
    scene.socket.end().unwrap();
    let expected = [&frame(b"end")[..], b"end"].concat();
    assert_eq!(scene.line.sent(), expected);
    scene.arrive(b"word");
    assert_eq!(kind(scene.read(10)), WOULD_BLOCK);
    scene.socket.end().unwrap();
    assert!(!scene.socket.has_output());
    assert_eq!(scene.line.sent(), expected);
    assert_eq!(LayeredSocket::into_parts(scene.socket).1.count(), 3);
}
