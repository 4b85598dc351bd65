//! The bound of a layer's own output, and input that waits for it.

use super::{Scene, WOULD_BLOCK, kind};
use crate::layer::Layer;
use crate::layer::io::MAX_OUTPUT;
use crate::layer::shared::SCRATCH;
use crate::layer::testing::layers::{CUSTOM, Custom, Framing, Identity, Turns, frame, unframed};
use std::io::ErrorKind;
use std::time::Duration;

/// Replies to each byte with one, and delivers nothing.
const REPLIES: Custom = Custom {
    receive: |io| {
        let reply = io.input().to_vec();
        io.consume(reply.len());
        io.send(&reply);
        Ok(())
    },
    ..CUSTOM
};

/// Reads as long as there may be more, for a layer that delivers nothing.
#[track_caller]
fn read_until_it_rests(scene: &mut Scene) {
    assert_eq!(scene.read_all(100), (vec![], WOULD_BLOCK));
    scene.socket.check_memory();
}

/// The peer has sent 20 batches, and takes nothing.
fn flooded(layer: impl Layer) -> Scene {
    let mut scene = Scene::new(layer);
    scene.line.set_capacity(0);
    scene.arrive(&vec![7; 20 * SCRATCH]);
    scene.line.reads();
    scene
}

#[test]
fn nothing_is_read_for_a_layer_while_more_than_a_batch_of_its_own_output_waits() {
    let mut scene = flooded(REPLIES);
    read_until_it_rests(&mut scene);
    let reads = scene.line.reads();
    assert!((2..=3).contains(&reads), "{reads} reads");
    for _ in 0..3 {
        read_until_it_rests(&mut scene);
        assert_eq!(scene.line.reads(), 0, "it was asked again");
        assert!(!scene.socket.has_more(), "the loop would not sleep");
    }
    // A part of it goes, and the next read makes as much again.
    scene.line.set_capacity(2 * SCRATCH);
    assert!(scene.socket.flush_output().is_ok() || scene.socket.has_output());
    assert!(scene.socket.has_input(), "nobody would read on");
    read_until_it_rests(&mut scene);
    scene.line.set_capacity(usize::MAX);
    scene.socket.flush_output().unwrap();
    assert!(scene.socket.has_input());
    read_until_it_rests(&mut scene);
    assert!(scene.line.sent() == vec![7; 20 * SCRATCH]);
    scene.socket.check_idle();
}

#[test]
fn a_full_layer_of_a_stack_stops_those_above_and_lets_them_go_on() {
    for above in [false, true] {
        let mut scene = match above {
            true => Scene::new(Framing).push(REPLIES, 0).opened(),
            false => Scene::new(REPLIES).push(Framing, 0).opened(),
        };
        scene.line.set_capacity(0);
        let frames = frame(&[7; 60_000]).repeat(40);
        scene.arrive(&frames);
        scene.line.reads();
        read_until_it_rests(&mut scene);
        let reads = scene.line.reads();
        assert!((2..=5).contains(&reads), "{reads} reads, above {above}");
        read_until_it_rests(&mut scene);
        assert_eq!(scene.line.reads(), 0);
        assert!(!scene.socket.has_more());
        scene.line.set_capacity(usize::MAX);
        scene.socket.flush_output().unwrap();
        assert!(scene.socket.has_input(), "above {above}");
        read_until_it_rests(&mut scene);
        let sent = scene.line.sent();
        let replies = if above { unframed(sent) } else { sent };
        let expected = if above { vec![7; 40 * 60_000] } else { frames };
        assert!(replies == expected, "above {above}");
    }
}

#[test]
fn bytes_from_above_that_wait_stop_no_reading() {
    let mut scene = Scene::new(Custom {
        // Much of little.
        send: |data, io| {
            io.send(&data.repeat(20));
            Ok(data.len())
        },
        ..CUSTOM
    });
    scene.line.set_capacity(0);
    assert_eq!(kind(scene.write(&vec![1; 100_000])), WOULD_BLOCK);
    scene.arrive(&vec![2; 300_000]);
    assert_eq!(scene.read_all(SCRATCH).0.len(), 300_000);
}

