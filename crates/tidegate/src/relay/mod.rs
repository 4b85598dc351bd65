//! The relay: a protocol that ties two transports together.
//!
//! Each side has a [`Relay`] as its protocol. Both share a [`Link`], which decides where the bytes of a
//! side go, whether it is read, and how the end of one side acts on the other. Only the two protocols
//! keep the link; everything that waits for a side holds it weakly.
//!
//! Nothing finds the protocols by their type (`then_on`), so a relay works inside of another protocol.

mod limits;
mod link;
mod report;
mod route;
#[cfg(feature = "splice")]
mod splice;

use crate::connect;
#[cfg(feature = "splice")]
use crate::protocol::Internal;
use crate::protocol::boxed;
use crate::{
    Closed, Completion, ConnectOptions, Handle, OnEof, OnPause, Protocol, Result, Transport,
};
use link::{Link, Side};
use route::RelayGuide;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub use report::{RelayReport, Relayed};
pub(crate) use route::Routes;

/// Ties two connections together: bytes that one peer sends, the other receives.
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
/// * An EOF is passed on as one, behind the bytes before it; the other direction goes on. When both have
///   ended, so do both connections.
/// * A [`close`](Transport::close) of one side closes the other gracefully, after the bytes that are
///   buffered for it. So [`Server::shutdown`](crate::Server::shutdown) of the server of the front ends
///   the backs too.
/// * Every other end (a reset, an error, a deadline, an abort, a shutdown) is never passed off as an EOF.
///   The bytes that the relay holds for the other side are sent, without a time limit. Then that side is
///   [`reset`](Transport::reset). A reset destroys the bytes that the kernel has not got through to a TCP
///   peer yet, so it comes 1 s after the last bytes; to a connection that is idle, at once.
/// * A side that is to end so is read meanwhile, and its bytes count as [`lost`](Relayed::lost): it
///   might not read the rest otherwise.
/// * A side whose writing has failed is still read to its end: an early reply arrives. Bytes that the
///   other side sends meanwhile are counted as [`lost`](Relayed::lost).
/// * While the back is being connected, the front is not read; its bytes, and its EOF, wait in the
///   kernel. A front that is reset or closed meanwhile cancels the connect.
/// * When the connect fails, the front is reset, and the error is the reason in its [`Closed`]. The
///   [report](Relay::on_end) has it. Without an `on_end` it goes to the
///   [error handler](Handle::set_error_handler).
///
/// # Relays that lead back to themselves
///
/// A relay whose back arrives at its own listener would connect again for each connection that it
/// accepts. A back is therefore never connected to the place at which its front was accepted. Nor
/// is it connected to the place of an earlier front that led to it through other relays of the
/// loop. The attempt fails with [`InvalidInput`](io::ErrorKind::InvalidInput), before there is a
/// socket; other addresses of the same name are tried.
///
/// A place has many names: `localhost`, `0.0.0.0`, `[::]`, another path to the same socket file.
/// A listener of all addresses may need a second front before the place is known. A way through
/// another loop, another process or translated addresses is not seen. The clients of a Unix socket
/// cannot be told apart, so there any relay of the loop to its file counts as the earlier one.
/// [`Relay::between`] checks nothing.
///
/// # Other protocols
///
/// The relay may take the place of another protocol, by [`between`](Relay::between) or by
/// `set_protocol(Relay::to(..), unread)`, which connects when the first bytes or the EOF come. The
/// reading of both transports is the relay's from then on: it resumes paused reading. When one of them
/// gets another protocol, the relay does nothing to it any more and closes the other, whose later bytes
/// are lost. The new protocol has to resume reading, if the relay had paused it.
#[must_use]
pub struct Relay {
    link: Rc<Link>,
    side: Side,
    to: Option<ConnectOptions>,
}

