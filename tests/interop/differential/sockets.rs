//! Pairs of sockets, and a kernel that takes no more.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::{Kind, Peer, settle};
use tidegate::EventLoop;

/// For both directions of both sockets, so that a stalled peer holds little.
const KERNEL_BUFFER: usize = 64 * 1024;

/// The byte that fills the kernel.
pub(super) const CLOG: u8 = 255;

/// The time after which a kernel that has taken nothing is full: TCP may wait 40 ms to acknowledge what
/// it got, and then 200 ms and more before it fills what is left of the window.
const FULL: Duration = Duration::from_millis(600);

/// A connected pair.
pub(super) fn pair(kind: Kind) -> (Socket, Peer) {
    let prepare = |socket: &Socket| {
        socket.set_send_buffer_size(KERNEL_BUFFER).unwrap();
        socket.set_recv_buffer_size(KERNEL_BUFFER).unwrap();
    };
    let (ours, theirs) = match kind {
        Kind::Unix => Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap(),
        Kind::Tcp => {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            prepare(&listener);
            let any_port = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)));
            listener.bind(&any_port).unwrap();
            listener.listen(1).unwrap();
            let theirs = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            prepare(&theirs);
            theirs.connect(&listener.local_addr().unwrap()).unwrap();
            theirs.set_tcp_nodelay(true).unwrap();
            (listener.accept().unwrap().0, theirs)
        }
    };
    prepare(&ours);
    prepare(&theirs);
    ours.set_nonblocking(true).unwrap();
    (ours, Peer::new(theirs))
}

/// Fills the kernel, so that what is written stays in our buffer.
pub(super) fn clog(event_loop: &mut EventLoop, sockets: &[&Socket]) {
    let mut full = Instant::now();
    while !sockets.is_empty() && full.elapsed() < FULL {
        for mut socket in sockets.iter().copied() {
            while socket.write(&[CLOG; 65536]).is_ok() {
                full = Instant::now();
            }
        }
        settle(event_loop);
    }
}
