//! The services as protocols that give their own read buffer, one for each connection.

use crate::Writes;
use crate::protocol::{Lines, Source};
use bytes::Bytes;
use tidegate::{Address, Handle, ListenOptions, Protocol, Result, Transport};
use tidegate_bench::service::{READ_BUFFER, Service, megabyte, source_block};

/// Serves, and says where.
pub(crate) fn listen(
    handle: &Handle,
    service: Service,
    writes: Writes,
    at: ListenOptions,
) -> std::io::Result<Vec<Address>> {
    let block = Bytes::from(source_block());
    let server = handle.create_server(at, move || Buffered {
        buffer: vec![0; READ_BUFFER],
        service,
        lines: Lines::default(),
        source: Source {
            block: block.clone(),
            writes,
        },
    });
    server.map(|server| server.local_addrs().to_vec())
}

struct Buffered {
    buffer: Vec<u8>,
    service: Service,
    lines: Lines,
    source: Source,
}

impl Protocol for Buffered {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        if self.service == Service::Source {
            self.source.connection_made(transport)?;
        }
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        if self.service == Service::Source {
            self.source.resume_writing(transport)?;
        }
        Ok(())
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let data = &self.buffer[..len];
        match self.service {
            Service::Echo => {
                transport.write(data)?;
            }
            Service::Lines => self.lines.arrived(transport, data)?,
            Service::Megabyte => {
                transport.write(&megabyte())?;
            }
            Service::Sink | Service::Source => {}
        }
        Ok(())
    }
}
