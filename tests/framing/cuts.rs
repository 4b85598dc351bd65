//! A stream has the same frames, and then its end, however it is cut, and wherever its reader pauses or
//! hands over to another one.

use crate::{Note, Noted, Notes, Reader, frame};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;
use support::{BOUND, Kind, Rng, Scene, each_kind, strict_loop, tick};
use tidegate::{ReadHold, Transport};
use tidegate_framing::{
    Delimiter, Fixed, Framed, LengthPrefix, LineEnd, Lines, Netstring, Overlong, Prefix, Raw,
    TokioCodec,
};
use tokio_util::codec::LinesCodec;

const CASES: usize = 300;

/// The things that readers have in common, also those that take over.
struct Shared {
    rng: RefCell<Rng>,
    notes: Notes,
    hold: Cell<Option<ReadHold>>,
    is_stopped: Cell<bool>,
    /// The number of the reader that is to get the next frame.
    reader: Cell<usize>,
    acts: bool,
}

impl Shared {
    fn roll(&self, percent: usize) -> bool {
        self.acts && self.rng.borrow_mut().percent(percent)
    }

    /// Pauses, hands over, or does nothing.
    fn act<C: Noted>(self: &Rc<Self>, transport: &Transport, codec: &C) {
        if self.roll(10) {
            transport.pause_reading();
            self.is_stopped.set(true);
        }
        if self.roll(3) {
            self.hold.set(Some(transport.hold_reading()));
            self.is_stopped.set(true);
        }
        if self.roll(10) {
            self.hand_over(transport, codec.clone());
        }
    }

    fn hand_over<C: Noted>(self: &Rc<Self>, transport: &Transport, codec: C) {
        let next = self.next_reader(codec);
        transport.set_protocol(next, b"").unwrap();
    }

    fn next_reader<C: Noted>(self: &Rc<Self>, codec: C) -> Framed<Reader<C>> {
        let number = self.reader.get() + 1;
        self.reader.set(number);
        let shared = self.clone();
        let reader = Reader::new(codec, &self.notes).on_frame(move |transport, codec, _| {
            assert_eq!(shared.reader.get(), number, "a frame for the reader before");
            assert!(!shared.is_stopped.get(), "a frame in a pause");
            shared.act(transport, codec);
            Ok(())
        });
        Framed::new(reader)
    }

    fn go_on(&self, transport: &Transport) {
        transport.resume_reading();
        self.hold.take();
        self.is_stopped.set(false);
    }
}

fn check<C: Noted>(kind: Kind, rng: &mut Rng, codec: C, stream: &[u8], mut expected: Vec<Note>) {
    let shared = Rc::new(Shared {
        rng: RefCell::new(Rng::new(rng.any())),
        notes: Notes::default(),
        hold: Cell::new(None),
        is_stopped: Cell::new(false),
        reader: Cell::new(0),
        acts: rng.percent(80),
    });
    let mut event_loop = strict_loop();
    let first = shared.next_reader(codec);
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, first);
    let most = [3.0, 100.0, 3_000.0, 100_000.0][rng.below(4)];
    let (mut rest, mut is_shut) = (stream, false);
    let start = Instant::now();
    while !shared.notes.has(&Note::Lost) {
        let seen = || shared.notes.len();
        assert!(start.elapsed() < BOUND, "{} of {}", seen(), expected.len());
        if rest.is_empty() && !is_shut && rng.percent(50) {
            peer.shutdown_write();
            is_shut = true;
        }
        let len = rest.len().min(rng.magnitude(most));
        if len > 0 {
            rest = &rest[peer.write(&rest[..len])..];
        }
        for _ in 0..rng.below(3) {
            tick(&mut event_loop);
        }
        if rng.percent(40) || seen() == expected.len() {
            shared.go_on(&transport);
        }
        if shared.roll(5) && !transport.is_closing() {
            // From outside of a callback: only there a torn frame is left over.
            let codec = transport.with_protocol(|reader: &mut Reader<C>, _| reader.codec.clone());
            shared.hand_over(&transport, codec.unwrap());
        }
    }
    expected.extend([Note::Eof, Note::Lost]);
    let notes = shared.notes.all();
    let first = notes
        .iter()
        .zip(&expected)
        .position(|(one, other)| one != other);
    assert!(notes == expected, "other frames from {first:?} on");
}

