//! The command line at the other end: OpenBSD's nc, and socat, as clients and as servers.

use std::rc::Rc;
use support::interop::{Bulk, Caller, Meeting, Program, Record, tally};
use support::{Kind, each_kind};

/// 100 MB.
const LARGE: u64 = 100_000_000;

const SMALL: u64 = 4_000_000;

#[derive(Debug, Clone, Copy)]
enum Tool {
    Nc,
    Socat,
}

/// The path of a Unix socket in our notation; or else, host and port.
fn split(address: &str) -> Result<&str, (&str, &str)> {
    match address.strip_prefix("unix:") {
        Some(path) => Ok(path),
        None => Err(address.rsplit_once(':').unwrap()),
    }
}

/// One of nc's, or socat's, that connects and carries `len` bytes from its stdin to us. Both end
/// their side when that is over: nc because of -N. socat waits a minute for our end then (-t).
fn connecting(tool: Tool, address: &str, len: u64) -> Program {
    match (tool, split(address)) {
        (Tool::Nc, Ok(path)) => Program::carrying("nc", &["-N", "-U", path], len),
        (Tool::Nc, Err((host, port))) => Program::carrying("nc", &["-N", host, port], len),
        (Tool::Socat, _) => {
            let peer = socat_peer(address);
            Program::carrying("socat", &["-t", "60", "-", &peer], len)
        }
    }
}

fn socat_peer(address: &str) -> String {
    match split(address) {
        Ok(path) => format!("UNIX-CONNECT:{path}"),
        Err((host, port)) => format!("TCP:{host}:{port}"),
    }
}

/// One that listens, and says where.
fn listening(tool: Tool, address: &str, len: u64) -> Program {
    match (tool, split(address)) {
        (Tool::Nc, Ok(path)) => Program::carrying("nc", &["-N", "-v", "-l", "-U", path], len),
        (Tool::Nc, Err((host, port))) => {
            Program::carrying("nc", &["-N", "-v", "-n", "-l", host, port], len)
        }
        (Tool::Socat, _) => socat_listening(address, "-", len),
    }
}

/// One that connects, and passes the connection on to `to`.
fn socat_connecting(address: &str, to: &str) -> Program {
    Program::carrying("socat", &["-t", "60", &socat_peer(address), to], 0)
}

fn socat_listening(address: &str, to: &str, len: u64) -> Program {
    let at = match split(address) {
        Ok(path) => format!("UNIX-LISTEN:{path}"),
        Err((host, port)) => format!("TCP-LISTEN:{port},bind={host}"),
    };
    Program::carrying("socat", &["-d", "-d", "-t", "60", &at, to], len)
}

/// We connect to the one that `start` runs, once it says that it listens.
fn we_call(
    kind: Kind,
    tool: Tool,
    ours: impl FnOnce(&Rc<Record>) -> Bulk,
    start: impl FnOnce(&str) -> Program,
) -> Meeting {
    Meeting::we_call(kind, ours, start, |program, event_loop| {
        let mark = match tool {
            Tool::Nc => "Listening on ",
            Tool::Socat => "listening on AF=",
        };
        let said = program.expect(event_loop, mark);
        // `127.0.0.1 4711`, `2 127.0.0.1:4711`, `/path`, or `1 "/path"`.
        let last = said.rsplit([' ', ':']).next().unwrap();
        match kind {
            Kind::Tcp => format!("127.0.0.1:{last}"),
            Kind::Unix => format!("unix:{}", last.trim_matches('"')),
        }
    })
}

/// A tool that carries `len` bytes to us, and what we send to its stdout.
fn meet(
    kind: Kind,
    tool: Tool,
    caller: Caller,
    len: u64,
    ours: impl FnOnce(&Rc<Record>) -> Bulk,
) -> Meeting {
    println!("{kind:?}, {tool:?}, {caller:?} call");
    match caller {
        Caller::They => Meeting::they_call(kind, ours, |address| connecting(tool, address, len)),
        Caller::We => we_call(kind, tool, ours, |address| listening(tool, address, len)),
    }
}

/// Checks that each end got the other's bytes, by their hash, and their numbers.
#[track_caller]
fn expect_equal(meeting: &mut Meeting, to_us: u64, from_us: u64) {
    meeting.ends_well();
    meeting.expect_success();
    let (carried_to_us, carried_from_us) = meeting.program.carried();
    assert_eq!(carried_to_us, meeting.record.received());
    assert_eq!(carried_from_us, meeting.record.sent());
    assert_eq!(meeting.record.received_len(), to_us);
    assert_eq!(meeting.record.sent_len(), from_us);
}

