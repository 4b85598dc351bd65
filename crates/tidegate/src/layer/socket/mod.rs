//! A layer on a socket, which is a socket again.
//!
//! The engine reads and writes it like any other. All that it must know beside that is in the methods
//! below and in `advance`, `flush_output`, `end` and `timer`; each of them acts on the whole stack.

mod bound;
mod call;
mod close;
mod open;
mod read;
mod usual;
mod write;

use super::buffer::Buffer;
use super::fault::Fault;
use super::shared::Shared;
use super::through::Through;
use super::{Layer, LayerIo};
use crate::Address;
use crate::driver::{Socket, SocketOption, StreamSocket};
use crate::panics::PanicPayload;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::rc::Rc;
use std::time::Instant;

pub(crate) use close::TakenOff;
#[cfg(all(test, not(loom)))]
pub(super) use write::FULL_WIRE;

/// One layer on one socket, which may be a layered socket itself.
///
/// No buffer has memory between two calls but for the bytes that it holds.
pub(crate) struct LayeredSocket {
    below: Socket,
    layer: Box<dyn Layer>,
    shared: Rc<Shared>,

    /// Input in front of everything that is still to be read from below.
    unread: Buffer,
    /// From below, given to the layer, not consumed.
    input: Buffer,
    /// For the reader above, that has not had room for it.
    plain: Buffer,
    /// For below, that has not taken it.
    wire: Buffer,
    /// Which output stands for which bytes from above.
    through: Through,
    /// The number of bytes that below has taken.
    taken: u64,
    /// The number of bytes that below has given.
    given: u64,
    /// The number of bytes from above that go past the layer: they were written before it was there.
    past: u64,

    /// When the layer wants to be called.
    deadline: Option<Instant>,
    fault: Option<Fault>,
    /// The error that reading from below met, to be told behind the input that the layer still has.
    read_error: Option<io::Error>,
    /// The error that sending to below met and nobody was told of. Bytes that were made stay in `wire`.
    write_error: Option<io::Error>,
    /// The number of calls in a row in which the layer asked for another one and did nothing else.
    fruitless: u8,

    /// `Layer::start` was called.
    started: bool,
    open: bool,
    /// `advance` has returned that it is open.
    open_told: bool,
    /// The layer asks for a call of `receive` without further input.
    more: bool,
    /// The layer took nothing when it was last asked to send.
    blocked: bool,
    /// The last write left bytes that wait for the layer, or for its output.
    stopped: bool,
    /// Below refused bytes of the last write that went past the layer.
    refused: bool,
    /// The last read asked below and got less than there was room for.
    drained: bool,
    /// A read was cut short to let others be served.
    unfinished: bool,
    /// Below was not asked when its turn was: nothing is known of what it has.
    unasked: bool,
    /// The layer is given input however much of its output waits.
    reads_on: bool,
    /// Sending has failed for good.
    cut_off: bool,
    /// Nobody reads any more: what is for the reader above is discarded.
    reader_lost: bool,
    /// The layer, or the way past it, has had input.
    has_read: bool,
    /// Below has ended.
    eof: bool,
    /// `Layer::input_ended` was called.
    eof_given: bool,
    /// The layer ended the stream to above.
    ended: bool,
    /// The reader above was told.
    ended_told: bool,
    /// `Layer::end` was called.
    ending: bool,
    /// Nothing is to be done, as the last look has told, and it stayed so.
    quiet: bool,
    /// Everything up to the end was sent. Later output of the layer is thrown away.
    sent_end: bool,
    /// The layer left.
    left: bool,
}

