//! Layers that are right.

use std::io;
use std::time::Duration;
use tidegate::{Layer, LayerIo, Result};

/// Two bytes of length before each frame, and one of no bytes at the end.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) has_ended: bool,
}

impl Frames {
    /// Returns the next frame, if it is there.
    pub(crate) fn next(io: &mut LayerIo<'_>) -> Option<Vec<u8>> {
        let [high, low, rest @ ..] = &*io.input() else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let frame = rest.get(..len)?.to_vec();
        io.consume(2 + len);
        Some(frame)
    }

    pub(crate) fn put(data: &[u8], io: &mut LayerIo<'_>) -> usize {
        let len = data.len().min(100);
        io.send(&(len as u16).to_be_bytes());
        io.send(&data[..len]);
        len
    }
}

impl Layer for Frames {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        while let Some(frame) = Self::next(io) {
            io.deliver(&frame);
            if frame.is_empty() {
                self.has_ended = true;
                io.end_of_stream();
            }
        }
        Ok(())
    }

    fn input_ended(&mut self, _: &mut LayerIo<'_>) -> Result {
        if self.has_ended {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no last frame").into())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        Ok(Self::put(data, io))
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        Self::put(&[], io);
        Ok(())
    }
}

/// Opens when each end has greeted the other.
#[derive(Default)]
pub(crate) struct Greets {
    is_open: bool,
    frames: Frames,
}

const GREETING: &[u8] = b"hello, layer";

impl Layer for Greets {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(GREETING);
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if !self.is_open {
            if io.input().len() < GREETING.len() {
                return Ok(());
            }
            if !io.input().starts_with(GREETING) {
                return Err("not greeted".into());
            }
            io.consume(GREETING.len());
            io.open();
            self.is_open = true;
        }
        self.frames.receive(io)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames.input_ended(io)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.frames.send(data, io)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames.end(io)
    }
}

/// Takes a few bytes each second.
#[derive(Default)]
pub(crate) struct Throttle {
    is_waiting: bool,
    frames: Frames,
}

impl Layer for Throttle {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames.receive(io)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames.input_ended(io)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if self.is_waiting {
            return Ok(0);
        }
        self.is_waiting = true;
        io.wake_after(Duration::from_secs(1));
        self.frames.send(&data[..data.len().min(5_000)], io)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.frames.end(io)
    }

    fn timer(&mut self, _: &mut LayerIo<'_>) -> Result {
        self.is_waiting = false;
        Ok(())
    }
}

/// Passes bytes as they are.
pub(crate) struct Passes;

impl Layer for Passes {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let data = io.input().to_vec();
        io.deliver(&data);
        io.consume(data.len());
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

/// A line in front of the stream, behind which the layer leaves.
pub(crate) struct WritesHeader;

impl Layer for WritesHeader {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(b"PROXY somebody\n");
        io.leave();
        Ok(())
    }

    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        Err("called after it left".into())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Err("called after it left".into())
    }
}

/// Reads that line.
pub(crate) struct ReadsHeader;

impl Layer for ReadsHeader {
    fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if let Some(end) = io.input().iter().position(|byte| *byte == b'\n') {
            io.consume(end + 1);
            io.leave();
        }
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Err("called before it was open".into())
    }
}
