//! The services over UDP: edge-triggered, one socket, each reply sent at once.

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;
use tidegate_bench::page_buffer::PageBuffer;
use tidegate_bench::service::{
    ASKS, DATAGRAM, READ_BUFFER, ServerArguments, Service, announce, window,
};

struct Server {
    service: Service,
    socket: UdpSocket,
    buffer: PageBuffer,
    window: Vec<u8>,
}

impl Server {
    /// Serves until the kernel has no more.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (len, from) = match self.socket.recv_from(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => received?,
            };
            self.reply(len, from)?;
        }
    }

    fn reply(&self, len: usize, to: SocketAddr) -> io::Result<()> {
        let data = &self.buffer[..len];
        if self.service == Service::Source {
            for datagram in self.window.chunks(DATAGRAM) {
                self.socket.send_to(datagram, to)?;
            }
        } else if self.service == Service::Echo || data.first() == Some(&ASKS) {
            self.socket.send_to(data, to)?;
        }
        Ok(())
    }
}

pub(crate) fn run(arguments: &ServerArguments) -> io::Result<()> {
    if matches!(arguments.service, Service::Lines | Service::Megabyte) {
        return Err(io::Error::other("UDP serves echo, sink and source"));
    }
    let mut poll = Poll::new()?;
    let mut socket = UdpSocket::bind(arguments.listen)?;
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)?;
    announce(socket.local_addr()?);
    let mut server = Server {
        service: arguments.service,
        socket,
        buffer: PageBuffer::new(READ_BUFFER),
        window: window(),
    };
    let mut events = Events::with_capacity(1);
    loop {
        match poll.poll(&mut events, None) {
            // A process that is stopped and continued is interrupted.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        if !events.is_empty() {
            server.serve()?;
        }
    }
}
