//! Python's `ssl` at the other end, on plain sockets: as client and as server.

use super::{Files, VERSION_1_3, VERSIONS, Version, echo, lost};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use support::interop::{Bulk, Caller, Meeting, Record};
use support::{Kind, strict_loop};
use tidegate::CloseReason;
use tidegate_tls::prelude::*;

const MIB: u64 = 1024 * 1024;

/// Runs Python in a role; `ours` is our end.
#[track_caller]
fn meet(
    version: Version,
    caller: Caller,
    role: &str,
    api: &str,
    len: u64,
    ours: impl FnOnce(&Rc<Record>) -> Bulk,
) -> (Meeting, Files) {
    println!(
        "{}, {caller:?} call, Python plays {role} ({api})",
        version.name
    );
    let files = Files::new();
    let len = len.to_string();
    let options = ["--api", api, "--bytes", &len];
    let meeting = match caller {
        Caller::They => {
            let config = Arc::new(files.authority.server());
            let set = |options: tidegate::ListenOptions| options.tls(config);
            Meeting::they_call_with(Kind::Tcp, set, ours, |address| {
                files.python("connect", address, version, role, &options)
            })
        }
        Caller::We => {
            let config = Arc::new(files.authority.client());
            let set = |options: tidegate::ConnectOptions| options.tls_as(config, "localhost");
            Meeting::we_call_with(
                Kind::Tcp,
                set,
                ours,
                |address| files.python("serve", address, version, role, &options),
                |program, event_loop| program.expect(event_loop, "listening on "),
            )
        }
    };
    // The program may not have read its files yet.
    (meeting, files)
}

/// Checks that both ends ended in peace, and each got the bytes of the other, by their hash.
#[track_caller]
fn expect_equal(meeting: &mut Meeting, version: Version, to_us: u64, from_us: u64) {
    meeting.ends_well();
    assert_eq!(meeting.hear("version "), version.name);
    assert_eq!(meeting.hear("sent "), meeting.record.received());
    assert_eq!(meeting.hear("received "), meeting.record.sent());
    assert_eq!(meeting.hear("end "), "eof");
    meeting.expect_success();
    assert_eq!(meeting.record.received_len(), to_us);
    assert_eq!(meeting.record.sent_len(), from_us);
    let info = meeting.record.transport().tls().unwrap();
    assert_eq!(info.version, Some(version.told));
}

#[test]
fn python_clients_get_8_mb_back_from_our_echo() {
    for version in VERSIONS {
        for api in ["socket", "memory"] {
            let len = 8 * MIB;
            let (mut meeting, _files) = meet(version, Caller::They, "rounds", api, len, Bulk::echo);
            expect_equal(&mut meeting, version, len, len);
        }
    }
}

#[test]
fn our_client_gets_8_mb_back_from_python_servers() {
    for version in VERSIONS {
        for api in ["socket", "memory"] {
            let len = 8 * MIB;
            let ours = |record: &_| Bulk::send(record, len);
            let (mut meeting, _files) = meet(version, Caller::We, "echo", api, 0, ours);
            expect_equal(&mut meeting, version, len, len);
        }
    }
}

#[test]
fn when_python_has_ended_its_side_all_that_we_send_still_arrives() {
    for version in VERSIONS {
        for caller in Caller::BOTH {
            let len = 8 * MIB;
            // Ours begins when theirs has ended.
            let ours = |record: &_| Bulk::answer(record, len);
            let (mut meeting, _files) = meet(version, caller, "send", "memory", len, ours);
            expect_equal(&mut meeting, version, len, len);
        }
    }
}

#[test]
fn when_we_have_ended_our_side_all_that_python_sends_still_arrives() {
    for version in VERSIONS {
        for caller in Caller::BOTH {
            for api in ["socket", "memory"] {
                let len = 8 * MIB;
                let ours = |record: &_| Bulk::send(record, len);
                let (mut meeting, _files) = meet(version, caller, "answer", api, len, ours);
                expect_equal(&mut meeting, version, len, len);
            }
        }
    }
}

#[test]
fn python_may_send_and_take_single_bytes() {
    for version in VERSIONS {
        let len = 20_000;
        let (mut meeting, _files) = meet(version, Caller::They, "rounds", "bytes", len, Bulk::echo);
        expect_equal(&mut meeting, version, len, len);
        let ours = |record: &_| Bulk::send(record, len);
        let (mut meeting, _files) = meet(version, Caller::We, "echo", "bytes", 0, ours);
        expect_equal(&mut meeting, version, len, len);
    }
}

#[test]
fn a_close_of_python_s_without_a_close_notify_is_a_cut() {
    for version in VERSIONS {
        for caller in Caller::BOTH {
            let ours = |record: &_| Bulk::answer(record, 0);
            let (mut meeting, _files) = meet(version, caller, "cut", "socket", 100_000, ours);
            let closed = meeting.lost();
            let CloseReason::Io(error) = closed.reason() else {
                panic!("{closed}")
            };
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(meeting.hear("sent "), meeting.record.received());
            meeting.expect_success();
        }
    }
}

#[test]
fn our_abort_is_a_cut_for_python() {
    for version in VERSIONS {
        for caller in Caller::BOTH {
            let ours = |record: &_| Bulk::answer(record, 0);
            let (mut meeting, _files) = meet(version, caller, "answer", "socket", 0, ours);
            meeting.drive("the connection", Record::is_made);
            let transport = meeting.record.transport();
            let written = transport.write(b"half of it");
            written.unwrap();
            meeting.event_loop.run_until(transport.flush()).unwrap();
            transport.abort();
            assert_eq!(meeting.hear("received ").split_once(' ').unwrap().0, "10");
            assert_eq!(meeting.hear("end "), "SSLEOFError");
            meeting.expect_success();
        }
    }
}

#[test]
fn two_hundred_handshakes_that_stop_anywhere_hold_up_nobody() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let (served, address) = echo(&event_loop, files.authority.server());
    let options = ["--bytes", "200"];
    let mut crowd = files.python("connect", &address, VERSION_1_3, "crowd", &options);
    let slowest: f64 = crowd.expect(&mut event_loop, "slowest ").parse().unwrap();
    // Far less than the 60 s of those that hang.
    assert!(slowest < 10.0, "{slowest} s");
    let connections = served.server.connection_count();
    assert_eq!((connections, served.accepted()), (200, 20));
    crowd.tell("go");
    crowd.expect_success(&mut event_loop);
    support::drive(&mut event_loop, "their end", || {
        served.server.connection_count() == 0
    });
    for n in 0..20 {
        assert!(lost(&mut event_loop, &served.log(200 + n)).is_clean());
    }
}
