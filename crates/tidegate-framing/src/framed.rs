//! The protocol that makes frames of bytes.

use crate::assembly::{Assembly, Ending, Target};
use crate::decode::Decode;
use crate::error::FrameError;
use crate::protocol::FrameProtocol;
use std::any::Any;
use std::fmt;
use std::time::{Duration, Instant};
use tidegate::{BoxError, CallbackHandle, Closed, OnEof, OnPause, Protocol, Result, Transport};

/// Maximum size of a torn frame by default: a net for codecs that have no maximum of their own.
const DEFAULT_LIMIT: usize = 16 * 1024 * 1024;

/// Makes a [`Protocol`] of a [`FrameProtocol`].
///
/// [`with_protocol`](Transport::with_protocol) and the typed callbacks find the [`FrameProtocol`] by its
/// type.
///
/// # Memory
///
/// A frame that lies whole in one read is lent from the loop's read buffer. A torn one is copied to a
/// buffer, which goes back to a pool of the thread when the frame is complete: an idle connection has
/// none. Memory follows the bytes that came, never a length that was only announced.
pub struct Framed<P> {
    protocol: P,
    assembly: Assembly,
    timeout: Option<Box<FrameTimeout>>,
}

/// The time in which a frame has to be complete.
struct FrameTimeout {
    limit: Duration,
    /// The timer, while it runs.
    timer: Option<CallbackHandle>,
    /// The part of the stream that was skipped last, and the time from which it is late.
    skipped: Option<u64>,
    skipped_since: Option<Instant>,
}

/// A protocol of the same type that takes over has a timer of its own.
impl Drop for FrameTimeout {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.cancel();
        }
    }
}

impl<P: FrameProtocol> Framed<P> {
    /// Makes a protocol that gives frames to this one.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            assembly: Assembly::new(DEFAULT_LIMIT),
            timeout: None,
        }
    }

    /// Sets the maximum number of bytes that are kept of a frame that is not complete. By default it is
    /// 16 MiB. A longer one is [`TooLong`](FrameError::TooLong).
    ///
    /// This is a net for codecs without a maximum of their own. It says nothing of frames that arrive in
    /// one read.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.assembly.set_limit(bytes);
        self
    }

    /// Sets the time in which a frame has to be complete after its first byte has arrived. It is
    /// unlimited by default. A later one is [`TimedOut`](FrameError::TimedOut), which ends the
    /// connection unless [`frame_failed`](FrameProtocol::frame_failed) is written.
    ///
    /// This is for peers that send slowly on purpose. A connection that is idle between two frames is
    /// not limited. Nor are bytes that come as they arrive, as those of [`Raw`](crate::Raw). A frame
    /// gets as much time again when reading is stopped at its end. A part that a codec
    /// [skips](Decode::skipping) has to end in this time too.
    ///
    /// A connection has at most one timer for it, which is started by a torn frame or a skipped part.
    #[must_use]
    pub fn frame_timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(Box::new(FrameTimeout {
            limit,
            timer: None,
            skipped: None,
            skipped_since: None,
        }));
        self
    }

    /// Returns the time from which what has begun is late, if something has.
    fn begun(&mut self) -> Option<&mut Option<Instant>> {
        let Some(part) = self.protocol.codec().skipping() else {
            return self.assembly.torn_since();
        };
        let timeout = self.timeout.as_mut()?;
        if timeout.skipped != Some(part) {
            (timeout.skipped, timeout.skipped_since) = (Some(part), None);
        }
        (!self.assembly.has_failed()).then_some(&mut timeout.skipped_since)
    }

    /// Watches the time of what has begun.
    #[cold]
    fn watch(&mut self, transport: &Transport) {
        if let Some(since @ None) = self.begun() {
            *since = Some(transport.handle().now());
            if let Some(timeout) = &mut self.timeout
                && timeout.timer.is_none()
            {
                timeout.timer = Some(transport.call_later(timeout.limit, Self::check_time));
            }
        }
    }

    /// Called by the timer. It runs on while frames are complete in time: to start one for each of them
    /// costs more.
    fn check_time(&mut self, transport: &Transport) -> Result {
        if let Some(timeout) = &mut self.timeout {
            timeout.timer = None;
        }
        let Some(Some(since)) = self.begun() else {
            return Ok(());
        };
        let now = transport.handle().now();
        if !transport.wants_input() {
            // The peer is not to blame.
            *since = now;
        }
        let taken = now.saturating_duration_since(*since);
        let Some(timeout) = &mut self.timeout else {
            return Ok(());
        };
        let left = timeout.limit.saturating_sub(taken);
        if left.is_zero() {
            let error = FrameError::TimedOut {
                limit: timeout.limit,
            };
            return self
                .assembly
                .abandon(&mut self.protocol, transport, error.into());
        }
        timeout.timer = Some(transport.call_later(left, Self::check_time));
        Ok(())
    }
}

impl<P: FrameProtocol> Target for P {
    type Codec = P::Codec;
    type Source = Transport;

    #[inline]
    fn codec(&mut self) -> &mut P::Codec {
        FrameProtocol::codec(self)
    }

    #[inline]
    fn frame(&mut self, transport: &Transport, frame: <P::Codec as Decode>::Frame<'_>) -> Result {
        self.frame_received(transport, frame)
    }

    #[inline]
    fn wants_more(transport: &Transport) -> bool {
        transport.wants_input()
    }

    fn give_back(transport: &Transport, bytes: &[u8]) {
        transport.unread(bytes);
    }

    fn failed(&mut self, transport: &Transport, error: BoxError) -> Result {
        self.frame_failed(transport, error)
    }
}

impl<P: FrameProtocol> Protocol for Framed<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.protocol.connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let received = self.assembly.receive(&mut self.protocol, transport, data);
        if self.timeout.is_some()
            && (self.assembly.is_torn() || self.protocol.codec().skipping().is_some())
        {
            self.watch(transport);
        }
        received
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        match self.assembly.end(&mut self.protocol, transport)? {
            Ending::Done => self.protocol.eof_received(transport),
            Ending::GivenBack => {
                transport.unread_eof();
                Ok(OnEof::KeepOpen)
            }
            Ending::Failed => Ok(OnEof::Close),
        }
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.protocol.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.protocol.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.protocol.connection_lost(transport, closed);
    }

    fn user(&mut self) -> Option<&mut dyn Any> {
        Some(&mut self.protocol)
    }

    fn leftover(&mut self) -> Vec<u8> {
        self.assembly.take_torn()
    }
}

impl<P> fmt::Debug for Framed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").finish_non_exhaustive()
    }
}
