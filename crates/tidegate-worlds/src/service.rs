//! Services that reply to frames: behind a proxy or not, and throttled or not. Some are taken over by
//! others.

use crate::client::bytes;
use crate::layers::Stack;
use crate::ledger::{Guard, Ledger};
use crate::limits::Limits;
use crate::meter::{Meter, Metered};
use crate::watched::Watched;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    CloseReason, Failure, Flow, Handle, ListenOptions, OnEof, Protocol, Result, Server, Transport,
};
use tidegate_framing::{
    Decode, FrameError, FrameProtocol, Framed, LengthPrefix, Lines, Netstring, Prefix, Step,
};
use tidegate_service::{Bucket, ProxyError, ProxyProtocol, Throttle};

/// The header of a proxy.
pub(crate) const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

/// How messages are cut.
#[derive(Debug, Clone)]
pub(crate) enum Codec {
    Lines(Lines),
    LengthPrefix(LengthPrefix),
    Netstring(Netstring),
}

impl Codec {
    fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..5) {
            0 | 1 => Self::Lines(Lines::new()),
            2 => Self::LengthPrefix(LengthPrefix::new(Prefix::Big(4))),
            3 => Self::LengthPrefix(LengthPrefix::new(Prefix::Varint)),
            _ => Self::Netstring(Netstring::new()),
        }
    }

    pub(crate) fn write(&self, transport: &Transport, message: &[u8]) -> io::Result<Flow> {
        match self {
            Self::Lines(codec) => Ok(codec.write(transport, message)?),
            Self::LengthPrefix(codec) => codec.write(transport, message),
            Self::Netstring(codec) => Ok(codec.write(transport, message)?),
        }
    }
}

impl Decode for Codec {
    type Frame<'a> = &'a [u8];
    type Error = FrameError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> std::result::Result<Step<&'a [u8]>, FrameError> {
        match self {
            Self::Lines(codec) => codec.decode(input),
            Self::LengthPrefix(codec) => codec.decode(input),
            Self::Netstring(codec) => codec.decode(input),
        }
    }

    fn decode_eof<'a>(
        &mut self,
        input: &'a [u8],
    ) -> std::result::Result<Step<&'a [u8]>, FrameError> {
        match self {
            Self::Lines(codec) => codec.decode_eof(input),
            Self::LengthPrefix(codec) => codec.decode_eof(input),
            Self::Netstring(codec) => codec.decode_eof(input),
        }
    }
}

/// A message of a client: its number, and the length of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// The number of the client.
    pub(crate) of: u64,
    pub(crate) number: u64,
    pub(crate) len: usize,
}

impl Request {
    /// Returns the text of the request, and as many bytes behind it.
    pub(crate) fn message(self, padding: usize) -> Vec<u8> {
        let Self { of, number, len } = self;
        let mut message = format!("{of} {number} {len} ").into_bytes();
        message.resize(message.len() + padding, b'.');
        message
    }

    fn parse(message: &[u8]) -> Option<Self> {
        let message = std::str::from_utf8(message).ok()?;
        let mut words = message.split(' ');
        let request = Self {
            of: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
            len: words.next()?.parse().ok()?,
        };
        let padding = words.next()?;
        let is_whole = padding.bytes().all(|byte| byte == b'.') && words.next().is_none();
        is_whole.then_some(request)
    }

    /// Returns a reply in which no byte ends a line.
    pub(crate) fn reply(self) -> Vec<u8> {
        let mut reply = bytes(self.of << 8 | self.number, 0, self.len);
        reply.iter_mut().for_each(|byte| *byte |= 0x80);
        reply
    }
}

/// Whether a service failed because its peer is slow, or was cut off in the middle.
pub(crate) fn is_of_peer(failure: &Failure) -> bool {
    let CloseReason::Callback(error) = failure.reason() else {
        return false;
    };
    let frame = error.downcast_ref::<FrameError>();
    let frame = frame.is_some_and(|error| {
        matches!(
            error,
            FrameError::TimedOut { .. } | FrameError::Truncated { .. }
        )
    });
    let header = error.downcast_ref::<ProxyError>();
    frame || header.is_some_and(|error| matches!(error, ProxyError::TooLate | ProxyError::Ended))
}

/// A server of frames, and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) codec: Codec,
    pub(crate) stack: Option<Stack>,
    pub(crate) is_proxied: bool,
    frame_timeout: Option<Duration>,
    throttle: Option<Rate>,
    /// A protocol hands its connection on now and then.
    hands_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    rate: u64,
    burst: u64,
    is_shared: bool,
}

