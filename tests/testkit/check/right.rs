//! Protocols that are right.

use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{CallbackHandle, OnEof, Protocol, Result, Transport};

/// Sends lines back, each once it is whole.
#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// The next whole line.
    pub(crate) fn take(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        self.0.extend_from_slice(data);
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        Some(self.0.drain(..=end).collect())
    }
}

impl Protocol for Lines {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let mut next = self.take(data);
        while let Some(line) = next {
            transport.write(&line)?;
            next = self.take(b"");
        }
        Ok(())
    }
}

/// Reads into a buffer of its own, and sends it back.
pub(crate) struct OwnBuffer(Vec<u8>);

impl OwnBuffer {
    pub(crate) fn new(size: usize) -> Self {
        Self(vec![0; size])
    }
}

impl Protocol for OwnBuffer {
    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        Some(&mut self.0)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        transport.write(&self.0[..len])?;
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        unreachable!("there always is a buffer")
    }
}

/// Sends back messages behind their length, two bytes; an end in the middle of one is an error.
#[derive(Default)]
pub(crate) struct Prefixed(Vec<u8>);

impl Protocol for Prefixed {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.0.extend_from_slice(data);
        while let &[high, low, ..] = self.0.as_slice() {
            let end = 2 + usize::from(u16::from_be_bytes([high, low]));
            if self.0.len() < end {
                break;
            }
            let message: Vec<u8> = self.0.drain(..end).collect();
            transport.write(&message)?;
        }
        Ok(())
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        if self.0.is_empty() {
            Ok(OnEof::Close)
        } else {
            Err("half a message".into())
        }
    }
}

/// Hangs up, and says so, on a peer that has said nothing for ten minutes.
#[derive(Default)]
pub(crate) struct Impatient {
    lines: Lines,
    timer: Option<CallbackHandle>,
}

impl Impatient {
    fn wait(&mut self, transport: &Transport) {
        let minutes = Duration::from_secs(600);
        let timer = transport.call_later(minutes, |_: &mut Self, transport| {
            transport.write(b"too late")?;
            transport.close();
            Ok(())
        });
        if let Some(before) = self.timer.replace(timer) {
            before.cancel();
        }
    }
}

impl Protocol for Impatient {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.wait(transport);
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.wait(transport);
        self.lines.data_received(transport, data)
    }
}

/// Closes at a command.
#[derive(Default)]
pub(crate) struct Quits(Lines);

impl Protocol for Quits {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let mut next = self.0.take(data);
        while let Some(line) = next {
            transport.write(&line)?;
            if line == b"QUIT\n" {
                transport.close();
                return Ok(());
            }
            next = self.0.take(b"");
        }
        Ok(())
    }
}

/// Gives its place to an echo at the first byte.
pub(crate) struct Switches;

impl Protocol for Switches {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let echo = Recorder::echo(&Log::new().switched_in());
        Ok(transport.set_protocol(echo, data)?)
    }
}
