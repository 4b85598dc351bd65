//! The numbers of a loop.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The loop's counters, and what it holds, at one moment. See
        /// [`Handle::stats`](crate::Handle::stats).
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LoopStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections whose `connection_lost` has not come yet.
            pub connections: usize,
            /// Those of them that are [ending](crate::Transport::is_closing).
            pub closing: usize,
            /// Listening sockets.
            pub listeners: usize,
            /// Endpoints of datagrams.
            pub datagram_endpoints: usize,
            /// Descriptors that are [watched](crate::Handle::watch).
            pub watches: usize,
            /// Connects under way.
            pub connecting: usize,
            /// Sockets of closed connections that wait for the peer's end of stream.
            pub lingering: usize,
            /// Timers that were neither cancelled nor fired; repeating ones until they are cancelled.
            pub timers: usize,
            /// Completions that wait for their result.
            pub completions: usize,
            /// Jobs, and names being resolved, whose results are awaited.
            pub jobs: usize,
            /// Child processes that were not reaped yet.
            #[cfg(feature = "process")]
            pub children: usize,
            /// Signals that [handlers](crate::Handle::add_signal_handler) and
            /// [waits](crate::Handle::wait_signal) have taken.
            #[cfg(feature = "signal")]
            pub signals: usize,
            /// Bytes in all write buffers, as [`write_budget`](crate::EventLoopBuilder::write_budget) counts
            /// them.
            pub buffered: u64,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Cell<u64>,)*
        }

        impl Counters {
            pub(crate) fn stats(&self) -> LoopStats {
                LoopStats {
                    $($name: self.$name.get(),)*
                    ..LoopStats::default()
                }
            }
        }
    };
}

counters! {
    /// Ticks of the loop; each polled once.
    polls,
    /// Events that a poll reported.
    events,
    /// Events for a source that was already gone.
    stale_events,
    /// Callbacks run: of protocols, handles and timers.
    callbacks,
    /// Bytes received from the kernel.
    bytes_received,
    /// Bytes that the kernel took.
    bytes_sent,
    /// System calls that read.
    reads,
    /// System calls that wrote.
    writes,
    /// System calls that accepted.
    accepts,
    /// System calls that told the kernel which events to report (`epoll_ctl`).
    registrations,
    /// Crossings of a high-water mark.
    pauses,
    /// Falls to a low-water mark.
    resumes,
    /// Connections that a server [refused](crate::ListenOptions::accept_if).
    refused,
}

pub(crate) fn add(counter: &Cell<u64>, n: usize) {
    counter.set(counter.get() + n as u64);
}
