//! Our client speaks to OpenSSL's `s_server`.

use super::{Files, VERSION_1_2, VERSION_1_3, VERSIONS, assert_reverses, connect, lost};
use std::fs;
use std::io;
use std::sync::Arc;
use support::interop::{Bulk, Meeting, Program};
use support::{Kind, drive, strict_loop};
use tidegate::{CloseReason, EventLoop};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::{AlertDescription, Error, HandshakeKind};

/// 100 MB.
const LARGE: u64 = 100_000_000;

/// The reason of an error, or in one.
#[track_caller]
fn alert(error: &(dyn std::error::Error + 'static)) -> AlertDescription {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::AlertReceived(description)) = error.downcast_ref() {
            return *description;
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as _).or_else(|| error.source());
    }
    panic!("no alert: {error:?}");
}

/// Returns the address that a program listens on, once it does: `s_server` does not say it when it is
/// quiet.
#[track_caller]
fn listening(program: &Program, event_loop: &mut EventLoop) -> String {
    let mut port = None;
    drive(event_loop, "the program to listen", || {
        port = port_of(program);
        port.is_some()
    });
    format!("127.0.0.1:{}", port.unwrap())
}

/// Finds the socket of the process among those of the system (proc_pid_net(5)).
fn port_of(program: &Program) -> Option<u16> {
    let process = format!("/proc/{}", program.id());
    let descriptors = fs::read_dir(format!("{process}/fd")).ok()?;
    let sockets: Vec<String> = descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let number = link.to_str()?.strip_prefix("socket:[")?;
            Some(number.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("{process}/net/tcp")).ok()?;
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = words[1].split_once(':')?;
        let is_listening = words[3] == "0A" && sockets.iter().any(|it| it == words[9]);
        is_listening.then(|| u16::from_str_radix(port, 16).ok())?
    })
}

#[test]
fn s_server_gets_100_mb_and_our_end() {
    for version in VERSIONS {
        let files = Files::new();
        let config = Arc::new(files.authority.client());
        let mut meeting = Meeting::we_call_with(
            Kind::Tcp,
            |options| options.tls_as(config, "localhost"),
            |record| Bulk::send(record, LARGE),
            |_| {
                let options = ["-quiet", "-naccept", "1"];
                Program::absorbing("openssl", files.server_options(version, &options))
            },
            |program, event_loop| listening(program, event_loop),
        );
        meeting.ends_well();
        let info = meeting.record.transport().tls().unwrap();
        assert_eq!(info.version, Some(version.told));
        meeting.expect_success();
        let (_, received) = meeting.program.carried();
        assert_eq!(received, meeting.record.sent());
        assert_eq!(meeting.record.sent_len(), LARGE);
    }
}

