//! A client with callbacks, which does everything that may be done to a connection.

use crate::ledger::{Guard, Ledger};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    Closed, Completion, Flow, OnEof, OnPause, Protocol, Result, Transport, WriteError, WriteLimits,
};

/// The length of the lines, for servers that read lines.
const LINE: u64 = 251;

/// Draws a number of bytes that ends a line.
pub(crate) fn some_total(rng: &mut fastrand::Rng, scale: u32) -> u64 {
    let most = 1 << rng.u32(4..scale);
    rng.u64(1..=most).next_multiple_of(LINE)
}

/// Returns a byte of a connection: a function of the place in the stream.
pub(crate) fn byte(of: u64, at: u64) -> u8 {
    let word = ((of << 32) | (at / 8)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if at % LINE == LINE - 1 {
        b'\n'
    } else {
        word.to_be_bytes()[(at % 8) as usize]
    }
}

pub(crate) fn bytes(of: u64, at: u64, len: usize) -> Vec<u8> {
    (at..at + len as u64).map(|at| byte(of, at)).collect()
}

/// How a client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Ends its stream when all is written.
    WriteEof,
    /// Closes when all has come back.
    CloseAfterAll,
    /// Closes when all is written.
    Close,
    CloseWithin,
    Abort,
    Reset,
}

/// The input that a client expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    /// The bytes that it sends.
    Echo,
    /// The stream of this number, which its peer sends whatever comes.
    Stream(u64),
}

pub(crate) struct Client {
    of: u64,
    expects: Expects,
    total: u64,
    written: u64,
    received: u64,
    end: Ending,
    /// Goes on writing when it is told not to, until the transport refuses.
    rude: bool,
    done: bool,
    rng: fastrand::Rng,
    ledger: Rc<Ledger>,
}

impl Client {
    pub(crate) fn new(ledger: &Rc<Ledger>, of: u64, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let end = match rng.u32(..20) {
            0 => Ending::Abort,
            1 => Ending::Reset,
            2 => Ending::Close,
            3 => Ending::CloseWithin,
            4..=8 => Ending::CloseAfterAll,
            _ => Ending::WriteEof,
        };
        Self {
            of,
            expects: Expects::Echo,
            total: some_total(&mut rng, 18),
            written: 0,
            received: 0,
            end,
            rude: rng.u32(..8) == 0,
            done: false,
            rng,
            ledger: ledger.clone(),
        }
    }

    /// An end that sends one stream, and expects another: one of both on a connection.
    pub(crate) fn talking(ledger: &Rc<Ledger>, of: u64, peer: u64, seed: u64) -> Self {
        let mut talker = Self::new(ledger, of, seed);
        let most = 10_f64.powf(1.0 + 4.5 * talker.rng.f64()) as u64;
        talker.total = most.min(300_000);
        if talker.end == Ending::CloseAfterAll {
            talker.end = Ending::WriteEof;
        }
        talker.talks_of(of, peer);
        talker
    }

    /// Sets the numbers of both streams, before it sends anything.
    pub(crate) fn talks_of(&mut self, of: u64, peer: u64) {
        self.of = of;
        self.expects = Expects::Stream(peer);
    }

