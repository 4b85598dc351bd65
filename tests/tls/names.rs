//! The name that a server must show a certificate for.

use super::{Connecting, cause, serve};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use support::{
    Authority, Log, Peer, Recorder, Served, TempDir, TlsPeer, adopted, drive, knows, settle,
};
use tidegate::{Address, ConnectOptions, EventLoop, ListenOptions};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::{AlertDescription, CertificateError, ClientConfig, Error};

/// Connects, and has one message go there and back. Fails with the error of the connect.
#[track_caller]
fn echoed(event_loop: &mut EventLoop, options: ConnectOptions) -> std::io::Result<()> {
    let log = Log::new();
    let recorder = Recorder::new(&log).on_made(|transport| {
        transport.write(b"ping")?;
        Ok(())
    });
    let connecting = event_loop.handle().create_connection(options, recorder);
    let result = event_loop.run_until(connecting);
    match result {
        Ok(transport) => {
            drive(event_loop, "the reply", || log.data() == b"ping");
            transport.close();
            Ok(())
        }
        Err(error) => {
            settle(event_loop);
            assert_eq!((log.words().len(), log.dropped()), (0, 1));
            Err(error)
        }
    }
}

#[test]
fn the_name_is_the_host_of_the_address_whether_a_name_or_an_ip_address() {
    let authority = Authority::new();
    let config = Arc::new(authority.client());
    for (host, names) in [
        ("one.test", &["one.test"][..]),
        ("one.two.test", &["*.two.test"]),
        ("127.0.0.1", &["127.0.0.1"]),
        ("127.0.0.1", &["localhost", "127.0.0.1"]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut event_loop = EventLoop::builder()
            .resolver(knows(
                ["one.test", "one.two.test"].map(|name| (name, vec![address])),
            ))
            .build()
            .unwrap();
        let server = authority.certify(names).server(super::VERSIONS[1]);
        let options = ListenOptions::new(listener).tls(Arc::new(server));
        let _served = Served::echo(event_loop.handle(), options);
        let to = ConnectOptions::new((host, address.port())).tls(config.clone());
        echoed(&mut event_loop, to).unwrap();
    }
}

#[test]
fn a_certificate_for_another_name_fails_the_connect_and_the_server_is_told_why() {
    let authority = Authority::new();
    let config = Arc::new(authority.client());
    for (names, asked) in [
        (&["localhost"][..], None),
        (&["localhost"], Some("other.test")),
        (&["localhost"], Some("127.0.0.1")),
        (&["127.0.0.2"], None),
        (&["*.test"], Some("one.two.test")),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let identity = authority.certify(names);
        let options = |to: ConnectOptions| match asked {
            Some(name) => to.tls_as(config.clone(), name),
            None => to.tls(config.clone()),
        };
        let (connecting, peer) = Connecting::new(&mut event_loop, options, |it| it);
        let mut peer = TlsPeer::server(peer, &Arc::new(identity.server(super::VERSIONS[1])));
        peer.until(&mut event_loop, "the alert", |peer| peer.error().is_some());
        drive(&mut event_loop, "the failure", || connecting.is_decided());
        assert!(matches!(
            cause(&connecting.error()),
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
        ));
        let alert = Error::AlertReceived(AlertDescription::BadCertificate);
        assert_eq!(peer.error(), Some(&alert));
    }
}

#[test]
fn a_certificate_of_an_unknown_issuer_fails_the_connect_and_makes_no_connection_at_the_server() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = serve(&event_loop, Authority::new().server());
    let config = Arc::new(Authority::new().client());
    let to = ConnectOptions::new(served.address()).tls_as(config, "localhost");
    let error = echoed(&mut event_loop, to).unwrap_err();
    let unknown = CertificateError::UnknownIssuer;
    assert_eq!(cause(&error), Error::InvalidCertificate(unknown));
    drive(&mut event_loop, "the server to drop it", || {
        served.log(0).dropped() == 1
    });
    assert_eq!((served.accepted(), served.log(0).words().len()), (0, 0));
}

#[test]
fn a_name_that_no_certificate_can_have_fails_the_connect_before_it_begins() {
    let config = Arc::new(Authority::new().client());
    for name in [
        "",
        ".",
        "a b",
        "-",
        "127.0.0.1:443",
        "[::1]",
        "über.test",
        "a..b",
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
        let to = || ConnectOptions::new(served.address()).tls_as(config.clone(), name);
        let error = echoed(&mut event_loop, to()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        assert_eq!(to().validate().unwrap_err().kind(), ErrorKind::InvalidInput);
        settle(&mut event_loop);
        assert_eq!(served.accepted(), 0);
    }
}

#[test]
fn an_address_that_is_wrong_itself_is_told_and_not_the_name() {
    let config = Arc::new(Authority::new().client());
    let error = ConnectOptions::new("nonsense")
        .tls(config)
        .validate()
        .unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn a_unix_socket_has_no_name_and_is_served_under_the_one_of_tls_as() {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let address = Address::Unix(dir.path("tls.sock"));
    let options = ListenOptions::new(&address).tls(Arc::new(authority.server()));
    let _served = Served::echo(event_loop.handle(), options);
    let config = Arc::new(authority.client());
    let to = ConnectOptions::new(&address).tls(config.clone());
    let error = echoed(&mut event_loop, to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("tls_as"), "{error}");
    let to = ConnectOptions::new(&address).tls_as(config, "localhost");
    echoed(&mut event_loop, to).unwrap();
}

#[test]
fn an_empty_name_refuses_start_tls_and_leaves_the_connection_as_it_was() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer): (_, Peer) = adopted(
        event_loop.handle(),
        support::Kind::Tcp,
        Recorder::echo(&log),
    );
    let config: Arc<ClientConfig> = Arc::new(Authority::new().client());
    let refused = event_loop.run_until(transport.start_tls_client(config, "", b""));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    peer.send(b"plain");
    peer.expect(&mut event_loop, 5);
    assert_eq!(peer.received(), b"plain");
    assert_eq!(log.words(), ["made", "data"]);
}