#[test]
fn a_page_of_8_mb_of_s_server_arrives_and_then_its_end() {
    for version in VERSIONS {
        let mut event_loop = strict_loop();
        let files = Files::new();
        let page = support::pattern(0, 8 << 20);
        fs::write(files.path("page"), &page).unwrap();
        let config = Arc::new(files.authority.client());
        let options = files.server_options(version, &["-WWW", "-naccept", "1"]);
        let dir = files.path("");
        let mut all = vec!["-c", "cd $0 && exec openssl $*", &dir];
        all.extend(options.iter().map(String::as_str));
        let mut server = Program::talking("sh", all);
        let address = server.expect(&mut event_loop, "ACCEPT ");
        let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
        transport.write(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
        let closed = lost(&mut event_loop, &log);
        assert_eq!(closed.reason(), &CloseReason::PeerEof);
        assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
        let data = log.data();
        let (head, body) = data.split_at(data.len() - page.len());
        assert!(
            head.starts_with(b"HTTP/1.0 200 ok\r\n"),
            "{:?}",
            log.data_len()
        );
        assert!(body == page);
        server.expect_success(&mut event_loop);
    }
}

#[test]
fn the_death_of_s_server_is_a_cut() {
    for version in VERSIONS {
        let mut event_loop = strict_loop();
        let files = Files::new();
        let config = Arc::new(files.authority.client());
        let (server, address) = files.s_server(&mut event_loop, version, &["-rev"]);
        let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
        assert_reverses(&mut event_loop, &log, &transport);
        // Killed.
        drop(server);
        let closed = lost(&mut event_loop, &log);
        let CloseReason::Io(error) = closed.reason() else {
            panic!("{closed}")
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(log.words(), ["made", "data", "lost"]);
    }
}

#[test]
fn a_key_update_of_s_server_in_mid_stream_is_answered() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let config = Arc::new(files.authority.client());
    let options = ["-msg", "-naccept", "1"];
    let (mut server, address) = files.s_server(&mut event_loop, VERSION_1_3, &options);
    let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
    let theirs = |event_loop: &mut EventLoop, server: &mut Program, line: &str| {
        server.tell(line);
        drive(event_loop, line, || {
            log.data().ends_with(format!("{line}\n").as_bytes())
        });
    };
    let update = "TLS 1.3, Handshake [length 0005], KeyUpdate";
    for round in 0..3 {
        theirs(&mut event_loop, &mut server, &format!("before {round}"));
        // Asks for ours too, which comes with our next data.
        server.tell("K");
        server.expect(&mut event_loop, &format!(">>> {update}"));
        theirs(&mut event_loop, &mut server, &format!("between {round}"));
        transport.write(b"ours\n").unwrap();
        server.expect(&mut event_loop, &format!("<<< {update}"));
        server.expect(&mut event_loop, "ours");
        server.tell("k");
        server.expect(&mut event_loop, &format!(">>> {update}"));
        theirs(&mut event_loop, &mut server, &format!("behind {round}"));
        transport.write(b"ours again\n").unwrap();
        server.expect(&mut event_loop, "ours again");
    }
    transport.close();
    assert!(lost(&mut event_loop, &log).is_clean());
    server.expect_success(&mut event_loop);
}

#[test]
fn our_client_resumes_its_session_with_s_server() {
    for version in VERSIONS {
        let mut event_loop = strict_loop();
        let files = Files::new();
        let config = Arc::new(files.authority.client());
        let options = ["-rev", "-naccept", "2"];
        let (mut server, address) = files.s_server(&mut event_loop, version, &options);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
            // Tickets of TLS 1.3 come before the reply.
            assert_reverses(&mut event_loop, &log, &transport);
            let info = transport.tls().unwrap();
            assert_eq!(
                (info.handshake, info.version),
                (Some(kind), Some(version.told))
            );
            transport.close();
            lost(&mut event_loop, &log);
        }
        server.expect_success(&mut event_loop);
    }
}

#[test]
fn s_server_takes_our_certificate_and_without_one_we_learn_that_it_is_required() {
    for version in VERSIONS {
        let mut event_loop = strict_loop();
        let files = Files::new();
        let roots = files.roots();
        let options = [
            "-rev",
            "-Verify",
            "1",
            "-verify_return_error",
            "-CAfile",
            &roots,
        ];
        let (mut server, address) = files.s_server(&mut event_loop, version, &options);
        let identity = files.authority.certify(&["client.test"]);
        let config = Arc::new(files.authority.client_with(&identity, version.ours));
        let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
        assert_reverses(&mut event_loop, &log, &transport);
        transport.close();
        lost(&mut event_loop, &log);

        let config = Arc::new(files.authority.client_of(version.ours));
        let description = match connect(&mut event_loop, &address, &config) {
            // In TLS 1.3 the client is done before the server has looked.
            Ok((log, _)) => alert(&lost(&mut event_loop, &log)),
            Err(error) => alert(&error),
        };
        let expected = match version.number {
            "1.3" => AlertDescription::CertificateRequired,
            _ => AlertDescription::HandshakeFailure,
        };
        assert_eq!(description, expected);
        server.expect(&mut event_loop, "peer did not return a certificate");
    }
}

#[test]
fn a_renegotiation_by_s_server_is_refused() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let config = Arc::new(files.authority.client());
    let (mut server, address) = files.s_server(&mut event_loop, VERSION_1_2, &[]);
    let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
    transport.write(b"hello\n").unwrap();
    server.expect(&mut event_loop, "hello");
    server.tell("r");
    server.expect(&mut event_loop, "no renegotiation");
    let closed = lost(&mut event_loop, &log);
    assert_eq!(alert(&closed), AlertDescription::HandshakeFailure);
}

#[test]
fn our_client_sends_no_early_data_where_the_session_allows_it() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let config = Arc::new(files.authority.client());
    let options = ["-early_data", "-naccept", "2"];
    let (mut server, address) = files.s_server(&mut event_loop, VERSION_1_3, &options);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (log, transport) = connect(&mut event_loop, &address, &config).unwrap();
        transport.write(b"hello\n").unwrap();
        server.expect(&mut event_loop, "No early data received");
        server.expect(&mut event_loop, "hello");
        server.tell("tickets came before");
        drive(&mut event_loop, "the reply", || log.data_len() == 20);
        assert_eq!(transport.tls().unwrap().handshake, Some(kind));
        transport.close();
        lost(&mut event_loop, &log);
    }
    server.expect_success(&mut event_loop);
}