    fn produce(&mut self, transport: &Transport) -> Result {
        for _ in 0..50 {
            if self.done {
                return Ok(());
            }
            if self.written == self.total {
                return self.finish(transport);
            }
            match self.write_some(transport) {
                Ok(flow) => {
                    if flow.is_paused() && !self.rude {
                        return Ok(());
                    }
                }
                Err(WriteError::BufferFull { .. }) => {
                    self.rude = false;
                    if transport.flow() == Flow::Open {
                        self.ledger
                            .violation(format!("full and open: {transport:?}"));
                    }
                    return Ok(());
                }
                // `connection_lost` has the rest.
                Err(_) if transport.is_closing() => {
                    self.done = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.go_on_later(transport, Duration::ZERO);
        Ok(())
    }

    fn write_some(&mut self, transport: &Transport) -> std::result::Result<Flow, WriteError> {
        let most = 1 << self.rng.u32(0..15);
        let len = self.rng.u64(1..=most).min(self.total - self.written);
        let data = bytes(self.of, self.written, len as usize);
        let before = transport.written();
        let written = match self.rng.u32(..4) {
            0 => transport.write_owned(Bytes::from(data)),
            1 => {
                let (one, other) = data.split_at(data.len() / 2);
                transport.write_vectored(&[IoSlice::new(one), IoSlice::new(other)])
            }
            _ => transport.write(&data),
        };
        // A write that is the first to meet an error counts, and is lost.
        let taken = transport.written() - before;
        self.written += taken;
        let flow = written?;
        if taken != len {
            self.ledger
                .violation(format!("{len} bytes were not counted: {transport:?}"));
        }
        if flow != transport.flow() {
            self.ledger
                .violation(format!("write answered {flow:?}: {transport:?}"));
        }
        self.wait_for_something(transport);
        Ok(transport.flow())
    }

    fn wait_for_something(&mut self, transport: &Transport) {
        match self.rng.u32(..24) {
            0 => self.await_answer(transport.drain(), transport),
            1 => self.await_answer(transport.flush(), transport),
            2 => self.await_answer(transport.wait_closed(), transport),
            3 => {
                let high = 1 << self.rng.usize(0..18);
                let limits = WriteLimits::new()
                    .with_high(high)
                    .with_low(self.rng.usize(0..=high));
                self.check(transport.set_write_limits(limits), transport);
            }
            _ => {}
        }
    }

    fn check(&self, result: io::Result<()>, transport: &Transport) {
        if let Err(error) = result
            && !transport.is_closing()
        {
            self.ledger.violation(format!("{error}: {transport:?}"));
        }
    }

    /// Checks that no waiter succeeds whose bytes were discarded, and that each completes.
    fn await_answer<T: 'static>(&self, completion: Completion<T>, transport: &Transport) {
        let guard = Guard::new(&self.ledger, |ledger| &ledger.waiters);
        let (ledger, transport) = (self.ledger.clone(), transport.clone());
        completion.then(move |_, answer| {
            drop(guard);
            if let Err(error) = answer
                && Closed::of(&error).is_none()
                && transport.closed().is_none()
            {
                ledger.violation(format!("a waiter failed with {error}: {transport:?}"));
            }
        });
    }

    fn finish(&mut self, transport: &Transport) -> Result {
        self.done = true;
        if !matches!(self.end, Ending::Abort | Ending::Reset) {
            self.ledger.ends_stream(transport);
        }
        match self.end {
            Ending::WriteEof => {
                transport
                    .write_eof()
                    .or_else(|error| closing(transport, error))?;
            }
            Ending::CloseAfterAll => {}
            Ending::Close => {
                transport.close();
                // The other side may be stuck with bytes that we do not read any more.
                transport.close_within(Duration::from_secs(1000));
            }
            Ending::CloseWithin => {
                transport.close_within(Duration::from_millis(self.rng.u64(..3000)));
            }
            Ending::Abort => transport.abort(),
            Ending::Reset => transport.reset(),
        }
        if self.end == Ending::CloseAfterAll {
            self.close_when_all_is_back(transport);
        }
        Ok(())
    }

    fn close_when_all_is_back(&self, transport: &Transport) {
        let is_echo = self.expects == Expects::Echo;
        if is_echo && self.end == Ending::CloseAfterAll && self.done && self.received == self.total
        {
            transport.close();
        }
    }

    fn go_on_later(&self, transport: &Transport, delay: Duration) {
        let guard = Guard::new(&self.ledger, |ledger| &ledger.calls);
        transport.call_later(delay, move |this: &mut Self, transport| {
            drop(guard);
            transport.resume_reading();
            this.produce(transport)
        });
    }

    /// Does something in the middle.
    fn meddle(&mut self, transport: &Transport) {
        match self.rng.u32(..100) {
            0..=9 => {
                transport.pause_reading();
                let pause = Duration::from_millis(self.rng.u64(..2000));
                self.go_on_later(transport, pause);
            }
            10 => transport.set_write_timeout(Some(Duration::from_secs(self.rng.u64(60..6000)))),
            11 => transport.set_write_timeout(None),
            12 => {
                let hold = transport.hold_reading();
                let pause = Duration::from_millis(self.rng.u64(..2000));
                let guard = Guard::new(&self.ledger, |ledger| &ledger.calls);
                transport.call_later(pause, move |_: &mut Self, _| {
                    drop((hold, guard));
                    Ok(())
                });
            }
            13 => {
                let guard = Guard::new(&self.ledger, |ledger| &ledger.calls);
                let forgotten =
                    transport.call_later(Duration::from_secs(3600 * 24), move |_: &mut Self, _| {
                        drop(guard);
                        Err("a cancelled call came".into())
                    });
                forgotten.cancel();
            }
            _ => {}
        }
    }
}

/// Lets an error pass that only says that the connection ends.
fn closing(transport: &Transport, error: WriteError) -> Result {
    if transport.is_closing() {
        Ok(())
    } else {
        Err(error.into())
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.produce(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let stream = match self.expects {
            Expects::Echo => self.of,
            Expects::Stream(of) => of,
        };
        // One in eight times it uses a part, which may be nothing.
        let len = if self.rng.u32(..8) == 0 {
            self.rng.usize(..data.len())
        } else {
            data.len()
        };
        let (data, rest) = data.split_at(len);
        transport.unread(rest);
        let expected = bytes(stream, self.received, data.len());
        if data != expected {
            self.ledger.violation(format!(
                "other bytes came back at {}: {transport:?}",
                self.received
            ));
        }
        self.received += data.len() as u64;
        self.close_when_all_is_back(transport);
        self.meddle(transport);
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        // A layer may have sent bytes whose output is not sent to its last byte: those count as written.
        if self.expects == Expects::Echo && self.received > transport.written() {
            self.ledger
                .violation(format!("more came back than was written: {transport:?}"));
        }
        // The unsent bytes of a talker are to be sent all the same.
        let talks = self.expects != Expects::Echo && !self.done;
        let keep = self.end == Ending::WriteEof && (talks || self.rng.bool());
        Ok(if keep {
            OnEof::KeepOpen
        } else if self.rng.u32(..4) == 0 {
            OnEof::CloseWithin(Duration::from_millis(self.rng.u64(..3000)))
        } else {
            OnEof::Close
        })
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        // Not to read while the other side does not read either would be for ever.
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.produce(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        if self.expects == Expects::Echo && self.received == self.total {
            self.ledger
                .echoed_whole
                .set(self.ledger.echoed_whole.get() + 1);
        }
        if self.expects == Expects::Echo && transport.written() != self.written {
            self.ledger.violation(format!(
                "{} bytes were written: {closed:?} {transport:?}",
                self.written
            ));
        }
    }
}
