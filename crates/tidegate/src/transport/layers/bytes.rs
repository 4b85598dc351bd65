//! Reads and writes through layers: the usual ones, with the socket out of its cell.

use super::super::Transport;
use super::super::conn::Conn;
use super::super::state::State;
use crate::driver::StreamSocket;
use crate::event_loop::add;
use crate::layer::LayeredSocket;
use std::io::{self, IoSlice};
use std::mem;

impl Transport {
    /// One read.
    pub(in super::super) fn receive_layered(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let conn = self.conn();
        let Some((result, more)) = conn.lend_to_read(buffer) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match result {
            Ok(len) => {
                conn.count_received(len);
                if !more && !conn.is(State::READ_TO_END) {
                    conn.clear(State::READABLE);
                }
                if len > 0 && conn.is(State::NO_READ) {
                    // Code of a layer has stopped reading: the bytes wait.
                    conn.put_back(&buffer[..len]);
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && more => {
                Err(io::ErrorKind::Interrupted.into())
            }
            Err(error) => Err(error),
        }
    }

    /// One read for a layer that must receive before it sends more, while the protocol's reading is
    /// stopped.
    pub(in super::super) fn feed_layers(&self) {
        let conn = self.conn();
        let reader_lost = conn.is(State::CLOSING);
        let fed = conn.lend(|layered| {
            if reader_lost {
                layered.lose_reader();
            }
            layered.feed()
        });
        let Some(fed) = fed else {
            return;
        };
        match fed {
            Ok(()) => conn.set(State::READABLE),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                conn.clear(State::READABLE | State::READ_TO_END);
            }
            Err(error) => {
                conn.clear(State::READABLE);
                self.send_failed(error);
            }
        }
    }

    /// Sends the output of the layers' own.
    pub(in super::super) fn flush_output(&self) {
        let conn = self.conn();
        add(&conn.core().counters.writes, 1);
        let flushed = conn.lend(|layered| layered.flush_output());
        let refused = conn.is(State::OUTPUT);
        if refused {
            conn.clear(State::WRITABLE);
        }
        let failed = match flushed {
            Some(Err(error)) => self.send_failed(error),
            _ => false,
        };
        if !failed {
            self.time_progress(conn.progress_below(), refused);
        }
    }

    /// The result of a write of which the socket took a part, with the error that came behind it.
    pub(in super::super) fn result_of_layers(
        &self,
        result: io::Result<usize>,
    ) -> io::Result<usize> {
        let conn = self.conn();
        let behind = conn.layered(|layered| (layered.take_write_error(), layered.wants_write()));
        let Some((error, wants_write)) = behind else {
            return result;
        };
        if wants_write {
            conn.set(State::WRITABLE);
        }
        error.map_or(result, Err)
    }
}

impl Conn {
    /// One write.
    pub(in super::super) fn send_layered(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (result, more) = self.write_layered(slices);
        self.spend_more(more);
        result
    }

    /// Takes bytes that the kernel has taken, beyond those that were sent, from the budget of this tick.
    pub(in super::super) fn spend_more(&self, more: usize) {
        if more > 0 {
            self.spend(self.budget(), more);
        }
    }

    /// One write. Returns also how many more bytes the kernel has taken than were sent: the budget of the
    /// tick is one of bytes that the kernel takes.
    #[inline(always)]
    pub(in super::super) fn write_layered(
        &self,
        slices: &[IoSlice<'_>],
    ) -> (io::Result<usize>, usize) {
        let written = self.lend_to_write(
            #[inline(always)]
            |layered| {
                let before = layered.taken();
                let result = layered.write(slices);
                let taken = (layered.taken() - before) as usize;
                let more = taken.saturating_sub(*result.as_ref().unwrap_or(&0));
                (result, more)
            },
        );
        written.unwrap_or_else(|| (Err(io::ErrorKind::NotConnected.into()), 0))
    }

    /// Returns the number of bytes that the kernel has taken since the last call.
    pub(in super::super) fn progress_below(&self) -> usize {
        let taken = self.taken_by_kernel();
        let before = self.with_layers(|layers| mem::replace(&mut layers.taken, taken));
        taken.saturating_sub(before) as usize
    }

    /// Returns whether the kernel has given or taken bytes since the last look for idle connections.
    pub(in super::super) fn progress_since_look(&self) -> bool {
        let Some(moved) = self.layered(|layered| layered.moved()) else {
            // Code of theirs is running.
            return true;
        };
        let before = self.with_layers(|layers| mem::replace(&mut layers.looked_at, moved));
        moved != before
    }

    /// Counts the bytes that the kernel has, with all that stands for them, of which no write has told
    /// yet. They are still in the buffer, which is to be dropped.
    pub(in super::super) fn count_untold(&self) {
        let told = self.layered(LayeredSocket::tell_all);
        if let Some(sent @ 1..) = told {
            self.count_sent(sent);
        }
    }

    /// Puts back bytes that were read and cannot be delivered now.
    fn put_back(&self, bytes: &[u8]) {
        self.with_extra(|extra| extra.unread.put_in_front(bytes.to_vec()));
        self.set(State::UNREAD);
    }
}
