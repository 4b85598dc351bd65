//! How datagrams leave.

use super::Ecn;
use std::net::IpAddr;

/// How datagrams leave; see [`DatagramTransport::send_run_to`](super::DatagramTransport::send_run_to).
///
/// Each fact is told to the kernel with the datagrams, so it holds for these alone, whenever they leave. Only of UDP,
/// and on Linux. A simulated network heeds the source, and has no marks.
///
/// ```
/// use tidegate::{Departure, Ecn};
///
/// let marked = Departure::new().ecn(Ecn::Capable0);
/// assert_eq!(marked.source, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[must_use]
pub struct Departure {
    /// The congestion marks (IP_TOS, ip(7); IPV6_TCLASS, RFC 3542). The rest of the traffic class is that of
    /// [`set_traffic_class`](super::DatagramTransport::set_traffic_class), as are the marks of `None`.
    pub ecn: Option<Ecn>,
    /// The IP address to send from, one of this machine's (IP_PKTINFO, ip(7); IPV6_PKTINFO, ipv6(7)): that of a
    /// request, for example, on an endpoint at `0.0.0.0`. The system chooses it for `None`.
    pub source: Option<IpAddr>,
}

impl Departure {
    /// As the endpoint's other datagrams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the congestion marks.
    pub fn ecn(mut self, marks: impl Into<Option<Ecn>>) -> Self {
        self.ecn = marks.into();
        self
    }

    /// Sets the address to send from.
    pub fn source(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.source = address.into();
        self
    }

    /// Returns itself, unless datagrams leave as all others do.
    pub(super) fn or_none(&self) -> Option<&Self> {
        (*self != Self::default()).then_some(self)
    }
}
