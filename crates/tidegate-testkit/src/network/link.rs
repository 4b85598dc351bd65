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
    pub(super) mtu: Option<usize>,
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
            mtu: None,
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
    ///
    /// Of datagrams it takes this number before they are on the link, from each socket, and refuses the next
    /// one until half of it has gone. That takes time only with a [bandwidth](Self::bandwidth).
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes.max(1);
        self
    }

    /// Sets the maximum number of bytes that wait at the receiver; of connections made from now on. At
    /// least 1.
    ///
    /// A datagram that comes when this number waits at its socket is dropped, and
    /// [counted](super::Network::datagrams_dropped).
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes.max(1);
        self
    }

    /// Sets the maximum number of bytes of a datagram in one packet; at least 1, and no maximum unless set. A
    /// longer datagram goes in several packets, and is lost with any of them. The kernel cuts no datagrams
    /// that are longer out of one call.
    pub fn mtu(mut self, bytes: usize) -> Self {
        self.mtu = Some(bytes.max(1));
        self
    }

    /// Returns the number of packets of a datagram.
    pub(super) fn packets(&self, len: usize) -> usize {
        self.mtu.map_or(1, |mtu| len.div_ceil(mtu).max(1))
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
    /// When the last datagram on it arrives.
    pub(super) last_datagram: Duration,
}
