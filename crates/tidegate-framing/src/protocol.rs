//! The trait of protocols that receive frames.

use crate::decode::Decode;
use tidegate::{BoxError, Closed, OnEof, OnPause, Protocol, Result, Transport};

/// A connection's protocol that receives frames in place of bytes. [`Framed`](crate::Framed) makes a
/// [`Protocol`] of it.
///
/// ```
/// use tidegate::{EventLoop, Result, Transport};
/// use tidegate_framing::{FrameProtocol, Framed, Lines};
///
/// /// Greets each name.
/// struct Greeter {
///     codec: Lines,
/// }
///
/// impl FrameProtocol for Greeter {
///     type Codec = Lines;
///
///     fn codec(&mut self) -> &mut Lines {
///         &mut self.codec
///     }
///
///     fn frame_received(&mut self, transport: &Transport, name: &[u8]) -> Result {
///         let greeting = [b"hello ", name].concat();
///         self.codec.write(transport, &greeting)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut event_loop = EventLoop::new()?;
/// let codec = Lines::new().max(100);
/// let make = move || Framed::new(Greeter { codec: codec.clone() });
/// let server = event_loop.handle().create_server("127.0.0.1:0", make)?;
/// # let at = server.local_addrs()[0].clone();
/// # let peer = std::thread::spawn(move || {
/// #     use std::io::{Read, Write};
/// #     let mut peer = std::net::TcpStream::connect(at.to_string()).unwrap();
/// #     peer.write_all(b"Ada\n").unwrap();
/// #     let mut reply = [0; 10];
/// #     peer.read_exact(&mut reply).unwrap();
/// #     reply
/// # });
/// # while !peer.is_finished() {
/// #     event_loop.run_once(Some(std::time::Duration::from_millis(10)))?;
/// # }
/// # assert_eq!(&peer.join().unwrap(), b"hello Ada\n");
/// # Ok(()) }
/// ```
///
/// # Rules
///
/// Those of [`Protocol`] hold. Further ones are:
///
/// * The frames are the same, and in the same order, however the stream is cut. Then the end comes.
/// * A pause holds at once, also between two frames that arrived together: after each frame
///   [`wants_input`](Transport::wants_input) is asked. The rest is given
///   [back](Transport::unread), for later, or for a protocol that takes over.
/// * So a server that replies to what it reads is bounded without any code: when its replies cross the
///   high-water mark no further frame comes, and [`pause_writing`](Self::pause_writing) decides.
/// * At most 4,096 frames come in one go. Other connections come next.
/// * At the end of the stream a last frame without an end comes before `eof_received`, if the codec has
///   such, as [`Lines`](crate::Lines) has. A pause between such frames holds too. Bytes that are
///   left otherwise are a [`Truncated`](crate::FrameError::Truncated) frame.
/// * After an error of the codec nothing is decoded, and what follows is discarded. Only
///   `pause_writing`, `resume_writing` and `connection_lost` come then. A protocol that is
///   [set](tidegate::Transport::set_protocol) in `frame_failed` gets the bytes of the failed frame first.
/// * A change of the codec holds from the next frame on, also for bytes that have arrived. Within a frame
///   that has begun it holds when the codec is [asked again](Decode::is_changed).
pub trait FrameProtocol: 'static {
    /// The codec.
    type Codec: Decode;

    /// Returns the codec, which the protocol owns: so callbacks and timers reach it as a field.
    fn codec(&mut self) -> &mut Self::Codec;

    /// Called with each frame.
    ///
    /// A frame may lie in the loop's read buffer, which the next read overwrites: copy what is needed
    /// later.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn frame_received(
        &mut self,
        transport: &Transport,
        frame: <Self::Codec as Decode>::Frame<'_>,
    ) -> Result;

    /// Called once, when the bytes are no frame, with the error of the codec or a
    /// [`FrameError`](crate::FrameError).
    ///
    /// The default implementation returns the error, which ends the connection. Another one may send a
    /// reply and [`close`](Transport::close).
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn frame_failed(&mut self, transport: &Transport, error: BoxError) -> Result {
        let _ = transport;
        Err(error)
    }

    /// As [`Protocol::connection_made`].
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// As [`Protocol::eof_received`], behind the last frame.
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        Provided.eof_received(transport)
    }

    /// As [`Protocol::pause_writing`].
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        Provided.pause_writing(transport)
    }

    /// As [`Protocol::resume_writing`].
    ///
    /// # Errors
    ///
    /// An `Err` ends the connection, as [the contract](Protocol#the-contract) says.
    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let _ = transport;
        Ok(())
    }

    /// As [`Protocol::connection_lost`].
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _ = (transport, closed);
    }
}

/// The default implementations of [`Protocol`].
struct Provided;

impl Protocol for Provided {}