impl Relay {
    /// Returns the protocol of a front whose back is connected to `to`.
    ///
    /// [`ConnectOptions::validate`] tells before the first connection that an address is wrong.
    pub fn to(to: impl Into<ConnectOptions>) -> Self {
        let mut relay = Self::of(Rc::default(), Side::Front);
        relay.to = Some(to.into());
        relay
    }

    fn of(link: Rc<Link>, side: Side) -> Self {
        Self {
            link,
            side,
            to: None,
        }
    }

    /// Calls `call` when both sides have ended, from the last `connection_lost`. A relay that
    /// loses a side to another protocol has no report, and drops `call`.
    pub fn on_end(self, call: impl FnOnce(&Handle, &RelayReport) + 'static) -> Self {
        self.link.on_end.replace(Some(Box::new(call)));
        self
    }

    /// Calls `call` with the front as soon as the back has ended: at its EOF, at the end of its
    /// connection, or when it cannot be connected. It is called once, and not after the end of
    /// the front.
    ///
    /// The front itself hears of it when the bytes before have been sent, which takes as long as
    /// its peer takes to read. `call` comes first. When there is no back, `call` may write a last
    /// word to the front and [`close`](Transport::close) it; the front is then not reset.
    pub fn on_back_end(self, call: impl FnOnce(&Transport) + 'static) -> Self {
        self.link.on_back_end.replace(Some(Box::new(call)));
        self
    }

    /// Ends both connections when no byte has come from either side for `limit`. Unless set, never.
    ///
    /// Bytes that a kernel takes out of the relay's buffers count too. These are noticed later, so
    /// the end may then come up to twice `limit` after the last of them. The time begins when the
    /// back is connected; see [`ConnectOptions::timeout`] for the time before. A side that is not
    /// read, because the other is slow, is idle as well.
    ///
    /// Both connections are [`reset`](Transport::reset), with
    /// [`TimeoutKind::Idle`](crate::TimeoutKind::Idle) as their reason: neither peer can take it
    /// for the end of the other's stream. [`Duration::MAX`] never comes. For comparison, nginx
    /// waits 10 minutes (`proxy_timeout`), and HAProxy's manual shows 30 s to 1 hour (`timeout
    /// client`, `timeout tunnel`).
    #[doc(alias = "proxy_timeout")]
    pub fn idle_timeout(self, limit: Duration) -> Self {
        self.link.limits.idle.set(Some(limit));
        self
    }

    /// Ends both connections when one direction has ended and no byte has come from the other for
    /// `limit`. Unless set, never.
    ///
    /// The time begins with the first EOF, or with the end of one of the connections while the
    /// other still has bytes to send; every byte starts it again. So a peer that has sent its
    /// request and ended its stream is not cut while the reply is coming. Everything else is as
    /// with [`idle_timeout`](Self::idle_timeout), with
    /// [`TimeoutKind::HalfClosed`](crate::TimeoutKind::HalfClosed) as the reason; of both limits
    /// the shorter holds. For comparison, HAProxy's manual shows 30 s (`timeout client-fin`).
    #[doc(alias = "client-fin")]
    pub fn half_closed_timeout(self, limit: Duration) -> Self {
        self.link.limits.half_closed.set(Some(limit));
        self
    }

    /// Sets how many bytes have to come at a time for splice(2) to move the next ones. Unless set, 16 KiB.
    ///
    /// Bytes that splice(2) moves are not copied: they go from one TCP connection through a pipe to the other.
    /// That is cheaper for bulk data, and dearer for small messages. So bytes are copied, until two reads
    /// one after the other have brought `bytes` or more each. They are spliced from then on, until fewer
    /// have come when the kernel has no more. 0 splices all of them, [`usize::MAX`] none.
    ///
    /// All rules hold either way. Bytes that the other side does not take stay in the pipe, at most 128 KiB.
    /// They count as [buffered](Transport::write_buffer_size), and pause that side until none is left,
    /// whatever its [marks](crate::WriteLimits) are. A pipe is closed within a second after it was used last.
    ///
    /// Bytes are copied all the same
    ///
    /// * on Unix sockets, under a [layer](crate::Layer), and in another world under the loop;
    /// * when another protocol is [around](crate::Wrap) the relay, for it is to see them;
    /// * when the system opens no more pipes;
    /// * unless the thread ignores or blocks SIGPIPE when the loop first splices, as Rust's programs do.
    ///   It may not change that later: splice(2) into a broken connection raises the signal.
    #[cfg(feature = "splice")]
    #[doc(alias = "splice-auto")]
    pub fn splice_from(self, bytes: usize) -> Self {
        for side in Side::BOTH {
            self.link.end(side).bulk.set_from(bytes);
        }
        self
    }

