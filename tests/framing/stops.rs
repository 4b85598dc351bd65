//! Frames after which no other one may follow at once.

use crate::{Note, Notes, Reader, connection, frame};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use support::{Kind, Scene, drive, each_kind, failures, settle};
use tidegate::{EventLoop, Transport};
use tidegate_framing::{Framed, Lines, framed};

each_kind!(a_pause_holds_at_once_and_the_rest_comes_when_reading_goes_on);
fn a_pause_holds_at_once_and_the_rest_comes_when_reading_goes_on(kind: Kind) {
    let hold = Rc::new(RefCell::new(None));
    for held in [false, true] {
        let (notes, hold) = (Notes::default(), hold.clone());
        let kept = hold.clone();
        let reader = Reader::new(Lines::new(), &notes).on_frame(move |transport, _, _| {
            match held {
                true => *kept.borrow_mut() = Some(transport.hold_reading()),
                false => transport.pause_reading(),
            }
            Ok(())
        });
        let (mut event_loop, transport, mut peer) = connection(kind, Framed::new(reader));
        peer.send(b"one\ntwo\nthree");
        peer.shutdown_write();
        let mut expected = Vec::new();
        for line in [&b"one"[..], b"two", b"three"] {
            expected.push(frame(line));
            drive(&mut event_loop, "a line", || notes.len() == expected.len());
            settle(&mut event_loop);
            assert_eq!(notes.all(), expected);
            transport.resume_reading();
            hold.take();
        }
        expected.extend([Note::Eof, Note::Lost]);
        drive(&mut event_loop, "the end", || notes.len() == expected.len());
        assert_eq!(notes.all(), expected);
    }
}

type End = fn(&Transport);

each_kind!(after_close_and_abort_no_frame_comes);
fn after_close_and_abort_no_frame_comes(kind: Kind) {
    let ends: [End; 3] = [Transport::close, Transport::abort, Transport::reset];
    for end in ends {
        // Also of a torn one, and in its last frame.
        for pieces in [
            &[&b"one\ntwo\n"[..]][..],
            &[b"on", b"e\ntwo\n"],
            &[b"one\ntwo"],
        ] {
            let notes = Notes::default();
            let reader = Reader::new(Lines::new(), &notes).on_frame(move |transport, _, _| {
                end(transport);
                Ok(())
            });
            let (mut event_loop, _transport, mut peer) = connection(kind, Framed::new(reader));
            for piece in pieces {
                peer.send(piece);
                settle(&mut event_loop);
            }
            drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
            assert_eq!(notes.all(), [frame(b"one"), Note::Lost]);
        }
    }
}

each_kind!(after_an_error_of_frame_received_no_frame_comes);
fn after_an_error_of_frame_received_no_frame_comes(kind: Kind) {
    for pieces in [&[&b"one\ntwo\n"[..]][..], &[b"on", b"e\ntwo\n"]] {
        let notes = Notes::default();
        let reader = Reader::new(Lines::new(), &notes).on_frame(|_, _, _| Err("refused".into()));
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let (_transport, mut peer) = Scene::of(kind).on(&mut event_loop, Framed::new(reader));
        for piece in pieces {
            peer.send(piece);
            settle(&mut event_loop);
        }
        assert_eq!(notes.all(), [frame(b"one"), Note::Lost]);
        assert_eq!(failures.borrow().len(), 1);
    }
}

each_kind!(at_most_4096_frames_come_in_one_go_and_then_other_connections);
fn at_most_4096_frames_come_in_one_go_and_then_other_connections(kind: Kind) {
    const LINES: usize = 10_000;
    let mut event_loop = support::strict_loop();
    let (counts, others) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let counted = counts.clone();
    let many = framed(Lines::new(), move |_, _| {
        counted.set(counted.get() + 1);
        Ok(())
    });
    let (_transport, mut peer) = Scene::of(kind).on(&mut event_loop, many);
    let (seen, noted) = (counts.clone(), others.clone());
    let other = framed(Lines::new(), move |_, _| {
        noted.borrow_mut().push(seen.get());
        Ok(())
    });
    let (_other, mut other_peer) = Scene::of(kind).on(&mut event_loop, other);
    settle(&mut event_loop);
    peer.send(&b"\n".repeat(LINES));
    other_peer.send(b"other\n");
    let mut each_tick = Vec::new();
    drive(&mut event_loop, "all lines", || {
        each_tick.push(counts.get());
        counts.get() == LINES
    });
    each_tick.dedup();
    assert_eq!(each_tick.last_chunk(), Some(&[4096, 8192, LINES]));
    assert!(others.borrow()[0] <= 4096, "{others:?}");
}
