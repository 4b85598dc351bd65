//! Layers for the tests.

use crate::Result;
use crate::layer::{Layer, LayerIo};
use std::io;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(1);

/// Changes nothing.
#[derive(Debug)]
pub(in crate::layer) struct Identity;

impl Layer for Identity {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, _) = io.parts();
        above.deliver(input);
        let len = input.len();
        io.consume(len);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

/// Two bytes of length, the bytes, each one turned round.
#[derive(Debug)]
pub(in crate::layer) struct Framing;

pub(in crate::layer) fn frame(data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u16).to_be_bytes();
    let turned = data.iter().map(|byte| !byte);
    len.into_iter().chain(turned).collect()
}

/// Returns the bytes of the first frame, if it is whole, and turns them round.
fn unframe(input: &mut [u8]) -> Option<&mut [u8]> {
    let (len, rest) = input.split_first_chunk_mut::<2>()?;
    let data = rest.get_mut(..usize::from(u16::from_be_bytes(*len)))?;
    data.iter_mut().for_each(|byte| *byte = !*byte);
    Some(data)
}

/// Returns what a peer makes of the frames that have reached it.
pub(in crate::layer) fn unframed(mut wire: Vec<u8>) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::new(), 0);
    while let Some(data) = unframe(&mut wire[at..]) {
        plain.extend_from_slice(data);
        at += 2 + data.len();
    }
    plain
}

impl Layer for Framing {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, _) = io.parts();
        let mut consumed = 0;
        while let Some(data) = unframe(&mut input[consumed..]) {
            above.deliver(data);
            consumed += 2 + data.len();
        }
        io.consume(consumed);
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        if !io.input().is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        io.end_of_stream();
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let (_, _, mut below) = io.parts();
        let room = below.spare(2 + data.len());
        room[..2].copy_from_slice(&(data.len() as u16).to_be_bytes());
        for (to, byte) in room[2..].iter_mut().zip(data) {
            *to = !byte;
        }
        below.filled(2 + data.len());
        Ok(data.len())
    }
}

/// Sends up to `step` bytes each millisecond, and receives at the same pace.
#[derive(Debug)]
pub(in crate::layer) struct Slow {
    step: usize,
    may_send: bool,
    may_receive: bool,
    eof: bool,
}

impl Slow {
    pub(in crate::layer) fn new(step: usize) -> Self {
        Self {
            step,
            may_send: false,
            may_receive: false,
            eof: false,
        }
    }
}

impl Layer for Slow {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if self.may_receive {
            let (input, mut above, _) = io.parts();
            let len = input.len().min(self.step);
            above.deliver(&input[..len]);
            io.consume(len);
            self.may_receive = false;
        }
        if !io.input().is_empty() {
            io.wake_after(TICK);
        } else if self.eof {
            io.end_of_stream();
        }
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.eof = true;
        io.more();
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if !self.may_send {
            io.wake_after(TICK);
            return Ok(0);
        }
        self.may_send = false;
        let len = data.len().min(self.step);
        io.send(&data[..len]);
        Ok(len)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.may_send = true;
        self.may_receive = true;
        io.more();
        Ok(())
    }
}

/// Sends each run of equal bytes as a byte and a number, so that little becomes much.
#[derive(Debug)]
pub(in crate::layer) struct Runs {
    /// The maximum length of a run that is sent as one.
    pub(in crate::layer) most: u8,
    /// Delivers no more than there is room for.
    pub(in crate::layer) polite: bool,
    pub(in crate::layer) delivered: u8,
}

impl Layer for Runs {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let [byte, len, ..] = *io.input() {
            let mut now = len - self.delivered;
            if self.polite {
                now = now.min(u8::try_from(io.room()).unwrap_or(u8::MAX));
            }
            io.deliver(&[byte; 255][..usize::from(now)]);
            self.delivered += now;
            if self.delivered < len {
                io.more();
                return Ok(());
            }
            self.delivered = 0;
            io.consume(2);
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        for run in data.chunk_by(|one, two| one == two) {
            for part in run.chunks(usize::from(self.most)) {
                io.send(&[part[0], part.len() as u8]);
            }
        }
        Ok(data.len())
    }
}

/// Says a line in the beginning, reads one, and leaves.
#[derive(Debug)]
pub(in crate::layer) struct Greeting;

const LINE: &[u8] = b"hello\n";

impl Layer for Greeting {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(LINE);
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if io.input().len() < LINE.len() {
            return Ok(());
        }
        assert!(io.input().starts_with(LINE));
        io.consume(LINE.len());
        io.leave();
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        unreachable!("it is never open and there")
    }
}

