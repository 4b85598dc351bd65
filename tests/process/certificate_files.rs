//! Starts itself with another environment, and without root's rights.
//!
//! The system's root certificates, and files that may not be read.

use rustix::process::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use support::child::{Child, part, say};
use support::{Authority, BOUND, Log, Recorder, Served, TempDir, drive};
use tidegate::{ConnectOptions, EventLoop, ListenOptions};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::ClientConfig;
use tidegate_tls::{client_config, client_config_from_pem, server_config_from_pem};

/// Connects to a server whose certificate is in a folder. Returns the error, if there is one.
fn talk(config: ClientConfig, dir: &Path) -> std::io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    let server = server_config_from_pem(dir.join("cert.pem"), dir.join("key.pem"))?;
    let options = ListenOptions::new("127.0.0.1:0").tls(Arc::new(server));
    let served = Served::echo(event_loop.handle(), options);
    let options = ConnectOptions::new(served.address())
        .tls_as(Arc::new(config), "localhost")
        .timeout(BOUND);
    let log = Log::new();
    let connect = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    event_loop.run_until(connect)?.write(b"hello")?;
    drive(&mut event_loop, "the echo", || log.data() == b"hello");
    Ok(())
}

#[test]
fn the_systems_roots_are_those_that_the_environment_names() {
    const TEST: &str = "the_systems_roots_are_those_that_the_environment_names";
    if let Some(dir) = part() {
        let talked = client_config().and_then(|config| talk(config, dir.as_ref()));
        return say(match talked {
            Ok(()) => "served".to_owned(),
            Err(error) => format!("{:?} {error}", error.kind()),
        });
    }
    let (dir, authority) = (TempDir::new(), Authority::new());
    let identity = authority.certify(&["localhost"]);
    for (name, text) in [
        ("cert.pem", identity.certificate_pem()),
        ("key.pem", &identity.key_pem()),
        ("roots.pem", &authority.pem()),
        ("others.pem", &Authority::new().pem()),
        ("text.pem", "no PEM at all\n"),
    ] {
        fs::write(dir.path(name), text).unwrap();
    }
    fs::create_dir(dir.path("empty")).unwrap();
    let none = "NotFound the system has no root certificates that can be read";
    for (file, expected) in [
        ("roots.pem", "served"),
        ("others.pem", "InvalidData cannot connect to "),
        ("absent.pem", none),
        ("text.pem", none),
    ] {
        let (file, folder) = (dir.path(file), dir.path("empty"));
        let variables = [("SSL_CERT_FILE", &*file), ("SSL_CERT_DIR", &*folder)];
        let part = dir.path("");
        let mut child = Child::start_with(&variables, TEST, part.to_str().unwrap());
        let said = child.line();
        assert!(said.starts_with(expected), "{}: {said}", file.display());
        if expected == none && !file.exists() {
            assert!(said.contains("absent.pem"), "{said}");
        }
        if expected.starts_with("InvalidData") {
            assert!(said.contains("UnknownIssuer"), "{said}");
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_is_named_in_the_error() {
    const TEST: &str = "a_file_that_may_not_be_read_is_named_in_the_error";
    const NOBODY: u32 = 65534;
    fn refusals(dir: &Path) -> [String; 3] {
        let [open, shut] = ["open.pem", "shut.pem"].map(|name| dir.join(name));
        [
            server_config_from_pem(&shut, &open).map(drop),
            server_config_from_pem(&open, &shut).map(drop),
            client_config_from_pem(&shut).map(drop),
        ]
        .map(|made| match made {
            Ok(()) => "it was read".to_owned(),
            Err(error) => format!("{:?} {error}", error.kind()),
        })
    }
    if let Some(dir) = part() {
        return refusals(dir.as_ref()).into_iter().for_each(say);
    }
    let dir = TempDir::new();
    let authority = Authority::new();
    let identity = authority.certify(&["localhost"]);
    let both = identity.certificate_pem().to_owned() + &identity.key_pem();
    for (name, mode) in [("", 0o777), ("open.pem", 0o644), ("shut.pem", 0o000)] {
        let path = dir.path(name);
        if !name.is_empty() {
            fs::write(&path, &both).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let path = dir.path("");
    let refusals = if geteuid().is_root() {
        let mut child = Child::start_as(NOBODY, &dir, TEST, path.to_str().unwrap());
        [(); 3].map(|()| child.line())
    } else {
        refusals(&path)
    };
    let expected = [
        "cannot read certificates from ",
        "cannot read the private key from ",
        "cannot read certificates from ",
    ];
    for (refusal, says) in refusals.iter().zip(expected) {
        let begin = format!("PermissionDenied {says}{}", dir.path("shut.pem").display());
        assert!(refusal.starts_with(&begin), "{refusal}");
    }
}
