//! A stream has the same frames, and then its end, however it is cut, and wherever its reader pauses or
//! hands over to another one.

use crate::streams::{Check, STREAMS, check_stream};
use crate::{Note, Noted, Notes, Reader};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;
use support::{BOUND, Kind, Rng, Scene, each_kind, strict_loop, tick};
use tidegate::{ReadHold, Transport};
use tidegate_framing::Framed;

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

/// A protocol on a connection of this kind.
struct OnConnection(Kind);

impl Check for OnConnection {
    fn check<C: Noted>(&mut self, rng: &mut Rng, codec: C, stream: &[u8], expected: Vec<Note>) {
        check(self.0, rng, codec, stream, expected);
    }
}

each_kind!(the_frames_and_then_the_end_are_the_same_wherever_it_is_cut_pauses_or_hands_over);
fn the_frames_and_then_the_end_are_the_same_wherever_it_is_cut_pauses_or_hands_over(kind: Kind) {
    let mut rng = Rng::from_environment();
    for case in 0..CASES {
        check_stream(&mut rng, case % STREAMS, &mut OnConnection(kind));
    }
}