each_kind!(nc_and_socat_get_100_mb_back_from_our_echo);
fn nc_and_socat_get_100_mb_back_from_our_echo(kind: Kind) {
    for tool in [Tool::Nc, Tool::Socat] {
        let mut meeting = meet(kind, tool, Caller::They, LARGE, Bulk::echo);
        expect_equal(&mut meeting, LARGE, LARGE);
    }
}

each_kind!(our_client_exchanges_100_mb_with_a_listening_nc_or_socat);
fn our_client_exchanges_100_mb_with_a_listening_nc_or_socat(kind: Kind) {
    for tool in [Tool::Nc, Tool::Socat] {
        // nc that listens leaves when we have ended.
        let mut meeting = meet(kind, tool, Caller::We, LARGE, |record| {
            Bulk::send(record, LARGE).ends_last()
        });
        expect_equal(&mut meeting, LARGE, LARGE);
    }
}

each_kind!(our_client_gets_all_back_from_a_program_behind_socat);
fn our_client_gets_all_back_from_a_program_behind_socat(kind: Kind) {
    for behind in ["SYSTEM:cat", "EXEC:cat"] {
        println!("{kind:?}, {behind}");
        let mut meeting = we_call(
            kind,
            Tool::Socat,
            |record| Bulk::send(record, SMALL),
            |address| socat_listening(address, behind, 0),
        );
        meeting.ends_well();
        meeting.expect_success();
        assert_eq!(meeting.record.sent_len(), SMALL);
        assert_eq!(meeting.record.received(), meeting.record.sent());
    }
}

each_kind!(a_program_that_reads_to_the_end_first_sees_ours_and_its_answer_arrives);
fn a_program_that_reads_to_the_end_first_sees_ours_and_its_answer_arrives(kind: Kind) {
    for caller in Caller::BOTH {
        let (ours, behind) = (|record: &_| Bulk::send(record, SMALL), "SYSTEM:sha256sum");
        let mut meeting = match caller {
            Caller::We => we_call(kind, Tool::Socat, ours, |address| {
                socat_listening(address, behind, 0)
            }),
            Caller::They => {
                Meeting::they_call(kind, ours, |address| socat_connecting(address, behind))
            }
        };
        meeting.ends_well();
        meeting.expect_success();
        let sent = meeting.record.sent();
        let (_, hash) = sent.split_once(' ').unwrap();
        let answer = format!("{hash}  -\n");
        assert_eq!(meeting.record.received(), tally(answer.as_bytes()));
    }
}

each_kind!(what_we_send_after_the_end_of_their_side_arrives);
fn what_we_send_after_the_end_of_their_side_arrives(kind: Kind) {
    for tool in [Tool::Nc, Tool::Socat] {
        for caller in Caller::BOTH {
            let mut meeting = meet(kind, tool, caller, 5, |record| Bulk::answer(record, SMALL));
            expect_equal(&mut meeting, 5, SMALL);
        }
    }
}

each_kind!(what_they_send_after_the_end_of_our_side_arrives);
fn what_they_send_after_the_end_of_our_side_arrives(kind: Kind) {
    for (tool, caller) in [
        // Not nc that listens: it leaves when we have ended.
        (Tool::Nc, Caller::They),
        (Tool::Socat, Caller::They),
        (Tool::Socat, Caller::We),
    ] {
        let mut meeting = meet(kind, tool, caller, SMALL, |record| Bulk::send(record, 5));
        expect_equal(&mut meeting, SMALL, 5);
    }
}

each_kind!(a_peer_that_never_ends_its_side_alone_ends_with_all_its_bytes_delivered);
fn a_peer_that_never_ends_its_side_alone_ends_with_all_its_bytes_delivered(kind: Kind) {
    // socat says nothing at the end of its input (shut-none) and leaves after 0.1 s (-t).
    let mut meeting = Meeting::they_call(
        kind,
        |record| Bulk::answer(record, 1000),
        |address| {
            let peer = socat_peer(address) + ",shut-none";
            Program::carrying("socat", &["-t", "0.1", "-", &peer], SMALL)
        },
    );
    meeting.lost();
    meeting.expect_success();
    let (to_us, from_us) = meeting.program.carried();
    assert_eq!(to_us, meeting.record.received());
    assert_eq!(meeting.record.received_len(), SMALL);
    assert!(
        from_us.starts_with("0 "),
        "our answer came too late: {from_us}"
    );
}
