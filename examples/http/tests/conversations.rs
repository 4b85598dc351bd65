//! Requests and their replies, at every cut of the input.

use super::{page, refusal, reply, served, talk, unchunked};
use tidegate_testkit::{Conversation, check_protocol};

/// Checks that requests, sent at once, get these replies however the requests are cut.
#[track_caller]
fn check(requests: &str, replies: &[String]) {
    let conversation = Conversation::new().say(requests).answer(replies.concat());
    check_protocol(served, &conversation).unwrap();
}

fn not_allowed(methods: &str, connection: &str) -> String {
    let fields = format!("{connection}Allow: {methods}\r\nContent-Length: 0\r\n");
    reply("405 Method Not Allowed", &fields, "")
}

fn echo(body: &str) -> String {
    let fields = format!("Content-Length: {}\r\n", body.len());
    reply("200 OK", &fields, body)
}

#[test]
fn pipelined_requests_are_replied_to_in_their_order() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /echo?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\n\r\nhello\r\n\
        GET /bytes/3 HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    let three = reply("200 OK", "Content-Length: 3\r\n", "xxx");
    let nowhere = reply("404 Not Found", "Content-Length: 0\r\n", "");
    check(requests, &[page(), echo("hello"), three, nowhere]);
}

#[test]
fn a_head_request_gets_the_fields_of_a_get_and_no_body() {
    let requests = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /bytes/77 HTTP/1.1\r\nHost: a\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = page().replace("Hello World!\n", "");
    let bytes = reply("200 OK", "Content-Length: 77\r\n", "");
    check(requests, &[head, bytes, page()]);
}

#[test]
fn another_method_is_told_which_ones_there_are_and_its_body_is_discarded() {
    let requests = "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\
        PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let [delete, put] = ["GET, HEAD", "POST"].map(|methods| not_allowed(methods, ""));
    check(requests, &[delete, put, page()]);
}

#[test]
fn the_client_says_whether_the_connection_stays() {
    let close = reply("200 OK", "Connection: close\r\nContent-Length: 1\r\n", "x");
    let kept = reply(
        "200 OK",
        "Connection: keep-alive\r\nContent-Length: 1\r\n",
        "x",
    );
    for (version, option, replies) in [
        ("1.1", "Connection: foo, Close\r\n", vec![close.clone()]),
        ("1.0", "", vec![close.clone()]),
        (
            "1.0",
            "Connection: keep-alive\r\n",
            vec![kept.clone(), kept],
        ),
        ("1.0", "Connection: keep-alive, close\r\n", vec![close]),
    ] {
        let request = format!("GET /bytes/1 HTTP/{version}\r\nHost: a\r\n{option}\r\n");
        check(&request.repeat(2), &replies);
    }
}

#[test]
fn a_target_may_have_the_host_before_its_path() {
    let requests = "GET http://a/bytes/2?z HTTP/1.1\r\nHost: a\r\n\r\n\
        GET http://a?x/y HTTP/1.1\r\nHost: a\r\n\r\n";
    check(
        requests,
        &[reply("200 OK", "Content-Length: 2\r\n", "xx"), page()],
    );
}

#[test]
fn a_body_in_chunks_comes_back_however_it_is_cut_and_the_next_request_follows() {
    let head = reply("200 OK", "Transfer-Encoding: chunked\r\n", "");
    let requests = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
        4;name=\"va lue\"\r\nabcd\r\n00C\t;x\r\nefghijklmnop\r\n0;last\r\nDigest: x\r\nOther: y\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let requests = requests.as_bytes();
    let check = |replies: String, cuts: [usize; 2]| {
        let body = replies.strip_prefix(&head);
        let body = body.unwrap_or_else(|| panic!("cut at {cuts:?}: {replies}"));
        let expected = ("abcdefghijklmnop".to_owned(), &*page());
        assert_eq!(unchunked(body), expected, "cut at {cuts:?}");
    };
    for cut in 0..requests.len() {
        let (before, rest) = requests.split_at(cut);
        check(talk(&[before, rest]), [cut; 2]);
        let second = cut + 1 + (cut * 7) % (requests.len() - cut);
        let (middle, after) = rest.split_at(second - cut);
        check(talk(&[before, middle, after]), [cut, second]);
    }
    let single: Vec<&[u8]> = requests.chunks(1).collect();
    check(talk(&single), [1; 2]);
}

#[test]
fn a_chunked_body_that_is_discarded_is_found_at_every_cut_too() {
    let requests = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        1;a=b\r\n\n\r\n3\r\n0\r\n\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(requests, &[not_allowed("GET, HEAD", ""), page()]);
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_before_its_body() {
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
    let conversation = Conversation::new()
        .say(head)
        .answer("HTTP/1.1 100 Continue\r\n\r\n")
        .say("helloGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .answer(echo("hello") + &page());
    check_protocol(served, &conversation).unwrap();
    // Nobody waits for it in HTTP/1.0, nor for a body of no bytes.
    let head = head.replace("1.1", "1.0");
    let closed = reply(
        "200 OK",
        "Connection: close\r\nContent-Length: 5\r\n",
        "hello",
    );
    check(&(head + "hello"), &[closed]);
    let none = "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n";
    check(none, &[echo("")]);
}

#[test]
fn a_client_that_waits_and_is_refused_gets_the_refusal_and_the_connection_closes() {
    let expecting = |path, len| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
        head + &format!("Content-Length: {len}\r\n\r\n")
    };
    check(
        &expecting("/", 5),
        &[not_allowed("GET, HEAD", "Connection: close\r\n")],
    );
    let nowhere = refusal("404 Not Found");
    check(&expecting("/nowhere", 5), &[nowhere]);
    check(&expecting("/echo", 21), &[refusal("413 Content Too Large")]);
}
