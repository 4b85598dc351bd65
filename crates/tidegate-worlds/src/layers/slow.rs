//! A user's layer that rests now and then, in both directions.

use crate::ledger::{Guard, Ledger};
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Layer, LayerIo, Result};

/// Maximum length of a rest.
const REST: Duration = Duration::from_millis(50);

pub(super) struct Slow {
    rng: fastrand::Rng,
    /// The timer runs.
    is_resting: bool,
    /// Did something since the last rest.
    may_rest: bool,
    input_ended: bool,
    _guard: Guard,
}

impl Slow {
    pub(super) fn new(ledger: &Rc<Ledger>, rng: &mut fastrand::Rng) -> Self {
        Self {
            rng: rng.fork(),
            is_resting: false,
            may_rest: true,
            input_ended: false,
            _guard: Guard::new(ledger, |ledger| &ledger.layers),
        }
    }

    fn rests(&mut self, io: &mut LayerIo<'_>) -> bool {
        if !self.is_resting && self.may_rest && self.rng.u32(..4) == 0 {
            self.is_resting = true;
            io.wake_after(REST.mul_f64(self.rng.f64()));
        }
        self.is_resting
    }
}

impl Layer for Slow {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if self.rests(io) {
            return Ok(());
        }
        let len = io.input().len().min(io.room());
        let len = if len > 0 { self.rng.usize(1..=len) } else { 0 };
        let (input, mut above, _) = io.parts();
        above.deliver(&input[..len]);
        io.consume(len);
        self.may_rest |= len > 0;
        if !io.input().is_empty() {
            io.more();
        } else if self.input_ended {
            io.end_of_stream();
        }
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.input_ended = true;
        if io.input().is_empty() {
            io.end_of_stream();
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        if self.rests(io) {
            return Ok(0);
        }
        self.may_rest = true;
        let len = self.rng.usize(1..=data.len());
        io.send(&data[..len]);
        Ok(len)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.is_resting = false;
        self.may_rest = false;
        if !io.input().is_empty() {
            io.more();
        }
        Ok(())
    }
}
