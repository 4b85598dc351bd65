//! A line in front of the stream, as that of a proxy. The layer leaves behind it.

use crate::ledger::{Guard, Ledger};
use std::rc::Rc;
use tidegate::{Layer, LayerIo, Result};

/// Maximum length of a header that is read, as PROXY has it.
const MAX: usize = 107;

pub(super) struct Header {
    /// The length of the header that this end writes.
    writes: Option<usize>,
    _guard: Guard,
}

impl Header {
    pub(super) fn write(ledger: &Rc<Ledger>, rng: &mut fastrand::Rng) -> Self {
        Self {
            writes: Some(rng.usize(..MAX)),
            _guard: Guard::new(ledger, |ledger| &ledger.layers),
        }
    }

    pub(super) fn read(ledger: &Rc<Ledger>) -> Self {
        Self {
            writes: None,
            _guard: Guard::new(ledger, |ledger| &ledger.layers),
        }
    }
}

impl Layer for Header {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        if let Some(len) = self.writes {
            io.send(&vec![b'h'; len]);
            io.send(b"\n");
            io.leave();
        }
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let end = io.input().iter().take(MAX).position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                io.consume(end + 1);
                io.leave();
            }
            None if io.input().len() >= MAX => return Err("no header".into()),
            None => {}
        }
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        Err("a layer that is not open, or has left, was to send".into())
    }
}