    /// Ties two connections together, in any state: it [gives](Transport::set_protocol) both another
    /// protocol. Dropping the completion changes nothing.
    ///
    /// # Errors
    ///
    /// Of the completion: [`InvalidInput`](io::ErrorKind::InvalidInput) for one connection
    /// twice; [`BrokenPipe`](io::ErrorKind::BrokenPipe) when one of them got another protocol.
    pub fn between(front: &Transport, back: &Transport) -> Completion<RelayReport> {
        Self::between_with(front, back, |relay| relay)
    }

    /// Ties two connections together as [`between`](Self::between) does, with options.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::{Relay, Transport};
    ///
    /// fn tie(front: &Transport, back: &Transport) {
    ///     let tied = Relay::between_with(front, back, |relay| {
    ///         relay.idle_timeout(Duration::from_secs(600))
    ///     });
    ///     tied.detach();
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`between`](Self::between).
    pub fn between_with(
        front: &Transport,
        back: &Transport,
        configure: impl FnOnce(Self) -> Self,
    ) -> Completion<RelayReport> {
        let (completer, completion) = front.handle().completion();
        if front.id() == back.id() {
            let message = "a relay needs two connections, and was given one twice";
            completer.complete(Err(io::Error::new(io::ErrorKind::InvalidInput, message)));
            return completion;
        }
        let mut relay = configure(Self::of(Rc::default(), Side::Front));
        // Nothing is connected, also if it is another relay than was given.
        relay.to = None;
        let link = relay.link.clone();
        let on_end = link.on_end.take();
        link.on_end.replace(Some(Box::new(move |handle, report| {
            if let Some(call) = on_end {
                call(handle, report);
            }
            completer.complete(Ok(report.clone()));
        })));
        for (side, transport) in [(Side::Front, front), (Side::Back, back)] {
            link.end(side).join(transport);
        }
        let back_relay = Self::of(link.clone(), Side::Back);
        for (relay, transport) in [(relay, front), (back_relay, back)] {
            let side = relay.side;
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
        link.start_limits(front.handle());
        #[cfg(feature = "splice")]
        link.splice_all();
        completion
    }

    /// Connects the back, if that has not begun. Called first in every callback, because a protocol that
    /// took the place of another gets no `connection_made`.
    fn begin(&mut self, transport: &Transport) {
        let Some(to) = self.to.take() else { return };
        let link = &self.link;
        link.front.join(transport);
        link.arrive(transport);
        link.watch(Side::Front);
        link.steer(Side::Front);
        let back = Self::of(link.clone(), Side::Back);
        let guide = RelayGuide(Rc::downgrade(link));
        let connecting =
            connect::connect(transport.handle(), to, boxed(back), Some(Box::new(guide)));
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
        self.link.note_progress(transport.handle());
        #[cfg(feature = "splice")]
        self.link.note_read(self.side, transport, data.len());
        self.link.pass(self.side, data);
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.begin(transport);
        self.link.ended(self.side, transport.handle());
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

    #[cfg(feature = "splice")]
    fn __splice(&mut self, transport: &Transport, _: Internal) -> bool {
        self.begin(transport);
        self.link.splice(self.side, transport)
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
