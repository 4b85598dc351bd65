//! A user's layer: frames with a number and a length, their bytes masked, and one that ends the stream.

use crate::ledger::{Guard, Ledger};
use std::io;
use std::rc::Rc;
use tidegate::{Layer, LayerIo, Result};

const HELLO: &[u8] = b"FRAMES\n";

/// Of a frame: its number, and its length in two bytes.
const HEAD: usize = 3;

/// Maximum of bytes in a frame.
const MAX: usize = 10_000;

pub(super) struct Framing {
    rng: fastrand::Rng,
    is_open: bool,
    is_ended: bool,
    sent: u8,
    received: u8,
    /// Takes less than it is given.
    is_picky: bool,
    /// Delivers no more than there is room for.
    is_polite: bool,
    _guard: Guard,
}

impl Framing {
    pub(super) fn new(ledger: &Rc<Ledger>, rng: &mut fastrand::Rng) -> Self {
        Self {
            is_picky: rng.bool(),
            is_polite: rng.bool(),
            rng: rng.fork(),
            is_open: false,
            is_ended: false,
            sent: 0,
            received: 0,
            _guard: Guard::new(ledger, |ledger| &ledger.layers),
        }
    }

    fn open(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input();
        let there = input.len().min(HELLO.len());
        if input[..there] != HELLO[..there] {
            return Err(broken("a layer of frames was not greeted"));
        }
        if there == HELLO.len() {
            io.consume(there);
            io.open();
            self.is_open = true;
        }
        Ok(())
    }

    /// Delivers one frame. Returns false when it is not there yet.
    fn receive_frame(&mut self, io: &mut LayerIo<'_>) -> Result<bool> {
        let [number, high, low, ref mut rest @ ..] = *io.input() else {
            return Ok(false);
        };
        if number != self.received {
            return Err(broken("a frame with a wrong number"));
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > MAX {
            return Err(broken("a frame with a wrong length"));
        }
        if rest.len() < len {
            return Ok(false);
        }
        self.received = number.wrapping_add(1);
        mask(number, &mut rest[..len]);
        let (input, mut above, _) = io.parts();
        above.deliver(&input[HEAD..HEAD + len]);
        io.consume(HEAD + len);
        if len == 0 {
            self.is_ended = true;
            io.end_of_stream();
        }
        Ok(!self.is_ended)
    }

    fn send_frame(&mut self, data: &[u8], io: &mut LayerIo<'_>) {
        let number = self.sent;
        self.sent = number.wrapping_add(1);
        let len = u16::try_from(data.len()).unwrap_or_default();
        let [high, low] = len.to_be_bytes();
        io.send(&[number, high, low]);
        let (_, _, mut below) = io.parts();
        let room = &mut below.spare(data.len())[..data.len()];
        room.copy_from_slice(data);
        mask(number, room);
        below.filled(data.len());
    }
}

impl Layer for Framing {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.send(HELLO);
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if !self.is_open {
            self.open(io)?;
        }
        while self.is_open && !self.is_ended {
            if self.is_polite && io.room() == 0 {
                io.more();
                return Ok(());
            }
            if !self.receive_frame(io)? {
                break;
            }
        }
        Ok(())
    }

    fn input_ended(&mut self, _: &mut LayerIo<'_>) -> Result {
        if self.is_ended {
            return Ok(());
        }
        let error = "frames ended without the frame that ends them";
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, error).into())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let len = match self.is_picky {
            true => self.rng.usize(1..=data.len()),
            false => data.len(),
        };
        let most = 1 << self.rng.u32(3..13);
        for part in data[..len].chunks(most) {
            self.send_frame(part, io);
        }
        Ok(len)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.send_frame(&[], io);
        Ok(())
    }
}

fn mask(number: u8, bytes: &mut [u8]) {
    let mut mask = number;
    for byte in bytes {
        mask = mask.wrapping_mul(5).wrapping_add(1);
        *byte ^= mask;
    }
}

/// The kind of an error that no fault of a world explains.
fn broken(error: &'static str) -> tidegate::BoxError {
    io::Error::new(io::ErrorKind::InvalidData, error).into()
}
