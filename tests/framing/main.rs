//! The tests of tidegate-framing, by theme, on real sockets. Those of codecs alone are in the crate.

mod bounded;
mod cuts;
mod encoders;
mod ends;
mod failures;
mod floods;
mod late;
mod lengths;
mod memory;
mod reader;
mod reader_cuts;
mod reader_ends;
mod resets;
mod slow_senders;
mod stops;
mod streams;
mod switches;

use std::cell::RefCell;
use std::rc::Rc;
use support::{Kind, Peer, Scene, strict_loop};
use tidegate::{BoxError, Closed, EventLoop, OnEof, Result, Transport};
use tidegate_framing::{
    Decode, Delimiter, Fixed, FrameProtocol, Framed, LengthPrefix, Lines, Netstring, Piece, Raw,
    Step, TokioCodec,
};
use tidegate_streams::{FramedError, FramedReader};
use tokio_util::codec::{LengthDelimitedCodec, LinesCodec};

/// Anything that a protocol was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    Frame(Vec<u8>),
    /// Adjacent pieces are joined, unless one was the last.
    Raw(Vec<u8>, bool),
    Failed(String),
    Eof,
    Lost,
}

fn frame(bytes: &[u8]) -> Note {
    Note::Frame(bytes.to_vec())
}

/// A codec whose frames can be noted.
trait Noted: Decode + Clone + 'static {
    fn note(frame: Self::Frame<'_>) -> Note;

    /// Acts on a frame, as a protocol does with its codec.
    fn act(&mut self, _: &Note) {}

    /// Reads a frame by itself, if it is bytes.
    async fn next(reader: &mut FramedReader<Self>) -> Result<Option<Note>, FramedError> {
        lent(reader).await
    }
}

/// Reads a frame that is lent. Each time that it is ready bytes have come, or the end.
async fn lent<C: Noted>(reader: &mut FramedReader<C>) -> Result<Option<Note>, FramedError> {
    for _ in 0..1_000_000 {
        if !reader.ready().await? {
            return Ok(None);
        }
        let note = reader.next_ready()?.map(C::note);
        if let Some(note) = note {
            reader.codec().act(&note);
            return Ok(Some(note));
        }
    }
    panic!("ready again and again, for nothing: {reader:?}")
}

macro_rules! noted {
    ($($codec:ty),*) => {
        $(impl Noted for $codec {
            fn note(bytes: &[u8]) -> Note {
                frame(bytes)
            }

            async fn next(reader: &mut FramedReader<Self>) -> Result<Option<Note>, FramedError> {
                Ok(reader.next().await?.map(|bytes| frame(&bytes)))
            }
        })*
    };
}

noted!(Lines, Delimiter, Fixed, LengthPrefix, Netstring, Packets);

/// Packets of 188 bytes, each of which counts when the two behind it have begun, or the stream ends.
#[derive(Debug, Clone)]
struct Packets;

impl Packets {
    const LEN: usize = 188;
}

impl Decode for Packets {
    type Frame<'a> = &'a [u8];
    type Error = BoxError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>> {
        Ok(match (2 * Self::LEN + 1).checked_sub(input.len()) {
            None | Some(0) => Step::Frame(&input[..Self::LEN], Self::LEN),
            Some(missing) => Step::Need(missing),
        })
    }

    fn decode_eof<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>> {
        let packet = input.get(..Self::LEN);
        Ok(packet.map_or(Step::Need(0), |packet| Step::Frame(packet, Self::LEN)))
    }
}

impl Noted for TokioCodec<LengthDelimitedCodec> {
    fn note(bytes: bytes::BytesMut) -> Note {
        frame(&bytes)
    }
}

impl Noted for TokioCodec<LinesCodec> {
    fn note(line: String) -> Note {
        frame(line.as_bytes())
    }
}

/// A head ends with a space and the number of bytes behind it.
impl Noted for Raw<Lines> {
    fn note(piece: Piece<'_, &[u8]>) -> Note {
        match piece {
            Piece::Frame(line) => frame(line),
            Piece::Raw { bytes, left } => Note::Raw(bytes.to_vec(), left == 0),
        }
    }

    fn act(&mut self, note: &Note) {
        if let Note::Frame(head) = note {
            let head = str::from_utf8(head).unwrap();
            let (_, len) = head.rsplit_once(' ').unwrap();
            self.expect(len.parse().unwrap());
        }
    }
}

#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<Note>>>);

impl Notes {
    fn add(&self, note: Note) {
        let mut notes = self.0.borrow_mut();
        match (notes.last_mut(), note) {
            (Some(Note::Raw(bytes, last @ false)), Note::Raw(more, now_last)) => {
                bytes.extend_from_slice(&more);
                *last = now_last;
            }
            (_, note) => notes.push(note),
        }
    }

    fn all(&self) -> Vec<Note> {
        self.0.borrow().clone()
    }

    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Returns the texts of the errors.
    fn failed(&self) -> Vec<String> {
        let text = |note| match note {
            Note::Failed(text) => Some(text),
            _ => None,
        };
        self.all().into_iter().filter_map(text).collect()
    }

    fn has(&self, note: &Note) -> bool {
        self.0.borrow().contains(note)
    }
}

type OnFrame<C> = Box<dyn FnMut(&Transport, &mut C, &Note) -> Result>;
type OnFailure = Box<dyn FnMut(&Transport, BoxError) -> Result>;

/// A protocol that notes what it is told.
struct Reader<C> {
    codec: C,
    notes: Notes,
    on_frame: OnFrame<C>,
    on_failure: OnFailure,
    on_eof: OnEof,
}

impl<C: Noted> Reader<C> {
    fn new(codec: C, notes: &Notes) -> Self {
        Self {
            codec,
            notes: notes.clone(),
            on_frame: Box::new(|_, _, _| Ok(())),
            on_failure: Box::new(|_, error| Err(error)),
            on_eof: OnEof::Close,
        }
    }

    fn on_frame(mut self, call: impl FnMut(&Transport, &mut C, &Note) -> Result + 'static) -> Self {
        self.on_frame = Box::new(call);
        self
    }

    fn on_failure(mut self, call: impl FnMut(&Transport, BoxError) -> Result + 'static) -> Self {
        self.on_failure = Box::new(call);
        self
    }
}

impl<C: Noted> FrameProtocol for Reader<C> {
    type Codec = C;

    fn codec(&mut self) -> &mut C {
        &mut self.codec
    }

    fn frame_received(&mut self, transport: &Transport, frame: C::Frame<'_>) -> Result {
        let note = C::note(frame);
        self.codec.act(&note);
        self.notes.add(note.clone());
        (self.on_frame)(transport, &mut self.codec, &note)
    }

    fn frame_failed(&mut self, transport: &Transport, error: BoxError) -> Result {
        self.notes.add(Note::Failed(error.to_string()));
        (self.on_failure)(transport, error)
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        self.notes.add(Note::Eof);
        Ok(self.on_eof)
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        self.notes.add(Note::Lost);
    }
}

/// A connection that the loop adopts, with this protocol.
#[track_caller]
fn connection<P: FrameProtocol>(kind: Kind, protocol: Framed<P>) -> (EventLoop, Transport, Peer) {
    let mut event_loop = strict_loop();
    let (transport, peer) = Scene::of(kind).on(&mut event_loop, protocol);
    (event_loop, transport, peer)
}
