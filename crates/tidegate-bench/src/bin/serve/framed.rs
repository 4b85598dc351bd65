//! The services on frames.

use std::io;
use tidegate::{Address, Handle, ListenOptions};
use tidegate_bench::service::Service;
use tidegate_framing::{Fixed, Lines, Piece, Raw, framed};

/// Serves, and says where.
pub(crate) fn listen(
    handle: &Handle,
    service: Service,
    at: ListenOptions,
) -> io::Result<Vec<Address>> {
    let server = match service {
        Service::Echo => handle.create_server(at, || {
            // All bytes come as they arrive.
            let mut codec = Raw::new(Fixed::new(1));
            codec.expect(u64::MAX);
            framed(codec, |transport, piece| {
                if let Piece::Raw { bytes, .. } = piece {
                    transport.write(bytes)?;
                }
                Ok(())
            })
        }),
        Service::Lines => handle.create_server(at, || {
            framed(Lines::new().keep_end(true), |transport, line| {
                transport.write(line)?;
                Ok(())
            })
        }),
        Service::Sink | Service::Source | Service::Megabyte => {
            return Err(io::Error::other("frames serve echo and lines"));
        }
    };
    server.map(|server| server.local_addrs().to_vec())
}
