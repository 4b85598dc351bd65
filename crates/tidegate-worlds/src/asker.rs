//! A client of a service: it asks, several times at once, and knows each reply.

use crate::ledger::{Guard, Ledger};
use crate::service::{Codec, HEADER, Request, Service};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{OnEof, OnPause, Result, Transport};
use tidegate_framing::FrameProtocol;

/// How a client ends when it has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    WriteEof,
    CloseAfterAll,
    Close,
    Abort,
}

pub(crate) struct Asker {
    codec: Codec,
    of: u64,
    is_proxied: bool,
    total: u64,
    asked: u64,
    /// Those without a reply.
    open: VecDeque<Request>,
    /// Maximum number of these.
    window: usize,
    end: Ending,
    done: bool,
    rng: fastrand::Rng,
    ledger: Rc<Ledger>,
}

impl Asker {
    pub(crate) fn new(ledger: &Rc<Ledger>, service: &Service, of: u64, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let end = match rng.u32(..10) {
            0 => Ending::Abort,
            1 => Ending::Close,
            2..=4 => Ending::CloseAfterAll,
            _ => Ending::WriteEof,
        };
        Self {
            codec: service.codec.clone(),
            of,
            is_proxied: service.is_proxied,
            total: rng.u64(1..60),
            asked: 0,
            open: VecDeque::new(),
            window: rng.usize(1..40),
            end,
            done: false,
            rng,
            ledger: ledger.clone(),
        }
    }

    fn some_len(&mut self, scale: u32) -> usize {
        let most = 1 << self.rng.u32(0..scale);
        self.rng.usize(..most)
    }

    /// Asks as long as there is room for it.
    fn ask(&mut self, transport: &Transport) -> Result {
        while self.asked < self.total && self.open.len() < self.window {
            let request = Request {
                of: self.of,
                number: self.asked,
                len: self.some_len(15),
            };
            let padding = self.some_len(12);
            let written = self.codec.write(transport, &request.message(padding));
            if transport.is_closing() {
                // `connection_lost` has the rest.
                self.asked = self.total;
                self.done = true;
                return Ok(());
            }
            self.asked += 1;
            self.open.push_back(request);
            if written?.is_paused() {
                return Ok(());
            }
        }
        if self.asked == self.total && !self.done {
            self.done = true;
            self.finish(transport)?;
        }
        Ok(())
    }

    fn finish(&mut self, transport: &Transport) -> Result {
        if self.end != Ending::Abort {
            self.ledger.ends_stream(transport);
        }
        match self.end {
            Ending::WriteEof => {
                let result = transport.write_eof();
                if !transport.is_closing() {
                    result?;
                }
            }
            Ending::CloseAfterAll => {}
            Ending::Close => transport.close_within(Duration::from_secs(1000)),
            Ending::Abort => transport.abort(),
        }
        Ok(())
    }

    /// Stops reading for some time.
    fn rest(&mut self, transport: &Transport) {
        transport.pause_reading();
        let guard = Guard::new(&self.ledger, |ledger| &ledger.calls);
        let pause = Duration::from_millis(self.rng.u64(..2000));
        transport.call_later(pause, move |_: &mut Self, transport| {
            drop(guard);
            transport.resume_reading();
            Ok(())
        });
    }
}

impl FrameProtocol for Asker {
    type Codec = Codec;

    fn codec(&mut self) -> &mut Codec {
        &mut self.codec
    }

    fn connection_made(&mut self, transport: &Transport) -> Result {
        if self.is_proxied {
            transport.write(HEADER)?;
        }
        self.ask(transport)
    }

    fn frame_received(&mut self, transport: &Transport, reply: &[u8]) -> Result {
        let request = self.open.pop_front();
        if request.is_none_or(|request| request.reply() != reply) {
            let len = reply.len();
            self.ledger.violation(format!(
                "{len} bytes are no reply to {request:?}: {transport:?}"
            ));
        }
        self.ledger.replies.set(self.ledger.replies.get() + 1);
        if self.rng.u32(..16) == 0 {
            self.rest(transport);
        }
        if self.done && self.open.is_empty() && self.end == Ending::CloseAfterAll {
            transport.close();
        }
        // A pause ends with `resume_writing`.
        match transport.flow().is_paused() {
            true => Ok(()),
            false => self.ask(transport),
        }
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        let replied = self.ledger.replied.borrow().get(&self.of).copied();
        if let Some(replied) = replied
            && (replied != self.total || !self.open.is_empty())
        {
            self.ledger.violation(format!(
                "{} of {} asked, {replied} replied, {} did not come: {transport:?}",
                self.asked,
                self.total,
                self.open.len()
            ));
        }
        Ok(OnEof::Close)
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.ask(transport)
    }
}
