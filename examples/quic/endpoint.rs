//! QUIC on an endpoint of datagrams: quinn-proto has the protocol, and gets its sockets and its time here.

use crate::transfer::Transfer;
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, Event, ServerConfig,
    Transmit,
};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use tidegate::{
    Address, CallbackHandle, DatagramError, DatagramProtocol, DatagramTransport, Ecn, Flow,
    OnPause, Result,
};

/// The most datagrams that a connection makes at a time.
const SEGMENTS: usize = 64;

/// The most connections at a time. Each has buffers of its own.
const MAX_CONNECTIONS: usize = 1_000;

struct Link {
    connection: Connection,
    transfer: Transfer,
    timer: Option<CallbackHandle>,
}

pub(crate) struct Quic {
    pub(crate) endpoint: Endpoint,
    /// The number of bytes that a server sends.
    len: u64,
    pub(crate) max_connections: usize,
    links: BTreeMap<ConnectionHandle, Link>,
    /// Those to drive in this tick.
    due: BTreeSet<ConnectionHandle>,
    /// The one that has sent last.
    served: Option<ConnectionHandle>,
    buffer: Vec<u8>,
    /// The mark of the datagrams that are sent.
    ecn: Option<EcnCodepoint>,
}

impl Quic {
    pub(crate) fn new(server: Option<ServerConfig>, len: u64) -> Self {
        Self {
            // Without the search for longer datagrams, which must not be fragmented.
            endpoint: Endpoint::new(Arc::default(), server.map(Arc::new), false, None),
            len,
            max_connections: MAX_CONNECTIONS,
            links: BTreeMap::new(),
            due: BTreeSet::new(),
            served: None,
            buffer: Vec::new(),
            ecn: None,
        }
    }

    pub(crate) fn add(&mut self, made: (ConnectionHandle, Connection), transfer: Transfer) {
        let (key, connection) = made;
        let link = Link {
            connection,
            transfer,
            timer: None,
        };
        self.links.insert(key, link);
    }

    /// Drives a connection once everything of this tick has come in.
    fn drive_soon(&mut self, transport: &DatagramTransport, key: ConnectionHandle) {
        if self.due.is_empty() {
            transport.call_soon(Self::drive_due);
        }
        self.due.insert(key);
    }

    /// Returns the first error; the other connections go on.
    fn drive_due(&mut self, transport: &DatagramTransport) -> Result {
        let due = mem::take(&mut self.due);
        // A pause may come at any of them: the next one is first after it.
        let order = order(&due, self.served);
        let outcomes = order.into_iter().map(|key| self.drive(transport, key));
        outcomes.fold(Ok(()), Result::and)
    }

    /// Has a connection do everything that it can do now.
    fn drive(&mut self, transport: &DatagramTransport, key: ConnectionHandle) -> Result {
        let now = transport.handle().now();
        let Some(link) = self.links.get_mut(&key) else {
            return Ok(());
        };
        let connection = &mut link.connection;
        let mut drained = false;
        while let Some(event) = connection.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(event) = self.endpoint.handle_event(key, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            if let Event::ConnectionLost { reason } = event {
                link.transfer.fail(reason.into());
            }
        }
        if !connection.is_closed() {
            match link.transfer.advance(connection) {
                Ok(false) => {}
                Ok(true) => connection.close(now, 0_u8.into(), "done".into()),
                Err(error) => {
                    connection.close(now, 1_u8.into(), error.to_string().into());
                    link.transfer.fail(error);
                }
            }
        }
        let mut sent = Ok(());
        // A connection keeps what it has while the endpoint is paused.
        while sent.is_ok() && transport.flow() == Flow::Open {
            self.buffer.clear();
            let transmit = connection.poll_transmit(now, SEGMENTS, &mut self.buffer);
            let Some(transmit) = transmit else { break };
            self.served = Some(key);
            sent = send(transport, &transmit, &self.buffer, &mut self.ecn);
        }
        if drained {
            self.links.remove(&key);
        } else if let Some(deadline) = connection.poll_timeout() {
            let timer = link.timer.as_ref();
            if !timer.is_some_and(|timer| timer.reset_at(deadline)) {
                let delay = deadline.saturating_duration_since(now);
                link.timer = Some(
                    transport.call_later(delay, move |this: &mut Self, transport| {
                        this.time_out(transport, key)
                    }),
                );
            }
        }
        sent
    }