/// Payloads of these bytes, mostly short ones.
fn payloads(rng: &mut Rng, letters: &[u8]) -> Vec<Vec<u8>> {
    let longest = [20.0, 300.0, 10_000.0][rng.below(3)];
    let most = 60_000.0 / longest;
    let payload = |rng: &mut Rng| {
        let len = rng.magnitude(longest) - 1;
        (0..len)
            .map(|_| letters[rng.below(letters.len())])
            .collect()
    };
    (0..rng.magnitude(most)).map(|_| payload(rng)).collect()
}

fn frames(payloads: &[Vec<u8>]) -> Vec<Note> {
    payloads.iter().map(|payload| frame(payload)).collect()
}

fn joined(payloads: &[Vec<u8>], mut encode: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    payloads
        .iter()
        .flat_map(|payload| encode(payload))
        .collect()
}

fn check_kind(kind: Kind, rng: &mut Rng, which: usize) {
    match which {
        0 => {
            let payloads = payloads(rng, b"ab\r ");
            let mut stream = joined(&payloads, |line| [line, &b"\r\n"[..]].concat());
            let mut expected = frames(&payloads);
            if rng.percent(50) {
                stream.extend_from_slice(b"without an end");
                expected.push(frame(b"without an end"));
            }
            check(kind, rng, Lines::new(), &stream, expected);
        }
        1 => {
            let payloads = payloads(rng, b"ab\n");
            let stream = joined(&payloads, |line| [line, &b"\r\n"[..]].concat());
            let expected = frames(&payloads);
            check(
                kind,
                rng,
                Lines::new().end(LineEnd::CrLf),
                &stream,
                expected,
            );
        }
        2 => {
            let mut payloads = payloads(rng, b"abc");
            let stream = joined(&payloads, |line| [line, &b"\n"[..]].concat());
            payloads.retain(|line| line.len() <= 100);
            let codec = Lines::new().max(100).overlong(Overlong::Skip);
            check(kind, rng, codec, &stream, frames(&payloads));
        }
        3 => {
            let payloads = payloads(rng, b"-ab");
            let stream = joined(&payloads, |frame| [frame, &b"-+"[..]].concat());
            check(kind, rng, Delimiter::new(b"-+"), &stream, frames(&payloads));
        }
        4 => {
            let len = 1 + rng.below(9);
            let stream: Vec<_> = (0..len * rng.magnitude(10_000.0))
                .map(|at| at as u8)
                .collect();
            let expected = stream.chunks(len).map(frame).collect();
            check(kind, rng, Fixed::new(len), &stream, expected);
        }
        5 => {
            let payloads = payloads(rng, &[0, 1, 2, 255]);
            let stream = joined(&payloads, |payload| {
                let head = (payload.len() as u32 + 5).to_le_bytes();
                [&b"k"[..], &head[..], payload].concat()
            });
            let codec = LengthPrefix::new(Prefix::Little(4))
                .offset(1)
                .includes_header();
            check(kind, rng, codec, &stream, frames(&payloads));
        }
        6 => {
            let payloads = payloads(rng, b"0:,");
            let stream = joined(&payloads, |payload| {
                let head = format!("{}:", payload.len());
                [head.as_bytes(), payload, b","].concat()
            });
            check(kind, rng, Netstring::new(), &stream, frames(&payloads));
        }
        7 => {
            let payloads = payloads(rng, b"abc");
            let stream = joined(&payloads, |line| [line, &b"\n"[..]].concat());
            let codec = TokioCodec::new(LinesCodec::new());
            check(kind, rng, codec, &stream, frames(&payloads));
        }
        _ => {
            let payloads = payloads(rng, b"a\n ");
            let head = |body: &[u8]| format!("head {}", body.len());
            let stream = joined(&payloads, |body| {
                [head(body).as_bytes(), b"\n", body].concat()
            });
            let mut expected = Vec::new();
            for body in &payloads {
                expected.push(frame(head(body).as_bytes()));
                if !body.is_empty() {
                    expected.push(Note::Raw(body.clone(), true));
                }
            }
            check(kind, rng, Raw::new(Lines::new()), &stream, expected);
        }
    }
}

each_kind!(the_frames_and_then_the_end_are_the_same_wherever_it_is_cut_pauses_or_hands_over);
fn the_frames_and_then_the_end_are_the_same_wherever_it_is_cut_pauses_or_hands_over(kind: Kind) {
    let mut rng = Rng::from_environment();
    for case in 0..CASES {
        check_kind(kind, &mut rng, case % 9);
    }
}
