//! The heads of replies.

use std::error::Error;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The status of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    ExpectationFailed,
    FieldsTooLarge,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "HTTP/1.1 200 OK\r\n",
            Self::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Self::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Self::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Self::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Self::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Self::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Self::FieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Self::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Self::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.line().trim_end())
    }
}

impl Error for Status {}

/// Whether further requests come on the connection (RFC 9112, section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    Kept,
    /// As a client of HTTP/1.0 has asked for: the reply has to say it.
    KeptSaidSo,
    Closed,
}

pub(crate) const PAGE: &str = "Hello World!\n";
const PAGE_FIELDS: &str = "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n";

/// The date, and the reply with the page, which is the same for a second.
pub(crate) struct Page {
    date: String,
    /// On a connection that is kept.
    kept: Vec<u8>,
}

impl Page {
    pub(crate) fn at(time: SystemTime) -> Self {
        let (date, kept) = (http_date(time), Vec::new());
        let page = Self { date, kept };
        let mut kept = Vec::new();
        page.put(&mut kept, Persistence::Kept, false);
        Self { kept, ..page }
    }

    pub(crate) fn date(&self) -> &str {
        &self.date
    }

    /// Returns the reply to a GET on a connection that is kept.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Puts another reply together.
    pub(crate) fn put(&self, out: &mut Vec<u8>, persistence: Persistence, is_head: bool) {
        begin(out, Status::Ok, &self.date, persistence);
        out.extend_from_slice(PAGE_FIELDS.as_bytes());
        if !is_head {
            out.extend_from_slice(PAGE.as_bytes());
        }
    }
}

/// Begins a head. Further fields follow, and an empty line.
pub(crate) fn begin(out: &mut Vec<u8>, status: Status, date: &str, persistence: Persistence) {
    out.extend_from_slice(status.line().as_bytes());
    // RFC 9110, section 6.6.1: a server that has a clock sends the time.
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(match persistence {
        Persistence::Kept => b"\r\n",
        Persistence::KeptSaidSo => b"\r\nConnection: keep-alive\r\n",
        Persistence::Closed => b"\r\nConnection: close\r\n",
    });
}

/// Returns a time as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
pub(crate) fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last one
    // (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
    let since_march = days + 719_468;
    let (era, of_era) = (since_march / 146_097, since_march % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year + u64::from(month < 2);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}
