//! Layered sockets by table: what each way does where it is easy to go wrong.

mod bound;
mod failing;
mod feeding;
mod leaving;
mod opening;
mod reading;
mod writing;

use super::testing::dice::Dice;
use super::testing::engine::Clock;
use super::testing::line::{LineEnd, Rates, line};
use super::{Layer, LayeredSocket, Shared};
use crate::driver::{Socket, StreamSocket};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

/// A layered socket, its line, and the other end of that.
struct Scene {
    socket: LayeredSocket,
    line: LineEnd,
    peer: LineEnd,
    clock: Clock,
    shared: Rc<Shared>,
}

impl Scene {
    /// With a layer that is not started.
    fn unopened(layer: impl Layer) -> Self {
        Self::with_past(layer, 0)
    }

    fn with_past(layer: impl Layer, past: u64) -> Self {
        let clock = Clock::new();
        let (line, peer) = line(1 << 30, Rates::default(), &Dice::new(0));
        let time = clock.clone();
        let shared = Shared::new(move || time.now());
        let below = Socket::foreign(line.clone());
        let socket = LayeredSocket::new(below, Box::new(layer), Vec::new(), past, shared.clone());
        Self {
            socket,
            line,
            peer,
            clock,
            shared,
        }
    }

    fn new(layer: impl Layer) -> Self {
        Self::unopened(layer).opened()
    }

    fn opened(mut self) -> Self {
        self.socket.advance().unwrap();
        self
    }

    /// Puts another layer on top.
    fn push(self, layer: impl Layer, past: u64) -> Self {
        let Self { socket, shared, .. } = self;
        let below = Socket::foreign(socket);
        let socket = LayeredSocket::new(below, Box::new(layer), Vec::new(), past, shared.clone());
        Self {
            socket,
            shared,
            ..self
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.socket.write(&[IoSlice::new(data)])
    }

    /// One read of at most `most` bytes.
    fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; most];
        let len = self.socket.read(&mut buffer)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    /// Reads as the transport does: as long as there may be more.
    fn read_all(&mut self, most: usize) -> (Vec<u8>, Option<ErrorKind>) {
        let mut all = Vec::new();
        for _ in 0..1_000 {
            match self.read(most) {
                Ok(data) if data.is_empty() => return (all, None),
                Ok(data) if data.len() < most && !self.socket.has_more() => {
                    all.extend(data);
                    return (all, Some(ErrorKind::WouldBlock));
                }
                Ok(data) => all.extend(data),
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.socket.has_more() => {}
                Err(error) => return (all, Some(error.kind())),
            }
        }
        panic!("it reads for ever: {:?}", self.socket);
    }

    /// The peer sends.
    fn arrive(&mut self, data: &[u8]) {
        assert_eq!(self.peer.write(&[IoSlice::new(data)]).unwrap(), data.len());
    }
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

const WOULD_BLOCK: Option<ErrorKind> = Some(ErrorKind::WouldBlock);
