//! TLS with other programs: OpenSSL's `s_client` and `s_server`, Python's `ssl`, and asyncio.

mod openssl_clients;
mod openssl_servers;
mod python;
mod start_tls;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use support::interop::Program;
use support::{Authority, Log, Recorder, Served, TempDir, drive};
use tidegate::{ConnectOptions, EventLoop, ListenOptions, Transport};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::version::{TLS12, TLS13};
use tidegate_tls::rustls::{ClientConfig, ProtocolVersion, ServerConfig, SupportedProtocolVersion};

/// A version of TLS, and its names.
#[derive(Debug, Clone, Copy)]
struct Version {
    ours: &'static [&'static SupportedProtocolVersion],
    told: ProtocolVersion,
    /// The option of OpenSSL.
    option: &'static str,
    /// OpenSSL's name for it.
    name: &'static str,
    /// That of our script for Python.
    number: &'static str,
}

const VERSION_1_2: Version = Version {
    ours: &[&TLS12],
    told: ProtocolVersion::TLSv1_2,
    option: "-tls1_2",
    name: "TLSv1.2",
    number: "1.2",
};

const VERSION_1_3: Version = Version {
    ours: &[&TLS13],
    told: ProtocolVersion::TLSv1_3,
    option: "-tls1_3",
    name: "TLSv1.3",
    number: "1.3",
};

const VERSIONS: [Version; 2] = [VERSION_1_2, VERSION_1_3];

/// An authority, and files for programs that trust it.
struct Files {
    authority: Authority,
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let (authority, dir) = (Authority::new(), TempDir::new());
        fs::write(dir.path("roots.pem"), authority.pem()).unwrap();
        Self { authority, dir }
    }

    /// The path of a file.
    fn path(&self, name: &str) -> String {
        path(self.dir.path(name))
    }

    /// The path of its own certificate.
    fn roots(&self) -> String {
        self.path("roots.pem")
    }

    /// The paths of a new certificate for `name`, and of its key.
    fn certify(&self, name: &str) -> [String; 2] {
        let identity = self.authority.certify_for_openssl(&[name]);
        let [certificate, key] =
            ["cert", "key"].map(|part| self.path(&format!("{name}-{part}.pem")));
        fs::write(&certificate, identity.certificate_pem()).unwrap();
        fs::write(&key, identity.key_pem()).unwrap();
        [certificate, key]
    }

    /// Runs OpenSSL's client, which is told lines.
    #[track_caller]
    fn s_client(&self, address: &str, options: &[&str]) -> Program {
        Program::talking("openssl", self.client_options(address, options))
    }

    /// Runs OpenSSL's client, which carries bytes, and goes on when it has sent them.
    #[track_caller]
    fn s_client_carrying(&self, address: &str, options: &[&str], len: u64) -> Program {
        let options = [&["-quiet"], options].concat();
        let options = self.client_options(address, &options);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Program::carrying("openssl", &options, len)
    }

    fn client_options(&self, address: &str, options: &[&str]) -> Vec<String> {
        let name = ["-servername", "localhost", "-verify_hostname", "localhost"];
        let roots = self.roots();
        let trust = ["-CAfile", &roots, "-verify_return_error"];
        let all = [
            &["s_client", "-connect", address],
            &name[..],
            &trust,
            options,
        ];
        all.concat().into_iter().map(str::to_owned).collect()
    }

    /// The options of OpenSSL's server.
    fn server_options(&self, version: Version, options: &[&str]) -> Vec<String> {
        let [certificate, key] = self.certify("localhost");
        let files = ["-cert", &certificate, "-key", &key];
        let at = ["s_server", "-accept", "127.0.0.1:0", version.option];
        let all = [&at[..], &files, options].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    /// Runs OpenSSL's server, which is told lines; returns its address too.
    #[track_caller]
    fn s_server(
        &self,
        event_loop: &mut EventLoop,
        version: Version,
        options: &[&str],
    ) -> (Program, String) {
        let mut program = Program::talking("openssl", self.server_options(version, options));
        let address = program.expect(event_loop, "ACCEPT ");
        (program, address)
    }

    /// Runs Python's `ssl`.
    #[track_caller]
    fn python(
        &self,
        side: &str,
        address: &str,
        version: Version,
        role: &str,
        options: &[&str],
    ) -> Program {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/ssl_peer.py");
        let [certificate, key] = self.certify("localhost");
        let roots = self.roots();
        let all = [
            &[script, side, address, role][..],
            &["--roots", &roots, "--cert", &certificate, "--key", &key],
            &["--tls", version.number],
            options,
        ];
        Program::talking("python3", all.concat())
    }
}

fn path(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

/// A server of the loop that echoes.
#[track_caller]
fn echo(event_loop: &EventLoop, config: ServerConfig) -> (Served, String) {
    let options = ListenOptions::new("127.0.0.1:0").tls(Arc::new(config));
    let served = Served::echo(event_loop.handle(), options);
    let address = served.address().to_string();
    (served, address)
}

/// Connects to another program, which is to be `localhost`.
#[track_caller]
fn connect(
    event_loop: &mut EventLoop,
    address: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(Log, Transport)> {
    let log = Log::new();
    let options = ConnectOptions::new(address).tls_as(config.clone(), "localhost");
    let handle = event_loop.handle().clone();
    let connecting = handle.create_connection(options, Recorder::new(&log));
    Ok((
        log,
        event_loop.run_until(connecting.within(support::BOUND))?,
    ))
}

/// A line goes from the program to us and back.
#[track_caller]
fn assert_echoes(event_loop: &mut EventLoop, program: &mut Program, line: &str) {
    program.tell(line);
    program.expect(event_loop, line);
}

/// Our line comes back from a program that reverses it.
#[track_caller]
fn assert_reverses(event_loop: &mut EventLoop, log: &Log, transport: &Transport) {
    let before = log.data_len();
    transport.write(b"stressed\n").unwrap();
    drive(event_loop, "the reversed line", || {
        log.data_len() >= before + 9
    });
    assert_eq!(&log.data()[before..], b"desserts\n");
}

#[track_caller]
fn lost(event_loop: &mut EventLoop, log: &Log) -> tidegate::Closed {
    drive(event_loop, "connection_lost", || log.is_lost());
    log.closed()
}