/// In short what TLS is: a word from both sides to open it, frames, words of its own between them, and
/// an end that tells it from a cut.
#[derive(Debug, Default)]
pub(in crate::layer) struct Session {
    frames: u8,
    closed: bool,
}

impl Layer for Session {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(b"h");
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some(kind) = io.input().first().copied() {
            match kind {
                b'h' => io.open(),
                b'p' => io.send(b"o"),
                b'o' => {}
                b'd' => {
                    let (input, mut above, _) = io.parts();
                    let Some(data) = unframe(&mut input[1..]) else {
                        break;
                    };
                    above.deliver(data);
                    let len = 3 + data.len();
                    io.consume(len);
                    continue;
                }
                b'c' => {
                    self.closed = true;
                    io.end_of_stream();
                    io.deliver(b"behind the end");
                }
                _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
            io.consume(1);
        }
        Ok(())
    }

    fn input_ended(&mut self, _: &mut LayerIo<'_>) -> Result {
        end_or_cut(self.closed)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(5) {
            io.send(b"p");
        }
        io.send(b"d");
        io.send(&frame(data));
        Ok(data.len())
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(b"c");
        Ok(())
    }
}

/// The end of the stream below, for a layer whose peer says when it ends.
fn end_or_cut(closed: bool) -> Result {
    match closed {
        true => Ok(()),
        false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Sends a frame at a time, and the next one when the peer has said that it has the one before.
#[derive(Debug, Default)]
pub(in crate::layer) struct Turns {
    /// Waits on when the peer has ended its stream, and so says no more.
    pub(in crate::layer) strict: bool,
    waits: bool,
    closed: bool,
}

impl Turns {
    pub(in crate::layer) fn new(strict: bool) -> Self {
        Self {
            strict,
            ..Self::default()
        }
    }
}

impl Layer for Turns {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some(kind) = io.input().first().copied() {
            match kind {
                b'd' => {
                    let (input, mut above, mut below) = io.parts();
                    let Some(data) = unframe(&mut input[1..]) else {
                        break;
                    };
                    above.deliver(data);
                    below.send(b"a");
                    let len = 3 + data.len();
                    io.consume(len);
                    continue;
                }
                b'a' => self.waits = false,
                b'c' => {
                    self.waits &= self.strict;
                    self.closed = true;
                    io.end_of_stream();
                }
                _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
            io.consume(1);
        }
        Ok(())
    }

    fn input_ended(&mut self, _: &mut LayerIo<'_>) -> Result {
        end_or_cut(self.closed)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if self.waits {
            return Ok(0);
        }
        self.waits = !self.closed || self.strict;
        io.send(b"d");
        io.send(&frame(data));
        Ok(data.len())
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(b"c");
        Ok(())
    }
}

/// Asks with each frame, and replies to a question with far more. So both ends have much to say that
/// their users have not written.
#[derive(Debug)]
pub(in crate::layer) struct Chatty;

impl Layer for Chatty {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some(kind) = io.input().first().copied() {
            match kind {
                b'q' => io.send(&[b'r'; 50]),
                b'r' => {}
                b'd' => {
                    let (input, mut above, _) = io.parts();
                    let Some(data) = unframe(&mut input[1..]) else {
                        break;
                    };
                    above.deliver(data);
                    let len = 3 + data.len();
                    io.consume(len);
                    continue;
                }
                _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
            io.consume(1);
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let len = data.len().min(2);
        io.send(b"qd");
        io.send(&frame(&data[..len]));
        Ok(len)
    }
}

type Call = fn(&mut LayerIo<'_>) -> Result;

/// Does what the test says, else as [`Identity`].
pub(in crate::layer) struct Custom {
    pub(in crate::layer) start: Call,
    pub(in crate::layer) receive: Call,
    pub(in crate::layer) input_ended: Call,
    pub(in crate::layer) send: fn(&[u8], &mut LayerIo<'_>) -> Result<usize>,
    pub(in crate::layer) end: Call,
    pub(in crate::layer) timer: Call,
}

pub(in crate::layer) const CUSTOM: Custom = Custom {
    start: |io| {
        io.open();
        Ok(())
    },
    receive: |io| Identity.receive(io),
    input_ended: |io| {
        io.end_of_stream();
        Ok(())
    },
    send: |data, io| Identity.send(data, io),
    end: |_| Ok(()),
    timer: |_| Ok(()),
};

/// Delivers without end, as much as there is room for in each call.
pub(in crate::layer) const ENDLESS: Custom = Custom {
    receive: |io| {
        while io.room() > 0 {
            io.deliver(b"x");
        }
        io.more();
        Ok(())
    },
    ..CUSTOM
};

impl Layer for Custom {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.start)(io)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.receive)(io)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.input_ended)(io)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        (self.send)(data, io)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.end)(io)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.timer)(io)
    }
}
