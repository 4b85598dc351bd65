//! The layers that are put on the transport.

use super::{LayerKind, tls};
use std::cell::Cell;
use std::io::{Error, ErrorKind};
use std::rc::Rc;
use std::time::Duration;
use support::Rng;
use tidegate::{Layer, LayerIo, Result};

/// Maximum length of a rest, in µs.
const REST: usize = 1_000;

/// A line in front of the stream.
pub(super) fn header(len: usize) -> Vec<u8> {
    let mut line = vec![b'h'; len];
    line.push(b'\n');
    line
}

/// Bytes in a frame: its kind, its length, and the bytes changed so that they do not look like
/// themselves.
pub(super) fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&(content.len() as u16).to_be_bytes());
    frame.extend(content.iter().map(|byte| byte ^ 0x5a));
    frame
}

pub(super) const HELLO: u8 = b'H';
pub(super) const DATA: u8 = b'D';
pub(super) const END: u8 = b'E';

/// Returns the kind of the first frame, and its length in all, when its header is there.
pub(super) fn first_frame(wire: &[u8]) -> Option<(u8, usize)> {
    let header = wire.get(..3)?;
    let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
    Some((header[0], 3 + len))
}

/// The layers of a case that were not dropped, and the calls that the contract of layers forbids.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    count: Cell<usize>,
    wrong: Cell<Option<&'static str>>,
}

impl Alive {
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    pub(crate) fn wrong(&self) -> Option<&'static str> {
        self.wrong.get()
    }
}

/// Any layer of these; checks that it is called as the contract says.
pub(crate) struct Ours {
    layer: Box<dyn Layer>,
    alive: Rc<Alive>,
    started: bool,
    input_ended: bool,
    ended: bool,
    failed: bool,
}

impl Ours {
    /// `accepts`: it is at the accepted side of the connection.
    pub(crate) fn new(kind: LayerKind, accepts: bool, alive: &Rc<Alive>) -> Self {
        alive.count.set(alive.count.get() + 1);
        let layer: Box<dyn Layer> = match kind {
            LayerKind::Frames { hello } => Box::new(Frames {
                hello,
                is_open: !hello,
                ended: false,
            }),
            LayerKind::Little(most) => Box::new(Little(most)),
            LayerKind::Slow(seed) => Box::new(Slow {
                rng: Rng::new(seed),
                rests: false,
                may_rest: true,
            }),
            LayerKind::Leaves(after) => Box::new(Leaves(after)),
            LayerKind::Header(len) => Box::new(Header(len)),
            LayerKind::Tls { old } => tls::ours(old, accepts),
        };
        Self {
            layer,
            alive: alive.clone(),
            started: false,
            input_ended: false,
            ended: false,
            failed: false,
        }
    }

    fn calls<T>(
        &mut self,
        holds: bool,
        rule: &'static str,
        call: impl FnOnce(&mut dyn Layer) -> Result<T>,
    ) -> Result<T> {
        if !holds || self.failed {
            self.alive.wrong.set(Some(rule));
        }
        let result = call(&mut *self.layer);
        self.failed |= result.is_err();
        result
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.alive.count.set(self.alive.count.get() - 1);
    }
}

impl Layer for Ours {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        let first = !std::mem::replace(&mut self.started, true);
        self.calls(first, "start comes once, and first", |it| it.start(io))
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let started = self.started;
        self.calls(started, "receive comes after start", |it| it.receive(io))
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        let first = !std::mem::replace(&mut self.input_ended, true);
        let rule = "input_ended comes once, after start";
        self.calls(first && self.started, rule, |it| it.input_ended(io))
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let holds = self.started && !self.ended && !data.is_empty();
        let rule = "send comes with bytes, after start and before end";
        self.calls(holds, rule, |it| it.send(data, io))
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        let first = !std::mem::replace(&mut self.ended, true);
        let rule = "end comes once, after start";
        self.calls(first && self.started, rule, |it| it.end(io))
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        let started = self.started;
        self.calls(started, "timer comes after start", |it| it.timer(io))
    }

    fn open_limit(&self) -> Duration {
        self.layer.open_limit()
    }
}

