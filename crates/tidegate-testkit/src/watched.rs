//! Any protocol, with its callbacks recorded and checked.

use crate::log::{Log, Seen};
use std::any::Any;
use std::fmt;
use tidegate::{
    Address, Closed, DatagramError, DatagramProtocol, DatagramTransport, Internal, OnEof, OnPause,
    Protocol, Result, Transport,
};

/// Records the callbacks of a protocol, of connections or of datagrams, in a [`Log`], which checks their
/// order, and forwards all of them. [`with_protocol`](Transport::with_protocol) finds the protocol in it.
///
/// ```
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::{Log, Watched, World};
///
/// #[derive(Default)]
/// struct Counter(usize);
///
/// impl Protocol for Counter {
///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
///         self.0 += data.len();
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut world = World::new();
/// let host = world.add_host("host")?;
/// let log = Log::new();
/// let served = log.clone();
/// let server = move || Watched::new(Counter::default(), &served);
/// host.handle().create_server(host.addr(7), server)?;
/// let peer = world.network().dial(host.addr(7))?;
/// world.pump()?;
/// peer.send(b"seven")?;
/// world.pump()?;
/// let transport = log.transport().ok_or("not accepted")?;
/// assert_eq!(transport.with_protocol(|counter: &mut Counter, _| counter.0), Ok(5));
/// drop(peer);
/// world.run_until_idle()?;
/// assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Watched<P> {
    pub(crate) protocol: P,
    pub(crate) log: Log,
    /// The length of the buffer that was given last.
    buffer: Option<usize>,
}

impl<P> Watched<P> {
    /// Records the callbacks of `protocol` into `log`, one of its own for each connection or endpoint.
    pub fn new(protocol: P, log: &Log) -> Self {
        Self {
            protocol,
            log: log.clone(),
            buffer: None,
        }
    }

    /// Records a callback that comes neither first nor last, and so not once the connection is ending.
    fn see(&self, transport: &Transport, seen: Seen) {
        self.check_unless(transport.is_closing(), &seen);
        self.log.push(seen);
    }

    /// As [`see`](Self::see), of an endpoint.
    fn see_at(&self, transport: &DatagramTransport, seen: Seen) {
        self.check_at(transport, &seen);
        self.log.push(seen);
    }

    /// Each datagram of an endpoint is somewhere at any time.
    fn check_at(&self, transport: &DatagramTransport, seen: impl fmt::Debug) {
        let stats = transport.stats();
        if stats.taken != stats.sent + stats.failed + stats.dropped + stats.queued {
            self.log
                .violated(format!("{seen:?}: {stats:?} does not add up"));
        }
        self.check_unless(transport.is_closing(), seen);
    }

    fn check_unless(&self, is_closing: bool, seen: impl fmt::Debug) {
        if is_closing {
            self.log
                .violated(format!("{seen:?}: the connection is ending"));
        }
    }
}

impl<P: Protocol> Protocol for Watched<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let _running = self.log.enter("connection_made");
        self.log.set_transport(transport);
        self.log.made(transport);
        let made = self.protocol.connection_made(transport);
        if let Err(error) = &made {
            self.log.refused(error.to_string());
        }
        made
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let _running = self.log.enter("data_received");
        self.see(transport, Seen::Data(data.to_vec()));
        self.protocol.data_received(transport, data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        let _running = self.log.enter("eof_received");
        self.see(transport, Seen::Eof);
        let received = self.protocol.eof_received(transport);
        self.log.eof_ended(transport);
        received
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        let _running = self.log.enter("pause_writing");
        self.see(transport, Seen::Pause);
        self.protocol.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let _running = self.log.enter("resume_writing");
        self.see(transport, Seen::Resume);
        self.protocol.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _running = self.log.enter("connection_lost");
        self.log.lost(transport, closed);
        self.protocol.connection_lost(transport, closed);
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        let _running = self.log.enter("get_buffer");
        let buffer = self.protocol.get_buffer(transport, size_hint);
        self.buffer = buffer.as_ref().map(|buffer| buffer.len());
        buffer
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let _running = self.log.enter("buffer_updated");
        let room = self.buffer.take();
        if room.is_none_or(|room| room < len) {
            self.log
                .violated(format!("{len} bytes were put into a buffer of {room:?}"));
        }
        self.see(transport, Seen::Filled(len));
        self.protocol.buffer_updated(transport, len)
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.protocol)
    }

    fn user(&mut self) -> Option<&mut dyn Any> {
        self.protocol.user()
    }

    fn leftover(&mut self) -> Vec<u8> {
        self.protocol.leftover()
    }

    /// Returns the name of the user's type, for logs and failures.
    fn __type_name(&self, internal: Internal) -> &'static str {
        self.protocol.__type_name(internal)
    }
}

impl<P: DatagramProtocol> DatagramProtocol for Watched<P> {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        let _running = self.log.enter("connection_made");
        self.log.set_endpoint(transport);
        self.log.endpoint_made(transport);
        let made = self.protocol.connection_made(transport);
        if let Err(error) = &made {
            self.log.refused(error.to_string());
        }
        made
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        let _running = self.log.enter("datagram_received");
        self.see_at(transport, Seen::Datagram(data.to_vec(), from.clone()));
        self.protocol.datagram_received(transport, data, from)
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        let _running = self.log.enter("batch_received");
        self.check_at(transport, "batch_received");
        self.log.batch_ended();
        self.protocol.batch_received(transport)
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        let _running = self.log.enter("error_received");
        self.see_at(transport, Seen::Error(error.to_string()));
        self.protocol.error_received(transport, error)
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        let _running = self.log.enter("pause_writing");
        self.see_at(transport, Seen::Pause);
        self.protocol.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        let _running = self.log.enter("resume_writing");
        self.see_at(transport, Seen::Resume);
        self.protocol.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        let _running = self.log.enter("connection_lost");
        self.log.endpoint_lost(transport, closed);
        self.protocol.connection_lost(transport, closed);
    }

    fn inner(&mut self) -> Option<&mut dyn DatagramProtocol> {
        Some(&mut self.protocol)
    }

    /// Returns the name of the user's type, for logs and failures.
    fn __type_name(&self, internal: Internal) -> &'static str {
        self.protocol.__type_name(internal)
    }
}

impl<P> Drop for Watched<P> {
    fn drop(&mut self) {
        self.log.count_drop();
    }
}
