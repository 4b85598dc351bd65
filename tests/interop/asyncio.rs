//! asyncio itself at the other end: its streams, a `Protocol` and a `BufferedProtocol`, as client
//! and as server.

use std::io;
use std::rc::Rc;
use support::interop::{BLOCK, Bulk, Caller, Meeting, Program, Record};
use support::{Kind, each_kind, settle};
use tidegate::CloseReason;

/// 100 MB.
const LARGE: u64 = 100_000_000;

const MIB: u64 = 1024 * 1024;

/// Both ends' default high-water mark, and the write that goes above it.
const MOST_BUFFERED: usize = 64 * 1024 + BLOCK;

/// The ways to write a program with asyncio, as `asyncio_peer.py` names them.
const APIS: [&str; 3] = ["streams", "protocol", "buffered"];

/// Runs asyncio in a role, with options for the script.
fn meet(
    kind: Kind,
    caller: Caller,
    role: &str,
    options: &[&str],
    ours: impl FnOnce(&Rc<Record>) -> Bulk,
) -> Meeting {
    println!("{kind:?}, {caller:?} call, asyncio plays {role} {options:?}");
    match caller {
        Caller::They => Meeting::they_call(kind, ours, |address| {
            Program::asyncio("connect", address, role, options)
        }),
        Caller::We => Meeting::we_call(
            kind,
            ours,
            |address| Program::asyncio("serve", address, role, options),
            |program, event_loop| program.expect(event_loop, "listening on "),
        ),
    }
}

/// Checks that both ends ended in peace, and each got the other's bytes, by their hash; returns the most
/// that asyncio had in its write buffer.
#[track_caller]
fn expect_equal(meeting: &mut Meeting) -> usize {
    meeting.ends_well();
    assert_eq!(meeting.hear("sent "), meeting.record.received());
    assert_eq!(meeting.hear("received "), meeting.record.sent());
    let peak = meeting.hear("peak ").parse().unwrap();
    assert_eq!(meeting.hear("end "), "eof");
    meeting.expect_success();
    peak
}

#[test]
fn asyncio_is_that_of_python_3_11_or_newer() {
    let output = std::process::Command::new("python3")
        .arg("--version")
        .output()
        .expect("python3 is needed: apt-get install python3");
    let version = String::from_utf8(output.stdout).unwrap();
    println!("{version}");
    let minor = version.strip_prefix("Python 3.").and_then(|rest| {
        let (minor, _) = rest.split_once('.')?;
        minor.parse::<u32>().ok()
    });
    assert!(minor.is_some_and(|minor| minor >= 11), "{version}");
}

each_kind!(asyncio_clients_get_100_mb_back_from_our_echo);
fn asyncio_clients_get_100_mb_back_from_our_echo(kind: Kind) {
    for api in APIS {
        let options = ["--api", api, "--bytes", &LARGE.to_string()];
        let mut meeting = meet(kind, Caller::They, "send", &options, |record| {
            match api {
                // Each of our ways to receive meets one of theirs that is unlike it.
                "protocol" => Bulk::echo(record).buffered(),
                _ => Bulk::echo(record),
            }
        });
        expect_equal(&mut meeting);
        assert_eq!(meeting.record.received_len(), LARGE);
        assert_eq!(meeting.record.sent_len(), LARGE);
    }
}

each_kind!(our_client_gets_100_mb_back_from_asyncio_servers);
fn our_client_gets_100_mb_back_from_asyncio_servers(kind: Kind) {
    for api in APIS {
        let options = ["--api", api];
        let mut meeting = meet(kind, Caller::We, "echo", &options, |record| {
            let bulk = Bulk::send(record, LARGE);
            match api {
                "protocol" => bulk.buffered(),
                _ => bulk,
            }
        });
        expect_equal(&mut meeting);
        assert_eq!(meeting.record.received_len(), LARGE);
        assert_eq!(meeting.record.sent_len(), LARGE);
    }
}

