//! How layers open, and why they do not.

use super::{Scene, WOULD_BLOCK, kind};
use crate::layer::shared::SCRATCH;
use crate::layer::testing::layers::{CUSTOM, Custom, Framing, Identity, Session, frame};
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Says a word, and opens when one comes; fails at a `!`.
fn handshake() -> Custom {
    Custom {
        start: |io| {
            io.send(b"word");
            Ok(())
        },
        receive: |io| {
            if io.input().starts_with(b"!") {
                io.send(b"alert");
                return Err(io::Error::from(ErrorKind::InvalidData).into());
            }
            if io.input().starts_with(b"word") {
                io.open();
                io.consume(4);
            }
            let rest = io.input().to_vec();
            io.deliver(&rest);
            io.consume(rest.len());
            Ok(())
        },
        ..CUSTOM
    }
}

#[test]
fn layers_open_from_the_wire_up_and_what_comes_with_the_last_word_is_kept() {
    let mut scene = Scene::unopened(Session::default())
        .push(Framing, 0)
        .push(handshake(), 0);
    for _ in 0..2 {
        assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
        assert_eq!(scene.line.sent(), b"h", "the ones above have not started");
    }
    scene.arrive(b"h");
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    let mut word = b"hd".to_vec();
    word.extend(frame(&frame(b"word")));
    assert_eq!(scene.line.sent(), word);
    assert!(!scene.socket.is_open());
    word = b"d".to_vec();
    word.extend(frame(&frame(b"worddata")));
    scene.arrive(&word);
    scene.socket.advance().unwrap();
    assert!(scene.socket.is_open() && scene.socket.has_input());
    assert_eq!(scene.read(9).unwrap(), b"data");
}

#[test]
fn a_write_before_it_is_open_takes_nothing_and_is_wanted_when_it_is() {
    let mut scene = Scene::unopened(handshake());
    assert_eq!(kind(scene.write(b"data")), WOULD_BLOCK);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    assert_eq!(kind(scene.write(b"data")), WOULD_BLOCK);
    assert!(!scene.socket.wants_write());
    scene.arrive(b"word");
    scene.socket.advance().unwrap();
    assert!(scene.socket.wants_write());
    assert_eq!(scene.write(b"data").unwrap(), 4);
    assert_eq!(scene.line.sent(), b"worddata");
}

#[test]
fn the_last_words_of_the_peer_count_more_than_the_write_that_failed() {
    let table: [(&[u8], bool, ErrorKind); 4] = [
        (b"!", true, ErrorKind::InvalidData),
        (b"", true, ErrorKind::BrokenPipe),
        (b"wo", false, ErrorKind::BrokenPipe),
        (b"!", false, ErrorKind::InvalidData),
    ];
    for (words, ends, expected) in table {
        let mut scene = Scene::unopened(handshake());
        if !words.is_empty() {
            scene.arrive(words);
        }
        if ends {
            scene.peer.cut();
        }
        scene.line.script([Err(libc::EPIPE)]);
        // An error that another call meets first is kept.
        assert_eq!(kind(scene.write(b"data")), WOULD_BLOCK);
        assert_eq!(kind(scene.socket.flush_output()), None);
        assert_eq!(kind(scene.socket.advance()), Some(expected), "{words:?}");
    }
}

#[test]
fn a_write_that_failed_elsewhere_is_told_where_it_opens() {
    let mut scene = Scene::unopened(handshake());
    scene.line.script([Ok(0), Err(libc::EPIPE)]);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    assert_eq!(kind(scene.socket.flush_output()), WOULD_BLOCK);
    assert!(scene.socket.has_input(), "nobody would ask");
    assert!(!scene.socket.has_output());
    assert_eq!(kind(scene.socket.advance()), Some(ErrorKind::BrokenPipe));
}

#[test]
fn a_write_that_failed_below_again_wakes_no_writer_before_it_is_open() {
    let busy = Custom {
        receive: |io| {
            let all = io.input().len();
            io.consume(all);
            io.more();
            Ok(())
        },
        ..handshake()
    };
    let mut scene = Scene::new(Framing).push(busy, 0);
    scene.line.set_capacity(2);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    scene.line.script([Err(libc::EPIPE), Err(libc::EPIPE)]);
    assert_eq!(kind(scene.write(b"data")), WOULD_BLOCK);
    // With this read the layer below sends what is left.
    scene.arrive(&frame(b"x"));
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    assert_eq!(kind(scene.write(b"data")), WOULD_BLOCK);
    assert!(!scene.socket.wants_write(), "it would be tried for ever");
}

