//! The head of a request: its first line and its fields, and all that can be wrong with them.

use crate::reply::{Persistence, Status};
use httparse::{Error, Request};
use std::mem::MaybeUninit;

/// Maximum number of fields in a head, and in the trailers of a body; nginx and Apache have about as many.
pub(crate) const MAX_FIELDS: usize = 64;

/// The framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// This number of bytes; 0 without a body.
    Length(u64),
    /// Chunks, of which one of size 0 is the last.
    Chunked,
}

/// The methods that this server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) method: Method,
    /// The path of the target, without a query.
    pub(crate) path: &'a str,
    pub(crate) body: Body,
    pub(crate) persistence: Persistence,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

/// Returns the head at the beginning of `input` and its length, or `None` when it is not complete.
#[inline(always)]
pub(crate) fn parse(input: &[u8]) -> Result<Option<(Head<'_>, usize)>, Status> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = Request::new(&mut []);
    // httparse refuses folded lines, and a space before a colon (RFC 9112, sections 5.1 and 5.2): a server
    // that reads them otherwise than the proxy before it sees other requests than the proxy.
    let parsed = request.parse_with_uninit_headers(input, &mut fields);
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return Err(Status::FieldsTooLarge),
        Err(Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    };
    let is_1_0 = request.version == Some(0);
    let mut fields = Fields::default();
    for field in request.headers.iter() {
        fields.add(field.name, field.value)?;
    }
    let head = Head {
        method: match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        path: path(request.path.unwrap_or_default()),
        body: fields.body(is_1_0)?,
        persistence: match (fields.close, is_1_0) {
            (false, false) => Persistence::Kept,
            (false, true) if fields.keep_alive => Persistence::KeptSaidSo,
            _ => Persistence::Closed,
        },
        // RFC 9110, section 10.1.1: ignored in HTTP/1.0.
        expects_continue: fields.expects_continue && !is_1_0,
    };
    // RFC 9112, section 3.2.
    if fields.hosts > 1 || (fields.hosts == 0 && !is_1_0) {
        return Err(Status::BadRequest);
    }
    Ok(Some((head, len)))
}

/// The fields that this server looks at.
#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<u64>,
    /// The number of transfer codings, and whether `chunked` is one and the last.
    codings: usize,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    #[inline]
    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), Status> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("host") {
            self.hosts += 1;
            if !value.iter().all(is_of_host) {
                return Err(Status::BadRequest);
            }
        } else if is("content-length") {
            let length = length(value)?;
            // RFC 9112, section 6.3: one of them may be for another reader.
            if self.length.is_some_and(|before| before != length) {
                return Err(Status::BadRequest);
            }
            self.length = Some(length);
        } else if is("transfer-encoding") {
            if list(value).next().is_none() {
                // A reader that counts the empty field sees another end of this request.
                return Err(Status::BadRequest);
            }
            for coding in list(value) {
                self.codings += 1;
                // Whatever comes behind `chunked` leaves the end of the body open.
                if self.is_chunked {
                    return Err(Status::BadRequest);
                }
                self.is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            }
        } else if is("connection") {
            for option in list(value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Status::ExpectationFailed);
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    /// Returns the framing of the body (RFC 9112, sections 6.1 and 6.3).
    #[inline]
    fn body(&self, is_1_0: bool) -> Result<Body, Status> {
        match (self.codings, self.length) {
            (0, length) => Ok(Body::Length(length.unwrap_or(0))),
            // A proxy that looks at the other field sees another end of this request.
            (_, Some(_)) => Err(Status::BadRequest),
            _ if is_1_0 || !self.is_chunked => Err(Status::BadRequest),
            (1, None) => Ok(Body::Chunked),
            // `gzip, chunked`: a coding that this server cannot undo.
            _ => Err(Status::NotImplemented),
        }
    }
}

/// Returns the value of a Content-Length. Signs, spaces and lists are none.
fn length(value: &[u8]) -> Result<u64, Status> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BadRequest);
    }
    let digits = str::from_utf8(value).map_err(|_| Status::BadRequest)?;
    // Only a number that is too large is left.
    digits.parse().map_err(|_| Status::ContentTooLarge)
}

/// Returns the members of a list (RFC 9110, section 5.6.1); empty ones count for nothing.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty())
}

/// Returns the path of a target. Clients of proxies send it behind a scheme and a host, which a server
/// has to accept (RFC 9112, section 3.2.2).
#[inline]
fn path(target: &str) -> &str {
    let target = target.split_once('?').map_or(target, |(path, _)| path);
    if target.starts_with('/') {
        return target;
    }
    let host = target.split_once("://").map(|(_, rest)| rest);
    host.map_or(target, |rest| {
        rest.find('/').map_or("/", |slash| &rest[slash..])
    })
}

/// Whether a byte may be one of a host and a port (RFC 9110, section 7.2; RFC 3986, section 3.2.2).
fn is_of_host(byte: &u8) -> bool {
    let is_mark = || b"-._~%!$&'()*+,;=:[]".contains(byte);
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':') || is_mark()
}
