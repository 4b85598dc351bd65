//! The servers to compare: where they are, how they are built, how one is started.

mod build;

use crate::carrier::Carrier;
use crate::server_process::{Listening, ServerProcess, free_port, tied_to_us};
use build::{build_c, folder, uvloop};
use std::io;
use std::path::Path;
use std::process::Stdio;

pub use build::{build_example, build_program, build_programs, run, trimmer, workspace};

/// A server that can be started in each mode.
#[derive(Debug, Clone)]
pub struct Peer {
    name: String,
    /// Words in which `{mode}` and `{port}` are replaced.
    words: Vec<String>,
    /// Whether it is told a port, and may say nothing; the others say where they listen.
    told_port: bool,
    /// The only mode in which it differs from another peer.
    only: Option<&'static str>,
    /// The carrier of its services.
    carrier: Carrier,
}

impl Peer {
    /// Returns a peer. In its command `{program}` and `{peers}`, the folder of the other languages'
    /// servers, are replaced here.
    fn new(name: &str, command: &str, program: &str) -> Self {
        let peers = folder().to_string_lossy().into_owned();
        let fill = |word: &str| {
            word.replace("{program}", program)
                .replace("{peers}", &peers)
        };
        Self {
            name: name.to_owned(),
            words: command.split(' ').map(fill).collect(),
            told_port: false,
            only: None,
            carrier: Carrier::Tcp,
        }
    }

    /// One that the user brings, as `NAME=CMD`. With `{port}` in it the command is told where to
    /// listen; without, it has to print `listening on IP:PORT`.
    ///
    /// # Errors
    ///
    /// When the name or the command is missing.
    pub fn extra(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=');
        let (name, command) = parts
            .filter(|(name, command)| !name.is_empty() && !command.trim().is_empty())
            .ok_or_else(|| format!("NAME='CMD {{mode}} {{port}}' expected, not {text}"))?;
        // `exec`: the shell is replaced, so that its process is the server's.
        Ok(Self {
            told_port: command.contains("{port}"),
            ..Self::new(name, "sh -c {program}", &format!("exec {command}"))
        })
    }

    /// Whether it is to be measured in a mode over a carrier.
    pub fn serves(&self, mode: &str, carrier: Carrier) -> bool {
        self.carrier == carrier && self.only.is_none_or(|only| only == mode)
    }

    /// Its name in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the words of the command for a mode.
    pub fn words(&self, mode: &str, port: u16) -> Vec<String> {
        let port = port.to_string();
        let fill = |word: &String| word.replace("{mode}", mode).replace("{port}", &port);
        self.words.iter().map(fill).collect()
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When it does not start, or does not know the mode.
    pub fn start(&self, mode: &str) -> io::Result<ServerProcess> {
        self.start_under(&[], mode)
    }

    /// Starts it as an argument of a tool, which is given as its words.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_under(&self, tool: &[&str], mode: &str) -> io::Result<ServerProcess> {
        let listening = if self.told_port {
            Listening::At(free_port()?)
        } else {
            Listening::Says
        };
        let port = match listening {
            Listening::At(address) => address.port(),
            Listening::Says => 0,
        };
        let tool = tool.iter().copied().map(str::to_owned);
        let words: Vec<String> = tool.chain(self.words(mode, port)).collect();
        let mut command = tied_to_us(&words[0]);
        // The error of `start` says once that a mode is unknown.
        command.args(&words[1..]).stderr(Stdio::null());
        ServerProcess::start(command, listening)
    }
}

/// The servers to compare.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Peers {
    /// Those that can be started.
    pub found: Vec<Peer>,
    /// Names of the others, and why they are left out.
    pub left_out: Vec<(String, String)>,
}

/// Returns the second name of a server that is measured twice: a difference between the two is
/// noise.
pub fn twin_of(name: &str) -> String {
    format!("{name}{AGAIN}")
}

/// Whether a name is a second one.
pub fn is_twin(name: &str) -> bool {
    name.ends_with(AGAIN)
}

const AGAIN: &str = "-again";

/// Name of the loop in C.
pub const EPOLL: &str = "epoll";

/// Name of ours over TLS.
pub const OUR_TLS: &str = "tidegate-tls";

/// Names of those over TLS that ours is compared with: the loop in C on OpenSSL, and tokio-rustls
/// as its documentation uses it.
pub const OPENSSL: &str = "epoll-openssl";
/// See [`OPENSSL`].
pub const TOKIO_RUSTLS: &str = "tokio-rustls";
/// Name of tokio-rustls with one buffer for all tasks.
pub const TOKIO_RUSTLS_SHARED: &str = "tokio-rustls-shared";

