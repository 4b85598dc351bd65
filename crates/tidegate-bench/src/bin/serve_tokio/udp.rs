//! The services over UDP, in the task of one socket.

use std::io;
use tidegate_bench::page_buffer::PageBuffer;
use tidegate_bench::service::{
    ASKS, DATAGRAM, READ_BUFFER, ServerArguments, Service, announce, window,
};
use tokio::net::UdpSocket;

pub(crate) async fn serve(arguments: &ServerArguments) -> io::Result<()> {
    let socket = UdpSocket::bind(arguments.listen).await?;
    announce(socket.local_addr()?);
    let mut buffer = PageBuffer::new(READ_BUFFER);
    let window = window();
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await?;
        let data = &buffer[..len];
        if arguments.service == Service::Source {
            for datagram in window.chunks(DATAGRAM) {
                socket.send_to(datagram, from).await?;
            }
        } else if arguments.service == Service::Echo || data.first() == Some(&ASKS) {
            socket.send_to(data, from).await?;
        }
    }
}
