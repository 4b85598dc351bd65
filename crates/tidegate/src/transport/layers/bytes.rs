//! Reads and writes through layers: the usual ones, with the socket out of its cell.

use super::super::Transport;
use super::super::conn::Conn;
use super::super::state::State;
use crate::driver::StreamSocket;
use crate::event_loop::add;
use std::io::{self, IoSlice};

impl Transport {
    /// One read.
    pub(in super::super) fn receive_layered(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let conn = self.conn();
        let read = conn.lend(|layered| (layered.read(buffer), layered.has_more()));
        let Some((result, more)) = read else {
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

    /// Sends the output of the layers' own.
    pub(in super::super) fn flush_output(&self) {
        let conn = self.conn();
        add(&conn.core().counters.writes, 1);
        let Some(result) = conn.lend(|layered| layered.flush_output()) else {
            return;
        };
        match result {
            Ok(()) => {}
            Err(error) => self.output_refused(error),
        }
    }

    /// The kernel did not take all of the output of layers.
    pub(super) fn output_refused(&self, error: io::Error) {
        let conn = self.conn();
        if conn.is(State::OUTPUT) {
            conn.clear(State::WRITABLE);
        }
        self.send_failed(error);
    }

    /// The result of a write of which the socket took a part, with the error that came behind it.
    pub(in super::super) fn result_of_layers(&self, result: io::Result<usize>) -> io::Result<usize> {
        let conn = self.conn();
        if conn.is(State::OPENING) {
            // Behind the bytes before the layer, its own may go.
            conn.set(State::OPEN_DUE);
        }
        match conn.layered(|layered| layered.take_write_error()) {
            Some(Some(error)) => Err(error),
            _ => result,
        }
    }
}

impl Conn {
    /// One write.
    pub(in super::super) fn send_layered(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.lend_to_write(|layered| layered.write(slices));
        self.note_layers();
        written.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Puts back bytes that were read and cannot be delivered now.
    fn put_back(&self, bytes: &[u8]) {
        self.with_extra(|extra| extra.unread.put_in_front(bytes.to_vec()));
        self.set(State::UNREAD);
    }
}