#[test]
fn a_peer_that_leaves_before_it_is_open_is_no_end_of_stream() {
    for layer in [
        handshake(),
        Custom {
            input_ended: |_| Ok(()),
            ..handshake()
        },
    ] {
        let mut scene = Scene::unopened(layer);
        scene.arrive(b"wo");
        scene.peer.cut();
        let result = scene.socket.advance();
        assert_eq!(kind(result), Some(ErrorKind::UnexpectedEof));
    }
}

#[test]
fn a_failure_in_the_call_that_opened_it_comes_behind_what_was_delivered() {
    let mut scene = Scene::unopened(Custom {
        start: |_| Ok(()),
        receive: |io| {
            io.open();
            io.deliver(b"good");
            io.send(b"alert");
            Err("bad".into())
        },
        ..CUSTOM
    });
    scene.arrive(b"x");
    scene.socket.advance().unwrap();
    assert_eq!(scene.read(9).unwrap(), b"good");
    let error = scene.read(9).unwrap_err();
    assert_eq!(error.to_string(), "bad");
    assert_eq!(scene.line.sent(), b"alert");
}

#[test]
fn a_layer_may_open_by_its_timer() {
    let mut scene = Scene::unopened(Custom {
        start: |io| {
            io.wake_after(Duration::from_secs(1));
            Ok(())
        },
        timer: |io| {
            io.open();
            Ok(())
        },
        ..CUSTOM
    })
    .push(Identity, 0);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    let deadline = scene.socket.deadline().unwrap();
    assert_eq!(deadline, scene.clock.now() + Duration::from_secs(1));
    scene.socket.timer(deadline);
    assert!(scene.socket.has_input(), "it is to be opened further");
    scene.socket.advance().unwrap();
}

#[test]
fn the_stream_of_a_layer_that_is_not_open_is_not_ended_by_it() {
    let mut scene = Scene::unopened(Custom {
        end: |_| unreachable!("it was never open"),
        ..handshake()
    });
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    scene.socket.end().unwrap();
}

#[test]
fn the_end_stops_the_opening_of_a_layer_whatever_comes_meanwhile() {
    let mut scene = Scene::unopened(Session::default()).push(
        Custom {
            start: |io| {
                io.wake_after(Duration::from_secs(1));
                Ok(())
            },
            timer: |_| unreachable!("its opening was stopped"),
            end: |_| unreachable!("it was never open"),
            ..handshake()
        },
        0,
    );
    scene.arrive(b"h");
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    let deadline = scene.socket.deadline().unwrap();
    scene.line.set_capacity(1);
    assert_eq!(kind(scene.socket.end()), WOULD_BLOCK);
    scene.arrive(&[b"d", &frame(b"word")[..]].concat());
    scene.socket.feed().unwrap();
    scene.socket.timer(deadline);
    let room = scene.socket.with_layer(|_: &mut Custom, io| {
        io.open();
        io.send(b"a word that reaches nobody");
        io.room()
    });
    assert_eq!(room, Some(0));
    assert!(!scene.socket.is_open());
    scene.line.set_capacity(100);
    scene.socket.end().unwrap();
    assert_eq!(scene.line.sent(), b"hc");
}

#[test]
fn the_end_sends_what_a_layer_that_opens_has_put_out_and_tells_of_its_failure() {
    let mut scene = Scene::new(Identity).push(handshake(), 0);
    scene.line.set_capacity(2);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    scene.line.set_capacity(3);
    assert_eq!(kind(scene.socket.end()), WOULD_BLOCK);
    assert_eq!(scene.line.sent(), b"wor");
    scene.line.script([Err(libc::EPIPE)]);
    assert_eq!(
        kind(scene.socket.end()),
        Some(ErrorKind::BrokenPipe),
        "nobody else would tell"
    );

    let mut scene = Scene::new(Identity).push(
        Custom {
            start: |_| Err("bad".into()),
            ..CUSTOM
        },
        0,
    );
    let failed = scene.socket.advance();
    assert_eq!(kind(failed), Some(ErrorKind::Other));
    scene.socket.end().unwrap();
}