impl Service {
    pub(crate) fn any(rng: &mut fastrand::Rng) -> Self {
        Self {
            codec: Codec::any(rng),
            stack: rng.bool().then(|| Stack::any(rng)),
            is_proxied: rng.u32(..3) == 0,
            frame_timeout: rng.bool().then(|| Duration::from_secs(rng.u64(10..200))),
            throttle: rng.bool().then(|| Rate {
                rate: 1 << rng.u32(8..18),
                burst: 1 << rng.u32(0..15),
                is_shared: rng.bool(),
            }),
            hands_over: rng.bool(),
        }
    }

    pub(crate) fn listen(
        &self,
        handle: &Handle,
        at: ListenOptions,
        limits: &Rc<Limits>,
        ledger: &Rc<Ledger>,
    ) -> io::Result<Server> {
        let this = self.clone();
        let of = ledger.clone();
        let served = move || this.framed(None, 0, &of);
        let Some(rate) = self.throttle else {
            return self.behind_proxy(handle, at, limits, ledger, served);
        };
        let of = ledger.clone();
        let before = if self.is_proxied { HEADER.len() } else { 0 };
        let make = move || {
            let bucket = Bucket::new(rate.rate, rate.burst);
            (bucket, Metered::new(&of, rate.rate, rate.burst))
        };
        let shared = rate.is_shared.then(&make);
        self.behind_proxy(handle, at, limits, ledger, move || {
            let (bucket, metered) = shared.clone().unwrap_or_else(&make);
            Throttle::new(bucket, Meter::new(&metered, before as u64, served()))
        })
    }

    fn behind_proxy<P: Protocol>(
        &self,
        handle: &Handle,
        at: ListenOptions,
        limits: &Rc<Limits>,
        ledger: &Rc<Ledger>,
        make: impl Fn() -> P + 'static,
    ) -> io::Result<Server> {
        let (stack, limits, ledger) = (self.stack.clone(), limits.clone(), ledger.clone());
        if !self.is_proxied {
            return handle.create_server(at, move || {
                let watched = Watched::new(&ledger, make());
                watched.behind(stack.as_ref()).on(&limits)
            });
        }
        let make = Rc::new(make);
        handle.create_server(at, move || {
            let make = make.clone();
            let proxied = ProxyProtocol::new(move |_| make()).within(Duration::from_secs(60));
            let watched = Watched::new(&ledger, proxied);
            watched.behind(stack.as_ref()).on(&limits)
        })
    }

    /// Makes the protocol of a client, if that is known, which replies from the request of this number on.
    fn framed(&self, of: Option<u64>, replied: u64, ledger: &Rc<Ledger>) -> Framed<Replier> {
        let framed = Framed::new(Replier {
            service: self.clone(),
            codec: self.codec.clone(),
            of,
            replied,
            ledger: ledger.clone(),
        });
        match self.frame_timeout {
            Some(limit) => framed.frame_timeout(limit),
            None => framed,
        }
    }
}

/// Replies to each request. It does not read requests whose replies it cannot send.
struct Replier {
    service: Service,
    codec: Codec,
    /// The client, once it has asked.
    of: Option<u64>,
    replied: u64,
    ledger: Rc<Ledger>,
}

impl Replier {
    /// Has another protocol go on once this batch of frames is over: it gets what has come of the next frame.
    fn hand_over_soon(&self, transport: &Transport) {
        let call = Guard::new(&self.ledger, |ledger| &ledger.calls);
        transport.call_soon(move |this: &mut Self, transport| {
            drop(call);
            if !transport.is_closing() {
                let next = this.service.framed(this.of, this.replied, &this.ledger);
                let next = Watched::new(&this.ledger, next).switched_in();
                transport.set_protocol(next, b"")?;
            }
            Ok(())
        });
    }
}

impl FrameProtocol for Replier {
    type Codec = Codec;

    fn codec(&mut self) -> &mut Codec {
        &mut self.codec
    }

    fn frame_received(&mut self, transport: &Transport, message: &[u8]) -> Result {
        let request = Request::parse(message);
        let request = request.filter(|it| it.number == self.replied);
        let Some(request) = request.filter(|it| self.of.is_none_or(|of| of == it.of)) else {
            let number = self.replied;
            self.ledger
                .violation(format!("request {number} was another: {transport:?}"));
            return Err("another request".into());
        };
        self.of = Some(request.of);
        self.replied += 1;
        self.codec.write(transport, &request.reply())?;
        if self.service.hands_over && request.len.is_multiple_of(4) {
            self.hand_over_soon(transport);
        }
        Ok(())
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        if let Some(of) = self.of {
            self.ledger.replied.borrow_mut().insert(of, self.replied);
        }
        Ok(OnEof::Close)
    }
}
