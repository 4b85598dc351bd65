//! The link between two hosts, in one direction.

use super::agenda::Order;
use super::transmit::Arrival;
use std::time::Duration;

const BUFFER: usize = 64 * 1024;

/// The properties of one direction between two hosts, and of the kernel buffers at its ends.
///
/// ```
/// use std::time::Duration;
/// use tidegate_testkit::Link;
///
/// let satellite = Link::new()
///     .latency(Duration::from_millis(300))
///     .jitter(Duration::from_millis(50))
///     .bandwidth(1_000_000);
/// # drop(satellite);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Link {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) bandwidth: Option<u64>,
    pub(super) send_buffer: usize,
    pub(super) receive_buffer: usize,
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// Returns a link that takes no time, and holds 64 KiB at each end.
    pub fn new() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            send_buffer: BUFFER,
            receive_buffer: BUFFER,
        }
    }

    /// Sets the minimum time that a byte is on the way.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the maximum time that a byte takes longer.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets the bandwidth in bytes a second, shared by all connections that use the link; 0 counts as 1.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bandwidth = Some(bytes_per_second.max(1));
        self
    }

    /// Sets the number of bytes that the kernel takes from a sender before the receiver's kernel has
    /// them; of connections made from now on. At least 1.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes.max(1);
        self
    }

    /// Sets the maximum number of bytes that wait at the receiver; of connections made from now on. At
    /// least 1.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes.max(1);
        self
    }

    /// Returns the time that it takes to put a number of bytes on the link.
    pub(super) fn time_for(&self, bytes: usize) -> Duration {
        self.bandwidth.map_or(Duration::ZERO, |bandwidth| {
            let nanos = bytes as u128 * 1_000_000_000 / u128::from(bandwidth);
            Duration::from_nanos(nanos.min(u128::from(u64::MAX)) as u64)
        })
    }
}

/// A link in use.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) link: Link,
    /// Until then others' bytes are being put on it.
    pub(super) busy_until: Duration,
    pub(super) cut: bool,
    /// The arrivals since it was cut, and their times.
    pub(super) held: Vec<(Order, Arrival)>,
}
