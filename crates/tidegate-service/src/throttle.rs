//! Limits what connections receive.

use crate::Bucket;
use crate::timer::Timer;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Protocol, ReadHold, Result, Transport, Wrap};

/// Limits the bytes that a protocol receives in a second.
///
/// A connection reads what comes, and then owes it: while its [`Bucket`] is in debt, reading is held back,
/// and the kernel's flow control slows the peer. Clones of one bucket limit their connections together.
/// So in any time of `t` seconds they receive at most `burst + rate * t` bytes, and one read for each
/// connection (128 KiB).
///
/// The debt is no idleness of the peer: while reading is held back and nothing is unsent, the
/// [`idle_timeout`](tidegate::ListenOptions::idle_timeout) of a server stands still.
///
/// Bytes that the protocol gives [back](Transport::unread) count once. Writes are not limited: what a
/// protocol may not write yet, it must keep itself. While the bucket has bytes left, a message costs no
/// look at the clock.
///
/// ```
/// use tidegate::{EventLoop, Protocol, Result};
/// use tidegate_service::{Bucket, Throttle};
///
/// struct Upload;
///
/// impl Protocol for Upload {}
///
/// # fn main() -> Result {
/// # let event_loop = EventLoop::new()?;
/// # let handle = event_loop.handle();
/// // Each connection for itself: 1 MB a second, and 100 kB at once.
/// handle.create_server("127.0.0.1:0", || {
///     Throttle::new(Bucket::new(1_000_000, 100_000), Upload)
/// })?;
/// # Ok(()) }
/// ```
pub struct Throttle<P> {
    protocol: P,
    bucket: Bucket,
    /// The number of bytes that the connection had received when they were last taken from the bucket.
    taken: Option<u64>,
    held: Held,
}

impl<P: Protocol> Throttle<P> {
    /// Limits what `protocol` receives.
    pub fn new(bucket: Bucket, protocol: P) -> Self {
        Self {
            protocol,
            bucket,
            taken: None,
            held: Held::default(),
        }
    }

    /// Takes what came from the bucket. Bytes that come again are no news for the connection.
    ///
    /// A callback that failed owes its bytes too: after a failed write the error of another one ends nothing,
    /// and the connection reads on.
    #[inline]
    fn owe(&mut self, transport: &Transport, len: usize) {
        let received = transport.stats().received;
        let before = self.taken.replace(received);
        // The first bytes may be a tail that a wrapper around this one has left, as behind a header.
        let news = before.map_or(len as u64, |before| received - before);
        let wait = self.bucket.take(news, || transport.handle().now());
        if wait > Duration::ZERO {
            self.held.hold(transport, wait);
        }
    }
}

impl<P: Protocol> Wrap for Throttle<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.protocol
    }

    #[inline]
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let result = self.protocol.data_received(transport, data);
        self.owe(transport, data.len());
        result
    }

    /// The first bytes may be a tail that a wrapper around this one has left, and come in pieces.
    #[inline]
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        if self.taken.is_none() && size_hint > 0 {
            let received = transport.stats().received;
            self.taken = Some(received.saturating_sub(size_hint as u64));
        }
        self.protocol.get_buffer(transport, size_hint)
    }

    #[inline]
    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let result = self.protocol.buffer_updated(transport, len);
        self.owe(transport, len);
        result
    }
}

impl<P: fmt::Debug> fmt::Debug for Throttle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("protocol", &self.protocol)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// Reading that is held back until a debt is paid. Dropping it lets go: it may be of a protocol that
/// another one takes the place of.
///
/// A wait covers all debts before it, and its own. So when it is over, the others owe one read each.
#[derive(Default)]
struct Held {
    hold: Option<Rc<Cell<Option<ReadHold>>>>,
    timer: Timer,
}

impl Held {
    #[cold]
    fn hold(&mut self, transport: &Transport, wait: Duration) {
        let hold = self.hold.get_or_insert_default();
        hold.set(Some(transport.hold_reading()));
        let held = hold.clone();
        let handle = transport.handle();
        let timer = handle.call_later(wait, move |_| drop(held.take()));
        self.timer = Timer(Some(timer));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(hold) = &self.hold {
            drop(hold.take());
        }
    }
}
