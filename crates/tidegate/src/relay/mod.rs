//! The relay: a protocol that ties two transports together.
//!
//! Each side has a [`Relay`] as its protocol, and both share a [`Link`], which decides: where the
//! bytes of a side go, whether it is read, and what the end of one side means for the other.

mod link;

use crate::{
    Closed, Completion, ConnectOptions, Handle, OnEof, OnPause, Protocol, Result, Transport,
};
use link::{Link, OnEnd, Side};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// Ties two connections together: what one sends, the other receives.
///
/// One of them is the front, the other the back. With [`Relay::to`] the relay is the protocol of
/// the front and connects to the back by itself, so that a whole TCP proxy is
///
/// ```
/// use tidegate::{EventLoop, Relay, Result};
///
/// # fn main() -> Result {
/// let event_loop = EventLoop::new()?;
/// let handle = event_loop.handle();
/// handle.create_server("127.0.0.1:0", || Relay::to("127.0.0.1:80"))?;
/// # Ok(()) }
/// ```
///
/// [`Relay::between`] ties two connections that are there already.
///
/// # The rules
///
/// * Bytes go both ways, in order and unchanged. A side whose write buffer is above its high-water
///   mark has the reading of the other side paused until it has drained, so a relay keeps the
///   high-water mark and one read in memory, for each direction, whatever its peers do.
/// * An end of stream is passed on as one, behind the bytes before it; the other direction goes
///   on. When both have ended, so do both connections.
/// * A [`close`](Transport::close) of one side closes the other: gracefully, after what is
///   buffered for it was sent. So [`Server::shutdown`](crate::Server::shutdown) of the server of
///   the front ends the backs too.
/// * Every other end (a reset, an error, a deadline, an abort, a shutdown) is never passed off as
///   an end of stream: what the relay holds for the other side is sent, without a time limit, then
///   that side is [`reset`](Transport::reset). A reset destroys what the kernel has not got through
///   to a TCP peer yet, so it comes 1 s after the last bytes; to a connection that is idle, at
///   once.
/// * A side that is to end so is read meanwhile, and what it sends is lost: it might not take the
///   rest while nobody reads from it.
/// * A side whose writing has failed is still read to its end: an early answer arrives. What the
///   other side sends meanwhile can go nowhere and is counted as [`lost`](Relayed::lost).
/// * While the back is being connected, the front is not read; its bytes, and its end of stream,
///   wait in the kernel. A front that is reset or closed meanwhile cancels the connect.
/// * When the connect fails, the front is reset, and the error is the reason in its [`Closed`]. The
///   [report](Relay::on_end) has it; where nobody asked for one it goes to the
///   [error handler](Handle::set_error_handler).
///
/// # Other protocols
///
/// The relay may take the place of another protocol, by [`between`](Relay::between) or by
/// `set_protocol(Relay::to(..), unread)`, which connects when the first bytes or the end of stream
/// come. The reading of both transports is the relay's from then on: it resumes what was paused.
/// When one of them gets another protocol, the relay does nothing to it any more and closes the
/// other; what that still sends goes nowhere. Whether the transport that has left is paused for
/// reading is then for its new protocol to settle.
#[must_use]
pub struct Relay {
    link: Rc<Link>,
    side: Side,
    to: Option<ConnectOptions>,
}

/// How a relay ended; see [`Relay::on_end`] and [`Relay::between`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayReport {
    /// How the front ended.
    pub front: Closed,
    /// How the back ended, or why there never was one: the error of the connect, or
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the front ended first.
    pub back: std::result::Result<Closed, Arc<io::Error>>,
    /// From the front to the back.
    pub to_back: Relayed,
    /// From the back to the front.
    pub to_front: Relayed,
}

impl RelayReport {
    /// Whether both sides ended [cleanly](Closed::is_clean) and nothing was lost.
    pub fn is_clean(&self) -> bool {
        let back = self.back.as_ref().is_ok_and(Closed::is_clean);
        self.front.is_clean() && back && self.to_back.lost == 0 && self.to_front.lost == 0
    }
}

/// The bytes of one direction of a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// Received from the one side, and in the kernel for the other.
    pub sent: u64,
    /// Received from the one side, and never in the kernel for the other.
    pub lost: u64,
}

impl Relay {
    /// The protocol of a front whose back is connected to `to`.
    pub fn to(to: impl Into<ConnectOptions>) -> Self {
        Self {
            link: Rc::default(),
            side: Side::Front,
            to: Some(to.into()),
        }
    }

    /// Calls `call` when both sides have ended, from the last `connection_lost`. A relay that
    /// loses a side to another protocol has no report, and drops `call`.
    pub fn on_end(self, call: impl FnOnce(&Handle, &RelayReport) + 'static) -> Self {
        self.link.on_end.replace(Some(Box::new(call)));
        self
    }

    /// Ties two connections together, in whatever state they are: it
    /// [gives](Transport::set_protocol) both another protocol. Dropping the completion changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Of the completion: [`InvalidInput`](io::ErrorKind::InvalidInput) for one connection
    /// twice; [`BrokenPipe`](io::ErrorKind::BrokenPipe) when one of them got another protocol.
    pub fn between(front: &Transport, back: &Transport) -> Completion<RelayReport> {
        let (completer, completion) = front.handle().completion();
        if front.id() == back.id() {
            let message = "a relay needs two connections, and was given one twice";
            completer.complete(Err(io::Error::new(io::ErrorKind::InvalidInput, message)));
            return completion;
        }
        let link: Rc<Link> = Rc::default();
        let answer: OnEnd = Box::new(|_, report| completer.complete(Ok(report.clone())));
        link.on_end.replace(Some(answer));
        for (side, transport) in [(Side::Front, front), (Side::Back, back)] {
            link.end(side).join(transport);
        }
        for (side, transport) in [(Side::Front, front), (Side::Back, back)] {
            let relay = Self {
                link: link.clone(),
                side,
                to: None,
            };
            match transport.set_protocol(relay, b"") {
                Ok(()) => {
                    link.end(side).join(transport);
                    transport.resume_reading();
                }
                Err(closed) => link.lost(side, transport.handle(), &closed),
            }
        }
        for side in Side::BOTH {
            link.steer(side);
        }
        completion
    }

    /// Connects the back, if that has not begun. Comes first in every callback: a protocol that
    /// took the place of another gets no `connection_made`.
    fn begin(&mut self, transport: &Transport) {
        let Some(to) = self.to.take() else { return };
        let link = &self.link;
        link.front.join(transport);
        link.watch(Side::Front);
        link.steer(Side::Front);
        let back = Self {
            link: link.clone(),
            side: Side::Back,
            to: None,
        };
        let connecting = transport.handle().create_connection(to, back);
        link.connecting.replace(Some(connecting));
    }
}

impl Protocol for Relay {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.begin(transport);
        if self.side == Side::Back {
            self.link.connected(transport);
        }
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.begin(transport);
        let received = &self.link.end(self.side).received;
        received.set(received.get() + data.len() as u64);
        self.link.pass(self.side, data);
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.begin(transport);
        self.link.pass_eof(self.side);
        Ok(OnEof::KeepOpen)
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.begin(transport);
        self.link.steer(self.side.other());
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.begin(transport);
        self.link.steer(self.side.other());
        Ok(())
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.to = None;
        self.link.lost(self.side, transport.handle(), closed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.dropped(self.side);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("side", &self.side)
            .field("front", &self.link.front.transport.get())
            .field("back", &self.link.back.transport.get())
            .finish_non_exhaustive()
    }
}
