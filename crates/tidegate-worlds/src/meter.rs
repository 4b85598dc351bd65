//! The bytes that throttled protocols receive.

use crate::ledger::Ledger;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tidegate::{Protocol, Result, Transport, Wrap};

/// The bytes that came within a rate and a burst, and what came above: that of all connections of one
/// bucket.
#[derive(Debug)]
pub(crate) struct Metered {
    ledger: Rc<Ledger>,
    rate: u64,
    burst: u64,
    /// The bytes that came, less those of the rate: its maximum is that of any time.
    level: Cell<f64>,
    at: Cell<Option<Instant>>,
    /// The longest reads of all connections.
    longest: Cell<u64>,
}

impl Metered {
    pub(crate) fn new(ledger: &Rc<Ledger>, rate: u64, burst: u64) -> Rc<Self> {
        Rc::new(Self {
            ledger: ledger.clone(),
            rate,
            burst,
            level: Cell::default(),
            at: Cell::default(),
            longest: Cell::default(),
        })
    }

    fn take(&self, len: u64, transport: &Transport) {
        let now = transport.handle().now();
        let before = self.at.replace(Some(now)).unwrap_or(now);
        let earned = self.rate as f64 * now.saturating_duration_since(before).as_secs_f64();
        let level = (self.level.get() - earned).max(0.0) + len as f64;
        self.level.set(level);
        let most = self.burst + self.longest.get();
        // Parts of a byte are rounded.
        if level > most as f64 + 2.0 {
            self.ledger.violation(format!(
                "{level} bytes came above {} a second, and {most} may: {transport:?}",
                self.rate
            ));
        }
        let throttled = &self.ledger.throttled;
        throttled.set(throttled.get() + len);
    }
}

/// Counts what a protocol receives.
pub(crate) struct Meter<P> {
    protocol: P,
    metered: Rc<Metered>,
    received: u64,
    longest: u64,
}

impl<P: Protocol> Meter<P> {
    /// `received` bytes of the connection are for others.
    pub(crate) fn new(metered: &Rc<Metered>, received: u64, protocol: P) -> Self {
        Self {
            protocol,
            metered: metered.clone(),
            received,
            longest: 0,
        }
    }
}

impl<P: Protocol> Wrap for Meter<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.protocol
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let received = transport.stats().received;
        let news = received - self.received;
        self.received = received;
        if news > self.longest {
            let longest = &self.metered.longest;
            longest.set(longest.get() + news - self.longest);
            self.longest = news;
        }
        self.metered.take(news, transport);
        self.protocol.data_received(transport, data)
    }
}
