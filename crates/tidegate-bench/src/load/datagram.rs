//! One socket of the load generator over UDP.

use super::Plan;
use super::segmentation;
use super::tally::Tally;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{MsgHdr, SockRef};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// The result of a receive.
pub(super) enum Received {
    /// The datagram that was expected.
    Expected,
    Nothing,
    /// An error, or another datagram: one was lost, or changed.
    Broken,
}

/// A socket that is connected to the server. It has none when it has failed.
pub(super) struct DatagramSocket(Option<UdpSocket>);

impl DatagramSocket {
    pub(super) fn open_all(plan: &Plan) -> io::Result<Vec<Self>> {
        let open = |_| {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let socket = UdpSocket::bind(any)?;
            socket.connect(plan.address)?;
            Ok(Self(Some(socket)))
        };
        (0..plan.connections).map(open).collect()
    }

    /// Asks for events of what can be received. Room for more is not waited for: the loopback device has it.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.0 {
            Some(socket) => registry.register(socket, token, Interest::READABLE),
            None => Ok(()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Closes it, and counts the failure.
    pub(super) fn fail(&mut self, tally: &mut Tally) {
        self.0 = None;
        tally.fail();
    }

    /// Returns false on an error.
    pub(super) fn send(&self, datagram: &[u8]) -> bool {
        let socket = self.0.as_ref();
        socket.is_some_and(|socket| socket.send(datagram).is_ok())
    }

    /// Sends datagrams of one length that lie one behind the other, by one call. Returns false on an error.
    pub(super) fn send_segmented(&self, datagrams: &[u8], len: usize) -> bool {
        let bytes = [IoSlice::new(datagrams)];
        let control = segmentation::control_message(len);
        let message = MsgHdr::new().with_buffers(&bytes).with_control(&control);
        let socket = self.0.as_ref();
        socket.is_some_and(|socket| SockRef::from(socket).sendmsg(&message, 0).is_ok())
    }

    /// Makes one receive.
    pub(super) fn receive(&self, buffer: &mut [u8], expected: &[u8]) -> Received {
        let Some(socket) = &self.0 else {
            return Received::Broken;
        };
        match socket.recv(buffer) {
            Ok(len) if buffer[..len] == *expected => Received::Expected,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Ok(_) | Err(_) => Received::Broken,
        }
    }
}
