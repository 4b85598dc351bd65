//! Layers that send no more before they have received a word.

use super::{Scene, WOULD_BLOCK, kind};
use crate::layer::Layer;
use crate::layer::shared::SCRATCH;
use crate::layer::testing::layers::{CUSTOM, Custom, ENDLESS, Identity, Runs, Slow, Turns, frame};
use std::io::ErrorKind;
use std::time::Duration;

fn data(bytes: &[u8]) -> Vec<u8> {
    [&b"d"[..], &frame(bytes)].concat()
}

/// A layer that waits for a word, and one above it.
fn waiting(above: impl Layer) -> Scene {
    let mut scene = Scene::new(Turns::new(true)).push(above, 0).opened();
    assert_eq!(scene.write(b"1").unwrap(), 1);
    assert!(!scene.socket.needs_input());
    assert_eq!(kind(scene.write(b"2")), WOULD_BLOCK);
    assert!(scene.socket.needs_input() && !scene.socket.wants_write());
    scene
}

/// As the transport does when the reader has stopped.
fn feed(scene: &mut Scene) {
    for _ in 0..1_000 {
        match scene.socket.feed() {
            Ok(()) => {}
            Err(error) => return assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        scene.socket.check_memory();
    }
    panic!("it is fed for ever: {:?}", scene.socket);
}

fn goes_on(mut scene: Scene) {
    assert!(scene.socket.wants_write() && !scene.socket.has_failed());
    assert_eq!(scene.write(b"2").unwrap(), 1);
}

#[test]
fn a_layer_that_waits_for_a_word_is_fed_below_one_that_has_ended() {
    let mut scene = waiting(Custom {
        receive: |io| {
            io.end_of_stream();
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(&data(b"x"));
    assert_eq!(scene.read(9).unwrap(), b"");
    scene.arrive(&data(&[0; 60_000]).repeat(10));
    scene.arrive(b"a");
    feed(&mut scene);
    goes_on(scene);
}

#[test]
fn a_layer_that_waits_for_a_word_is_fed_below_one_that_waits_for_room() {
    let mut scene = waiting(Runs {
        most: 255,
        polite: true,
        delivered: 0,
    });
    scene.arrive(&data(&[1, 255].repeat(30_000)).repeat(2));
    scene.arrive(b"a");
    feed(&mut scene);
    assert!(scene.socket.has_input(), "what was read is kept");
    assert!(scene.read(SCRATCH).unwrap() == [1; SCRATCH]);
    goes_on(scene);
}

#[test]
fn a_layer_that_waits_for_a_word_is_fed_below_one_that_holds_its_input_back() {
    for stopped in [false, true] {
        let mut scene = waiting(Custom {
            receive: |io| {
                io.wake_after(Duration::from_secs(1));
                Ok(())
            },
            ..CUSTOM
        });
        scene.arrive(&data(&[1; 60_000]).repeat(3));
        scene.arrive(b"a");
        if stopped {
            feed(&mut scene);
        } else {
            assert_eq!(scene.read_all(9), (vec![], WOULD_BLOCK));
        }
        goes_on(scene);
    }
}

#[test]
fn a_reader_that_has_stopped_is_given_what_was_read_for_a_layer_in_its_order() {
    let mut scene = waiting(Identity);
    let bytes: Vec<_> = (0..50_000).map(|at| (at / 7) as u8).collect();
    scene.arrive(&data(&bytes));
    feed(&mut scene);
    scene.arrive(&data(&bytes));
    scene.arrive(b"a");
    feed(&mut scene);
    assert_eq!(scene.read(1).unwrap(), bytes[..1]);
    assert!(scene.read_all(1_000).0 == [&bytes[1..], &bytes].concat());
    goes_on(scene);
}

#[test]
fn a_layer_that_waits_for_a_word_of_a_peer_that_has_ended_its_stream_has_met_a_cut() {
    for paused in [false, true] {
        let mut scene = waiting(Identity);
        scene.arrive(b"c");
        if paused {
            feed(&mut scene);
        } else {
            assert_eq!(scene.read(9).unwrap(), b"");
        }
        assert!(scene.socket.wants_write(), "nobody would tell the writer");
        assert_eq!(kind(scene.write(b"2")), Some(ErrorKind::UnexpectedEof));
    }
    let mut scene = waiting(Custom {
        end: |io| {
            io.send(b"end");
            Ok(())
        },
        ..CUSTOM
    });
    assert_eq!(kind(scene.socket.end()), WOULD_BLOCK);
    scene.arrive(b"c");
    assert_eq!(scene.read(9).unwrap(), b"");
    assert!(scene.socket.wants_write());
    assert_eq!(kind(scene.socket.end()), Some(ErrorKind::UnexpectedEof));
}

#[test]
fn a_layer_that_holds_its_input_back_is_not_asked_again_because_one_below_could_go_on() {
    let mut scene = Scene::new(ENDLESS).push(Slow::new(1), 0).opened();
    scene.arrive(b"y");
    for _ in 0..3 {
        assert_eq!(scene.read_all(10), (vec![], WOULD_BLOCK));
        let deadline = scene.socket.deadline().unwrap();
        scene.clock.set(deadline);
        scene.socket.timer(deadline);
        assert_eq!(scene.read(10).unwrap(), b"x");
    }
}

#[test]
fn what_goes_out_with_a_read_lets_the_end_go_on() {
    let mut scene = Scene::new(Turns::new(false))
        .push(
            Custom {
                end: |io| {
                    io.send(b"end");
                    Ok(())
                },
                receive: |io| {
                    io.send(b"word");
                    Identity.receive(io)
                },
                ..CUSTOM
            },
            0,
        )
        .opened();
    assert_eq!(scene.write(b"1").unwrap(), 1);
    assert_eq!(kind(scene.socket.end()), WOULD_BLOCK);
    assert!(!scene.socket.wants_write());
    // The words that the layer above has for these bytes take the end with them.
    scene.arrive(b"a");
    scene.arrive(&data(b"x"));
    assert_eq!(scene.read(9).unwrap(), b"x");
    assert!(!scene.socket.has_output());
    assert!(scene.socket.wants_write(), "no event tells of it");
    scene.socket.end().unwrap();
}

#[test]
fn a_layer_is_fed_behind_what_is_kept_for_the_reader_as_far_as_a_maximum() {
    for (len, reaches_the_word) in [(10, true), (60_000, false)] {
        let mut scene = Scene::new(Turns::new(true));
        assert_eq!(scene.write(b"1").unwrap(), 1);
        for _ in 0..4 {
            assert_eq!(kind(scene.write(b"2")), WOULD_BLOCK);
            scene.arrive(&data(&vec![1; len]));
            feed(&mut scene);
        }
        assert_eq!(kind(scene.write(b"2")), WOULD_BLOCK);
        scene.arrive(b"a");
        feed(&mut scene);
        assert_eq!(scene.write(b"2").is_ok(), reaches_the_word);
        assert!(scene.read_all(SCRATCH).0 == vec![1; 4 * len]);
        if !reaches_the_word {
            goes_on(scene);
        }
    }
}

#[test]
fn a_layer_that_waits_for_its_timer_behind_an_end_lets_the_layers_below_go_on() {
    let resting = Custom {
        receive: |_| Ok(()),
        input_ended: |io| {
            io.wake_after(Duration::from_secs(1));
            Ok(())
        },
        ..CUSTOM
    };
    let ending = Custom {
        receive: |io| {
            io.send(b"out");
            io.end_of_stream();
            Ok(())
        },
        ..CUSTOM
    };
    let runs = Runs {
        most: 255,
        polite: true,
        delivered: 0,
    };
    let mut scene = Scene::new(runs)
        .push(ending, 0)
        .opened()
        .push(resting, 0)
        .opened();
    scene.line.set_capacity(0);
    scene.arrive(&[1, 255].repeat(3 * SCRATCH / 255));
    assert_eq!(scene.read_all(SCRATCH), (vec![], WOULD_BLOCK));
    assert!(scene.socket.needs_input(), "its output waits for room");
    assert!(!scene.socket.has_more());
}

#[test]
fn when_nobody_reads_any_more_a_layer_is_fed_whatever_comes_before_its_word() {
    for above in [false, true] {
        let mut scene = Scene::new(Turns::new(true));
        assert_eq!(scene.write(b"1").unwrap(), 1);
        if above {
            scene = scene.push(Identity, 0).opened();
        }
        assert_eq!(kind(scene.write(b"2")), WOULD_BLOCK);
        scene.arrive(&data(&[1; 60_000]).repeat(20));
        scene.arrive(b"a");
        feed(&mut scene);
        assert_eq!(kind(scene.write(b"2")), WOULD_BLOCK);
        assert!(scene.socket.needs_input(), "above {above}");
        scene.socket.lose_reader();
        feed(&mut scene);
        assert!(!scene.socket.needs_input(), "above {above}");
        assert_eq!(scene.write(b"2").unwrap(), 1);
        scene.socket.check_idle();
    }
}

#[test]
fn a_layer_that_is_full_while_it_waits_for_a_word_is_fed_when_there_is_room() {
    let mut scene = Scene::new(Custom {
        send: |_, io| {
            io.send(&vec![1; 2 * SCRATCH]);
            Ok(0)
        },
        ..CUSTOM
    });
    scene.line.set_capacity(0);
    assert_eq!(kind(scene.write(b"1")), WOULD_BLOCK);
    assert!(scene.socket.needs_input());
    scene.arrive(b"x");
    feed(&mut scene);
    assert!(!scene.socket.has_more(), "the loop would not sleep");
    scene.line.set_capacity(usize::MAX);
    scene.socket.flush_output().unwrap();
    assert!(scene.socket.has_input(), "nobody would ask again");
    feed(&mut scene);
    assert_eq!(scene.read(9).unwrap(), b"x");
}
