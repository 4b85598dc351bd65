//! OpenSSL's `s_client` speaks to our server.

use super::{Files, VERSION_1_2, VERSION_1_3, VERSIONS, assert_echoes, echo, lost};
use std::fs;
use std::io;
use std::sync::Arc;
use support::interop::{Bulk, Meeting};
use support::{Kind, drive, strict_loop};
use tidegate::CloseReason;
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::crypto::ring::Ticketer;
use tidegate_tls::rustls::pki_types::CertificateDer;
use tidegate_tls::rustls::pki_types::pem::PemObject;
use tidegate_tls::rustls::{AlertDescription, Error, HandshakeKind};

/// 100 MB.
const LARGE: u64 = 100_000_000;

/// The reason with which a connection ended.
#[track_caller]
fn reason(closed: &tidegate::Closed) -> (io::ErrorKind, Option<Error>) {
    match closed.reason() {
        CloseReason::Io(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            (error.kind(), inner.cloned())
        }
        _ => panic!("{closed}"),
    }
}

#[test]
fn s_client_gets_100_mb_back_and_our_end() {
    for version in VERSIONS {
        let files = Files::new();
        let config = Arc::new(files.authority.server());
        let mut meeting = Meeting::they_call_with(
            Kind::Tcp,
            |options| options.tls(config),
            Bulk::echo,
            |address| files.s_client_carrying(address, &[version.option], LARGE),
        );
        meeting.drive("all bytes", |record| record.sent_len() == LARGE);
        let transport = meeting.record.transport();
        assert_eq!(transport.tls().unwrap().version, Some(version.told));
        transport.close();
        let closed = meeting.lost();
        assert_eq!(
            (closed.reason(), closed.unsent()),
            (&CloseReason::LocalClose, 0)
        );
        // Without a close_notify it fails.
        meeting.expect_success();
        let (sent, received) = meeting.program.carried();
        assert_eq!(sent, meeting.record.received());
        assert_eq!(received, meeting.record.sent());
        assert_eq!(sent, received);
    }
}

#[test]
fn the_end_of_s_client_is_an_end_of_stream_and_its_death_is_a_cut() {
    for version in VERSIONS {
        let mut event_loop = strict_loop();
        let files = Files::new();
        let (served, address) = echo(&event_loop, files.authority.server());
        let mut client = files.s_client(&address, &[version.option]);
        assert_echoes(&mut event_loop, &mut client, "hello");
        client.tell("Q");
        let closed = lost(&mut event_loop, &served.log(0));
        assert_eq!(closed.reason(), &CloseReason::PeerEof);
        client.expect_success(&mut event_loop);

        let mut client = files.s_client(&address, &[version.option]);
        assert_echoes(&mut event_loop, &mut client, "hello");
        // Killed.
        drop(client);
        let closed = lost(&mut event_loop, &served.log(1));
        assert_eq!(reason(&closed), (io::ErrorKind::UnexpectedEof, None));
        assert_eq!(served.log(1).words(), ["made", "data", "lost"]);
    }
}

#[test]
fn a_key_update_of_s_client_in_mid_stream_is_answered() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let (served, address) = echo(&event_loop, files.authority.server());
    let mut client = files.s_client(&address, &[VERSION_1_3.option, "-msg"]);
    for round in 0..3 {
        assert_echoes(&mut event_loop, &mut client, &format!("before {round}"));
        // Asks for ours too.
        client.tell("K");
        client.expect(
            &mut event_loop,
            ">>> TLS 1.3, Handshake [length 0005], KeyUpdate",
        );
        client.tell(&format!("between {round}"));
        client.expect(
            &mut event_loop,
            "<<< TLS 1.3, Handshake [length 0005], KeyUpdate",
        );
        client.expect(&mut event_loop, &format!("between {round}"));
        client.tell("k");
        client.expect(
            &mut event_loop,
            ">>> TLS 1.3, Handshake [length 0005], KeyUpdate",
        );
        assert_echoes(&mut event_loop, &mut client, &format!("behind {round}"));
    }
    client.tell("Q");
    let closed = lost(&mut event_loop, &served.log(0));
    assert!(closed.is_clean(), "{closed}");
    client.expect_success(&mut event_loop);
}

#[test]
fn s_client_resumes_its_session_and_both_ends_know() {
    for version in VERSIONS {
        for has_tickets in [false, true] {
            println!("{}, {has_tickets}", version.name);
            let mut event_loop = strict_loop();
            let files = Files::new();
            let mut config = files.authority.server();
            if has_tickets {
                config.ticketer = Ticketer::new().unwrap();
            }
            let (served, address) = echo(&event_loop, config);
            let session = files.path("session.pem");
            for (n, kind, word) in [
                (0, HandshakeKind::Full, "New"),
                (1, HandshakeKind::Resumed, "Reused"),
            ] {
                let file = ["-sess_out", "-sess_in"][n];
                let mut client = files.s_client(&address, &[version.option, file, &session]);
                client.expect(&mut event_loop, &format!("{word}, {}", version.name));
                assert_echoes(&mut event_loop, &mut client, "hello");
                let info = served.transport(n).tls().unwrap();
                assert_eq!(
                    (info.handshake, info.version),
                    (Some(kind), Some(version.told))
                );
                assert_eq!(info.server_name.as_deref(), Some("localhost"));
                client.tell("Q");
                client.expect_success(&mut event_loop);
            }
        }
    }
}