#[test]
fn nothing_is_read_for_the_protocol_before_it_is_open() {
    let mut scene = Scene::unopened(handshake());
    scene.arrive(b"worddata");
    scene.line.reads();
    assert_eq!(kind(scene.read(9)), WOULD_BLOCK);
    assert_eq!(
        scene.line.reads(),
        0,
        "a layer that has not started was called"
    );
    scene.socket.advance().unwrap();
    assert_eq!(scene.read(9).unwrap(), b"data");
}

#[test]
fn an_error_of_the_system_that_may_be_over_does_not_hide_the_last_words_of_the_peer() {
    let mut scene = Scene::unopened(handshake());
    scene.line.script([Err(libc::EPIPE)]);
    scene.peer.break_with(libc::ENOMEM);
    let error = scene.socket.advance().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    scene.peer.mend();
    scene.arrive(b"!");
    assert_eq!(
        kind(scene.socket.advance()),
        Some(ErrorKind::InvalidData),
        "why the peer left"
    );
}

#[test]
fn a_failure_before_it_is_open_is_told_by_opening_and_not_by_a_write() {
    let mut scene = Scene::unopened(Custom {
        start: |io| {
            io.wake_after(Duration::ZERO);
            Ok(())
        },
        timer: |_| Err("too late".into()),
        ..CUSTOM
    });
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    scene.socket.timer(scene.clock.now());
    assert!(scene.socket.has_failed());
    assert_eq!(kind(scene.write(b"data")), WOULD_BLOCK);
    let error = scene.socket.advance().unwrap_err();
    assert_eq!(error.to_string(), "too late");
}

#[test]
fn what_was_read_before_a_layer_is_its_first_input_in_the_order_of_the_calls() {
    let mut scene = Scene::unopened(CUSTOM);
    scene.socket.add_unread(b"ab");
    scene.socket.add_unread(b"cd");
    scene.arrive(b"ef");
    scene.socket.advance().unwrap();
    assert_eq!(scene.read_all(9).0, b"abcdef");
}

#[test]
fn a_layer_that_leaves_hands_up_all_that_was_read_before_it_in_order() {
    let mut scene = Scene::unopened(Custom {
        start: |_| Ok(()),
        receive: |io| {
            io.consume(1);
            io.leave();
            Ok(())
        },
        ..CUSTOM
    });
    let bytes: Vec<_> = (0..SCRATCH + 1_000).map(|at| (at / 300) as u8).collect();
    scene.socket.add_unread(&bytes);
    scene.arrive(b"end");
    scene.socket.advance().unwrap();
    let expected = [&bytes[1..], b"end"].concat();
    assert!(scene.read_all(1_000).0 == expected);
}

/// Opens with `abcd`, and waits with less.
const LETTERS: Custom = Custom {
    start: |_| Ok(()),
    receive: |io| match &*io.input() {
        b"abcd" => {
            io.consume(4);
            io.open();
            Ok(())
        }
        input if b"abcd".starts_with(input) => Ok(()),
        _ => Err("other letters".into()),
    },
    input_ended: |io| {
        io.wake_after(Duration::from_secs(1));
        Ok(())
    },
    ..CUSTOM
};

#[test]
fn bytes_given_back_are_the_first_input_of_the_layer_that_was_put_on_first() {
    let never = || Custom {
        start: |_| Ok(()),
        receive: |_| Err("it is above".into()),
        ..CUSTOM
    };
    let mut scene = Scene::new(Framing)
        .push(LETTERS, 0)
        .push(never(), 0)
        .push(never(), 0);
    scene.socket.add_unread(b"c");
    scene.socket.put_unread_in_front(b"b");
    scene.socket.put_unread_in_front(b"a");
    scene.socket.add_unread(b"d");
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    assert!(!scene.socket.has_failed(), "{:?}", scene.socket);
    assert_eq!(scene.socket.opening(), 2);
}

#[test]
fn bytes_given_back_before_the_first_input_come_in_front_of_that() {
    let mut scene = Scene::unopened(LETTERS);
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    scene.socket.put_unread_in_front(b"ab");
    scene.arrive(b"cd");
    scene.socket.advance().unwrap();
}

#[test]
fn bytes_given_back_behind_later_ones_or_the_end_are_an_error() {
    for (ended, above) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut scene = Scene::unopened(LETTERS);
        if above {
            scene = scene.push(Framing, 0);
        }
        if ended {
            scene.peer.cut();
        } else {
            scene.arrive(b"a");
        }
        assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
        scene.socket.put_unread_in_front(b"late");
        let error = scene.socket.advance().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("given back"), "{error}");
    }
}
