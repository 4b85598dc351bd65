//! Frames after which no other one may follow at once.

use crate::{Note, Noted, Notes, Reader, connection, frame};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use support::{Kind, Log, Recorder, Scene, Seen, drive, each_kind, failures, settle};
use tidegate::{EventLoop, Transport};
use tidegate_framing::{Decode, Framed, Lines, Step, framed};

/// Keeps all lines until the stream ends. Then each is a frame of no bytes.
#[derive(Debug, Clone, Default)]
struct AtEnd {
    lines: VecDeque<Vec<u8>>,
}

impl Decode for AtEnd {
    type Frame<'a> = Vec<u8>;
    type Error = Infallible;

    fn decode(&mut self, input: &[u8]) -> Result<Step<Vec<u8>>, Infallible> {
        let Some(len) = input.iter().position(|&byte| byte == b'\n') else {
            return Ok(Step::Need(0));
        };
        self.lines.push_back(input[..len].to_vec());
        Ok(Step::Skip(len + 1))
    }

    fn decode_eof(&mut self, _: &[u8]) -> Result<Step<Vec<u8>>, Infallible> {
        let line = self.lines.pop_front();
        Ok(line.map_or(Step::Need(0), |line| Step::Frame(line, 0)))
    }
}

impl Noted for AtEnd {
    fn note(line: Vec<u8>) -> Note {
        frame(&line)
    }
}

/// Stops reading in each of the lines `one`, `two` and `three`.
#[track_caller]
fn check_pauses<C: Noted>(kind: Kind, codec: &C, stream: &[u8]) {
    let hold = Rc::new(RefCell::new(None));
    for held in [false, true] {
        let (notes, hold) = (Notes::default(), hold.clone());
        let kept = hold.clone();
        let reader = Reader::new(codec.clone(), &notes).on_frame(move |transport, _, _| {
            match held {
                true => *kept.borrow_mut() = Some(transport.hold_reading()),
                false => transport.pause_reading(),
            }
            Ok(())
        });
        let (mut event_loop, transport, mut peer) = connection(kind, Framed::new(reader));
        peer.send(stream);
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

each_kind!(a_pause_holds_at_once_and_the_rest_comes_when_reading_goes_on);
fn a_pause_holds_at_once_and_the_rest_comes_when_reading_goes_on(kind: Kind) {
    check_pauses(kind, &Lines::new(), b"one\ntwo\nthree");
}

each_kind!(a_pause_holds_between_frames_of_the_end_alone_and_then_the_others_come_and_the_end);
fn a_pause_holds_between_frames_of_the_end_alone_and_then_the_others_come_and_the_end(kind: Kind) {
    check_pauses(kind, &AtEnd::default(), b"one\ntwo\nthree\n");
}

each_kind!(a_protocol_that_takes_over_between_frames_of_the_end_alone_gets_the_end);
fn a_protocol_that_takes_over_between_frames_of_the_end_alone_gets_the_end(kind: Kind) {
    let (notes, log) = (Notes::default(), Log::new().switched_in());
    let next = log.clone();
    let reader = Reader::new(AtEnd::default(), &notes).on_frame(move |transport, _, _| {
        transport.set_protocol(Recorder::new(&next), b"")?;
        Ok(())
    });
    let (mut event_loop, _transport, mut peer) = connection(kind, Framed::new(reader));
    peer.send(b"one\ntwo\n");
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(notes.all(), [frame(b"one")]);
    assert_eq!(log.data(), b"");
    assert!(log.has(&Seen::Eof));
}

type End = fn(&Transport);

/// Ends the connection in the line `one`.
#[track_caller]
fn check_ended<C: Noted>(kind: Kind, end: End, codec: C, pieces: &[&[u8]], is_shut: bool) {
    let notes = Notes::default();
    let reader = Reader::new(codec, &notes).on_frame(move |transport, _, _| {
        end(transport);
        Ok(())
    });
    let (mut event_loop, _transport, mut peer) = connection(kind, Framed::new(reader));
    for piece in pieces {
        peer.send(piece);
        settle(&mut event_loop);
    }
    if is_shut {
        peer.shutdown_write();
    }
    drive(&mut event_loop, "the end", || notes.has(&Note::Lost));
    assert_eq!(notes.all(), [frame(b"one"), Note::Lost]);
}

each_kind!(after_close_and_abort_no_frame_comes_and_no_end);
fn after_close_and_abort_no_frame_comes_and_no_end(kind: Kind) {
    let ends: [End; 3] = [Transport::close, Transport::abort, Transport::reset];
    for end in ends {
        // Also of a torn one, and in its last frame.
        for pieces in [
            &[&b"one\ntwo\n"[..]][..],
            &[b"on", b"e\ntwo\n"],
            &[b"one\ntwo"],
        ] {
            check_ended(kind, end, Lines::new(), pieces, false);
        }
        check_ended(kind, end, AtEnd::default(), &[b"one\ntwo\n"], true);
        check_ended(kind, end, AtEnd::default(), &[b"one\n"], true);
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

/// Returns the numbers of lines after each tick, and those at which another connection had its own.
fn lines_in_each_tick<C: Noted>(kind: Kind, codec: C, count: usize) -> (Vec<usize>, Vec<usize>) {
    let mut event_loop = support::strict_loop();
    let (counts, others) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let counted = counts.clone();
    let many = framed(codec, move |_, _| {
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
    peer.send(&b"\n".repeat(count));
    peer.shutdown_write();
    other_peer.send(b"other\n");
    let mut each_tick = Vec::new();
    drive(&mut event_loop, "all lines", || {
        each_tick.push(counts.get());
        counts.get() == count && !others.borrow().is_empty()
    });
    each_tick.dedup();
    (each_tick, others.take())
}

each_kind!(at_most_4096_frames_come_in_one_go_and_then_other_connections);
fn at_most_4096_frames_come_in_one_go_and_then_other_connections(kind: Kind) {
    const LINES: usize = 10_000;
    let (each_tick, others) = lines_in_each_tick(kind, Lines::new(), LINES);
    assert_eq!(each_tick.last_chunk(), Some(&[4096, 8192, LINES]));
    assert!(others[0] <= 4096, "{others:?}");
    let (each_tick, others) = lines_in_each_tick(kind, AtEnd::default(), LINES);
    assert_eq!(each_tick.last_chunk(), Some(&[4096, 8192, LINES]));
    assert!(others[0] <= 4096, "{others:?}");
}
