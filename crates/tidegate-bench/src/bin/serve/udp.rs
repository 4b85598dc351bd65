//! The services over UDP, as protocols of one endpoint.

use std::io;
use tidegate::{Address, DatagramOptions, DatagramProtocol, DatagramTransport, Handle, Result};
use tidegate_bench::service::{ASKS, DATAGRAM, Service, window};

/// Serves, and says where.
pub(crate) fn bind(
    handle: &Handle,
    service: Service,
    at: DatagramOptions,
) -> io::Result<Vec<Address>> {
    let endpoint = match service {
        Service::Echo => handle.create_datagram_endpoint(at, Echo),
        Service::Sink => handle.create_datagram_endpoint(at, Sink),
        Service::Source => handle.create_datagram_endpoint(at, Source { window: window() }),
        Service::Lines | Service::Megabyte => {
            return Err(io::Error::other("UDP serves echo, sink and source"));
        }
    };
    endpoint.map(|endpoint| vec![endpoint.local_addr().clone()])
}

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        transport.send_to(data, from)?;
        Ok(())
    }
}

struct Sink;

impl DatagramProtocol for Sink {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        if data.first() == Some(&ASKS) {
            transport.send_to(data, from)?;
        }
        Ok(())
    }
}

struct Source {
    window: Vec<u8>,
}

impl DatagramProtocol for Source {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        _: &[u8],
        from: &Address,
    ) -> Result {
        for datagram in self.window.chunks(DATAGRAM) {
            transport.send_to(datagram, from)?;
        }
        Ok(())
    }
}
