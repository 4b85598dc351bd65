//! A layer on a socket, which is a socket again.

use super::buffer::Buffer;
use super::{Layer, LayerIo, Shared};
use crate::Address;
use crate::driver::{Socket, SocketOption, StreamSocket};
use crate::panics::PanicPayload;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Instant;

/// One layer on one socket, which may be a layered socket itself.
pub(crate) struct LayeredSocket {
    below: Socket,
    layer: Box<dyn Layer>,
    shared: Rc<Shared>,
    /// From below, not consumed yet.
    input: Buffer,
    /// For above, not read yet.
    plain: Buffer,
    /// For below, not taken yet.
    wire: Buffer,
    deadline: Option<Instant>,
}

impl LayeredSocket {
    /// Puts `layer` on `below`. Its first input is `unread`. The first `past` bytes that are written
    /// go past it: they were written, and not sent, before.
    pub(crate) fn new(
        below: Socket,
        layer: Box<dyn Layer>,
        unread: Vec<u8>,
        past: u64,
        shared: Rc<Shared>,
    ) -> Self {
        let _ = past;
        Self {
            below,
            layer,
            shared,
            input: Buffer::of(unread),
            plain: Buffer::default(),
            wire: Buffer::default(),
            deadline: None,
        }
    }

    // Opening.

    /// Goes on with opening: all layers, from the wire up. `Ok` when the topmost is open.
    /// `WouldBlock`: call again when the socket is readable, or writable if there is output.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        todo!()
    }

    /// Returns whether all layers are open.
    pub(crate) fn is_open(&self) -> bool {
        todo!()
    }

    // Reading. `StreamSocket::read`, and:

    /// Returns whether a read would give something, an error or an end without asking the socket.
    /// Changes in `timer`, `with_layer`, and when writing: the transport then has to read.
    pub(crate) fn has_input(&self) -> bool {
        todo!()
    }

    /// Returns whether another read may give something, although the last one was short or would
    /// block.
    pub(crate) fn has_more(&self) -> bool {
        todo!()
    }

    // Writing. `StreamSocket::write`, and:

    /// Takes the error that a write met behind the bytes that it returned. To be asked after each
    /// write that took fewer bytes than it was offered.
    pub(crate) fn take_write_error(&mut self) -> Option<io::Error> {
        todo!()
    }

    /// Returns whether a write would tell of bytes that are through, or may go on where a layer took
    /// none: the transport then offers again, although no event told of room.
    pub(crate) fn wants_write(&self) -> bool {
        todo!()
    }

    /// Returns whether layers have output that no write will bring out, or an error of it to tell.
    pub(crate) fn has_output(&self) -> bool {
        todo!()
    }

    /// Sends the output of the layers. `Ok` when all of it is out.
    pub(crate) fn flush_output(&mut self) -> io::Result<()> {
        todo!()
    }

    // Ending.

    /// Ends the streams of all layers, from the top down. `Ok` when everything is out.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        todo!()
    }

    /// Returns whether the topmost layer has left and nothing of it is left: the socket below can
    /// take the place of this one.
    pub(crate) fn has_left(&self) -> bool {
        todo!()
    }

    /// Takes the topmost layer off.
    pub(crate) fn into_below(self) -> (Socket, Box<dyn Layer>) {
        (self.below, self.layer)
    }

    /// Takes all layers off. Returns the bare socket, and the layers from the wire up. Dropping them
    /// runs code of the user.
    pub(crate) fn into_parts(self) -> (Socket, Vec<Box<dyn Layer>>) {
        todo!()
    }

    // Failures.

    /// Returns whether a layer has failed.
    pub(crate) fn has_failed(&self) -> bool {
        todo!()
    }

    /// Takes the payload of a panic, after an error.
    pub(crate) fn take_panic(&mut self) -> Option<PanicPayload> {
        todo!()
    }

    /// Returns whether the bare socket has been read to its end.
    pub(crate) fn below_has_ended(&self) -> bool {
        todo!()
    }

    // Timers.

    /// Returns the time at which a layer wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Calls the layers whose time has come. Look at everything afterwards: at input, output, the
    /// deadline, and whether to write.
    pub(crate) fn timer(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    // Access.

    /// Calls with the topmost layer of type `L`.
    pub(crate) fn with_layer<L: Layer, R>(
        &mut self,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R,
    ) -> Option<R> {
        let _ = call;
        todo!()
    }

    /// Returns the bare socket.
    pub(crate) fn bottom(&self) -> &Socket {
        todo!()
    }

    /// Returns the bare socket.
    pub(crate) fn bottom_mut(&mut self) -> &mut Socket {
        todo!()
    }
}

impl StreamSocket for LayeredSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = (buffer, &mut self.input, &self.shared);
        todo!()
    }

    /// Returns the bytes of the protocol that are in the kernel with all that stands for them. A
    /// short count: the socket refused, or a layer took none for now.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _ = slices;
        todo!()
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.below.shutdown_write()
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.below.take_error()
    }

    fn connected(&mut self) -> io::Result<bool> {
        self.below.connected()
    }

    fn local_addr(&self) -> io::Result<Address> {
        self.below.local_addr()
    }

    fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        self.below.set_option(option)
    }
}

impl fmt::Debug for LayeredSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredSocket")
            .field("below", &self.below)
            .field("input", &self.input)
            .field("plain", &self.plain)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}
