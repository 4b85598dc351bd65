//! A layer for tests that is like TLS in all that a connection sees of it: a handshake, records, an
//! end of its own, and alerts.

use crate::{Peer, drive};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{EventLoop, Layer, LayerIo, Result};

/// The maximum number of bytes in one record.
pub const RECORD: usize = 1024;

/// The length of the head of a record: its kind, and the length of its content.
pub const HEADER: usize = 3;

const HELLO: u8 = b'H';
const DATA: u8 = b'D';
const END: u8 = b'E';
const ALERT: u8 = b'A';
const ASK: u8 = b'?';
const REPLY: u8 = b'!';

/// Puts content into a record, changed so that it does not look like itself. An unknown kind is a bad
/// record.
pub fn record_of(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend_from_slice(&(content.len() as u16).to_be_bytes());
    record.extend(content.iter().map(|byte| byte ^ 0xa5));
    record
}

/// The first bytes of a [`Seal`].
pub fn hello() -> Vec<u8> {
    record_of(HELLO, b"hello")
}

/// Returns the form that a [`Seal`] gives these bytes.
pub fn sealed(data: &[u8]) -> Vec<u8> {
    let records = data.chunks(RECORD);
    records.flat_map(|data| record_of(DATA, data)).collect()
}

/// The last bytes of a [`Seal`]'s stream.
pub fn end_of_seal() -> Vec<u8> {
    record_of(END, b"")
}

/// The bytes that a [`Seal`] sends before it fails.
pub fn alert(reason: &str) -> Vec<u8> {
    record_of(ALERT, reason.as_bytes())
}

/// A question that a [`Seal`] replies to by itself, whatever its protocol does.
pub fn question() -> Vec<u8> {
    record_of(ASK, b"")
}

/// One thing that a [`Seal`] has said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match it")]
pub enum Said {
    /// The handshake.
    Hello,
    /// Bytes of the protocol; those of neighbouring records are joined.
    Data(Vec<u8>),
    /// The end of the stream.
    End,
    /// Why the layer fails.
    Alert(String),
    /// The reply to a [`question`].
    Reply,
    /// The beginning of a record.
    Part(usize),
}

/// Takes apart what a [`Seal`] has sent.
pub fn unsealed(mut wire: &[u8]) -> Vec<Said> {
    let mut all = Vec::new();
    while let Some((kind, content, len)) = first(wire) {
        wire = &wire[len..];
        let said = match kind {
            HELLO => Said::Hello,
            END => Said::End,
            REPLY => Said::Reply,
            ALERT => Said::Alert(String::from_utf8_lossy(&content).into_owned()),
            _ => Said::Data(content),
        };
        match (all.last_mut(), said) {
            (Some(Said::Data(before)), Said::Data(more)) => before.extend(more),
            (_, said) => all.push(said),
        }
    }
    if !wire.is_empty() {
        all.push(Said::Part(wire.len()));
    }
    all
}

impl Peer {
    /// Returns what the [`Seal`] at the other end has said so far, behind the first `skipped` bytes.
    pub fn said_behind(&mut self, skipped: usize) -> Vec<Said> {
        self.read_available();
        unsealed(self.received().get(skipped..).unwrap_or_default())
    }

    /// Runs the loop until the [`Seal`] at the other end has said this, and nothing else.
    #[track_caller]
    pub fn expect_said(&mut self, event_loop: &mut EventLoop, expected: &[Said]) {
        let mut last = Vec::new();
        let what = format!("{expected:?} at the peer");
        drive(event_loop, &what, || {
            last = self.said_behind(0);
            last == expected || self.is_ended()
        });
        assert_eq!(last, expected, "then {:?}", self.saw_error());
    }
}

/// Returns the first record, if all of it is there, and its length.
fn first(wire: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let header = wire.get(..HEADER)?;
    let len = HEADER + usize::from(u16::from_be_bytes([header[1], header[2]]));
    let content = wire.get(HEADER..len)?;
    Some((
        header[0],
        content.iter().map(|byte| byte ^ 0xa5).collect(),
        len,
    ))
}

/// The calls of the layers of a test, in order.
pub type Calls = Rc<RefCell<Vec<&'static str>>>;

/// The layer. One that begins says its hello first; the other replies.
#[derive(Debug)]
pub struct Seal {
    begins: bool,
    limit: Duration,
    ended: bool,
    calls: Calls,
}

impl Seal {
    /// The side that speaks first.
    pub fn client() -> Self {
        Self::new(true)
    }

    /// The side that replies.
    pub fn server() -> Self {
        Self::new(false)
    }

    fn new(begins: bool) -> Self {
        Self {
            begins,
            limit: Duration::from_secs(60),
            ended: false,
            calls: Calls::default(),
        }
    }

    /// Sets the time in which it must open.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Notes its calls in `calls`, and its drop.
    #[must_use]
    pub fn noted_in(mut self, calls: &Calls) -> Self {
        self.calls = calls.clone();
        self
    }

    /// Returns whether the peer has ended its stream.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn note(&self, call: &'static str) {
        self.calls.borrow_mut().push(call);
    }
}

impl Layer for Seal {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.note("start");
        if self.begins {
            io.send(&hello());
        }
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some((kind, content, len)) = first(io.input()) {
            io.consume(len);
            match kind {
                HELLO => {
                    if !self.begins {
                        io.send(&hello());
                    }
                    self.note("open");
                    io.open();
                }
                DATA => io.deliver(&content),
                END => {
                    self.ended = true;
                    io.end_of_stream();
                    return Ok(());
                }
                ASK => io.send(&record_of(REPLY, b"")),
                REPLY => {}
                ALERT => {
                    let reason = String::from_utf8_lossy(&content).into_owned();
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason).into());
                }
                _ => {
                    io.send(&alert("a bad record"));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a bad record").into());
                }
            }
        }
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        if self.ended {
            io.end_of_stream();
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cut stream").into())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(&sealed(data));
        Ok(data.len())
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.note("end");
        io.send(&end_of_seal());
        Ok(())
    }

    fn open_limit(&self) -> Duration {
        self.limit
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        self.note("drop");
    }
}
