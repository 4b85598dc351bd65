//! Slow clients, in virtual time.

use super::{page, refusal, reply, served};
use crate::HEAD_TIMEOUT;
use std::time::Duration;
use tidegate_testkit::Script;

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
