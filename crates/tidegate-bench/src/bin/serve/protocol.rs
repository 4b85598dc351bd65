//! The services as protocols with `data_received`.

use crate::Writes;
use bytes::Bytes;
use std::time::Duration;
use tidegate::{Address, Handle, ListenOptions, Protocol, Result, Transport};
use tidegate_bench::service::{Service, megabyte, source_block, split_line};

/// Serves, and says where.
pub(crate) fn listen(
    handle: &Handle,
    service: Service,
    writes: Writes,
    timed: bool,
    at: ListenOptions,
) -> std::io::Result<Vec<Address>> {
    let server = match service {
        Service::Echo if timed => handle.create_server(at, || Timed(Echo)),
        Service::Lines if timed => handle.create_server(at, || Timed(Lines::default())),
        Service::Echo => handle.create_server(at, || Echo),
        Service::Lines => handle.create_server(at, Lines::default),
        Service::Sink => handle.create_server(at, || Sink),
        Service::Source => {
            let block = Bytes::from(source_block());
            handle.create_server(at, move || Source {
                block: block.clone(),
                writes,
            })
        }
        Service::Megabyte => {
            let bytes = Bytes::from(megabyte());
            handle.create_server(at, move || Megabyte {
                bytes: bytes.clone(),
                writes,
            })
        }
    };
    server.map(|server| server.local_addrs().to_vec())
}

/// With a write timeout.
struct Timed<P>(P);

impl<P: Protocol> Protocol for Timed<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.set_write_timeout(Some(Duration::from_secs(30)));
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.0.data_received(transport, data)
    }
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// The received part of a line; sends each complete one back.
#[derive(Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes what has arrived.
    pub(crate) fn arrived(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let mut rest = data;
        while let Some((line, after)) = split_line(rest) {
            rest = after;
            if self.partial.is_empty() {
                transport.write(line)?;
            } else {
                self.partial.extend_from_slice(line);
                transport.write(&self.partial)?;
                self.partial.clear();
            }
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }
}

impl Protocol for Lines {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.arrived(transport, data)
    }
}

struct Sink;

impl Protocol for Sink {}

struct Megabyte {
    bytes: Bytes,
    writes: Writes,
}

impl Protocol for Megabyte {
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
        self.writes.write(transport, &self.bytes)
    }
}

pub(crate) struct Source {
    pub(crate) block: Bytes,
    pub(crate) writes: Writes,
}

impl Protocol for Source {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.resume_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        while !transport.flow().is_paused() {
            self.writes.write(transport, &self.block)?;
        }
        Ok(())
    }
}
