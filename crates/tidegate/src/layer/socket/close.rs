//! The end: of the streams from above, of a layer that leaves, and of the connection.

use super::write::Sent;
use super::{LayeredSocket, is_of_type};
use crate::driver::Socket;
use crate::layer::fault::Fault;
use crate::layer::{Layer, LayerIo, Shared};
use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;

/// Layers of which the connection has ended, or that have left it. To drop them runs code of the
/// user's.
pub(crate) struct TakenOff {
    /// From the top down.
    layers: Layers,
    shared: Rc<Shared>,
}

type Layers = Vec<(Box<dyn Layer>, Option<Fault>)>;

impl LayeredSocket {
    /// Ends the streams of all layers, from the top down. `Ok`: everything is out. `WouldBlock`: to be
    /// called again when there is room, or a layer [goes on](LayeredSocket::wants_write).
    ///
    /// A layer that is not open is not asked to end anything, and does not open any more. The output
    /// that it has made is sent.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if !mem::replace(&mut self.ending, true) {
            if self.open {
                self.call_aside(|layer, io| layer.end(io));
            } else {
                self.no_more_calls();
            }
        }
        self.forget_brief_error();
        let sent = self.send_wire();
        self.park();
        match sent {
            Sent::Failed => return Err(self.failed()),
            Sent::Part => return Err(io::ErrorKind::WouldBlock.into()),
            Sent::All if self.fault.as_ref().is_some_and(|fault| !fault.is_told()) => {
                return Err(self.failed());
            }
            Sent::All => self.sent_end = true,
        }
        match self.layered_below_mut() {
            Some(below) => below.end(),
            None => Ok(()),
        }
    }

    /// Returns whether the end came before the layer was open. Such a layer is not called any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.ending && !self.open
    }

    /// Returns whether the layer is not open, and may still open.
    pub(super) fn is_opening(&self) -> bool {
        !self.open && !self.ending
    }

    /// Returns whether a layer is open, and has not left with all of its output sent: there is something
    /// to [end](LayeredSocket::end).
    pub(crate) fn is_to_end(&self) -> bool {
        let own = self.open && !(self.left && self.wire.is_empty());
        own || self.layered_below().is_some_and(Self::is_to_end)
    }

    /// Returns the number of bytes from above that are through and that no write has told of, in the
    /// whole stack. For the end: a write afterwards would offer them again.
    pub(crate) fn tell_all(&mut self) -> usize {
        let below = self.layered_below_mut().map_or(0, Self::tell_all);
        let past = below.min(usize::try_from(self.past).unwrap_or(usize::MAX));
        self.past -= past as u64;
        let own = (below - past).min(self.wire.len());
        self.wire.consume(own);
        self.through.take(own);
        // The rest went past a layer that has left.
        below - own + self.through.tell(usize::MAX)
    }

    /// Returns whether a layer of the stack has left and can be [taken off](LayeredSocket::take_off_left).
    pub(crate) fn has_left(&self) -> bool {
        self.is_done() || self.layered_below().is_some_and(Self::has_left)
    }

    /// Returns whether the layer has left and everything of it is done, so that the socket below can
    /// take the place of this one. It cannot when the reader above was, or is to be, told of an end.
    fn is_done(&self) -> bool {
        let buffers = [&self.plain, &self.input, &self.unread, &self.wire];
        self.left
            && self.open_told
            && self.past == 0
            && !self.eof
            && !self.ended
            && buffers.iter().all(|buffer| buffer.is_empty())
            && self.through.is_settled()
            && self.read_error.is_none()
            && self.write_error.is_none()
    }

    /// Takes the layers off that have left, wherever they stand in the stack. Returns what is left of
    /// the stack.
    pub(crate) fn take_off_left(self) -> (Socket, TakenOff) {
        let mut layers = Layers::new();
        let shared = self.shared.clone();
        let stack = self.without_left(&mut layers);
        (stack, TakenOff { layers, shared })
    }

    fn without_left(mut self, off: &mut Layers) -> Socket {
        if self.is_done() {
            off.push((self.layer, self.fault));
            return match self.below.into_foreign::<Self>() {
                Ok(below) => below.without_left(off),
                Err(bare) => bare,
            };
        }
        let taken = self.taken();
        self.below = match self.below.into_foreign::<Self>() {
            Ok(below) => below.without_left(off),
            Err(bare) => bare,
        };
        if self.layered_below().is_none() {
            // It is the lowest now, and goes on with the count of the one that was.
            self.taken = taken;
        }
        self.park();
        Socket::foreign(self)
    }

    /// Takes the topmost layer off.
    pub(crate) fn into_below(self) -> (Socket, TakenOff) {
        let layers = vec![(self.layer, self.fault)];
        let shared = self.shared;
        (self.below, TakenOff { layers, shared })
    }

    /// Takes all layers off the bare socket.
    pub(crate) fn into_parts(self) -> (Socket, TakenOff) {
        let (mut socket, mut off) = self.into_below();
        loop {
            match socket.into_foreign::<Self>() {
                Ok(layered) => {
                    let (below, next) = layered.into_below();
                    off.layers.extend(next.layers);
                    socket = below;
                }
                Err(bare) => return (bare, off),
            }
        }
    }
}

impl TakenOff {
    /// Calls with the topmost layer of type `L`. Its words and its output reach nobody.
    pub(crate) fn with_layer<L: Layer, R>(
        &mut self,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R,
    ) -> Option<R> {
        let mut layers = self.layers.iter_mut().map(|(layer, _)| layer);
        let layer: &mut dyn Any = &mut **layers.find(|layer| is_of_type::<L>(&***layer))?;
        let layer = layer.downcast_mut()?;
        Some(super::call::detached(&self.shared, |io| call(layer, io)))
    }

    #[cfg(all(test, not(loom)))]
    pub(in crate::layer) fn count(&self) -> usize {
        self.layers.len()
    }

    /// Adds others, which were below these.
    pub(crate) fn append(&mut self, mut below: Self) {
        self.layers.append(&mut below.layers);
    }
}

impl fmt::Debug for TakenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.layers.len())
    }
}
