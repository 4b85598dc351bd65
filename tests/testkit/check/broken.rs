//! Protocols that are wrong, each in its own way.

use super::right::Lines;
use std::time::Duration;
use tidegate::{OnEof, OnPause, Protocol, Result, Transport};
use tidegate_testkit::Watched;

/// Leaves out the first byte of each chunk but the first.
pub(crate) struct DropsFirst(pub(crate) usize);

impl Protocol for DropsFirst {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let from = usize::from(self.0 > 0);
        self.0 += 1;
        transport.write(&data[from..])?;
        Ok(())
    }
}

pub(crate) struct RepliesPerChunk;

impl Protocol for RepliesPerChunk {
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
        transport.write(b"ok\n")?;
        Ok(())
    }
}

/// Takes each chunk for whole lines.
pub(crate) struct ForgetsHalf;

impl Protocol for ForgetsHalf {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        Lines::default().data_received(transport, data)
    }
}

/// Echoes, but for the third chunk.
pub(crate) struct CountsChunks(pub(crate) usize);

impl Protocol for CountsChunks {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.0 += 1;
        if self.0 != 3 {
            transport.write(data)?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct PanicsOnEof(usize);

impl Protocol for PanicsOnEof {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        self.0 += 1;
        Ok(())
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        assert!(self.0 < 2, "two chunks");
        Ok(OnEof::Close)
    }
}

pub(crate) struct WritesAfterClose;

impl Protocol for WritesAfterClose {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.close();
        transport.write(data).unwrap();
        Ok(())
    }
}

/// Takes `Paused` for a refusal that needs no second try.
pub(crate) struct LosesWhenPaused;

impl Protocol for LosesWhenPaused {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        for byte in data.chunks(1) {
            if !transport.flow().is_paused() {
                transport.write(byte)?;
            }
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }
}

/// Its timer is the loop's, and nobody stops it.
pub(crate) struct LeavesTimer;

impl Protocol for LeavesTimer {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let minute = Duration::from_secs(60);
        transport.handle().call_later(minute, |_| ());
        Ok(())
    }
}

pub(crate) struct ClosesAndLeavesTimer;

impl Protocol for ClosesAndLeavesTimer {
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
        transport.call_later(Duration::from_secs(1), |_: &mut Self, transport| {
            transport.close();
            Ok(())
        });
        LeavesTimer.connection_made(transport)
    }
}

/// Its reply is that of `Lines`; it complains about what is not whole.
#[derive(Default)]
pub(crate) struct ErrorAfterHalf(Lines, Vec<u8>);

impl Protocol for ErrorAfterHalf {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.1.extend_from_slice(data);
        self.0.data_received(transport, data)
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        if self.1.last().is_none_or(|byte| *byte == b'\n') {
            Ok(OnEof::Close)
        } else {
            Err("half a line".into())
        }
    }
}

pub(crate) struct NeverCloses;

impl Protocol for NeverCloses {
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        Ok(OnEof::KeepOpen)
    }
}

/// Knows the command only when it comes in one piece.
pub(crate) struct QuitsIfWhole;

impl Protocol for QuitsIfWhole {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if data == b"QUIT\n" {
            transport.close();
        }
        Ok(())
    }
}

/// Takes the end of the stream for the end of a line.
#[derive(Default)]
pub(crate) struct AnswersHalf(Vec<u8>);

impl Protocol for AnswersHalf {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        if !self.0.is_empty() {
            write_line(transport, &self.0)?;
        }
        Ok(OnEof::Close)
    }
}

fn write_line(transport: &Transport, line: &[u8]) -> Result {
    transport.write(line)?;
    transport.write(b".")?;
    Ok(())
}

/// Says which one it is.
pub(crate) struct Counts(pub(crate) usize);

impl Protocol for Counts {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        write!(transport, "{}", self.0)?;
        Ok(())
    }
}

/// Calls itself again and again.
pub(crate) struct Busy;

impl Busy {
    fn again(transport: &Transport) {
        transport.call_soon(|_: &mut Self, transport| {
            Self::again(transport);
            Ok(())
        });
    }
}

impl Protocol for Busy {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        Self::again(transport);
        Ok(())
    }
}

/// Calls a callback by hand, from outside.
pub(crate) struct CallsItself;

impl Protocol for CallsItself {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let own = transport.clone();
        transport.handle().call_soon(move |_| {
            let call = |watched: &mut Watched<Box<dyn Protocol>>, transport: &Transport| {
                watched.resume_writing(transport)
            };
            drop(own.with_protocol(call));
        });
        Ok(())
    }
}