each_kind!(two_sides_that_send_much_at_once_do_not_block_each_other);
fn two_sides_that_send_much_at_once_do_not_block_each_other(kind: Kind) {
    let len = 16 * MIB;
    for caller in Caller::BOTH {
        for api in APIS {
            let options = ["--api", api, "--bytes", &len.to_string()];
            let mut meeting = meet(kind, caller, "send", &options, |record| {
                Bulk::send(record, len)
            });
            expect_equal(&mut meeting);
            assert_eq!(meeting.record.received_len(), len);
            assert_eq!(meeting.record.sent_len(), len);
        }
    }
}

each_kind!(when_asyncio_has_ended_its_side_all_that_we_send_still_arrives);
fn when_asyncio_has_ended_its_side_all_that_we_send_still_arrives(kind: Kind) {
    let len = 8 * MIB;
    for caller in Caller::BOTH {
        for api in APIS {
            let options = ["--api", api, "--bytes", &len.to_string()];
            // Ours begins when theirs has ended.
            let mut meeting = meet(kind, caller, "send", &options, |record| {
                Bulk::answer(record, len)
            });
            expect_equal(&mut meeting);
            assert_eq!(meeting.record.received_len(), len);
            assert_eq!(meeting.record.sent_len(), len);
        }
    }
}

each_kind!(when_we_have_ended_our_side_all_that_asyncio_sends_still_arrives);
fn when_we_have_ended_our_side_all_that_asyncio_sends_still_arrives(kind: Kind) {
    let len = 8 * MIB;
    for caller in Caller::BOTH {
        for api in APIS {
            let options = ["--api", api, "--bytes", &len.to_string()];
            let mut meeting = meet(kind, caller, "answer", &options, |record| {
                Bulk::send(record, len)
            });
            expect_equal(&mut meeting);
            assert_eq!(meeting.record.received_len(), len);
            assert_eq!(meeting.record.sent_len(), len);
        }
    }
}

each_kind!(a_slow_asyncio_reader_pauses_our_writer_whose_buffer_stays_small);
fn a_slow_asyncio_reader_pauses_our_writer_whose_buffer_stays_small(kind: Kind) {
    // A step is more than the kernel's buffers hold in our direction once they are full.
    let (total, step) = (64 * MIB, 8 * MIB);
    for (caller, api) in [(Caller::We, "streams"), (Caller::They, "protocol")] {
        let mut meeting = meet(kind, caller, "paced", &["--api", api], |record| {
            Bulk::send(record, total)
        });
        meeting.hear("uploaded");
        let mut steps = 0;
        while meeting.record.sent_len() < total {
            meeting.drive("the pause", |record| {
                record.pauses.get() > record.resumes.get()
            });
            settle(&mut meeting.event_loop);
            let resumes = meeting.record.resumes.get();
            steps += 1;
            meeting.program.tell(&(steps * step).to_string());
            meeting.hear("took ");
            meeting.drive("the resume", |record| record.resumes.get() > resumes);
        }
        assert!(steps >= 3, "the kernel alone held {total} bytes");
        let peak = meeting.record.peak.get();
        assert!(peak > 64 * 1024, "it was not paused: {peak}");
        assert!(peak <= MOST_BUFFERED, "{peak}");
        meeting.program.tell("rest");
        expect_equal(&mut meeting);
        assert_eq!(meeting.record.sent_len(), total);
    }
}