struct Frames {
    hello: bool,
    is_open: bool,
    ended: bool,
}

impl Layer for Frames {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        if self.hello {
            io.send(&frame(HELLO, b"hello"));
        } else {
            io.open();
        }
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        loop {
            let (input, mut above, _) = io.parts();
            let Some((kind, len)) = first_frame(input).filter(|(_, len)| *len <= input.len())
            else {
                return Ok(());
            };
            match kind {
                HELLO => {
                    self.is_open = true;
                    io.open();
                }
                DATA => {
                    let content = &mut input[3..len];
                    content.iter_mut().for_each(|byte| *byte ^= 0x5a);
                    above.deliver(content);
                }
                END => {
                    self.ended = true;
                    io.consume(len);
                    io.end_of_stream();
                    return Ok(());
                }
                _ => return Err(Error::new(ErrorKind::InvalidData, "a bad frame").into()),
            }
            io.consume(len);
            if io.room() == 0 && !io.input().is_empty() {
                io.more();
                return Ok(());
            }
        }
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        if self.ended {
            io.end_of_stream();
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnexpectedEof, "a cut stream").into())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if !self.is_open {
            return Err("bytes before the layer is open".into());
        }
        io.send(&frame(DATA, data));
        Ok(data.len())
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(&frame(END, b""));
        Ok(())
    }
}

struct Little(usize);

impl Layer for Little {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, _) = io.parts();
        let len = input.len().min(self.0.max(1_000));
        above.deliver(&input[..len]);
        io.consume(len);
        if !io.input().is_empty() {
            io.more();
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let len = data.len().min(self.0);
        io.send(&data[..len]);
        Ok(len)
    }
}

struct Slow {
    rng: Rng,
    rests: bool,
    /// Did something since the last rest.
    may_rest: bool,
}

impl Slow {
    fn rests(&mut self, io: &mut LayerIo<'_>) -> bool {
        if !self.rests && self.may_rest && self.rng.percent(25) {
            self.rests = true;
            io.wake_after(Duration::from_micros(self.rng.below(REST) as u64));
        }
        self.rests
    }
}

impl Layer for Slow {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if self.rests(io) {
            return Ok(());
        }
        self.may_rest = true;
        let (input, mut above, _) = io.parts();
        if !input.is_empty() {
            let len = 1 + self.rng.below(input.len());
            above.deliver(&input[..len]);
            io.consume(len);
        }
        if !io.input().is_empty() {
            io.more();
        }
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        // It comes when all input was given, of which a rest may have left some.
        let (input, mut above, _) = io.parts();
        let len = input.len();
        above.deliver(input);
        io.consume(len);
        io.end_of_stream();
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if self.rests(io) {
            return Ok(0);
        }
        self.may_rest = true;
        let len = 1 + self.rng.below(data.len());
        io.send(&data[..len]);
        Ok(len)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.rests = false;
        self.may_rest = false;
        if !io.input().is_empty() {
            io.more();
        }
        Ok(())
    }
}

struct Leaves(usize);

impl Leaves {
    fn pass(&mut self, len: usize, io: &mut LayerIo<'_>) {
        self.0 = self.0.saturating_sub(len);
        if self.0 == 0 {
            io.leave();
        }
    }
}

impl Layer for Leaves {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.open();
        self.pass(0, io);
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, _) = io.parts();
        let len = input.len().min(self.0);
        above.deliver(&input[..len]);
        io.consume(len);
        self.pass(len, io);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let len = data.len().min(self.0);
        io.send(&data[..len]);
        self.pass(len, io);
        Ok(len)
    }
}

struct Header(usize);

impl Layer for Header {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(&header(self.0));
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        match io.input().iter().position(|byte| *byte == b'\n') {
            Some(end) if end == self.0 => {
                io.consume(end + 1);
                io.leave();
                Ok(())
            }
            None if io.input().len() <= self.0 => Ok(()),
            _ => Err(Error::new(ErrorKind::InvalidData, "another header").into()),
        }
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Err("bytes for a layer that is not open, or has left".into())
    }
}