impl LayeredSocket {
    /// Puts `layer` on `below`. Its first input is `unread`. The first `past` bytes that are written
    /// go past it: they are those that were written, and not sent, before.
    pub(crate) fn new(
        below: Socket,
        layer: Box<dyn Layer>,
        unread: Vec<u8>,
        past: u64,
        shared: Rc<Shared>,
    ) -> Self {
        Self {
            below,
            layer,
            shared,
            unread: Buffer::of(unread),
            input: Buffer::default(),
            plain: Buffer::default(),
            wire: Buffer::default(),
            through: Through::default(),
            taken: 0,
            given: 0,
            past,
            deadline: None,
            fault: None,
            read_error: None,
            write_error: None,
            fruitless: 0,
            started: false,
            open: false,
            open_told: false,
            more: false,
            blocked: false,
            stopped: false,
            refused: false,
            drained: false,
            unfinished: false,
            unasked: false,
            reads_on: false,
            cut_off: false,
            reader_lost: false,
            has_read: false,
            eof: false,
            eof_given: false,
            ended: false,
            ended_told: false,
            ending: false,
            sent_end: false,
            quiet: false,
            left: false,
        }
    }

    /// Returns the time at which a layer wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let below = self.layered_below().and_then(Self::deadline);
        match (self.deadline, below) {
            (Some(own), Some(below)) => Some(own.min(below)),
            (own, below) => own.or(below),
        }
    }

    /// Calls the layers whose time has come, from the wire up. Everything may have changed then:
    /// whether it is open, input, output, the deadline, and whether to write.
    pub(crate) fn timer(&mut self, now: Instant) {
        self.quiet = false;
        if let Some(below) = self.layered_below_mut() {
            below.timer(now);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.call_aside(|layer, io| layer.timer(io));
            self.park();
        }
    }

    /// Calls with the topmost layer of type `L`. As after `timer`, everything may have changed. Layers that
    /// were quiet stay so when the call put nothing out and said nothing: what it has changed in the layer
    /// has a say in the next read or write.
    ///
    /// A panic of the call goes on, and leaves them not quiet.
    pub(crate) fn with_layer<L: Layer, R>(
        &mut self,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R,
    ) -> Option<R> {
        let was_quiet = mem::replace(&mut self.quiet, false);
        if !is_of_type::<L>(&*self.layer) {
            let result = self
                .layered_below_mut()
                .and_then(|below| below.with_layer(call));
            self.quiet = was_quiet && self.below_is_quiet();
            return result;
        }
        let result = self.call_from_outside(call);
        self.park();
        result
    }

    /// Returns whether a layer has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.fault.is_some() || self.layered_below().is_some_and(Self::has_failed)
    }

    /// Takes the payload of a layer's panic. To be asked after an error of any method.
    pub(crate) fn take_panic(&mut self) -> Option<PanicPayload> {
        let own = self.fault.as_mut().and_then(Fault::take_panic);
        own.or_else(|| self.layered_below_mut()?.take_panic())
    }

    /// Returns the number of bytes that the bare socket has taken since it has layers.
    pub(crate) fn taken(&self) -> u64 {
        self.layered_below().map_or(self.taken, Self::taken)
    }

    /// Returns the number of bytes that the bare socket has given and taken since it has layers.
    pub(crate) fn moved(&self) -> u64 {
        self.layered_below()
            .map_or(self.given + self.taken, Self::moved)
    }

    /// Adds bytes that the protocol had from below the layers that open, behind the input that these
    /// have and have not read.
    pub(crate) fn add_unread(&mut self, bytes: &[u8]) {
        let lowest = self.lowest_opening();
        lowest.unread.push(bytes, &lowest.shared);
    }

    /// Puts such bytes in front of that input. A layer that has read what follows them fails: they
    /// would come out of order.
    pub(crate) fn put_unread_in_front(&mut self, bytes: &[u8]) {
        let lowest = self.lowest_opening();
        if lowest.has_read {
            let error = "bytes were given back to a layer that has read what follows them";
            if lowest.fault.is_none() {
                lowest.fail(Fault::new(io::Error::new(
                    io::ErrorKind::InvalidData,
                    error,
                )));
            }
            return;
        }
        let behind = lowest.unread.bytes().to_vec();
        lowest.unread.consume(behind.len());
        lowest.unread.push(bytes, &lowest.shared);
        lowest.unread.push(&behind, &lowest.shared);
    }

    /// Returns the lowest layer that is not open, which was put on first; the topmost, if all are.
    fn lowest_opening(&mut self) -> &mut Self {
        self.quiet = false;
        if self.layered_below().is_none_or(|below| below.open) {
            return self;
        }
        match self.below.foreign_mut::<Self>() {
            Some(below) => below.lowest_opening(),
            None => unreachable!("a layered socket is one"),
        }
    }

    /// Returns the bare socket.
    pub(crate) fn bottom(&self) -> &Socket {
        match self.layered_below() {
            Some(below) => below.bottom(),
            None => &self.below,
        }
    }

    /// Returns the bare socket.
    pub(crate) fn bottom_mut(&mut self) -> &mut Socket {
        if self.layered_below().is_none() {
            return &mut self.below;
        }
        match self.below.foreign_mut::<Self>() {
            Some(below) => below.bottom_mut(),
            None => unreachable!("a layered socket is one"),
        }
    }

    fn layered_below(&self) -> Option<&Self> {
        self.below.foreign_ref()
    }

    fn layered_below_mut(&mut self) -> Option<&mut Self> {
        self.below.foreign_mut()
    }

    /// Checks that it has no more memory than it may have, between two calls.
    #[cfg(all(test, not(loom)))]
    pub(super) fn check_memory(&self) {
        use super::io::{MAX_OUTPUT, MAX_PLAIN};
        use super::shared::SCRATCH;
        for (buffer, most) in [
            (&self.input, SCRATCH),
            (&self.wire, MAX_OUTPUT),
            (&self.plain, MAX_PLAIN),
        ] {
            let memory = buffer.footprint();
            assert!(memory <= most, "{buffer:?}");
            assert!(memory <= 2 * buffer.len() + 1, "{buffer:?}");
        }
        if let Some(below) = self.layered_below() {
            below.check_memory();
        }
    }

    /// Checks that it has no memory at all, but for what came behind the end that a layer has told of.
    #[cfg(all(test, not(loom)))]
    pub(super) fn check_idle(&self) {
        for buffer in [&self.unread, &self.input, &self.wire, &self.plain] {
            assert_eq!(buffer.footprint(), 0, "{buffer:?}");
        }
        assert!(self.through.is_settled());
        if let Some(below) = self.layered_below()
            && (self.eof || !self.ended)
        {
            below.check_idle();
        }
    }

    /// Gives back the memory that nothing is in, and looks what is left to do.
    #[inline(never)]
    fn park(&mut self) {
        self.quiet = self.looks_quiet();
        self.unread.park(&self.shared);
        self.input.park(&self.shared);
        self.plain.park(&self.shared);
        self.wire.park(&self.shared);
        self.through.park(&self.shared);
    }
}

