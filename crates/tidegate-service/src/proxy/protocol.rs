//! A protocol that is made with the header.

use super::{ProxyError, ProxyHeader, WITHIN};
use crate::timer::Timer;
use std::fmt;
use std::mem;
use std::time::Duration;
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport};

/// Reads the header of the PROXY protocol, versions 1 and 2, and makes a protocol with it.
///
/// A load balancer in front of a server sends the header first, to tell the address of its client. The
/// protocol is made when the header is there, and its `connection_made` comes then. Bytes that came behind the
/// header follow.
///
/// A stream that begins otherwise, or a header that does not come within 5 s, ends the connection with a
/// [`ProxyError`]. There is no way to make the header optional: a client could forge it. Only proxies
/// may reach such a server; see [`ListenOptions::accept_if`](tidegate::ListenOptions::accept_if). A
/// connection that ends without a byte, as a check of the server's health does, ends without an error.
///
/// ```
/// use tidegate::{EventLoop, Protocol, Result, Transport};
/// use tidegate_service::ProxyProtocol;
///
/// struct Greeter {
///     client: String,
/// }
///
/// impl Protocol for Greeter {
///     fn connection_made(&mut self, transport: &Transport) -> Result {
///         writeln!(transport, "hello, {}", self.client)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// # let event_loop = EventLoop::new()?;
/// # let handle = event_loop.handle();
/// handle.create_server("127.0.0.1:0", || {
///     ProxyProtocol::new(|header| Greeter {
///         client: match header.client() {
///             Some(client) => client.to_string(),
///             None => "proxy".to_owned(),
///         },
///     })
/// })?;
/// # Ok(()) }
/// ```
pub struct ProxyProtocol<P>(State<P>);

enum State<P> {
    Waiting(Box<Waiting<P>>),
    Made(P),
    /// The header or the closure was no good: the connection ends.
    Failed,
}

struct Waiting<P> {
    make: Make<P>,
    within: Duration,
    /// The bytes of the header that have come.
    begun: Vec<u8>,
    deadline: Timer,
}

type Make<P> = Box<dyn FnOnce(&ProxyHeader) -> P>;

impl<P: Protocol> ProxyProtocol<P> {
    /// Makes the protocol by `make`, when the header is there.
    pub fn new(make: impl FnOnce(&ProxyHeader) -> P + 'static) -> Self {
        Self(State::Waiting(Box::new(Waiting {
            make: Box::new(make),
            within: WITHIN,
            begun: Vec::new(),
            deadline: Timer::default(),
        })))
    }

    /// Sets the time in which the header must be there. It counts from the beginning of the connection; when
    /// the protocol takes over from another one, from [`start`](Self::start).
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        if let State::Waiting(waiting) = &mut self.0 {
            waiting.within = limit;
        }
        self
    }

    /// Starts the time for the header, for a protocol that takes over by
    /// [`set_protocol`](Transport::set_protocol): no `connection_made` comes then. Without this call, the
    /// time starts with the first byte.
    #[must_use]
    pub fn start(mut self, transport: &Transport) -> Self {
        if let State::Waiting(waiting) = &mut self.0 {
            waiting.set_deadline(transport);
        }
        self
    }

    #[cold]
    fn read_header(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let State::Waiting(mut waiting) = mem::replace(&mut self.0, State::Failed) else {
            return Ok(());
        };
        let before = waiting.begun.len();
        waiting.begun.extend_from_slice(data);
        let Some((header, len)) = ProxyHeader::parse(&waiting.begun)? else {
            waiting.set_deadline(transport);
            self.0 = State::Waiting(waiting);
            return Ok(());
        };
        let Waiting { make, .. } = *waiting;
        let protocol = make(&header);
        // Before `connection_made`, which may put a layer on, or another protocol in its place.
        transport.unread(&data[len - before..]);
        self.0 = State::Made(protocol);
        match &mut self.0 {
            State::Made(protocol) => protocol.connection_made(transport),
            _ => Ok(()),
        }
    }
}

impl<P> Waiting<P> {
    fn set_deadline(&mut self, transport: &Transport) {
        if self.deadline.0.is_none() {
            let id = transport.id();
            let timer = transport.handle().call_later(self.within, move |handle| {
                if let Some(transport) = handle.transport(id) {
                    transport.fail(ProxyError::TooLate);
                }
            });
            self.deadline.0 = Some(timer);
        }
    }
}

impl<P: Protocol> Protocol for ProxyProtocol<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        if let State::Waiting(waiting) = &mut self.0 {
            waiting.set_deadline(transport);
        }
        Ok(())
    }

    #[inline]
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        match &mut self.0 {
            State::Made(protocol) => protocol.data_received(transport, data),
            _ => self.read_header(transport, data),
        }
    }

    #[inline]
    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        match &mut self.0 {
            State::Made(protocol) => protocol.get_buffer(transport, size_hint),
            _ => None,
        }
    }

    #[inline]
    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        match &mut self.0 {
            State::Made(protocol) => protocol.buffer_updated(transport, len),
            _ => Ok(()),
        }
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        match &mut self.0 {
            State::Made(protocol) => protocol.eof_received(transport),
            State::Waiting(waiting) if waiting.begun.is_empty() => Ok(OnEof::Close),
            _ => Err(ProxyError::Ended.into()),
        }
    }

    /// Without a protocol nothing is read while the transport is paused, so the one that is made is
    /// not told of a resume whose pause it was not told of.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        match &mut self.0 {
            State::Made(protocol) => protocol.pause_writing(transport),
            _ => Ok(OnPause::StopReading),
        }
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        match &mut self.0 {
            State::Made(protocol) => protocol.resume_writing(transport),
            _ => Ok(()),
        }
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        if let State::Made(protocol) = &mut self.0 {
            protocol.connection_lost(transport, closed);
        }
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        match &mut self.0 {
            State::Made(protocol) => Some(protocol),
            _ => None,
        }
    }

    fn leftover(&mut self) -> Vec<u8> {
        match &mut self.0 {
            State::Made(protocol) => protocol.leftover(),
            State::Waiting(waiting) => mem::take(&mut waiting.begun),
            State::Failed => Vec::new(),
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for ProxyProtocol<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Made(protocol) => f.debug_tuple("ProxyProtocol").field(protocol).finish(),
            _ => f.debug_tuple("ProxyProtocol").finish_non_exhaustive(),
        }
    }
}
