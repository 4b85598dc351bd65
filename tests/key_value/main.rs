//! The rules of the example `key_value`, on a simulated network and clock.

#[path = "../../examples/key_value.rs"]
#[expect(dead_code, reason = "the main program")]
mod key_value;

use key_value::resp::Requests;
use key_value::{IDLE, REQUEST_TIME, clients, serve};
use std::time::Duration;
use tidegate_framing::{Decode, Step};
use tidegate_testkit::{Conversation, Script, World, check_protocol};

const SECOND: Duration = Duration::from_secs(1);

/// Plays requests and replies, each a line but for its end.
fn talk(memory: usize, lines: &[(&str, &str)]) {
    let end = |text: &str| text.replace(' ', "\r\n") + "\r\n";
    let script = lines.iter().fold(Script::new(), |script, (said, reply)| {
        script.send(format!("{said}\r\n")).expect(end(reply))
    });
    script
        .send_eof()
        .expect_eof()
        .play(clients(memory)())
        .unwrap();
}

#[test]
fn commands_reply_as_those_of_redis() {
    talk(
        1 << 20,
        &[
            ("get a", "$-1"),
            ("SET a 9", "+OK"),
            ("INCR a", ":10"),
            ("GET a", "$2 10"),
            ("INCR n", ":1"),
            ("incrby n -3", ":-2"),
            ("INCRBY n 3", ":1"),
            ("MGET a b n", "*3 $2 10 $-1 $1 1"),
            ("DEL a b n", ":2"),
            ("LPUSH l x yy zzz", ":3"),
            ("LRANGE l 0 -1", "*3 $3 zzz $2 yy $1 x"),
            ("LRANGE l -2 1", "*1 $2 yy"),
            ("LRANGE l 2 1", "*0"),
            ("LRANGE none 0 -1", "*0"),
            ("EXPIRE none 1", ":0"),
            ("EXPIRE l 0", ":1"),
            ("LRANGE l 0 -1", "*0"),
            ("PING", "+PONG"),
            ("CONFIG GET save", "*2 $4 save $0 "),
            ("CONFIG GET x", "*0"),
        ],
    );
}