#[test]
fn the_end_that_connected_reads_on_and_fails_at_the_maximum() {
    let mut scene = flooded(REPLIES);
    scene.socket.never_refuse_input();
    let end = scene.read_all(100);
    assert_eq!(end, (vec![], Some(ErrorKind::Other)));
    let read = scene.line.reads();
    assert!((8..10).contains(&read), "{read} reads");
    scene.socket.check_memory();
    assert!(scene.socket.has_failed());
}

#[test]
fn a_call_that_puts_out_more_than_the_maximum_fails_and_costs_no_more_memory() {
    let by_send: Custom = Custom {
        receive: |io| {
            for _ in 0..10_000 {
                io.send(&[1; SCRATCH]);
            }
            Ok(())
        },
        ..CUSTOM
    };
    let by_spare = Custom {
        receive: |io| {
            let (_, _, mut below) = io.parts();
            for _ in 0..10_000 {
                below.spare(SCRATCH);
                below.filled(SCRATCH);
            }
            Ok(())
        },
        ..CUSTOM
    };
    for layer in [by_send, by_spare] {
        let mut scene = Scene::new(layer);
        scene.line.set_capacity(0);
        scene.arrive(b"x");
        let error = loop {
            match scene.read(9) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => break result.unwrap_err(),
            }
        };
        assert_eq!(
            error.to_string(),
            "a layer sent far more than below has taken"
        );
        scene.socket.check_memory();
    }
    let mut scene = Scene::new(Custom {
        receive: |io| {
            io.consume(1);
            io.send(&vec![1; MAX_OUTPUT]);
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(b"x");
    read_until_it_rests(&mut scene);
    assert_eq!(scene.line.sent().len(), MAX_OUTPUT);
}

#[test]
fn a_full_layer_is_called_neither_for_kept_input_nor_for_an_end_nor_because_it_asked() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            // A unit of its input at a time.
            let unit = io.input().len().min(1);
            io.consume(unit);
            io.send(&vec![1; SCRATCH / 2 * unit]);
            if !io.input().is_empty() {
                io.more();
            }
            Ok(())
        },
        input_ended: |io| {
            io.send(b"end");
            io.end_of_stream();
            Ok(())
        },
        ..CUSTOM
    });
    scene.line.set_capacity(0);
    scene.arrive(&[0; 5]);
    scene.peer.cut();
    read_until_it_rests(&mut scene);
    assert!(!scene.socket.has_more());
    scene.line.set_capacity(usize::MAX);
    scene.socket.flush_output().unwrap();
    assert_eq!(scene.line.sent().len(), 3 * SCRATCH / 2);
    assert!(scene.socket.has_input());
    assert_eq!(scene.read_all(9), (vec![], None));
    assert_eq!(scene.line.sent().len(), 5 * SCRATCH / 2 + 3);
}

#[test]
fn a_layer_below_a_full_one_is_fed_the_word_that_it_waits_for() {
    for stopped in [false, true] {
        let mut scene = Scene::new(Turns::new(true)).push(REPLIES, 0).opened();
        // One frame goes out, and the next ones wait for the peer's word.
        assert_eq!(scene.write(b"1").unwrap(), 1);
        let data = [&b"d"[..], &frame(&[7; 60_000])].concat();
        scene.arrive(&data.repeat(6));
        read_until_it_rests(&mut scene);
        assert!(
            scene.socket.wants_write(),
            "its output is not offered again"
        );
        assert_eq!(kind(scene.socket.flush_output()), WOULD_BLOCK);
        assert!(scene.socket.needs_input());
        for _ in 0..100 {
            if !scene.socket.has_output() {
                break;
            }
            scene.arrive(b"a");
            match stopped {
                true => while scene.socket.feed().is_ok() {},
                false => read_until_it_rests(&mut scene),
            }
            let _ = scene.socket.flush_output();
            if stopped && scene.socket.has_input() {
                read_until_it_rests(&mut scene);
            }
        }
        assert!(!scene.socket.has_output(), "{:?}", scene.socket);
    }
}

