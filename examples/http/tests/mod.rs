//! The rules of this server. In virtual time where they are about bytes and times, on sockets where they
//! are about memory and about other connections.

mod conversations;
mod refusals;
mod sockets;
mod times;

use crate::codec::Limits;
use crate::connection;
use crate::connection::Http;
use crate::reply::http_date;
use crate::site::Site;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};
use tidegate_framing::Framed;
use tidegate_testkit::World;

const LIMITS: Limits = Limits {
    head: 300,
    body: 20,
};

fn site() -> Rc<Site> {
    Rc::new(Site::new(LIMITS))
}

fn served() -> Framed<Http> {
    connection(&site())
}

/// Returns a reply: its status, the fields behind the date, and the body.
fn reply(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n{fields}\r\n{body}")
}

fn page() -> String {
    let fields = "Content-Type: text/plain\r\nContent-Length: 13\r\n";
    reply("200 OK", fields, "Hello World!\n")
}

/// Returns the reply to a request after which nothing is certain.
fn refusal(status: &str) -> String {
    reply(status, "Connection: close\r\nContent-Length: 0\r\n", "")
}

/// Sends pieces, each when the one before was read, and returns the replies up to the end.
fn talk(pieces: &[&[u8]]) -> String {
    talk_to(&site(), pieces)
}

fn talk_to(site: &Rc<Site>, pieces: &[&[u8]]) -> String {
    let site = Rc::clone(site);
    let mut world = World::new();
    let host = world.add_host("server").unwrap();
    let handle = host.handle();
    let server = handle
        .create_server(host.addr(80), move || connection(&site))
        .unwrap();
    let peer = world.network().dial(host.addr(80)).unwrap();
    world.pump().unwrap();
    for piece in pieces {
        if peer.is_ended() {
            break;
        }
        let sent = peer.send(piece).unwrap();
        assert_eq!(sent, piece.len());
        world.pump().unwrap();
    }
    // The server may have closed.
    let _ = peer.send_eof();
    world.pump().unwrap();
    let replies = peer.take();
    assert!(peer.is_ended(), "open after {pieces:?}");
    server.close();
    String::from_utf8(replies).unwrap()
}

/// Returns the bytes of a chunked body, which has to be whole, and what follows it.
fn unchunked(mut body: &str) -> (String, &str) {
    let mut bytes = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let (chunk, rest) = rest.split_at(size);
        bytes.push_str(chunk);
        body = rest.strip_prefix("\r\n").unwrap();
        if size == 0 {
            return (bytes, body);
        }
    }
}

#[test]
fn each_reply_has_the_date_that_was_set_last() {
    let site = site();
    let requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        HEAD / HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (days, date) in (0..).zip(["Thu, 01 Jan", "Fri, 02 Jan", "Sat, 03 Jan"]) {
        site.set_time(UNIX_EPOCH + Duration::from_secs(days * 86_400));
        let replies = talk_to(&site, &[requests]);
        let field = format!("Date: {date} 1970 00:00:00 GMT\r\n");
        assert_eq!(replies.matches(&field).count(), 3, "{field} in {replies}");
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, date) in [
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
    ] {
        assert_eq!(http_date(UNIX_EPOCH + Duration::from_secs(seconds)), date);
    }
}
