//! A connection: requests come in, and each has its reply before the next one is looked at.

use crate::codec::{Codec, Unit};
use crate::head::{Body, Head, Method};
use crate::reply::{Persistence, Status};
use crate::site::{Site, put_length};
use std::io::{IoSlice, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::{BoxError, ReadHold, Result, Transport};
use tidegate_framing::{FrameError, FrameProtocol, Piece, Raw};

/// Maximum number of writes of a long reply in one go: a client that reads as fast as we write must not
/// keep the others waiting. It is a MiB.
const MAX_WRITES: usize = 16;

/// Time that a body has at least, and the number of bytes for which it has a second more: one that comes more
/// slowly in the long run is refused, in whatever pieces it comes. Apache has the same rule and numbers.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(20);
pub(crate) const BODY_RATE: u64 = 500;

/// The wish of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Page,
    Echo,
    Bytes(u64),
    Fail(Status),
    /// The method is none of these.
    Allow(&'static str),
}

fn action(head: &Head<'_>) -> Action {
    let allow = |methods| Action::Allow(methods);
    let gets = matches!(head.method, Method::Get | Method::Head);
    match head.path {
        "/" if gets => Action::Page,
        "/" => allow("GET, HEAD"),
        "/echo" if head.method == Method::Post => Action::Echo,
        "/echo" => allow("POST"),
        path => match path.strip_prefix("/bytes/").map(str::parse) {
            Some(Ok(len)) if gets => Action::Bytes(len),
            Some(Ok(_)) => allow("GET, HEAD"),
            _ => Action::Fail(Status::NotFound),
        },
    }
}

/// A request whose reply is not complete.
struct Exchange {
    action: Action,
    is_head: bool,
    body: Body,
    persistence: Persistence,
    /// Whether the reply has begun.
    began: bool,
}

pub(crate) struct Http {
    site: Rc<Site>,
    codec: Raw<Codec>,
    /// The request whose body is coming.
    exchange: Option<Exchange>,
    /// The number of bytes that a long reply still has, and the hold that keeps the next request away.
    sending: Option<(u64, Persistence, ReadHold)>,
    /// The time from which the body is late, and the number of its bytes that came since.
    body_since: Option<Instant>,
    came: u64,
    /// Whether the timer of slow bodies runs.
    is_watching: bool,
}

impl Http {
    pub(crate) fn new(site: &Rc<Site>) -> Self {
        Self {
            site: Rc::clone(site),
            codec: Raw::new(Codec::new(site.limits)),
            exchange: None,
            sending: None,
            body_since: None,
            came: 0,
            is_watching: false,
        }
    }

    #[inline]
    fn head_received(&mut self, transport: &Transport, head: &Head<'_>) -> Result {
        let (action, is_head) = (action(head), head.method == Method::Head);
        if action == Action::Page && head.body == Body::Length(0) {
            return self.send_page(transport, head.persistence, is_head);
        }
        let mut exchange = Exchange {
            action,
            is_head,
            body: head.body,
            persistence: head.persistence,
            began: false,
        };
        match head.body {
            Body::Length(0) => return self.complete(transport, &mut exchange),
            Body::Length(len) => self.codec.expect(len),
            Body::Chunked => {}
        }
        if head.expects_continue {
            if exchange.action != Action::Echo {
                // Nobody knows whether the client sends its body then (RFC 9110, section 10.1.1).
                exchange.persistence = Persistence::Closed;
                return self.complete(transport, &mut exchange);
            }
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.exchange = Some(exchange);
        (self.body_since, self.came) = (Some(transport.handle().now()), 0);
        // One timer runs on, whatever number of bodies comes.
        if !self.is_watching {
            self.is_watching = true;
            transport.call_later(BODY_TIME, Self::check_body);
        }
        Ok(())
    }

    fn check_body(&mut self, transport: &Transport) -> Result {
        self.is_watching = false;
        let (Some(since), Some(_)) = (&mut self.body_since, &self.exchange) else {
            return Ok(());
        };
        let now = transport.handle().now();
        if !transport.wants_input() {
            // The write timeout watches the peer then.
            (*since, self.came) = (now, 0);
        }
        let time = BODY_TIME + Duration::from_secs(self.came / BODY_RATE);
        let left = time.saturating_sub(now.saturating_duration_since(*since));
        if left.is_zero() {
            return self.frame_failed(transport, Status::RequestTimeout.into());
        }
        self.is_watching = true;
        transport.call_later(left, Self::check_body);
        Ok(())
    }

    /// Sends a part of the body back while it comes; a body that was not asked for is thrown away.
    fn body_received(&mut self, transport: &Transport, bytes: &[u8]) -> Result {
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        self.came += bytes.len() as u64;
        if exchange.action != Action::Echo {
            return Ok(());
        }
        exchange.begin_echo(&self.site, transport)?;
        if exchange.body != Body::Chunked {
            transport.write(bytes)?;
            return Ok(());
        }
        let mut size = [0; 20];
        let mut unused = &mut size[..];
        write!(unused, "{:x}\r\n", bytes.len())?;
        let left = unused.len();
        let size = &size[..size.len() - left];
        transport.write_vectored(&[size, bytes, b"\r\n"].map(IoSlice::new))?;
        Ok(())
    }

    fn body_ended(&mut self, transport: &Transport) -> Result {
        match self.exchange.take() {
            Some(mut exchange) => self.complete(transport, &mut exchange),
            None => Ok(()),
        }
    }

    #[inline]
    fn send_page(&self, transport: &Transport, persistence: Persistence, is_head: bool) -> Result {
        self.site.page(transport, persistence, is_head)?;
        finish(transport, persistence);
        Ok(())
    }

    /// Completes the reply, or begins a long one.
    fn complete(&mut self, transport: &Transport, exchange: &mut Exchange) -> Result {
        let persistence = exchange.persistence;
        let reply = |status, rest: &dyn Fn(&mut Vec<u8>)| {
            self.site.reply(transport, status, persistence, rest)
        };
        match exchange.action {
            Action::Page => return self.send_page(transport, persistence, exchange.is_head),
            Action::Echo => {
                exchange.begin_echo(&self.site, transport)?;
                if exchange.body == Body::Chunked {
                    transport.write(b"0\r\n\r\n")?;
                }
            }
            Action::Bytes(len) => {
                reply(Status::Ok, &|out| put_length(out, len))?;
                if !exchange.is_head {
                    self.sending = Some((len, persistence, transport.hold_reading()));
                    return self.send_on(transport);
                }
            }
            Action::Fail(status) => reply(status, &|out| put_length(out, 0))?,
            Action::Allow(methods) => reply(Status::MethodNotAllowed, &|out| {
                let _ = write!(out, "Allow: {methods}\r\n");
                put_length(out, 0);
            })?,
        }
        finish(transport, persistence);
        Ok(())
    }

    /// Goes on with a long reply until the transport is paused; `resume_writing` comes back here.
    fn send_on(&mut self, transport: &Transport) -> Result {
        let Some((left, persistence, _)) = &mut self.sending else {
            return Ok(());
        };
        for _ in 0..MAX_WRITES {
            let whole = self.site.block.len();
            let len = usize::try_from(*left).map_or(whole, |left| left.min(whole));
            *left -= len as u64;
            let flow = transport.write_owned(self.site.block.slice(..len))?;
            if *left == 0 {
                finish(transport, *persistence);
                self.sending = None;
                return Ok(());
            }
            if flow.is_paused() {
                return Ok(());
            }
        }
        transport.call_soon(Self::send_on);
        Ok(())
    }
}

impl Exchange {
    /// Sends the head of an echo, once. It waits for the first bytes of the body, for these may be wrong.
    fn begin_echo(&mut self, site: &Site, transport: &Transport) -> Result {
        if self.began {
            return Ok(());
        }
        self.began = true;
        site.reply(transport, Status::Ok, self.persistence, |out| {
            match self.body {
                Body::Length(len) => put_length(out, len),
                Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
            }
        })
    }
}

/// Closes behind a reply if it is the last. Whatever the client sends then is read and thrown away: a
/// reset could overtake the reply (RFC 9112, section 9.6).
fn finish(transport: &Transport, persistence: Persistence) {
    if persistence == Persistence::Closed {
        transport.close();
    }
}

impl FrameProtocol for Http {
    type Codec = Raw<Codec>;

    #[inline]
    fn codec(&mut self) -> &mut Raw<Codec> {
        &mut self.codec
    }

    #[inline]
    fn frame_received(&mut self, transport: &Transport, piece: Piece<'_, Unit<'_>>) -> Result {
        match piece {
            Piece::Frame(Unit::Head(head)) => self.head_received(transport, &head),
            Piece::Frame(Unit::Chunk(len)) => {
                self.codec.expect(len);
                Ok(())
            }
            Piece::Frame(Unit::End) => self.body_ended(transport),
            Piece::Raw { bytes, left } => {
                self.body_received(transport, bytes)?;
                let has_length = |exchange: &Exchange| exchange.body != Body::Chunked;
                if left == 0 && self.exchange.as_ref().is_some_and(has_length) {
                    self.body_ended(transport)?;
                }
                Ok(())
            }
        }
    }

    /// Replies with the error, and closes: nobody knows where the next request would begin.
    fn frame_failed(&mut self, transport: &Transport, error: BoxError) -> Result {
        let late = matches!(error.downcast_ref(), Some(FrameError::TimedOut { .. }));
        let status = match error.downcast_ref::<Status>() {
            Some(status) => Some(*status),
            None => late.then_some(Status::RequestTimeout),
        };
        // A reply that has begun lacks its end, by which the client sees that it has failed.
        let began = self.exchange.take().is_some_and(|exchange| exchange.began);
        if let Some(status) = status.filter(|_| !began) {
            let rest = |out: &mut Vec<u8>| put_length(out, 0);
            let closed = Persistence::Closed;
            self.site.reply(transport, status, closed, rest)?;
        }
        transport.close();
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.send_on(transport)
    }
}