#[test]
fn when_nothing_can_be_sent_any_more_output_that_waits_stops_no_reading() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            io.send(&vec![0; SCRATCH]);
            Identity.receive(io)
        },
        ..CUSTOM
    });
    scene.line.set_capacity(0);
    let len = 3 * SCRATCH;
    scene.arrive(&vec![7; len]);
    let before = scene.read_all(SCRATCH).0.len();
    assert!(before < len, "it was not full");
    scene.line.script([Err(libc::EPIPE)]);
    assert_eq!(
        kind(scene.socket.flush_output()),
        Some(ErrorKind::BrokenPipe)
    );
    assert!(scene.socket.has_input());
    assert_eq!(scene.read_all(SCRATCH).0.len(), len - before);
}

/// The event that told of an end may be forgotten by then.
#[test]
fn a_short_read_proves_nothing_behind_a_time_in_which_nothing_was_read() {
    let mut scene = flooded(REPLIES);
    read_until_it_rests(&mut scene);
    scene.line.set_capacity(usize::MAX);
    scene.socket.flush_output().unwrap();
    read_until_it_rests(&mut scene);
    scene.line.set_capacity(0);
    scene.arrive(&vec![7; 2 * SCRATCH]);
    read_until_it_rests(&mut scene);
    assert_eq!(kind(scene.read(9)), WOULD_BLOCK);
    scene.arrive(&[7; 10]);
    scene.line.set_capacity(usize::MAX);
    scene.socket.flush_output().unwrap();
    scene.line.reads();
    read_until_it_rests(&mut scene);
    let reads = scene.line.reads();
    assert!(reads >= 2, "{reads}: a short one was taken for proof");
}

#[test]
fn a_layer_that_held_its_input_back_is_read_for_when_its_timer_has_taken_that() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            io.wake_after(Duration::from_secs(1));
            Ok(())
        },
        timer: |io| {
            let len = io.input().len();
            io.consume(len);
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(&vec![7; 3 * SCRATCH]);
    read_until_it_rests(&mut scene);
    assert!(!scene.socket.has_more());
    let deadline = scene.socket.deadline().unwrap();
    scene.clock.set(deadline);
    scene.socket.timer(deadline);
    assert!(scene.socket.has_input(), "nobody would read the rest");
}

#[test]
fn of_a_call_nothing_is_sent_behind_output_that_was_refused() {
    let by_send: Custom = Custom {
        receive: |io| {
            io.send(&vec![1; MAX_OUTPUT - 100]);
            io.send(&[2; 200]);
            io.send(&[3; 5]);
            Ok(())
        },
        ..CUSTOM
    };
    let by_spare = Custom {
        receive: |io| {
            io.send(&vec![1; MAX_OUTPUT - 100]);
            let (_, _, mut below) = io.parts();
            for (len, byte) in [(200, 2), (5, 3)] {
                below.spare(len)[..len].fill(byte);
                below.filled(len);
            }
            Ok(())
        },
        ..CUSTOM
    };
    for layer in [by_send, by_spare] {
        let mut scene = Scene::new(layer);
        scene.arrive(b"x");
        let error = scene.read(9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{error}");
        assert!(scene.line.sent() == vec![1; MAX_OUTPUT - 100]);
    }
}

#[test]
fn bytes_from_above_are_told_of_only_when_all_that_stands_for_them_went_out() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            let (_, _, mut below) = io.parts();
            below.spare(MAX_OUTPUT)[..10].fill(2);
            below.filled(10);
            Ok(())
        },
        ..CUSTOM
    });
    scene.line.set_capacity(0);
    assert_eq!(kind(scene.write(&[1; 50])), WOULD_BLOCK);
    scene.arrive(b"x");
    let error = scene.read(9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
    scene.line.set_capacity(usize::MAX);
    let _ = scene.socket.flush_output();
    assert_eq!(scene.line.sent(), [1; 50]);
    assert_eq!(scene.socket.tell_all(), 50);
}