#[test]
fn s_client_with_a_certificate_is_served_and_without_one_it_is_told_that_one_is_required() {
    for version in VERSIONS {
        let mut event_loop = strict_loop();
        let files = Files::new();
        let (served, address) = echo(&event_loop, files.authority.server_that_asks(version.ours));
        let [certificate, key] = files.certify("client.test");
        let shown = [version.option, "-cert", &certificate, "-key", &key];
        let mut client = files.s_client(&address, &shown);
        assert_echoes(&mut event_loop, &mut client, "hello");
        let certificate = CertificateDer::from_pem_file(&certificate).unwrap();
        assert_eq!(served.transport(0).peer_certificates()[0], certificate);

        let mut client_without = files.s_client(&address, &[version.option]);
        // The number of certificate_required (RFC 8446, section 6.2).
        client_without.expect(&mut event_loop, "SSL alert number 116");
        assert_eq!(
            (served.log(1).words().len(), served.log(1).dropped()),
            (0, 1)
        );
        assert_eq!(served.accepted(), 1);
        assert_echoes(&mut event_loop, &mut client, "still served");
    }
}

#[test]
fn a_renegotiation_by_s_client_is_refused_and_the_others_are_served() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let (served, address) = echo(&event_loop, files.authority.server());
    let mut other = files.s_client(&address, &[VERSION_1_2.option]);
    assert_echoes(&mut event_loop, &mut other, "hello");
    let mut client = files.s_client(&address, &[VERSION_1_2.option]);
    assert_echoes(&mut event_loop, &mut client, "hello");
    client.tell("R");
    client.expect(&mut event_loop, "RENEGOTIATING");
    // It gives up then, though it could go on.
    client.expect(&mut event_loop, "no renegotiation");
    let closed = lost(&mut event_loop, &served.log(1));
    let failed = Error::AlertReceived(AlertDescription::HandshakeFailure);
    assert_eq!(reason(&closed), (io::ErrorKind::InvalidData, Some(failed)));
    assert_echoes(&mut event_loop, &mut other, "still served");
}

#[test]
fn early_data_of_s_client_is_refused_and_the_session_goes_on_without_it() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let session = files.path("session.pem");
    let version = VERSION_1_3;
    // A session that allows it, of another server that is called the same.
    let options = ["-early_data", "-naccept", "1"];
    let (mut generous, there) = files.s_server(&mut event_loop, version, &options);
    let mut client = files.s_client(&there, &[version.option, "-sess_out", &session]);
    client.tell("hello");
    generous.expect(&mut event_loop, "hello");
    // The session's ticket comes before it.
    generous.tell("reply");
    client.expect(&mut event_loop, "reply");
    client.tell("Q");
    client.expect_success(&mut event_loop);
    generous.expect_success(&mut event_loop);

    let (served, address) = echo(&event_loop, files.authority.server());
    let early = files.path("early");
    // rustls skips 16 KiB, and counts a record again whenever it looks for the next one.
    fs::write(&early, "too early\n".repeat(10)).unwrap();
    let options = ["-sess_in", &session, "-early_data", &early];
    let mut client = files.s_client(&address, &[&[version.option], &options[..]].concat());
    client.expect(&mut event_loop, "Early data was rejected");
    assert_echoes(&mut event_loop, &mut client, "hello");
    assert_eq!(served.log(0).data(), b"hello\n");
    client.tell("Q");
    client.expect_success(&mut event_loop);
}

#[test]
fn clients_of_tls_1_0_and_1_1_get_an_alert_and_the_others_are_served() {
    let mut event_loop = strict_loop();
    let files = Files::new();
    let (served, address) = echo(&event_loop, files.authority.server());
    let mut other = files.s_client(&address, &[]);
    assert_echoes(&mut event_loop, &mut other, "hello");
    for (option, cipher) in [("-tls1", "ALL:@SECLEVEL=0"), ("-tls1_1", "ALL:@SECLEVEL=0")] {
        let mut client = files.s_client(&address, &[option, "-cipher", cipher]);
        // The number of handshake_failure (RFC 8446, section 6.2).
        client.expect(&mut event_loop, "SSL alert number 40");
        assert_echoes(&mut event_loop, &mut other, "still served");
    }
    drive(&mut event_loop, "their end", || {
        served.server.connection_count() == 1
    });
    assert_eq!(served.accepted(), 1);
}
