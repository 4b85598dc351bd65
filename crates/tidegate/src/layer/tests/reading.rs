//! The results of reads, and the state after them.

use super::{Scene, WOULD_BLOCK, kind};
use crate::layer::shared::SCRATCH;
use crate::layer::testing::layers::{CUSTOM, Custom, Framing, Greeting, Runs, Slow, frame};
use std::io::{self, ErrorKind};
use std::time::Duration;

#[test]
fn after_a_short_read_there_is_more_unless_below_was_asked_and_gave_less_than_there_was_room_for() {
    let mut scene = Scene::new(Framing);
    scene.arrive(&frame(b"0123456789"));
    assert_eq!(scene.read(4).unwrap(), b"0123");
    assert!(scene.socket.has_more(), "some is kept");
    assert_eq!(scene.read(100).unwrap(), b"456789");
    // Below was not asked in this read: an event may have come since.
    assert!(scene.socket.has_more() && !scene.socket.has_input());
    scene.arrive(&frame(b"ab"));
    assert_eq!(scene.read(100).unwrap(), b"ab");
    assert!(!scene.socket.has_more());
    let len = u16::MAX as usize;
    scene.arrive(&frame(&vec![1; len]).repeat(3));
    assert_eq!(scene.read(SCRATCH).unwrap().len(), len);
    assert!(scene.socket.has_more(), "below has filled the room");
    assert_eq!(scene.read(SCRATCH).unwrap().len(), len);
    assert!(scene.socket.has_more());
    assert_eq!(scene.read(SCRATCH).unwrap().len(), len);
    assert!(!scene.socket.has_more());
}

#[test]
fn half_a_record_is_asked_for_more_once_and_costs_what_it_is_long() {
    let mut scene = Scene::new(Framing);
    let record = frame(&[9; 1_000]);
    scene.arrive(&record[..500]);
    scene.line.reads();
    assert_eq!(kind(scene.read(100)), WOULD_BLOCK);
    assert_eq!(scene.line.reads(), 2);
    assert!(!scene.socket.has_more());
    scene.socket.check_memory();
    scene.arrive(&record[500..]);
    assert!(scene.read(5_000).unwrap() == [9; 1_000]);
    scene.socket.check_idle();
}

#[test]
fn a_layer_that_makes_much_of_little_is_stopped_by_the_room_of_the_reader() {
    let runs = Runs {
        most: 255,
        polite: true,
        delivered: 0,
    };
    let mut scene = Scene::new(runs);
    scene.arrive(&[1, 255].repeat(60_000));
    for _ in 0..10 {
        assert!(scene.read(1_000).unwrap() == [1; 1_000]);
        scene.socket.check_memory();
        assert!(scene.socket.has_input(), "it has asked for more");
    }
    scene.line.reads();
    assert_eq!(scene.read_all(SCRATCH).0.len(), 60_000 * 255 - 10_000);
    assert_eq!(scene.line.reads(), 1);
}

#[test]
fn a_peer_that_sends_only_what_a_layer_keeps_for_itself_holds_up_nobody() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            let len = io.input().len();
            io.consume(len);
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(&vec![0; 10 * SCRATCH]);
    scene.line.reads();
    assert_eq!(kind(scene.read(100)), WOULD_BLOCK);
    assert_eq!(scene.line.reads(), 1);
    assert!(scene.socket.has_more(), "nothing would read the rest");
    assert_eq!(scene.read_all(100), (vec![], WOULD_BLOCK));
}

#[test]
fn the_end_comes_behind_the_bytes_and_only_once_is_the_layer_told() {
    let mut scene = Scene::new(Framing);
    scene.arrive(&frame(b"last"));
    scene.peer.cut();
    assert_eq!(scene.read(2).unwrap(), b"la");
    assert_eq!(scene.read(2).unwrap(), b"st");
    for _ in 0..3 {
        assert_eq!(scene.read(2).unwrap(), b"");
    }
    assert!(scene.socket.below_has_ended());
}

#[test]
fn a_layer_that_does_not_say_what_the_end_means_has_met_a_cut() {
    let mut scene = Scene::new(Custom {
        input_ended: |_| Ok(()),
        ..CUSTOM
    });
    scene.peer.cut();
    assert_eq!(kind(scene.read(2)), Some(ErrorKind::UnexpectedEof));
}

#[test]
fn what_follows_the_end_that_a_layer_has_told_of_is_ignored() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            io.deliver(b"bytes");
            io.end_of_stream();
            assert_eq!(io.room(), 0);
            io.deliver(b"in the same call");
            Ok(())
        },
        timer: |io| {
            io.deliver(b"later");
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(b"x");
    scene.arrive(&[0; 100]);
    assert_eq!(scene.read_all(100), (b"bytes".to_vec(), None));
    scene
        .socket
        .with_layer(|_: &mut Custom, io| io.deliver(b"later"));
    assert_eq!(scene.read_all(100), (vec![], None));
}

