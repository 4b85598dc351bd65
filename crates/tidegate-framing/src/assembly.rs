//! Makes frames of the pieces of a stream. It knows nothing of transports, so it is tested without.

use crate::decode::{Decode, Step};
use crate::error::FrameError;
use crate::torn::Torn;
use std::ops::ControlFlow;
use std::time::Instant;
use tidegate::{BoxError, Result};

/// Maximum number of frames in one go: tiny ones cannot hold the loop. A batch of frames of 16 bytes is
/// then as long as a read of 64 KiB.
pub(crate) const MAX_FRAMES: usize = 4096;

/// The taker of frames.
pub(crate) trait Target {
    type Codec: Decode;
    /// Where the bytes come from.
    type Source: ?Sized;

    fn codec(&mut self) -> &mut Self::Codec;

    fn frame(&mut self, source: &Self::Source, frame: <Self::Codec as Decode>::Frame<'_>)
    -> Result;

    /// Whether the next frame is wanted.
    fn wants_more(source: &Self::Source) -> bool;

    /// Takes bytes back; a later call has the bytes in front of an earlier one.
    fn give_back(source: &Self::Source, bytes: &[u8]);

    /// Called once, with the error of the codec.
    fn failed(&mut self, source: &Self::Source, error: BoxError) -> Result;
}

/// The end of a batch of frames.
enum Ended {
    /// The bytes that are left are no frame; this many are missing.
    Need(usize),
    /// No more is wanted now.
    Stopped(Result),
    Failed(BoxError),
}

/// The state between the pieces of a stream.
#[derive(Debug)]
pub(crate) struct Assembly {
    torn: Option<Box<Torn>>,
    limit: usize,
    failed: bool,
    /// Nothing more comes behind the bytes that were given back.
    at_eof: bool,
}

/// The state of a stream at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All frames were given.
    Done,
    /// Frames may be left. The end is to come again, behind the bytes that were given back.
    GivenBack,
    Failed,
}

/// Gives frames out of `rest`, at most `left`. Returns the bytes behind them.
///
/// The only place that asks the codec and gives frames: its code is not repeated in the callers.
#[inline(never)]
fn give<'d, T: Target>(
    target: &mut T,
    source: &T::Source,
    mut rest: &'d [u8],
    mut left: usize,
    eof: bool,
) -> (&'d [u8], Ended) {
    loop {
        let mut step = target.codec().decode(rest);
        if eof && matches!(step, Ok(Step::Need(_) | Step::Skip(0))) {
            step = target.codec().decode_eof(rest);
        }
        match step {
            Ok(Step::Frame(frame, taken)) => {
                rest = &rest[taken..];
                let result = target.frame(source, frame);
                left -= 1;
                if result.is_err() || left == 0 || !T::wants_more(source) {
                    return (rest, Ended::Stopped(result));
                }
            }
            Ok(Step::Skip(taken @ 1..)) => rest = &rest[taken..],
            Ok(Step::Need(missing)) => return (rest, Ended::Need(missing)),
            Ok(Step::Skip(0)) => return (rest, Ended::Need(0)),
            Err(error) => return (rest, Ended::Failed(error.into())),
        }
    }
}

