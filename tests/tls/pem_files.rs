//! Configurations from files: what is in them, and what is said of what is not.

use super::{VERSIONS, assert_echoes, client_of, serve, server_of};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use support::{Authority, TempDir};
use tidegate::EventLoop;
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::crypto::CryptoProvider;
use tidegate_tls::{client_config_from_pem, server_config_from_pem};

/// The form of OpenSSL before PKCS #8.
const OLD_ENCRYPTED: &str = "\
-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF

MIIBAAECAwQFBgcICQoLDA0ODw==
-----END RSA PRIVATE KEY-----
";

/// A folder with a certificate, its key, and its authority.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            dir: TempDir::new(),
        };
        let authority = Authority::new();
        let identity = authority.certify(&["localhost"]);
        files.write("roots.pem", &authority.pem());
        files.write("cert.pem", identity.certificate_pem());
        files.write("key.pem", &identity.key_pem());
        files.write("other.pem", &authority.certify(&["localhost"]).key_pem());
        files.write("empty.pem", "");
        files.write("text.pem", "no PEM at all\n");
        files.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        files.write("bad.pem", &identity.certificate_pem().replace("MII", "AAA"));
        let encrypted = identity
            .key_pem()
            .replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        files.write("encrypted.pem", &encrypted);
        files.write("old-encrypted.pem", OLD_ENCRYPTED);
        fs::create_dir(files.path("folder")).unwrap();
        files.write(
            "bad-key.pem",
            &identity.key_pem().replace("KEY-----\nM", "KEY-----\nA"),
        );
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
}

/// The error has this kind, and says of this file what is wrong with it.
#[track_caller]
fn expect<T: std::fmt::Debug>(
    files: &Files,
    result: io::Result<T>,
    kind: ErrorKind,
    file: &str,
    says: &str,
) {
    let error = result.unwrap_err();
    let (text, path) = (error.to_string(), files.path(file).display().to_string());
    assert_eq!(error.kind(), kind, "{text}");
    assert!(
        text.contains(&path) && text.contains(says),
        "{text:?} has no {says:?} or {path}"
    );
}

#[test]
fn configurations_from_files_speak_both_versions_and_install_no_default_of_the_process() {
    let (authority, files) = (Authority::new(), Files::new());
    let identity = authority.certify(&["localhost"]);
    files.write("roots.pem", &authority.pem());
    files.write("cert.pem", identity.certificate_pem());
    files.write("key.pem", &identity.key_pem());
    let [roots, cert, key] = ["roots.pem", "cert.pem", "key.pem"].map(|name| files.path(name));
    let mut event_loop = EventLoop::new().unwrap();
    let served = serve(&event_loop, server_config_from_pem(cert, key).unwrap());
    for versions in VERSIONS {
        let config = Arc::new(authority.client_of(versions));
        let mut client = client_of(&mut event_loop, &served, &config);
        assert_echoes(&mut event_loop, &mut client);

        let config = Arc::new(authority.server_of(versions));
        let trusting = client_config_from_pem(&roots).unwrap();
        let (_, transport, _peer) = server_of(&mut event_loop, trusting, &config, |it| it);
        let version = transport.tls().unwrap().version;
        assert_eq!(version, Some(versions[0].version));
    }
    assert!(CryptoProvider::get_default().is_none());
}

#[test]
fn an_error_of_a_servers_files_says_which_file_and_what_is_wrong() {
    use ErrorKind::{InvalidData, IsADirectory, NotFound};
    let files = Files::new();
    let no_certificate = "holds no certificate";
    let no_key = "holds no private key";
    for (cert, key, kind, file, says) in [
        (
            "absent.pem",
            "key.pem",
            NotFound,
            "absent.pem",
            "cannot read certificates",
        ),
        (
            "cert.pem",
            "absent.pem",
            NotFound,
            "absent.pem",
            "cannot read the private key",
        ),
        (
            "empty.pem",
            "key.pem",
            InvalidData,
            "empty.pem",
            no_certificate,
        ),
        (
            "text.pem",
            "key.pem",
            InvalidData,
            "text.pem",
            no_certificate,
        ),
        ("key.pem", "key.pem", InvalidData, "key.pem", no_certificate),
        (
            "cut.pem",
            "key.pem",
            InvalidData,
            "cut.pem",
            "is no valid PEM",
        ),
        (
            "bad.pem",
            "key.pem",
            InvalidData,
            "bad.pem",
            "cannot be used",
        ),
        ("cert.pem", "empty.pem", InvalidData, "empty.pem", no_key),
        ("cert.pem", "cert.pem", InvalidData, "cert.pem", no_key),
        (
            "cert.pem",
            "cut.pem",
            InvalidData,
            "cut.pem",
            "is no valid PEM",
        ),
        (
            "cert.pem",
            "encrypted.pem",
            InvalidData,
            "encrypted.pem",
            "is encrypted",
        ),
        (
            "cert.pem",
            "old-encrypted.pem",
            InvalidData,
            "old-encrypted.pem",
            "is encrypted",
        ),
        (
            "folder",
            "key.pem",
            IsADirectory,
            "folder",
            "cannot read certificates",
        ),
        (
            "cert.pem",
            "folder",
            IsADirectory,
            "folder",
            "cannot read the private key",
        ),
        (
            "cert.pem",
            "bad-key.pem",
            InvalidData,
            "bad-key.pem",
            "cannot be used",
        ),
        (
            "cert.pem",
            "other.pem",
            InvalidData,
            "other.pem",
            "does not belong to",
        ),
        (
            "cert.pem",
            "other.pem",
            InvalidData,
            "cert.pem",
            "does not belong to",
        ),
    ] {
        let made = server_config_from_pem(files.path(cert), files.path(key));
        expect(&files, made, kind, file, says);
    }
}

#[test]
fn an_error_of_a_clients_roots_says_which_file_and_what_is_wrong() {
    use ErrorKind::{InvalidData, IsADirectory, NotFound};
    let files = Files::new();
    for (file, kind, says) in [
        ("absent.pem", NotFound, "cannot read certificates"),
        ("folder", IsADirectory, "cannot read certificates"),
        ("empty.pem", InvalidData, "holds no certificate"),
        ("key.pem", InvalidData, "holds no certificate"),
        ("cut.pem", InvalidData, "is no valid PEM"),
        ("bad.pem", InvalidData, "cannot be used"),
    ] {
        let made = client_config_from_pem(files.path(file));
        expect(&files, made, kind, file, says);
    }
}

#[test]
fn a_file_may_hold_the_certificate_and_the_key() {
    let files = Files::new();
    let read = |name| fs::read_to_string(files.path(name)).unwrap();
    files.write("both.pem", &(read("cert.pem") + &read("key.pem")));
    let both = files.path("both.pem");
    server_config_from_pem(&both, &both).unwrap();
    client_config_from_pem(files.path("roots.pem")).unwrap();
}
