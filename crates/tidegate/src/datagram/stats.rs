//! The numbers of an endpoint, and its line for logs.

use super::DatagramTransport;
use super::endpoint::Endpoint;
use std::cell::Cell;
use std::fmt;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Numbers of one endpoint; see [`DatagramTransport::stats`]. At any time `taken` is
        /// `sent + failed + dropped` and the number of queued datagrams.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct DatagramStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Datagrams that wait for the kernel.
            pub queued: u64,
        }

        #[derive(Default)]
        pub(super) struct Numbers {
            $(pub(super) $name: Cell<u64>,)*
        }

        impl Numbers {
            fn stats(&self, queued: usize) -> DatagramStats {
                DatagramStats {
                    $($name: self.$name.get(),)*
                    queued: queued as u64,
                }
            }
        }
    };
}

// The counters of datagrams lie apart from those of their bytes: side by side, the compiler adds to both as
// to a vector, which costs more.
numbers! {
    /// Datagrams that the protocol was called with.
    received,
    /// Datagrams that sends have taken.
    taken,
    /// Datagrams that the kernel has taken.
    sent,
    /// Bytes of the received datagrams.
    received_bytes,
    /// Bytes of the datagrams that sends have taken.
    taken_bytes,
    /// Bytes of the datagrams that the kernel has taken.
    sent_bytes,
    /// Datagrams that were longer than the loop's buffer, and were not delivered.
    truncated,
    /// Datagrams of others than the remote address: they had come before the socket was connected to it, and
    /// were not delivered.
    strangers,
    /// Datagrams that the kernel has refused for good.
    failed,
    /// Datagrams that were dropped by [`DropOldest`](super::WhenFull::DropOldest), or at an end.
    dropped,
    /// Datagrams that were not taken, because the queue was at its cap.
    refused,
    /// Errors of datagrams for which there was no room until the protocol could be called.
    errors_left_out,
}

impl DatagramTransport {
    /// Returns the numbers of this endpoint so far.
    pub fn stats(&self) -> DatagramStats {
        self.endpoint().numbers.stats(self.endpoint().queued())
    }
}

/// One line for logs; never what was sent.
impl fmt::Debug for DatagramTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint().fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DatagramTransport {} local={} remote={:?} queued={} state={:?}",
            self.id,
            self.local,
            self.remote,
            self.queued(),
            self.state.get(),
        )
    }
}
