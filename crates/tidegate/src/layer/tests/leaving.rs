//! Layers that leave: where they stand in a stack, and with what else they say.

use super::{Scene, WOULD_BLOCK, kind};
use crate::driver::Socket;
use crate::layer::LayeredSocket;
use crate::layer::testing::layers::{CUSTOM, Custom, Framing, Greeting, Identity, Session, frame};
use std::io::ErrorKind;
use std::time::Duration;

/// Takes off what has left, as the transport does. Returns the number of layers that came off.
fn take_off(scene: Scene) -> (Scene, usize) {
    assert!(scene.socket.has_left());
    let (stack, off) = scene.socket.take_off_left();
    let socket = *stack.into_foreign::<LayeredSocket>().unwrap();
    (Scene { socket, ..scene }, off.count())
}

/// Leaves with the first byte.
fn leaver() -> Custom {
    Custom {
        start: |io| {
            io.send(b"s");
            Ok(())
        },
        receive: |io| {
            io.consume(1);
            io.leave();
            Ok(())
        },
        ..CUSTOM
    }
}

#[test]
fn layers_that_have_left_come_off_wherever_they_stand_and_the_rest_is_as_if_they_had_never_been() {
    let mut scene = Scene::unopened(leaver())
        .push(Greeting, 0)
        .push(Framing, 0)
        .push(leaver(), 0)
        .push(Identity, 0);
    scene.arrive(b".hello\n");
    scene.arrive(&frame(b".data"));
    scene.socket.advance().unwrap();
    // The first read finds what those that leave have not consumed.
    assert_eq!(scene.read_all(9), (b"data".to_vec(), WOULD_BLOCK));
    assert!(!scene.socket.is_quiet());
    let taken = scene.socket.taken();
    let (mut scene, off) = take_off(scene);
    assert_eq!(off, 3);
    assert!(scene.socket.is_quiet(), "{:?}", scene.socket);
    assert!(!scene.socket.has_left());
    assert_eq!(scene.socket.taken(), taken, "of the bare socket");
    scene.arrive(&frame(b"more"));
    assert_eq!(scene.read(9).unwrap(), b"more");
    assert_eq!(scene.write(b"out").unwrap(), 3);
    assert!(scene.socket.is_quiet());
    let sent = [b"shello\n", &frame(b"s")[..], &frame(b"out")].concat();
    assert_eq!(scene.line.sent(), sent);
    assert_eq!(scene.socket.taken(), sent.len() as u64);
    assert_eq!(scene.socket.into_parts().1.count(), 2);
}

#[test]
fn one_that_has_left_below_one_that_opens_comes_off_when_its_input_was_read() {
    let mut scene = Scene::unopened(leaver()).push(Session::default(), 0);
    scene.arrive(b".");
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    assert!(!scene.socket.is_to_end(), "there is nothing to end");
    let (mut scene, _) = take_off(scene);
    assert!(!scene.socket.is_open());
    scene.arrive(b"h");
    scene.socket.advance().unwrap();
    assert!(scene.socket.is_to_end());
    assert_eq!(scene.socket.into_parts().1.count(), 1);
}

#[test]
fn one_that_has_left_with_output_that_waits_stays_and_is_to_be_ended() {
    let mut scene = Scene::unopened(leaver()).push(Session::default(), 0);
    scene.line.set_capacity(0);
    scene.arrive(b".");
    assert_eq!(kind(scene.socket.advance()), WOULD_BLOCK);
    assert!(!scene.socket.has_left() && scene.socket.is_to_end());
    scene.line.set_capacity(9);
    scene.socket.flush_output().unwrap();
    assert!(scene.socket.has_left() && !scene.socket.is_to_end());
    assert_eq!(scene.line.sent(), b"sh");
}