each_kind!(asyncio_waits_in_drain_while_we_do_not_read);
fn asyncio_waits_in_drain_while_we_do_not_read(kind: Kind) {
    let (total, step) = (64 * MIB, 8 * MIB);
    for (caller, api) in [(Caller::They, "streams"), (Caller::We, "protocol")] {
        let bytes = total.to_string();
        let options = ["--api", api, "--bytes", &bytes, "--tell-flow"];
        let mut meeting = meet(kind, caller, "send", &options, |record| {
            Bulk::answer(record, 0).paused()
        });
        meeting.hear("paused");
        settle(&mut meeting.event_loop);
        assert_eq!(meeting.record.received_len(), 0);
        for wanted in [step, 2 * step, 3 * step, 4 * step] {
            let (record, transport) = (meeting.record.clone(), meeting.record.transport());
            record.wanted.set(wanted);
            transport.resume_reading();
            meeting.drive("a step", |record| record.received_len() >= wanted);
            meeting.hear("resumed");
            meeting.hear("paused");
            settle(&mut meeting.event_loop);
            let more = record.received_len() - wanted;
            assert!(more < BLOCK as u64, "{more} bytes after pause_reading");
        }
        meeting.record.wanted.set(u64::MAX);
        meeting.record.transport().resume_reading();
        let peak = expect_equal(&mut meeting);
        assert!(peak <= MOST_BUFFERED, "{peak}");
        assert_eq!(meeting.record.received_len(), total);
    }
}

#[test]
fn a_reset_by_asyncio_ends_our_connection_as_one() {
    for caller in Caller::BOTH {
        for api in APIS {
            let options = ["--api", api, "--bytes", "5"];
            let mut meeting = meet(Kind::Tcp, caller, "paced", &options, |record| {
                Bulk::answer(record, 0)
            });
            meeting.drive("five bytes", |record| record.received_len() == 5);
            meeting.program.tell("reset");
            let closed = meeting.lost();
            assert!(closed.is_reset(), "{closed}");
            let CloseReason::Io(error) = closed.reason() else {
                panic!("{closed}")
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            meeting.expect_success();
        }
    }
}

each_kind!(our_reset_is_a_connection_reset_error_for_asyncio);
fn our_reset_is_a_connection_reset_error_for_asyncio(kind: Kind) {
    for caller in Caller::BOTH {
        for api in APIS {
            let mut meeting = meet(kind, caller, "paced", &["--api", api], |record| {
                Bulk::answer(record, 0)
            });
            meeting.hear("uploaded");
            meeting.program.tell("rest");
            meeting.drive("the connection", Record::is_made);
            meeting.record.transport().reset();
            let closed = meeting.lost();
            assert!(matches!(closed.reason(), CloseReason::LocalAbort));
            let expected = match kind {
                Kind::Tcp => "ConnectionResetError",
                // unix(7) has no resets.
                Kind::Unix => "eof",
            };
            assert_eq!(meeting.hear("end "), expected);
            meeting.expect_success();
        }
    }
}

each_kind!(our_close_with_unread_input_leaves_asyncio_all_bytes_and_a_clean_end);
fn our_close_with_unread_input_leaves_asyncio_all_bytes_and_a_clean_end(kind: Kind) {
    for caller in Caller::BOTH {
        // The kernel takes this much at once, but on TCP the peer's has no room for it.
        let len = match kind {
            Kind::Tcp => MIB,
            Kind::Unix => 100_000,
        };
        let options = ["--api", "protocol", "--bytes", "50000"];
        let mut meeting = meet(kind, caller, "paced", &options, |record| {
            Bulk::answer(record, 0).paused()
        });
        meeting.hear("uploaded");
        meeting.drive("the connection", Record::is_made);
        let transport = meeting.record.transport();
        let found = transport.with_protocol(|bulk: &mut Bulk, transport| {
            bulk.send_and_close(transport, len);
        });
        found.unwrap();
        assert!(meeting.lost().is_clean());
        assert_eq!(meeting.record.received_len(), 0, "the input was unread");
        // asyncio still has not read, and our descriptor is closed.
        let handle = meeting.event_loop.handle().clone();
        meeting.drive("the end of the lingering", |_| {
            handle.stats().lingering == 0
        });
        meeting.program.tell("rest");
        assert_eq!(meeting.hear("received "), meeting.record.sent());
        assert_eq!(meeting.hear("end "), "eof");
        assert_eq!(meeting.record.sent_len(), len);
        meeting.expect_success();
    }
}
