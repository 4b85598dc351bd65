//! The loop's side of a writer: takes pieces while the connection's flow is open.

use super::queue::Queue;
use std::io;
use std::sync::Arc;
use tidegate::{Bytes, Closed, Flow, Handle, Transport, TransportId, WriteError};

/// The maximum number of bytes and of pieces that are taken before others have their turn.
const BYTES_PER_TURN: usize = 1 << 20;
const PIECES_PER_TURN: usize = 4096;

/// A piece below this is copied, as the writes of a callback are: many go out in one system call.
const COPIED_BELOW: usize = 4096;

/// Closes the queue when it is dropped, as with a loop that drops its closures uncalled, unless it rests.
pub(super) struct Pump {
    id: TransportId,
    queue: Arc<Queue>,
    closed: Option<Closed>,
    rests: bool,
}

impl Pump {
    /// Has the end of the connection, or of its loop, close the queue.
    pub(super) fn watch(transport: &Transport, queue: Arc<Queue>) {
        let mut own = Self::new(transport.id(), queue);
        transport.wait_closed().then(move |_, closed| {
            own.closed = closed.ok();
            drop(own);
        });
    }

    /// From another thread: there are pieces.
    pub(super) fn start(handle: &Handle, id: TransportId, queue: Arc<Queue>) {
        Self::new(id, queue).run(handle);
    }

    fn new(id: TransportId, queue: Arc<Queue>) -> Self {
        Self {
            id,
            queue,
            closed: None,
            rests: false,
        }
    }

    fn run(mut self, handle: &Handle) {
        let Some(transport) = handle.transport(self.id) else {
            // The one that watches knows how it ended.
            return self.rest();
        };
        let mut left = BYTES_PER_TURN;
        for _ in 0..PIECES_PER_TURN {
            if transport.flow().is_paused() {
                transport
                    .drain()
                    .then(move |handle, drained| self.go_on(handle, drained));
                return;
            }
            let Some(piece) = self.queue.take() else {
                return self.rest();
            };
            match write(&transport, &piece) {
                Ok(_) => left = left.saturating_sub(piece.len()),
                Err(WriteError::BufferFull { .. }) => {
                    // Below the high-water mark, for the chunks count too: no resume will come.
                    self.queue.put_back(piece);
                    transport
                        .flush()
                        .then(move |handle, flushed| self.go_on(handle, flushed));
                    return;
                }
                Err(error) => {
                    self.closed = error.closed().cloned();
                    return;
                }
            }
            if left == 0 {
                break;
            }
        }
        handle.call_soon(move |handle| self.run(handle));
    }

    /// There is room again, or the connection has ended.
    fn go_on(mut self, handle: &Handle, room: io::Result<()>) {
        match room {
            Ok(()) => self.run(handle),
            Err(error) => self.closed = Closed::of(&error),
        }
    }

    /// The next piece calls again.
    fn rest(mut self) {
        self.rests = true;
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if !self.rests {
            self.queue.close(self.closed.take());
        }
    }
}

fn write(transport: &Transport, piece: &Bytes) -> Result<Flow, WriteError> {
    if piece.len() < COPIED_BELOW {
        transport.write(piece)
    } else {
        transport.write_owned(piece.clone())
    }
}