impl Assembly {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            torn: None,
            limit,
            failed: false,
            at_eof: false,
        }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether a frame has begun and is not complete.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Takes the bytes of the frame that is not complete.
    pub(crate) fn take_torn(&mut self) -> Vec<u8> {
        let Some(torn) = self.torn.take() else {
            return Vec::new();
        };
        let bytes = torn.bytes.clone();
        torn.free();
        bytes
    }

    #[cfg(test)]
    pub(crate) fn torn_capacity(&self) -> usize {
        self.torn.as_ref().map_or(0, |torn| torn.bytes.capacity())
    }

    /// Gives the frames that `data` completes.
    #[inline]
    pub(crate) fn receive<T: Target>(
        &mut self,
        target: &mut T,
        source: &T::Source,
        mut data: &[u8],
    ) -> Result {
        let mut at_most = MAX_FRAMES;
        if self.torn.is_some() || self.failed {
            match self.complete(target, source, data) {
                ControlFlow::Continue((rest, given)) => {
                    (data, at_most) = (rest, MAX_FRAMES - given)
                }
                ControlFlow::Break(result) => return result,
            }
        }
        match give(target, source, data, at_most, self.at_eof) {
            ([], Ended::Need(_)) => Ok(()),
            (rest, ended) => self.rest(target, source, rest, ended),
        }
    }

    /// Does what is to be done with the bytes behind a batch.
    #[cold]
    fn rest<T: Target>(
        &mut self,
        target: &mut T,
        source: &T::Source,
        rest: &[u8],
        ended: Ended,
    ) -> Result {
        match ended {
            Ended::Need(_) if self.at_eof => {
                let error = FrameError::Truncated { have: rest.len() };
                self.fail(target, source, rest, error.into())
            }
            Ended::Need(need) => {
                let mut torn = Torn::from_pool();
                torn.bytes.extend_from_slice(rest);
                self.keep(target, source, torn, need)
            }
            Ended::Stopped(result) => {
                T::give_back(source, rest);
                result
            }
            Ended::Failed(error) => self.fail(target, source, rest, error),
        }
    }

    /// Keeps a torn frame until more comes.
    fn keep<T: Target>(
        &mut self,
        target: &mut T,
        source: &T::Source,
        mut torn: Box<Torn>,
        need: usize,
    ) -> Result {
        if torn.bytes.len().saturating_add(need.max(1)) > self.limit {
            let error = FrameError::TooLong { max: self.limit };
            let failed = self.fail(target, source, &torn.bytes, error.into());
            torn.free();
            return failed;
        }
        torn.need = need;
        self.torn = Some(torn);
        Ok(())
    }

    /// Fails because of the frame that begins with `bytes`: a target that takes over gets them.
    #[cold]
    fn fail<T: Target>(
        &mut self,
        target: &mut T,
        source: &T::Source,
        bytes: &[u8],
        error: BoxError,
    ) -> Result {
        T::give_back(source, bytes);
        self.failed = true;
        target.failed(source, error)
    }

    /// Copies bytes to the torn frame until it is complete. Returns the bytes behind it, and the number
    /// of frames that it was: a codec may have waited for more than the end of one.
    #[cold]
    fn complete<'d, T: Target>(
        &mut self,
        target: &mut T,
        source: &T::Source,
        data: &'d [u8],
    ) -> ControlFlow<Result, (&'d [u8], usize)> {
        if self.failed {
            return ControlFlow::Break(Ok(()));
        }
        let Some(mut torn) = self.torn.take() else {
            return ControlFlow::Continue((data, 0));
        };
        let before = torn.bytes.len();
        let (mut taken, mut given) = (0, 0);
        let mut need = torn.need;
        let mut copies = true;
        loop {
            if copies {
                let copied = torn.copy(taken, need, &data[torn.bytes.len() - before..]);
                if copied == 0 || copied < need && !target.codec().is_changed() {
                    torn.bytes.drain(..taken);
                    let need = need.saturating_sub(copied);
                    return ControlFlow::Break(self.keep(target, source, torn, need));
                }
            }
            let (rest, ended) = give(target, source, &torn.bytes[taken..], 1, false);
            taken = torn.bytes.len() - rest.len();
            // The bytes that are torn still, and those behind them. When none of the torn ones are left,
            // all the others lie in `data`.
            let (begun, behind) = match taken.checked_sub(before) {
                Some(taken) => (&[][..], &data[taken..]),
                None => (rest, &data[torn.bytes.len() - before..]),
            };
            match ended {
                Ended::Need(_) if rest.is_empty() => {
                    torn.free();
                    return ControlFlow::Continue((behind, given));
                }
                Ended::Need(missing) => (need, copies) = (missing, true),
                Ended::Stopped(Ok(())) if given + 1 < MAX_FRAMES && T::wants_more(source) => {
                    given += 1;
                    if begun.is_empty() {
                        torn.free();
                        return ControlFlow::Continue((behind, given));
                    }
                    (copies, torn.since) = (false, None);
                }
                Ended::Stopped(_) | Ended::Failed(_) => {
                    T::give_back(source, behind);
                    let result = self.rest(target, source, begun, ended);
                    torn.free();
                    return ControlFlow::Break(result);
                }
            }
        }
    }

    /// Ends the stream. Frames are complete then because nothing more comes.
    #[cold]
    pub(crate) fn end<T: Target>(&mut self, target: &mut T, source: &T::Source) -> Result<Ending> {
        if self.failed {
            return Ok(Ending::Failed);
        }
        self.at_eof = true;
        if self.torn.is_some() {
            // An effect of a frame on the connection holds at once, also before the end.
            T::give_back(source, &self.take_torn());
            return Ok(Ending::GivenBack);
        }
        let (_, ended) = give(target, source, &[], MAX_FRAMES, true);
        match ended {
            Ended::Need(_) => Ok(Ending::Done),
            Ended::Stopped(result) => result.map(|()| Ending::GivenBack),
            // It comes again also for a target that takes over.
            Ended::Failed(error) => {
                let failed = self.fail(target, source, &[], error);
                failed.map(|()| Ending::GivenBack)
            }
        }
    }

    /// Returns when the torn frame has begun, if that was noted.
    pub(crate) fn torn_since(&mut self) -> Option<&mut Option<Instant>> {
        self.torn.as_mut().map(|torn| &mut torn.since)
    }

    /// Fails because of the torn frame.
    pub(crate) fn abandon<T: Target>(
        &mut self,
        target: &mut T,
        source: &T::Source,
        error: BoxError,
    ) -> Result {
        let bytes = self.take_torn();
        self.fail(target, source, &bytes, error)
    }
}
