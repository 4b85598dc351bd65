//! A closure as a protocol that receives frames.

use crate::decode::Decode;
use crate::framed::Framed;
use crate::protocol::FrameProtocol;
use std::fmt;
use tidegate::{Result, Transport};

/// A codec, and a closure for its frames. Made by [`framed`].
pub struct FrameFn<C, F> {
    codec: C,
    on_frame: F,
}

/// Makes a protocol of a codec and a closure that is called with each frame.
///
/// ```
/// use tidegate::{EventLoop, Result};
/// use tidegate_framing::{Lines, framed};
///
/// # fn main() -> Result {
/// let mut event_loop = EventLoop::new()?;
/// event_loop.handle().create_server("127.0.0.1:0", || {
///     framed(Lines::new().keep_end(true), |transport, line| {
///         transport.write(line)?;
///         Ok(())
///     })
/// })?;
/// # Ok(()) }
/// ```
pub fn framed<C, F>(codec: C, on_frame: F) -> Framed<FrameFn<C, F>>
where
    C: Decode + 'static,
    F: FnMut(&Transport, C::Frame<'_>) -> Result + 'static,
{
    Framed::new(FrameFn { codec, on_frame })
}

impl<C, F> FrameProtocol for FrameFn<C, F>
where
    C: Decode + 'static,
    F: FnMut(&Transport, C::Frame<'_>) -> Result + 'static,
{
    type Codec = C;

    #[inline]
    fn codec(&mut self) -> &mut C {
        &mut self.codec
    }

    #[inline]
    fn frame_received(&mut self, transport: &Transport, frame: C::Frame<'_>) -> Result {
        (self.on_frame)(transport, frame)
    }
}

impl<C, F> fmt::Debug for FrameFn<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameFn").finish_non_exhaustive()
    }
}
