//! Slow clients, in virtual time.

use super::{page, refusal, reply, served, site};
use crate::codec::Limits;
use crate::connection::{BODY_RATE, BODY_TIME, Http};
use crate::site::Site;
use crate::{CLOSE_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, MAX_CONNECTIONS, WRITE_TIMEOUT, limits};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{CloseReason, Closed, Protocol, Server, TimeoutKind, Transport, Wrap};
use tidegate_framing::Framed;
use tidegate_testkit::{Link, Peer, Script, World};

const SECOND: Duration = Duration::from_secs(1);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_head_that_is_not_complete_in_time_is_refused_and_the_connection_closes() {
    let late = refusal("408 Request Timeout");
    for begun in ["G", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        Script::new()
            .send(begun)
            .expect_nothing(HEAD_TIMEOUT - SECOND)
            .wait(SECOND)
            .expect(&late)
            .expect_eof()
            .play(served())
            .unwrap();
    }
}

/// The time counts from the first byte on.
#[test]
fn a_head_that_comes_byte_by_byte_is_refused_at_the_same_time() {
    let mut script = Script::new();
    for byte in GET.bytes().take(9) {
        script = script.send([byte]).expect_nothing(SECOND);
    }
    let late = refusal("408 Request Timeout");
    script
        .send("P")
        .wait(SECOND)
        .expect(late)
        .expect_eof()
        .play(served())
        .unwrap();
}

#[test]
fn a_client_that_is_silent_between_requests_is_not_cut() {
    let hour = Duration::from_secs(3600);
    let mut script = Script::new();
    for _ in 0..3 {
        script = script.send(GET).expect(page()).expect_nothing(hour);
    }
    script.send_eof().expect_eof().play(served()).unwrap();
}

#[test]
fn the_line_before_a_chunk_has_the_same_time() {
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    Script::new()
        .send(format!("{head}1"))
        .expect_nothing(HEAD_TIMEOUT - SECOND)
        .wait(SECOND)
        .expect(refusal("408 Request Timeout"))
        .expect_eof()
        .play(served())
        .unwrap();
    let began = reply("200 OK", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n");
    Script::new()
        .send(format!("{head}1\r\na\r\n"))
        .expect(began)
        .send("2")
        .expect_nothing(HEAD_TIMEOUT - SECOND)
        .wait(SECOND)
        .expect_eof()
        .play(served())
        .unwrap();
}

fn post(path: &str, len: u64) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n")
}

#[test]
fn a_body_that_makes_no_progress_or_comes_in_single_bytes_is_refused() {
    let late = refusal("408 Request Timeout");
    Script::new()
        .send(post("/", 20))
        .expect_nothing(BODY_TIME - SECOND)
        .wait(SECOND)
        .expect(&late)
        .expect_eof()
        .play(served())
        .unwrap();
    let drip = |script: Script| {
        (1..BODY_TIME.as_secs()).fold(script, |script, _| script.send("x").expect_nothing(SECOND))
    };
    drip(Script::new().send(post("/", 20)))
        .wait(SECOND)
        .expect(&late)
        .expect_eof()
        .play(served())
        .unwrap();
    // The lines before the chunks are no progress either.
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = (1..BODY_TIME.as_secs()).fold(Script::new().send(head), |script, _| {
        script.send("1\r\nx\r\n").expect_nothing(SECOND)
    });
    chunks
        .wait(SECOND)
        .expect(&late)
        .expect_eof()
        .play(served())
        .unwrap();
}

#[test]
fn a_body_that_comes_at_the_least_rate_has_all_the_time_that_it_needs() {
    const SECONDS: u64 = 100;
    let body = SECONDS * BODY_RATE;
    let site = Rc::new(Site::new(Limits { head: 300, body }));
    let script = (1..SECONDS).fold(Script::new().send(post("/", body)), |script, _| {
        script
            .send(vec![b'x'; BODY_RATE as usize])
            .expect_nothing(SECOND)
    });
    let allowed = reply(
        "405 Method Not Allowed",
        "Allow: GET, HEAD\r\nContent-Length: 0\r\n",
        "",
    );
    script
        .send(vec![b'x'; BODY_RATE as usize])
        .expect(&allowed)
        // Between two requests nothing is late.
        .expect_nothing(10 * BODY_TIME)
        .send(GET)
        .expect(page())
        .send_eof()
        .expect_eof()
        .play(crate::connection(&site))
        .unwrap();
}