    fn time_out(&mut self, transport: &DatagramTransport, key: ConnectionHandle) -> Result {
        if let Some(link) = self.links.get_mut(&key) {
            link.connection.handle_timeout(transport.handle().now());
        }
        self.drive(transport, key)
    }
}

/// Returns those that are due, from the one after `served` on.
fn order(
    due: &BTreeSet<ConnectionHandle>,
    served: Option<ConnectionHandle>,
) -> Vec<ConnectionHandle> {
    let Some(served) = served else {
        return due.iter().copied().collect();
    };
    let after = due.range((Bound::Excluded(served), Bound::Unbounded));
    after.chain(due.range(..=served)).copied().collect()
}

/// Sends datagrams of one length: the endpoint gathers them, and makes one system call.
fn send(
    transport: &DatagramTransport,
    transmit: &Transmit,
    data: &[u8],
    ecn: &mut Option<EcnCodepoint>,
) -> Result {
    if *ecn != transmit.ecn {
        transport.set_traffic_class(transmit.ecn.map_or(0, |ecn| ecn as u32))?;
        *ecn = transmit.ecn;
    }
    let segment = transmit.segment_size.unwrap_or(transmit.size);
    for datagram in data[..transmit.size].chunks(segment) {
        transport.send_to(datagram, &transmit.destination)?;
    }
    Ok(())
}

impl DatagramProtocol for Quic {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.resume_writing(transport)
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        let now = transport.handle().now();
        let from = from.as_inet().ok_or("not of UDP")?;
        let ecn = EcnCodepoint::from_bits(transport.arrival().ecn.map_or(0, Ecn::bits));
        let (endpoint, buffer) = (&mut self.endpoint, &mut self.buffer);
        buffer.clear();
        let reply = match endpoint.handle(now, from, None, ecn, data.into(), buffer) {
            Some(DatagramEvent::ConnectionEvent(key, event)) => {
                if let Some(link) = self.links.get_mut(&key) {
                    link.connection.handle_event(event);
                    self.drive_soon(transport, key);
                }
                None
            }
            Some(DatagramEvent::NewConnection(incoming))
                if self.links.len() >= self.max_connections =>
            {
                Some(endpoint.refuse(incoming, buffer))
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match endpoint.accept(incoming, now, buffer, None) {
                    Ok(made) => {
                        self.drive_soon(transport, made.0);
                        self.add(made, Transfer::new(self.len, None));
                        None
                    }
                    Err(refused) => refused.response,
                }
            }
            Some(DatagramEvent::Response(transmit)) => Some(transmit),
            None => None,
        };
        match reply {
            Some(transmit) => send(transport, &transmit, &self.buffer, &mut self.ecn),
            None => Ok(()),
        }
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        // A server has other clients, and QUIC sends again what is lost.
        if transport.remote_addr().is_some() && error.is_refused() {
            for link in self.links.values_mut() {
                link.transfer.fail(error.to_string().into());
            }
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        // Acknowledgements have to come in.
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        for key in self.links.keys().copied().collect::<Vec<_>>() {
            self.drive_soon(transport, key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_after_the_last_one_that_has_sent_is_the_next() {
        let due: BTreeSet<_> = [1, 4, 7].map(ConnectionHandle).into();
        let order = |served: Option<usize>| order(&due, served.map(ConnectionHandle));
        for (served, expected) in [
            (None, [1, 4, 7]),
            (Some(0), [1, 4, 7]),
            (Some(1), [4, 7, 1]),
            (Some(5), [7, 1, 4]),
            (Some(7), [1, 4, 7]),
        ] {
            assert_eq!(order(served), expected.map(ConnectionHandle), "{served:?}");
        }
    }
}
