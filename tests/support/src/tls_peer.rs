//! The other end of a connection with TLS: rustls's buffered API over a plain socket that never
//! blocks.

use crate::{Peer, drive};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::mem;
use std::sync::Arc;
use tidegate::EventLoop;
use tidegate_tls::rustls::client::{ClientConfig, ClientConnection};
use tidegate_tls::rustls::server::{ServerConfig, ServerConnection};
use tidegate_tls::rustls::{Connection, Error};

/// The test's end of a connection with TLS.
#[derive(Debug)]
pub struct TlsPeer {
    peer: Peer,
    /// The session, for its settings and what was negotiated.
    pub tls: Connection,
    /// Bytes of the peer that the session has had.
    fed: usize,
    /// Output of the session that the kernel has not taken.
    output: Vec<u8>,
    is_held: bool,
    received: Vec<u8>,
    error: Option<Error>,
    has_close_notify: bool,
}

impl TlsPeer {
    /// Begins a handshake with a server that is to be `localhost`.
    pub fn client(peer: Peer, config: &Arc<ClientConfig>) -> Self {
        let name = ok("localhost".try_into());
        let client = ok(ClientConnection::new(config.clone(), name));
        Self::new(peer, client.into())
    }

    /// Waits for the handshake of a client.
    pub fn server(peer: Peer, config: &Arc<ServerConfig>) -> Self {
        Self::new(peer, ok(ServerConnection::new(config.clone())).into())
    }

    fn new(peer: Peer, mut tls: Connection) -> Self {
        tls.set_buffer_limit(None);
        let fed = peer.received().len();
        Self {
            peer,
            tls,
            fed,
            output: Vec::new(),
            is_held: false,
            received: Vec::new(),
            error: None,
            has_close_notify: false,
        }
    }

    /// Reads and writes what the kernel has and takes now.
    pub fn step(&mut self) {
        if self.peer.is_closed() {
            return;
        }
        self.peer.read_available();
        self.feed();
        while self.tls.wants_write() {
            ok(self.tls.write_tls(&mut self.output));
        }
        if !self.output.is_empty() && !self.is_held {
            // A peer that has left is noticed by reading.
            let sent = self.peer.try_write(&self.output).unwrap_or(0);
            self.output.drain(..sent);
        }
    }

    fn feed(&mut self) {
        while self.error.is_none() && !self.has_close_notify {
            let mut input = &self.peer.received()[self.fed..];
            if input.is_empty() {
                return;
            }
            let before = input.len();
            ok(self.tls.read_tls(&mut input));
            self.fed += before - input.len();
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let mut data = vec![0; state.plaintext_bytes_to_read()];
                    ok(self.tls.reader().read_exact(&mut data));
                    self.received.extend(data);
                    self.has_close_notify = state.peer_has_closed();
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Runs the loop until `done`.
    #[track_caller]
    pub fn until(
        &mut self,
        event_loop: &mut EventLoop,
        what: &str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        drive(event_loop, what, || {
            self.step();
            done(self)
        });
    }

    /// Runs the loop until the handshake is done.
    #[track_caller]
    pub fn shake_hands(&mut self, event_loop: &mut EventLoop) {
        self.until(event_loop, "the handshake at the peer", |peer| {
            !peer.tls.is_handshaking() || peer.is_ended()
        });
        assert!(!self.tls.is_handshaking(), "{self:?}");
    }

    /// Runs the loop until `len` bytes have come in all.
    #[track_caller]
    pub fn expect(&mut self, event_loop: &mut EventLoop, len: usize) {
        self.until(event_loop, &format!("{len} bytes at the peer"), |peer| {
            peer.received.len() >= len || peer.is_ended()
        });
        let got = self.received.len();
        assert!(
            got >= len,
            "the peer got {got} of {len} bytes: {:?}",
            self.error
        );
    }

    /// Runs the loop until the TCP stream has ended, in whatever way.
    #[track_caller]
    pub fn expect_end(&mut self, event_loop: &mut EventLoop) {
        self.until(event_loop, "the end of the stream at the peer", |peer| {
            peer.peer.is_ended()
        });
    }

    /// Encrypts, and sends what the kernel takes.
    pub fn send(&mut self, data: &[u8]) {
        ok(self.tls.writer().write_all(data));
        self.step();
    }

    /// Sends a close_notify, and nothing more.
    pub fn close_notify(&mut self) {
        self.tls.send_close_notify();
        self.step();
    }

    /// Encrypts, and returns the records in place of sending them.
    pub fn records_of(&mut self, data: &[u8]) -> Vec<u8> {
        self.step();
        let held = mem::replace(&mut self.is_held, true);
        assert!(self.output.is_empty());
        ok(self.tls.writer().write_all(data));
        let records = self.take_output();
        self.is_held = held;
        records
    }

    /// Takes what comes next for plain bytes, and not for the session's.
    #[track_caller]
    pub fn expect_plain(&mut self, event_loop: &mut EventLoop, plain: &[u8]) {
        let end = self.fed + plain.len();
        self.peer.expect(event_loop, end);
        assert_eq!(&self.peer.received()[self.fed..end], plain);
        self.fed = end;
    }

    /// Sets whether what the session has to send is kept, for [`take_output`](Self::take_output).
    pub fn hold_output(&mut self, on: bool) {
        self.is_held = on;
    }

    /// Takes what the session has to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.step();
        mem::take(&mut self.output)
    }

    /// Everything that was received so far, decrypted.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// The error of the session, an alert of the other end among them.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Whether a close_notify has come.
    pub fn has_close_notify(&self) -> bool {
        self.has_close_notify
    }

    fn is_ended(&self) -> bool {
        self.peer.is_ended() || self.error.is_some() || self.has_close_notify
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Peer, Connection) {
        (self.peer, self.tls)
    }

    /// The socket below.
    pub fn wire(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

#[track_caller]
fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