/// Name of ours over UDP.
pub const OUR_UDP: &str = "tidegate-udp";
/// Name of the loop in C over UDP.
pub const EPOLL_UDP: &str = "epoll-udp";
/// Name of raw mio over UDP.
pub const MIO_UDP: &str = "mio-udp";

/// Names of ours: protocols that are given their bytes, those with a buffer of their own, streams.
pub const OURS: [&str; 3] = ["tidegate", "tidegate-buffered", "tidegate-streams"];

/// A server in Rust: its name, its command, and if it differs from another one in a single mode,
/// that mode.
type InRust = (&'static str, &'static str, Option<&'static str>);

/// The servers in Rust, which every checkout can build.
const IN_RUST: [InRust; 8] = [
    (OURS[0], "serve {mode} --api protocol", None),
    (OURS[1], "serve {mode} --api buffered", None),
    (OURS[2], "serve {mode} --api streams", None),
    (
        "tidegate-owned",
        "serve {mode} --write owned",
        Some("source"),
    ),
    ("mio", "serve_mio {mode}", None),
    ("tokio-task", "serve_tokio {mode} --buffers task", None),
    ("tokio-shared", "serve_tokio {mode} --buffers shared", None),
    // The way to write it when one knows that a write of a line is a system call.
    (
        "tokio-buffered",
        "serve_tokio {mode} --lines buffered",
        Some("lines"),
    ),
];

/// Those over TLS.
const IN_RUST_OVER_TLS: [InRust; 6] = [
    (OUR_TLS, "serve {mode} --tls", None),
    (
        "tidegate-tls-owned",
        "serve {mode} --tls --write owned",
        Some("megabyte"),
    ),
    (
        "tidegate-tls-streams",
        "serve {mode} --tls --api streams",
        Some("echo"),
    ),
    (TOKIO_RUSTLS, "serve_tokio {mode} --tls", None),
    // As `twin_of` has it.
    (
        "tokio-rustls-again",
        "serve_tokio {mode} --tls",
        Some("echo"),
    ),
    (
        TOKIO_RUSTLS_SHARED,
        "serve_tokio {mode} --tls --buffers shared",
        Some("echo"),
    ),
];

/// Those over UDP.
const IN_RUST_OVER_UDP: [InRust; 4] = [
    (OUR_UDP, "serve {mode} --udp", None),
    (
        "tidegate-udp-coalesce",
        "serve {mode} --udp --coalesce",
        Some("sink"),
    ),
    (MIO_UDP, "serve_mio {mode} --udp", None),
    ("tokio-udp", "serve_tokio {mode} --udp", None),
];

/// Returns the first of [`OURS`] with a write timeout on every connection: its counts must be those
/// without. It serves echo and lines.
pub fn with_write_timeout(programs: &Path) -> Peer {
    let command = "{program}/serve {mode} --api protocol --write-timeout";
    Peer::new("tidegate-timed", command, &programs.to_string_lossy())
}

/// Returns the first of [`OURS`] with every limit of a server: the difference is one pending timer.
/// It is measured with an echo alone, where nothing stalls.
pub fn with_limits(programs: &Path) -> Peer {
    let command = "{program}/serve {mode} --api protocol --limits";
    Peer {
        only: Some("echo"),
        ..Peer::new("tidegate-limited", command, &programs.to_string_lossy())
    }
}

/// Returns our server on frames. It serves echo and lines.
pub fn framed(programs: &Path) -> Peer {
    let command = "{program}/serve {mode} --api framed";
    Peer::new("tidegate-framed", command, &programs.to_string_lossy())
}

/// Servers of HTTP, ours first, and under a second name once more.
const HTTP: [(&str, &str); 5] = [
    ("tidegate", "serve_http tidegate"),
    ("tidegate-again", "serve_http tidegate"),
    ("tokio-httparse", "serve_http tokio"),
    ("hyper", "serve_http hyper"),
    ("hyper-flush", "serve_http hyper --pipeline-flush"),
];

/// Returns the servers of HTTP, which have no modes.
pub fn http(programs: &Path) -> Vec<Peer> {
    let programs = programs.to_string_lossy();
    let peer = |(name, command)| Peer::new(name, &format!("{{program}}/{command}"), &programs);
    HTTP.map(peer).into()
}

/// Returns our servers of lines that read frames out of streams: lent ones, and each by itself.
pub fn framed_readers(programs: &Path) -> [Peer; 2] {
    ["ready", "next"].map(|way| Peer {
        only: Some("lines"),
        ..Peer::new(
            &format!("tidegate-framed-{way}"),
            &format!("{{program}}/serve {{mode}} --api framed-{way}"),
            &programs.to_string_lossy(),
        )
    })
}

/// Returns the peers in Rust, ours among them.
pub fn rust_peers(programs: &Path) -> Vec<Peer> {
    let programs = programs.to_string_lossy();
    let peer = |(name, command, only): InRust, carrier| Peer {
        only,
        carrier,
        ..Peer::new(name, &format!("{{program}}/{command}"), &programs)
    };
    let plain = IN_RUST.map(|server| peer(server, Carrier::Tcp));
    let over_tls = IN_RUST_OVER_TLS.map(|server| peer(server, Carrier::Tls));
    let over_udp = IN_RUST_OVER_UDP.map(|server| peer(server, Carrier::Udp));
    plain.into_iter().chain(over_tls).chain(over_udp).collect()
}

/// Finds all peers that can be built on this machine. With `quick` only the raw loops beside ours,
/// and tokio-rustls.
pub fn find(programs: &Path, quick: bool) -> Peers {
    let mut peers = Peers::default();
    let in_c = "{program} {mode} {port}";
    let epoll = build_c(programs, "epoll", "");
    let names = [(EPOLL, ""), (&twin_of(EPOLL), "")];
    peers.add(Carrier::Tcp, epoll, in_c, &names);
    let openssl = run("pkg-config", &["--cflags", "--libs", "openssl"])
        .and_then(|flags| build_c(programs, "epoll_openssl", &flags));
    let with_key = "{program} {mode} {port} {peers}/tls/certificate.pem {peers}/tls/key.pem";
    let names = [
        (OPENSSL, ""),
        (&twin_of(OPENSSL), ""),
        ("epoll-openssl-usual", " --usual"),
    ];
    peers.add(Carrier::Tls, openssl, with_key, &names);
    let epoll_udp = build_c(programs, "epoll_udp", "");
    let names = [(EPOLL_UDP, ""), (&twin_of(EPOLL_UDP), "")];
    peers.add(Carrier::Udp, epoll_udp, in_c, &names);
    peers.found.extend(rust_peers(programs));
    if quick {
        peers
            .found
            .retain(|peer| peer.carrier == Carrier::Tls || !peer.name.starts_with("tokio-"));
        return peers;
    }
    let libuv = run("pkg-config", &["--cflags", "--libs", "libuv"])
        .and_then(|flags| build_c(programs, "libuv", &flags));
    peers.add(Carrier::Tcp, libuv, in_c, &[("libuv", "")]);
    let python = run("python3", &["-c", "import sys; print(sys.executable)"]);
    let script = "{program} {peers}/asyncio_server.py {mode} {port} --api";
    let apis = [
        ("asyncio-protocol", " protocol"),
        ("asyncio-streams", " streams"),
    ];
    peers.add(Carrier::Tcp, python.clone(), script, &apis);
    peers.add(
        Carrier::Udp,
        python,
        script,
        &[("asyncio-udp", " datagrams")],
    );
    let uvloop = uvloop(programs);
    let apis = [
        ("uvloop-protocol", " protocol --uvloop"),
        ("uvloop-streams", " streams --uvloop"),
    ];
    peers.add(Carrier::Tcp, uvloop.clone(), script, &apis);
    let api = [("uvloop-udp", " datagrams --uvloop")];
    peers.add(Carrier::Udp, uvloop, script, &api);
    peers
}

impl Peers {
    /// Adds a program under several names, each with options, or the reason why there is none.
    fn add(
        &mut self,
        carrier: Carrier,
        program: Result<String, String>,
        command: &str,
        names: &[(&str, &str)],
    ) {
        for (name, options) in names {
            match &program {
                Ok(program) => {
                    let command = format!("{command}{options}");
                    self.found.push(Peer {
                        carrier,
                        ..Peer::new(name, &command, program)
                    });
                }
                Err(why) => self.left_out.push(((*name).to_owned(), why.clone())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_server_is_told_its_mode_and_port() {
        let peer = Peer::extra("go=./server -mode {mode} -at :{port}").unwrap();
        assert_eq!(peer.name(), "go");
        assert_eq!(
            peer.words("echo", 7).last().map(String::as_str),
            Some("exec ./server -mode echo -at :7")
        );
        assert!(peer.told_port);
        assert!(!Peer::extra("go=./server").unwrap().told_port);
        for wrong in ["go", "=cmd", "go= "] {
            assert!(Peer::extra(wrong).is_err(), "{wrong}");
        }
    }
}
