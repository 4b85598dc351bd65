//! The PROXY protocol: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

mod header;
mod layer;
mod protocol;

pub use header::{ProxyError, ProxyHeader};
pub use layer::ProxyLayer;
pub use protocol::ProxyProtocol;

use std::time::Duration;

/// The time in which a header must be there, unless the user sets one. A proxy sends it at once.
const WITHIN: Duration = Duration::from_secs(5);
