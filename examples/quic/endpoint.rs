//! QUIC on an endpoint of datagrams: quinn-proto has the protocol, and gets its sockets and its time here.

use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, Event, ReadError,
    ServerConfig, Side, StreamId, Transmit, WriteError,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use tidegate::{
    Address, CallbackHandle, Completer, DatagramError, DatagramProtocol, DatagramTransport,
    Departure, Ecn, Flow, OnPause, Result,
};

/// The most connections at a time. Each has buffers of its own.
const MAX_CONNECTIONS: usize = 1_000;

/// A connection, on a stream of which the server sends a number of bytes.
struct Link {
    connection: Connection,
    timer: Option<CallbackHandle>,
    stream: Option<StreamId>,
    /// The number of bytes that a server has left to send, or that have come to a client.
    len: u64,
    /// A client's is told of its bytes.
    done: Option<Completer<u64>>,
}

impl Link {
    /// Goes on as far as the connection lets it. Returns the number of bytes when a client has all of them.
    fn transfer(&mut self) -> Result<Option<u64>> {
        let (side, connection) = (self.connection.side(), &mut self.connection);
        self.stream = self.stream.or_else(|| match side {
            Side::Client => connection.streams().accept(Dir::Uni),
            Side::Server => connection.streams().open(Dir::Uni),
        });
        match (self.stream, side) {
            (None, _) => Ok(None),
            (Some(id), Side::Client) => {
                let mut stream = connection.recv_stream(id);
                let mut chunks = stream.read(true)?;
                loop {
                    match chunks.next(usize::MAX) {
                        Ok(Some(chunk)) => self.len += chunk.bytes.len() as u64,
                        Ok(None) => return Ok(Some(self.len)),
                        Err(ReadError::Blocked) => return Ok(None),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            (Some(id), Side::Server) => {
                let mut stream = connection.send_stream(id);
                while self.len > 0 {
                    match stream.write(&[b'.'; 1 << 14][..self.len.min(1 << 14) as usize]) {
                        Ok(len) => self.len -= len as u64,
                        Err(WriteError::Blocked) => return Ok(None),
                        Err(error) => return Err(error.into()),
                    }
                }
                // From the second time on it fails: the stream is finished.
                let _ = stream.finish();
                Ok(None)
            }
        }
    }

    fn end(&mut self, result: Result<u64>) {
        log::debug!("the end of a connection: {result:?}");
        if let Some(done) = self.done.take() {
            done.complete(result.map_err(io::Error::other));
        }
    }
}

/// The protocol of an endpoint: of a server, or of a client with one connection.
pub(crate) struct Quic {
    pub(crate) endpoint: Endpoint,
    /// The number of bytes that a server sends.
    len: u64,
    links: BTreeMap<ConnectionHandle, Link>,
    /// The connections to drive, in turn: a pause starves none.
    due: VecDeque<ConnectionHandle>,
    buffer: Vec<u8>,
}

impl Quic {
    pub(crate) fn new(server: Option<Arc<ServerConfig>>, len: u64) -> Self {
        Self {
            // Without the search for longer datagrams, which must not be fragmented.
            endpoint: Endpoint::new(Arc::default(), server, false, None),
            len,
            links: BTreeMap::new(),
            due: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        made: (ConnectionHandle, Connection),
        done: Option<Completer<u64>>,
    ) {
        let link = Link {
            connection: made.1,
            timer: None,
            stream: None,
            len: self.len,
            done,
        };
        self.links.insert(made.0, link);
        self.due.push_back(made.0);
    }

    fn drive_due(&mut self, transport: &DatagramTransport) -> Result {
        while transport.flow() == Flow::Open
            && let Some(key) = self.due.pop_front()
        {
            self.drive(transport, key)?;
        }
        Ok(())
    }

    /// Has a connection do everything that it can do now.
    fn drive(&mut self, transport: &DatagramTransport, key: ConnectionHandle) -> Result {
        let now = transport.handle().now();
        let Some(link) = self.links.get_mut(&key) else {
            return Ok(());
        };
        link.connection.handle_timeout(now);
        while let Some(event) = link.connection.poll() {
            if let Event::ConnectionLost { reason } = event {
                link.end(Err(reason.into()));
            }
        }
        if !link.connection.is_closed()
            && let Some(result) = link.transfer().transpose()
        {
            link.connection.close(now, 0_u8.into(), "done".into());
            link.end(result);
        }
        let connection = &mut link.connection;
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(key, event) {
                connection.handle_event(event);
            }
        }
        self.buffer.clear();
        while let Some(transmit) = connection.poll_transmit(now, 64, &mut self.buffer) {
            if send(transport, &transmit, &self.buffer)?.is_paused() {
                self.due.push_back(key);
                break;
            }
            self.buffer.clear();
        }
        if connection.is_drained() {
            self.links.remove(&key);
        } else if let Some(at) = connection.poll_timeout()
            && !link.timer.as_ref().is_some_and(|timer| timer.reset_at(at))
        {
            let drive = move |this: &mut Self, transport: &_| this.drive(transport, key);
            link.timer = Some(transport.call_later(at.saturating_duration_since(now), drive));
        }
        Ok(())
    }
}

/// Sends datagrams of one length.
fn send(transport: &DatagramTransport, transmit: &Transmit, buffer: &[u8]) -> Result<Flow> {
    let (data, to) = (&buffer[..transmit.size], &transmit.destination);
    let ecn = transmit.ecn.map(|ecn| Ecn::from_bits(ecn as u8));
    let departure = Departure::new().ecn(ecn).source(transmit.src_ip);
    Ok(transport.send_run_to(data, transmit.segment_size.unwrap_or(0), to, departure)?)
}

impl DatagramProtocol for Quic {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.drive_due(transport)
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        let from = from.as_inet().ok_or("not of UDP")?;
        let (now, arrival) = (transport.handle().now(), transport.arrival());
        let ecn = EcnCodepoint::from_bits(arrival.ecn.map_or(0, Ecn::bits));
        let (endpoint, buffer, to) = (&mut self.endpoint, &mut self.buffer, arrival.destination);
        buffer.clear();
        let reply = match endpoint.handle(now, from, to, ecn, data.into(), buffer) {
            Some(DatagramEvent::ConnectionEvent(key, event)) => {
                if let Some(link) = self.links.get_mut(&key) {
                    link.connection.handle_event(event);
                }
                if !self.due.contains(&key) {
                    self.due.push_back(key);
                }
                None
            }
            Some(DatagramEvent::NewConnection(new)) if self.links.len() < MAX_CONNECTIONS => {
                match endpoint.accept(new, now, buffer, None) {
                    Ok(made) => {
                        self.add(made, None);
                        None
                    }
                    Err(refused) => refused.response,
                }
            }
            Some(DatagramEvent::NewConnection(new)) => Some(endpoint.refuse(new, buffer)),
            Some(DatagramEvent::Response(transmit)) => Some(transmit),
            None => None,
        };
        if let Some(transmit) = reply {
            send(transport, &transmit, &self.buffer)?;
        }
        Ok(())
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        self.drive_due(transport)
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        // A server has other clients, and QUIC sends again what is lost.
        if transport.remote_addr().is_some() && error.is_refused() {
            let links = self.links.values_mut();
            links.for_each(|link| link.end(Err(error.to_string().into())));
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        // Acknowledgements have to come in.
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        self.drive_due(transport)
    }
}