#[test]
fn what_cannot_be_done_is_an_error_and_the_connection_goes_on() {
    let script = Script::new()
        .send("LPUSH l x\r\nGET l\r\nSET t x\r\nLPUSH t x\r\nINCR t\r\n")
        .expect(":1\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
        .expect("+OK\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
        .expect("-ERR value is not an integer or out of range\r\n")
        .send("HELLO 3\r\nGET\r\n\r\nno\x1bsense\r\n")
        .expect("-NOPROTO unsupported protocol version\r\n-ERR wrong number of arguments\r\n")
        .expect("-ERR unknown command 'NO\\x1bSENSE'\r\n")
        .send("QUIT\r\n")
        .expect("+OK\r\n")
        .expect_eof();
    script.play(clients(1 << 20)()).unwrap();
}

#[test]
fn a_client_has_a_maximum_of_channels_and_of_the_length_of_their_names() {
    let channels: String = (0..256).map(|number| format!(" {number}")).collect();
    let refused = "-ERR too many channels, or too long a name\r\n";
    let confirmed = |number: usize| {
        let name = number.to_string();
        let len = name.len();
        format!(
            "*3\r\n$9\r\nsubscribe\r\n${len}\r\n{name}\r\n:{}\r\n",
            number + 1
        )
    };
    let script = Script::new()
        .send(format!("SUBSCRIBE {}\r\n", "x".repeat(257)))
        .expect(refused)
        .send(format!("SUBSCRIBE{channels}\r\n"))
        .expect((0..256).map(confirmed).collect::<String>())
        .send("SUBSCRIBE x\r\n")
        .expect(refused);
    script.play(clients(1 << 20)()).unwrap();
}

#[test]
fn bytes_that_are_no_request_are_told_and_end_the_connection() {
    for (bytes, told) in [
        ("*1\r\n+PING\r\n", "a word without its length"),
        ("*1\r\n$4\r\nPINGxx", "no end of line behind a word"),
        ("*99999\r\n", "too many words"),
        ("*1\r\n$9999999\r\n", "the request is too long"),
        ("*999999999\r\n", "a number is malformed"),
        ("*1\r\n$-1\r\n", "a number is malformed"),
        (&"x".repeat(4096), "the line is too long"),
    ] {
        let told = format!("-ERR Protocol error: {told}\r\n");
        let script = Script::new().send(bytes).expect(told).expect_eof();
        script.play(clients(1 << 20)()).unwrap();
    }
}

#[test]
fn a_key_expires_in_the_time_of_the_loop_unless_it_is_set_again() {
    Script::new()
        .send("SET a 1\r\nSET b 1\r\nEXPIRE a 600\r\nEXPIRE b 600\r\nINCR a\r\nSET b 2\r\n")
        .expect("+OK\r\n+OK\r\n:1\r\n:1\r\n:2\r\n+OK\r\n")
        .wait(599 * SECOND)
        .send("MGET a b\r\n")
        .expect("*2\r\n$1\r\n2\r\n$1\r\n2\r\n")
        .wait(2 * SECOND)
        .send("MGET a b\r\n")
        .expect("*2\r\n$-1\r\n$1\r\n2\r\n")
        .play(clients(1 << 20)())
        .unwrap();
}

#[test]
fn the_keys_go_first_that_were_not_used_for_the_longest_time() {
    let value = "x".repeat(1000);
    let bulk = format!("$1000 {value}");
    let set = |key: &str| format!("SET {key} {value}");
    talk(
        2500,
        &[
            (&set("a"), "+OK"),
            (&set("b"), "+OK"),
            ("GET a", &bulk),
            (&set("c"), "+OK"),
            ("GET b", "$-1"),
            ("GET a", &bulk),
            (&set("a"), "+OK"),
            ("GET c", &bulk),
            ("LPUSH l 1 2 3", ":3"),
            ("GET a", "$-1"),
        ],
    );
}

#[test]
fn a_reply_has_a_maximum() {
    let value = "x".repeat(4000);
    let sets = format!("SET a {value}\r\n");
    let gets = format!("*4096\r\n$4\r\nMGET\r\n{}", "$1\r\na\r\n".repeat(4095));
    // 16 MB.
    let reply = format!("*4095\r\n{}", format!("$4000\r\n{value}\r\n").repeat(4095));
    Script::new()
        .send(sets)
        .expect("+OK\r\n")
        .send(&gets)
        .expect(reply)
        .send(format!(
            "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000\r\n{}\r\n",
            "x".repeat(5000)
        ))
        .expect("+OK\r\n")
        .send(gets)
        .expect("-ERR the reply is too long\r\n")
        .play(clients(1 << 20)())
        .unwrap();
}

#[test]
fn it_does_not_matter_how_the_bytes_come_or_where_the_peer_breaks_off() {
    let conversation = Conversation::new()
        .say("*3\r\n$3\r\nset\r\n$1\r\na\r\n$2\r\n\r\n\r\nGET a\n")
        .say("*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\nPING\r\nGET a\r\n")
        .may_answer_when_cut_short();
    let make = || clients(1 << 20)();
    let report = check_protocol(make, &conversation).unwrap();
    assert!(report.runs() > 400, "{report:?}");
    assert!(report.reply().ends_with(b"in this context\r\n"));
}

#[test]
fn the_codec_tells_what_it_misses() {
    let step = |input| Requests.decode(input).unwrap();
    assert_eq!(step(b"*1\r\n$4\r\nPI"), Step::Need(4));
    assert_eq!(step(b"*1\r\n$4"), Step::Need(1));
    assert_eq!(
        step(b"*1\r\n$4\r\nPING\r\nrest"),
        Step::Frame(vec![&b"PING"[..]], 14)
    );
    assert_eq!(
        step(b" PING\t \r\nrest"),
        Step::Frame(vec![&b"PING"[..]], 9)
    );
}

#[test]
fn a_request_that_is_not_complete_in_time_is_refused_and_its_memory_given_back() {
    let script = Script::new().send("*2\r\n$3\r\nGET\r\n$1000\r\n");
    // A byte now and then does not help.
    let script = (2..REQUEST_TIME.as_secs())
        .fold(script, |script, _| script.send("x").expect_nothing(SECOND));
    script
        .expect_nothing(SECOND)
        .wait(SECOND)
        .expect("-ERR Protocol error: a frame was not complete within 30s\r\n")
        .expect_eof()
        .play(clients(1 << 20)())
        .unwrap();
}

#[test]
fn a_client_that_is_silent_for_long_makes_room_for_others() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let server = serve(host.handle(), host.addr(7), 1 << 20).unwrap();
    let _silent = world.network().dial(host.addr(7)).unwrap();
    world.settle().unwrap();
    world.advance(IDLE - SECOND).unwrap();
    assert_eq!(server.connection_count(), 1);
    world.advance(IDLE / 4 + 2 * SECOND).unwrap();
    assert_eq!(server.connection_count(), 0);
}