fn is_of_type<L: Layer>(layer: &dyn Layer) -> bool {
    let layer: &dyn std::any::Any = layer;
    layer.is::<L>()
}

impl StreamSocket for LayeredSocket {
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.drained = false;
        if self.is_quiet() {
            return self.read_quiet(buffer);
        }
        self.unfinished = false;
        let result = self.read_above(buffer);
        self.park();
        result
    }

    /// Returns the number of bytes of the protocol that are in the kernel with everything that
    /// stands for them. After a short count either the socket has refused bytes, or a layer takes
    /// none for now, or there is a [write error](LayeredSocket::take_write_error).
    #[inline(always)]
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(piece) = self.usual_piece(slices) {
            return self.write_quiet(piece);
        }
        let result = self.write_from_above(slices);
        self.park();
        result
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
            .field("unread", &self.unread)
            .field("input", &self.input)
            .field("plain", &self.plain)
            .field("wire", &self.wire)
            .field("through", &self.through)
            .field("past", &self.past)
            .field("open", &self.open)
            .field("blocked", &self.blocked)
            .field("stopped", &self.stopped)
            .field("ended", &self.ended)
            .field("ending", &self.ending)
            .field("sent_end", &self.sent_end)
            .field("left", &self.left)
            .field("fault", &self.fault)
            .field("write_error", &self.write_error)
            .field("below", &self.below)
            .finish_non_exhaustive()
    }
}
