//! Changes of the codec and of the protocol between two frames, and the input of codecs.

use crate::{Note, Notes, Reader, connection, frame};
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, drive, each_kind, settle};
use tidegate::{Result, Transport};
use tidegate_framing::{Decode, Fixed, FrameProtocol, Framed, Lines, Step, framed};

/// Lines, and frames of one length between them.
#[derive(Clone)]
enum Mode {
    Lines(Lines),
    Fixed(Fixed),
}

impl Decode for Mode {
    type Frame<'a> = &'a [u8];
    type Error = tidegate::BoxError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>> {
        Ok(match self {
            Self::Lines(codec) => codec.decode(input)?,
            Self::Fixed(codec) => codec.decode(input)?,
        })
    }
}

impl crate::Noted for Mode {
    fn note(bytes: &[u8]) -> Note {
        frame(bytes)
    }
}

each_kind!(a_change_of_the_codec_holds_from_the_next_frame_on);
fn a_change_of_the_codec_holds_from_the_next_frame_on(kind: Kind) {
    let stream = b"line\n4\na\nb\nline\n2\n\n\nline\n";
    for cut in 1..stream.len() {
        let notes = Notes::default();
        let reader = Reader::new(Mode::Lines(Lines::new()), &notes).on_frame(|_, codec, note| {
            let len = |line: &[u8]| str::from_utf8(line).ok()?.parse().ok();
            *codec = match (&codec, note) {
                (Mode::Lines(_), Note::Frame(line)) if len(line).is_some() => {
                    Mode::Fixed(Fixed::new(len(line).unwrap()))
                }
                _ => Mode::Lines(Lines::new()),
            };
            Ok(())
        });
        let (mut event_loop, _transport, mut peer) = connection(kind, Framed::new(reader));
        peer.send(&stream[..cut]);
        settle(&mut event_loop);
        peer.send(&stream[cut..]);
        let expected = [
            &b"line"[..],
            b"4",
            b"a\nb\n",
            b"line",
            b"2",
            b"\n\n",
            b"line",
        ]
        .map(frame);
        drive(&mut event_loop, "the frames", || {
            notes.len() == expected.len()
        });
        assert_eq!(notes.all(), expected, "cut at {cut}");
    }
}

each_kind!(a_timer_changes_the_codec_as_a_field);
fn a_timer_changes_the_codec_as_a_field(kind: Kind) {
    let notes = Notes::default();
    let protocol = Framed::new(Reader::new(Mode::Lines(Lines::new()), &notes));
    let (mut event_loop, transport, mut peer) = connection(kind, protocol);
    transport.call_later(Duration::ZERO, |reader: &mut Reader<Mode>, _| {
        reader.codec = Mode::Fixed(Fixed::new(2));
        reader.notes.add(frame(b"changed"));
        Ok(())
    });
    drive(&mut event_loop, "the timer", || notes.len() == 1);
    peer.send(b"a\nb\n");
    drive(&mut event_loop, "two frames", || notes.len() == 3);
    assert_eq!(notes.all()[1..], [frame(b"a\n"), frame(b"b\n")]);
}

each_kind!(switching_is_a_loop_and_no_recursion);
fn switching_is_a_loop_and_no_recursion(kind: Kind) {
    const SWITCHES: usize = 20_000;
    let depths: Rc<RefCell<Vec<usize>>> = Rc::default();
    fn next(depths: Rc<RefCell<Vec<usize>>>) -> Framed<impl FrameProtocol> {
        framed(Lines::new(), move |transport, _| {
            let on_stack = 0;
            depths
                .borrow_mut()
                .push(std::ptr::from_ref(&on_stack).addr());
            transport.set_protocol(next_boxed(depths.clone()), b"")?;
            Ok(())
        })
    }
    fn next_boxed(depths: Rc<RefCell<Vec<usize>>>) -> Box<dyn tidegate::Protocol> {
        Box::new(next(depths))
    }
    let (mut event_loop, _transport, mut peer) = connection(kind, next(depths.clone()));
    peer.send(&b"\n".repeat(SWITCHES));
    drive(&mut event_loop, "all switches", || {
        depths.borrow().len() == SWITCHES
    });
    let depths = depths.borrow();
    let (least, most) = (depths.iter().min().unwrap(), depths.iter().max().unwrap());
    assert!(most - least < 10_000, "{} bytes of stack", most - least);
}

/// Frames that end with `.`, from a codec that remembers all that it has seen.
#[derive(Default)]
struct Remembers {
    seen: Vec<u8>,
    empty_frames: usize,
    asked: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Decode for Remembers {
    type Frame<'a> = &'a [u8];
    type Error = Infallible;

    fn decode<'a>(&mut self, input: &'a [u8]) -> std::result::Result<Step<&'a [u8]>, Infallible> {
        self.asked.borrow_mut().push(input.to_vec());
        assert!(
            input.starts_with(&self.seen),
            "{input:?} after {:?}",
            self.seen
        );
        if self.empty_frames > 0 {
            self.empty_frames -= 1;
            return Ok(Step::Frame(b"", 0));
        }
        if let [b' ', ..] = input {
            self.seen = input[1..].to_vec();
            return Ok(Step::Skip(1));
        }
        let Some(len) = input.iter().position(|&byte| byte == b'.') else {
            self.seen = input.to_vec();
            return Ok(Step::Need(0));
        };
        self.seen.clear();
        self.empty_frames = len;
        Ok(Step::Frame(&input[..len], len + 1))
    }
}

each_kind!(a_codec_sees_the_same_bytes_and_more_and_is_asked_again_after_an_empty_frame);
fn a_codec_sees_the_same_bytes_and_more_and_is_asked_again_after_an_empty_frame(kind: Kind) {
    let (codec, frames) = (Remembers::default(), Rc::new(RefCell::new(Vec::new())));
    let (asked, noted) = (codec.asked.clone(), frames.clone());
    let protocol = framed(codec, move |_: &Transport, frame: &[u8]| {
        noted.borrow_mut().push(frame.to_vec());
        Ok(())
    });
    let (mut event_loop, _transport, mut peer) = connection(kind, protocol);
    for piece in [&b" a"[..], b"b", b".  c", b"d. ", b"", b"efg", b"h.."] {
        if !piece.is_empty() {
            peer.send(piece);
        }
        settle(&mut event_loop);
    }
    let expected = ["ab", "", "", "cd", "", "", "efgh", "", "", "", "", ""];
    let expected = expected.map(|frame| frame.as_bytes().to_vec());
    assert_eq!(*frames.borrow(), expected);
    assert_eq!(asked.borrow().last(), Some(&Vec::new()));
}
