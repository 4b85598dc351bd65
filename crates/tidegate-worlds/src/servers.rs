//! The servers of the hosts: echo in three ways, and relays to it.

use crate::layers::Stack;
use crate::ledger::{Guard, Ledger};
use crate::limits::Limits;
use std::rc::Rc;
use tidegate::{Protocol, Result, Transport};
use tidegate_streams::{ReadError, StreamReader, StreamWriter};

/// With the default implementations: it does not read bytes that it cannot send.
pub(crate) struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// As [`Echo`], into a buffer of its own.
pub(crate) struct BufferedEcho {
    pub(crate) buffer: Vec<u8>,
}

impl Protocol for BufferedEcho {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        Err("there always is a buffer".into())
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        transport.write(&self.buffer[..len])?;
        Ok(())
    }
}

/// Echoes chunk by chunk, or line by line, with the streams.
pub(crate) async fn echo(
    ledger: Rc<Ledger>,
    limits: Rc<Limits>,
    by_line: bool,
    stack: Option<Stack>,
    mut reader: StreamReader,
    writer: StreamWriter,
) -> Result {
    let _guard = Guard::new(&ledger, |ledger| &ledger.tasks);
    limits.serve(writer.transport());
    let saw_eof = ledger.follow(writer.transport(), stack.as_ref());
    loop {
        let chunk = if by_line {
            reader.read_line().await
        } else {
            reader.read_chunk(5000).await
        };
        let (chunk, last) = match chunk {
            Ok(chunk) if chunk.is_empty() => {
                saw_eof.set(true);
                ledger.ends_stream(writer.transport());
                return Ok(());
            }
            Ok(chunk) => (chunk, false),
            Err(error) => match rest(&error) {
                Some(rest) => (rest, true),
                None => return Ok(()),
            },
        };
        // The connection is over: its reader, or its close, reports it.
        if writer.write(&chunk).is_err() || writer.drain().await.is_err() || last {
            return Ok(());
        }
    }
}

/// Returns the part of a line that came before the end of the stream.
fn rest(error: &ReadError) -> Option<bytes::Bytes> {
    let incomplete = error.as_incomplete()?;
    Some(incomplete.partial.clone()).filter(|rest| !rest.is_empty())
}
