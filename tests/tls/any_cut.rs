//! The check of layers, with TLS at both ends: the bytes between them come in every way, and each stream
//! is cut.

use super::VERSIONS;
use std::sync::Arc;
use support::Authority;
use tidegate_testkit::{LayerCheck, LayerRule, LayerVariation, Side};
use tidegate_tls::Tls;
use tidegate_tls::rustls::SupportedProtocolVersion;
use tidegate_tls::rustls::client::Resumption;

/// Each run shakes hands anew, so a sample of places has to do.
const PLACES: usize = 40;

fn check(
    versions: &[&'static SupportedProtocolVersion],
    set: impl Fn(Tls) -> Tls + Copy + 'static,
) -> LayerCheck {
    let authority = Authority::new();
    let mut client = authority.client_of(versions);
    // So all handshakes have one length.
    client.resumption = Resumption::disabled();
    let (client, server) = (Arc::new(client), Arc::new(authority.server_of(versions)));
    let name = "localhost".try_into().unwrap();
    LayerCheck::new(
        move || set(Tls::client(client.clone(), Clone::clone(&name))),
        move || set(Tls::server(server.clone())),
    )
    .places(PLACES)
}

#[test]
fn what_goes_in_comes_out_however_the_records_come_and_a_cut_is_never_an_end() {
    for versions in VERSIONS {
        let report = check(versions, |tls| tls).run();
        let report = report.unwrap_or_else(|violation| panic!("{versions:?}: {violation}"));
        assert_eq!(report.cuts() as usize, 2 * PLACES, "{report}");
        for side in [Side::Client, Side::Server] {
            assert!(report.bytes_to(side) > 500, "{report}");
        }
    }
}

#[test]
fn a_cut_that_is_to_be_an_end_is_one_behind_the_handshake() {
    for versions in VERSIONS {
        let violation = check(versions, |tls| tls.truncation_is_end(true)).run();
        let violation = violation.unwrap_err();
        assert_eq!(violation.rule(), LayerRule::Cut, "{violation}");
        let variation = violation.case().variation();
        let is_cut = matches!(variation, LayerVariation::Cut { .. });
        assert!(is_cut, "{violation}");
        let allowed = check(versions, |tls| tls.truncation_is_end(true)).cut_is_end();
        allowed.run().unwrap();
    }
}