/// Ends the stream behind the first bytes, and leaves, in either order.
fn ends_and_leaves() -> [Custom; 2] {
    let end_first = Custom {
        receive: |io| {
            io.deliver(b"last");
            io.consume(4);
            io.end_of_stream();
            io.leave();
            Ok(())
        },
        ..CUSTOM
    };
    let leave_first = Custom {
        receive: |io| {
            io.deliver(b"last");
            io.consume(4);
            io.leave();
            io.end_of_stream();
            Ok(())
        },
        ..CUSTOM
    };
    [end_first, leave_first]
}

/// The stream has ended behind `last`, and is asked for nothing more. Writes go as they are.
#[track_caller]
fn check_end(mut scene: Scene) {
    scene.arrive(b"lastlate");
    assert_eq!(scene.read_all(9), (b"last".to_vec(), None));
    scene.arrive(b"later");
    assert!(!scene.socket.has_input(), "{:?}", scene.socket);
    assert_eq!(scene.read_all(9), (Vec::new(), None));
    assert!(!scene.socket.has_left(), "the end would be lost");
    assert_eq!(scene.write(b"out").unwrap(), 3);
    scene.socket.end().unwrap();
    assert_eq!(scene.line.sent(), b"out");
}

#[test]
fn the_end_of_a_stream_holds_when_the_layer_leaves_in_the_same_call() {
    for layer in ends_and_leaves() {
        check_end(Scene::new(layer));
    }
    for layer in ends_and_leaves() {
        check_end(Scene::new(layer).push(Identity, 0).opened());
    }
    for layer in ends_and_leaves() {
        check_end(Scene::new(Identity).push(layer, 0).opened());
    }
}

#[test]
fn the_end_of_a_stream_holds_when_the_layer_leaves_later() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            io.end_of_stream();
            Ok(())
        },
        end: |io| {
            io.send(b"bye");
            io.leave();
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(b"input");
    assert_eq!(scene.read_all(9), (Vec::new(), None));
    scene.socket.end().unwrap();
    assert!(!scene.socket.has_input());
    assert_eq!(scene.read_all(9), (Vec::new(), None));
    assert!(!scene.socket.has_left());
    assert_eq!(scene.line.sent(), b"bye");
}

#[test]
fn an_error_of_the_call_in_which_a_layer_leaves_ends_the_connection() {
    let returns = Custom {
        receive: |io| {
            io.leave();
            Err("bad".into())
        },
        ..CUSTOM
    };
    let misuses = Custom {
        receive: |io| {
            io.leave();
            io.consume(9);
            Ok(())
        },
        ..CUSTOM
    };
    for layer in [returns, misuses] {
        let mut scene = Scene::new(layer);
        scene.arrive(b"x");
        assert_eq!(scene.read_all(9), (Vec::new(), Some(ErrorKind::Other)));
        assert!(!scene.socket.has_left() && scene.socket.has_failed());
    }
}

#[test]
fn an_error_that_reading_met_is_told_behind_the_input_of_a_layer_that_leaves_later() {
    let mut scene = Scene::new(Custom {
        receive: |io| {
            io.wake_after(Duration::from_secs(1));
            Ok(())
        },
        timer: |io| {
            io.leave();
            Ok(())
        },
        ..CUSTOM
    });
    scene.arrive(b"input");
    scene.peer.break_with(libc::ECONNRESET);
    assert_eq!(scene.read_all(9), (Vec::new(), WOULD_BLOCK));
    // The kernel tells of it once.
    scene.peer.mend();
    scene.socket.timer(scene.socket.deadline().unwrap());
    assert_eq!(scene.read(9).unwrap(), b"input");
    assert!(!scene.socket.has_left());
    assert_eq!(kind(scene.read(9)), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_stack_of_which_all_have_left_is_the_bare_socket() {
    let mut scene = Scene::unopened(leaver()).push(leaver(), 0);
    scene.arrive(b"..");
    scene.socket.advance().unwrap();
    assert!(scene.socket.has_left());
    let (bare, off) = scene.socket.take_off_left();
    assert_eq!(off.count(), 2);
    assert!(Socket::into_foreign::<LayeredSocket>(bare).is_err());
}
