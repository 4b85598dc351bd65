//! Opening: what the layers say to each other and to the peer before the protocol's bytes may pass.

use super::LayeredSocket;
use super::read::CALLS_PER_READ;
use std::io;

impl LayeredSocket {
    /// Returns whether all layers are open.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns the number of layers that are not open: those at the top.
    pub(crate) fn opening(&self) -> usize {
        usize::from(!self.open) + self.layered_below().map_or(0, Self::opening)
    }

    /// Goes on with opening all layers, from the wire up. `Ok`: the topmost is open. `WouldBlock`: to
    /// be called again after an event, or when there is [more](LayeredSocket::has_more).
    ///
    /// Of an error of the layer's and one that sending met, the layer's is returned: it may know from
    /// the last words of the peer why the peer left.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        self.drained = false;
        self.unfinished = false;
        let result = self.open_from_below();
        self.park();
        result
    }

    fn open_from_below(&mut self) -> io::Result<()> {
        if !self.started {
            if let Some(below) = self.layered_below_mut()
                && !below.open_told
            {
                let result = below.advance();
                self.drained = !self.layered_below().is_some_and(Self::has_more);
                result?;
            }
            self.started = true;
            self.call_aside(|layer, io| layer.start(io));
            self.send_output();
        }
        for _ in 0..CALLS_PER_READ {
            if self.open {
                self.open_told = true;
                return Ok(());
            }
            if let Some(error) = self.tell_fault() {
                return Err(error);
            }
            if self.ended {
                return Err(self.left_by_peer());
            }
            if let Err(error) = self.step(&mut [], &mut 0) {
                return Err(match error.kind() {
                    io::ErrorKind::WouldBlock => self.take_lasting_write_error().unwrap_or(error),
                    _ => error,
                });
            }
        }
        self.unfinished = true;
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn left_by_peer(&mut self) -> io::Error {
        self.take_lasting_write_error().unwrap_or_else(|| {
            let error = "the peer ended its stream before a layer of the connection was open";
            io::Error::new(io::ErrorKind::UnexpectedEof, error)
        })
    }
}