#[test]
fn empty_lines_before_a_head_are_few_and_have_its_time() {
    Script::new()
        .send("\r\n\r\n")
        .send(GET)
        .expect(page())
        .send("\r\n")
        .expect_nothing(HEAD_TIMEOUT - SECOND)
        .wait(SECOND)
        .expect(refusal("408 Request Timeout"))
        .expect_eof()
        .play(served())
        .unwrap();
    for line in ["\r\n", "\n"] {
        Script::new()
            .send(line.repeat(9))
            .expect(refusal("400 Bad Request"))
            .expect_eof()
            .play(served())
            .unwrap();
    }
}

type Ends = Rc<RefCell<Vec<Closed>>>;

/// A protocol that notes how its connection ends.
struct Noted(Framed<Http>, Ends);

impl Wrap for Noted {
    type Inner = Framed<Http>;

    fn wrapped(&mut self) -> &mut Framed<Http> {
        &mut self.0
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.1.borrow_mut().push(closed.clone());
        self.0.connection_lost(transport, closed);
    }
}

/// A server with the limits of the program.
struct Limited {
    world: World,
    server: Server,
    at: std::net::SocketAddr,
    ends: Ends,
}

impl Limited {
    fn new() -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        // A client that does not read takes little.
        let link = Link::new().send_buffer(1000).receive_buffer(1000);
        world.network().set_link_to_peers(&host, link);
        let (site, ends) = (site(), Ends::default());
        let noted = ends.clone();
        let make = move || Noted(crate::connection(&site), noted.clone());
        let at = host.addr(80);
        let server = host.handle().create_server(limits(at), make).unwrap();
        Self {
            world,
            server,
            at,
            ends,
        }
    }

    fn dial(&mut self) -> Peer {
        let peer = self.world.network().dial(self.at).unwrap();
        self.world.settle().unwrap();
        peer
    }

    /// The connection ends because of this limit, no earlier than that and at most a quarter later.
    #[track_caller]
    fn assert_ends(mut self, kind: TimeoutKind, limit: Duration) {
        self.world.settle().unwrap();
        self.world.advance(limit - SECOND).unwrap();
        assert_eq!(self.server.connection_count(), 1);
        self.world.advance(limit / 4 + 2 * SECOND).unwrap();
        let ends = self.ends.take();
        let [closed] = &ends[..] else {
            panic!("{ends:?}");
        };
        assert!(
            matches!(closed.reason(), CloseReason::Timeout(other) if *other == kind),
            "{closed}"
        );
    }
}

#[test]
fn a_client_that_is_silent_that_does_not_read_and_that_does_not_take_the_last_reply_is_cut() {
    let mut silent = Limited::new();
    let _peer = silent.dial();
    silent.assert_ends(TimeoutKind::Idle, IDLE_TIMEOUT);
    let mut deaf = Limited::new();
    let peer = deaf.dial();
    peer.send(b"GET /bytes/1000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    deaf.assert_ends(TimeoutKind::Write, WRITE_TIMEOUT);
    let mut last = Limited::new();
    let peer = last.dial();
    let get = "GET /bytes/10000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    peer.send(get.as_bytes()).unwrap();
    last.assert_ends(TimeoutKind::Close, CLOSE_TIMEOUT);
}

#[test]
fn clients_above_the_maximum_wait() {
    let mut limited = Limited::new();
    let dial = |_| limited.world.network().dial(limited.at).unwrap();
    let mut peers: Vec<_> = (0..=MAX_CONNECTIONS).map(dial).collect();
    limited.world.settle().unwrap();
    assert_eq!(limited.server.connection_count(), MAX_CONNECTIONS);
    peers.truncate(1);
    limited.world.settle().unwrap();
    assert!(limited.server.connection_count() <= 2);
}