#[test]
fn a_layer_that_holds_input_back_does_so_before_an_end_and_an_error() {
    for broken in [false, true] {
        let mut scene = Scene::new(Slow::new(2));
        scene.arrive(b"abc");
        if broken {
            scene.peer.break_with(libc::ECONNRESET);
        } else {
            scene.peer.cut();
        }
        let mut received = Vec::new();
        for _ in 0..2 {
            assert_eq!(scene.read_all(10), (vec![], WOULD_BLOCK));
            let deadline = scene.socket.deadline().unwrap();
            scene.clock.set(deadline);
            scene.socket.timer(deadline);
            assert!(scene.socket.has_input());
            received.extend(scene.read(10).unwrap());
        }
        assert_eq!(received, b"abc");
        let end = if broken {
            Some(ErrorKind::ConnectionReset)
        } else {
            None
        };
        assert_eq!(scene.read_all(10), (vec![], end));
    }
}

#[test]
fn a_layer_that_holds_input_back_is_given_no_more_than_the_maximum() {
    let mut scene = Scene::new(Slow::new(60_000));
    scene.arrive(&vec![4; 3 * SCRATCH]);
    let mut received = 0;
    while received < 3 * SCRATCH {
        let (data, end) = scene.read_all(SCRATCH);
        received += data.len();
        assert_eq!(end, WOULD_BLOCK);
        scene.socket.check_memory();
        if let Some(deadline) = scene.socket.deadline() {
            scene.clock.set(deadline);
            scene.socket.timer(deadline);
        }
    }
}

#[test]
fn a_layer_that_leaves_hands_up_what_it_did_not_consume_and_can_be_taken_off() {
    let mut scene = Scene::unopened(Greeting);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    scene.arrive(b"hello\nabc");
    assert!(!scene.socket.has_left());
    scene.socket.advance().unwrap();
    assert!(scene.socket.has_input() && !scene.socket.has_left());
    assert_eq!(scene.read(2).unwrap(), b"ab");
    assert!(!scene.socket.has_left(), "a byte would be lost");
    assert_eq!(scene.read(2).unwrap(), b"c");
    assert!(scene.socket.has_left());
    scene.socket.check_idle();
    assert_eq!(scene.write(b"plain").unwrap(), 5);
    assert_eq!(scene.line.sent(), b"hello\nplain");
    let (mut below, mut layer) = scene.socket.into_below();
    assert!(
        below
            .foreign_mut::<crate::layer::testing::line::LineEnd>()
            .is_some()
    );
    assert!(layer.with_layer(|_: &mut Greeting, _| ()).is_some());
}

#[test]
fn what_a_layer_delivers_beside_a_read_is_read_next() {
    let mut scene = Scene::new(Custom {
        timer: |io| {
            assert_eq!(io.room(), 0);
            io.deliver(b"tick");
            Ok(())
        },
        receive: |io| {
            io.wake_after(Duration::from_secs(1));
            let len = io.input().len();
            io.consume(len);
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(b"x");
    assert_eq!(kind(scene.read(9)), WOULD_BLOCK);
    let now = scene.clock.now();
    scene.socket.timer(now);
    assert!(!scene.socket.has_input(), "too early");
    scene.socket.timer(now + Duration::from_secs(1));
    assert!(scene.socket.has_input());
    assert_eq!(scene.socket.deadline(), None);
    assert_eq!(scene.read(9).unwrap(), b"tick");
}

#[test]
fn an_end_of_stream_behind_a_write_that_failed_is_that_failure() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            let len = io.input().len();
            io.consume(len);
            io.send(b"reply");
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(b"x");
    scene.peer.cut();
    scene.line.script([Err(libc::EPIPE)]);
    assert_eq!(kind(scene.read(9)), Some(ErrorKind::BrokenPipe));
}

#[test]
fn an_error_of_the_system_that_may_be_over_is_passed_on_and_costs_nothing() {
    let mut scene = Scene::new(Framing).push(Framing, 0).opened();
    scene.arrive(&frame(&frame(b"abc"))[..4]);
    assert_eq!(kind(scene.read(9)), WOULD_BLOCK);
    scene.peer.break_with(libc::ENOMEM);
    for _ in 0..2 {
        let error = scene.read(9).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    }
    scene.peer.mend();
    scene.arrive(&frame(&frame(b"abc"))[4..]);
    assert_eq!(scene.read(9).unwrap(), b"abc");
    let _: io::Result<usize> = scene.write(b"x");
}

#[test]
fn the_deadline_is_the_earliest_one_of_all_layers() {
    let late = || Custom {
        start: |io| {
            io.open();
            io.wake_after(Duration::from_secs(2));
            Ok(())
        },
        ..CUSTOM
    };
    let early = || Custom {
        start: |io| {
            io.open();
            io.wake_after(Duration::from_secs(1));
            Ok(())
        },
        ..CUSTOM
    };
    for (below, above) in [(late(), early()), (early(), late())] {
        let scene = Scene::new(below).push(above, 0).opened();
        let expected = scene.clock.now() + Duration::from_secs(1);
        assert_eq!(scene.socket.deadline(), Some(expected));
    }
}
