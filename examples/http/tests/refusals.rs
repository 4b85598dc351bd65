//! Requests that are refused: with a reply, and with the end of the connection, since nobody knows where
//! the next request begins.

use super::{page, refusal, reply, served, talk};
use tidegate_testkit::{Conversation, check_protocol};

/// Checks that a request between two good ones is refused at every cut, and the last one not seen.
#[track_caller]
fn check(request: &str, status: &str) {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let conversation = Conversation::new()
        .say(format!("{get}{request}{get}"))
        .answer(page() + &refusal(status))
        .random_chunkings(10)
        .stay();
    check_protocol(served, &conversation).unwrap_or_else(|error| panic!("{request:?}: {error}"));
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// RFC 9112, sections 6.1 and 6.3: what another reader on the way may see otherwise.
#[test]
fn a_body_whose_end_is_ambiguous_is_refused() {
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: 4 4\r\n",
        "Content-Length:\r\n",
        "Content-Length: -0\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\n , gzip\r\n",
        "X: a\r\n\tb\r\n",
        "X: a\rContent-Length: 4\r\n",
        " X: a\r\n",
        "X\0: a\r\n",
    ] {
        check(&post(fields, smuggled), "400 Bad Request");
    }
    let empty = post("Content-Length: 2\r\nTransfer-Encoding: ,\r\n", "ab");
    check(&empty, "400 Bad Request");
    check(
        &post("Transfer-Encoding: gzip, chunked\r\n", smuggled),
        "501 Not Implemented",
    );
    let old =
        post(CHUNKED, smuggled).replace("HTTP/1.1\r\nHost: a\r\nT", "HTTP/1.0\r\nHost: a\r\nT");
    check(&old, "400 Bad Request");
}

#[test]
fn the_same_content_length_twice_is_one() {
    let request = post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab");
    let echo = reply("200 OK", "Content-Length: 2\r\n", "ab");
    check_protocol(served, &Conversation::new().say(request).answer(echo)).unwrap();
}

#[test]
fn a_wrong_chunk_is_refused() {
    for chunk in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1_0\r\n",
        "1\n",
        "1;a\nb\r\n",
        "1;a\rb\r\n",
        "1\r;a\r\n",
        "10000000000000000\r\n",
        "g\r\n",
    ] {
        check(&post(CHUNKED, chunk), "400 Bad Request");
    }
    let long = format!("1;{}\r\n", "a".repeat(300));
    check(&post(CHUNKED, &long), "400 Bad Request");
    let trailer = "0\r\nA : b\r\n\r\n";
    check(&post(CHUNKED, trailer), "400 Bad Request");
}

/// The reply has begun: it lacks its end, by which the client sees it.
#[test]
fn an_echo_whose_later_chunk_is_wrong_has_no_end() {
    let whole = post(CHUNKED, "2\r\nab");
    for wrong in ["\r\n1\n", "xx5\r\n", "\n\n5\r\n", "\r\nffff\r\n"] {
        let replies = talk(&[whole.as_bytes(), wrong.as_bytes(), b"2\r\ncd\r\n0\r\n\r\n"]);
        assert_eq!(
            replies,
            reply("200 OK", CHUNKED, "2\r\nab\r\n"),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_body_above_the_maximum_is_refused_before_it_comes() {
    let too_large = "413 Content Too Large";
    check(&post("Content-Length: 21\r\n", ""), too_large);
    check(
        &post("Content-Length: 99999999999999999999999\r\n", ""),
        too_large,
    );
    check(&post(CHUNKED, "15\r\n"), too_large);
    check(&post(CHUNKED, "ffffffffffffffff\r\n"), too_large);
    // The sum of the chunks counts; these bodies are discarded, so that there is no reply before.
    let chunks = post(CHUNKED, "f\r\n123456789012345\r\n6\r\n").replace("/echo", "/");
    check(&chunks, too_large);
}

#[test]
fn a_head_above_the_maximum_is_refused_before_it_is_complete() {
    let too_large = "431 Request Header Fields Too Large";
    // The head of `post` has 32 bytes beside the fields.
    let field = |len: usize| format!("X: {}\r\n", "x".repeat(len - 5));
    let fits = post(&field(300 - 32), "");
    assert_eq!(fits.len(), 300);
    let echo = reply("200 OK", "Content-Length: 0\r\n", "");
    check_protocol(served, &Conversation::new().say(fits).answer(echo)).unwrap();
    check(&post(&field(301 - 32), ""), too_large);
    check(&format!("GET /{}", "x".repeat(300)), too_large);
    check(&post(CHUNKED, &format!("0\r\n{}", field(350))), too_large);
}

#[test]
fn too_many_fields_are_refused() {
    let too_many = "431 Request Header Fields Too Large";
    let short = "a:\r\n".repeat(66);
    check(&post(&short, ""), too_many);
    check(&post(CHUNKED, &format!("0\r\n{short}\r\n")), too_many);
}

#[test]
fn what_is_no_request_of_this_version_is_refused() {
    check("GET / HTTP/1.1\r\n\r\n", "400 Bad Request");
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "400 Bad Request",
    );
    check("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request");
    check("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request");
    check("\x16\x03\x01 hello", "400 Bad Request");
    check("PRI * HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported");
    let expecting = post("Expect: a-miracle\r\nContent-Length: 1\r\n", "");
    check(&expecting, "417 Expectation Failed");
}
