//! The servers to compare: where they are, how they are built, how one is started.

use crate::server_process::{Listening, ServerProcess, free_port, tied_to_us};
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    /// Whether its services are over TLS.
    tls: bool,
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
            tls: false,
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

    /// Whether it is to be measured in a mode, over TLS or not.
    pub fn serves(&self, mode: &str, tls: bool) -> bool {
        self.tls == tls && self.only.is_none_or(|only| only == mode)
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

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // It is crates/tidegate-bench.
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder of the servers in other languages.
fn folder() -> PathBuf {
    workspace().join("crates/tidegate-bench/peers")
}

/// The directory with the release builds of the programs of this crate, after building them
/// there. It is beside the directory of the running program.
///
/// # Errors
///
/// When cargo fails.
pub fn build_programs() -> io::Result<PathBuf> {
    build(&["-p", "tidegate-bench", "--bins"])
}

/// As [`build_programs`], after building one of them.
///
/// # Errors
///
/// When cargo fails.
pub fn build_program(name: &str) -> io::Result<PathBuf> {
    build(&["-p", "tidegate-bench", "--bin", name])
}

/// Returns the release build of an example, after building it.
///
/// # Errors
///
/// When cargo fails.
pub fn build_example(name: &str) -> io::Result<PathBuf> {
    let programs = build(&["-p", "tidegate-examples", "--example", name])?;
    Ok(programs.join("examples").join(name))
}

fn build(chosen: &[&str]) -> io::Result<PathBuf> {
    let here = env::current_exe()?;
    let target = here.parent().and_then(Path::parent);
    let target = target.ok_or_else(|| io::Error::other("no target directory"))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building the servers");
    let mut build = Command::new(cargo);
    // `cargo run` sets these for its program. The build script of a dependency looks at them, so with
    // them everything would be built anew, and once more by the next cargo that has none.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    let status = build
        .args(["build", "--quiet", "--release"])
        .args(chosen)
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .status()?;
    if !status.success() {
        return Err(io::Error::other("cargo build failed"));
    }
    Ok(target.join("release"))
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
    let peer = |(name, command, only): InRust, tls| Peer {
        only,
        tls,
        ..Peer::new(name, &format!("{{program}}/{command}"), &programs)
    };
    let plain = IN_RUST.map(|server| peer(server, false));
    let over_tls = IN_RUST_OVER_TLS.map(|server| peer(server, true));
    plain.into_iter().chain(over_tls).collect()
}

/// Finds all peers that can be built on this machine. With `quick` only the raw loops beside ours,
/// and tokio-rustls.
pub fn find(programs: &Path, quick: bool) -> Peers {
    let mut peers = Peers::default();
    let in_c = "{program} {mode} {port}";
    let epoll = build_c(programs, "epoll", "");
    peers.add(epoll, in_c, &[(EPOLL, ""), (&twin_of(EPOLL), "")]);
    let openssl = run("pkg-config", &["--cflags", "--libs", "openssl"])
        .and_then(|flags| build_c(programs, "epoll_openssl", &flags));
    let with_key = "{program} {mode} {port} {peers}/tls/certificate.pem {peers}/tls/key.pem";
    let names = [
        (OPENSSL, ""),
        (&twin_of(OPENSSL), ""),
        ("epoll-openssl-usual", " --usual"),
    ];
    peers.add(openssl, with_key, &names);
    for peer in &mut peers.found {
        peer.tls = peer.name.starts_with(OPENSSL);
    }
    peers.found.extend(rust_peers(programs));
    if quick {
        peers
            .found
            .retain(|peer| peer.tls || !peer.name.starts_with("tokio-"));
        return peers;
    }
    let libuv = run("pkg-config", &["--cflags", "--libs", "libuv"])
        .and_then(|flags| build_c(programs, "libuv", &flags));
    peers.add(libuv, in_c, &[("libuv", "")]);
    let python = run("python3", &["-c", "import sys; print(sys.executable)"]);
    let script = "{program} {peers}/asyncio_server.py {mode} {port}";
    let apis = [
        ("asyncio-protocol", " --api protocol"),
        ("asyncio-streams", " --api streams"),
    ];
    peers.add(python, script, &apis);
    let apis = [
        ("uvloop-protocol", " --api protocol --uvloop"),
        ("uvloop-streams", " --api streams --uvloop"),
    ];
    peers.add(uvloop(programs), script, &apis);
    peers
}

impl Peers {
    /// Adds a program under several names, each with options, or the reason why there is none.
    fn add(&mut self, program: Result<String, String>, command: &str, names: &[(&str, &str)]) {
        for (name, options) in names {
            match &program {
                Ok(program) => {
                    let command = format!("{command}{options}");
                    self.found.push(Peer::new(name, &command, program));
                }
                Err(why) => self.left_out.push(((*name).to_owned(), why.clone())),
            }
        }
    }
}

/// The place for what is built here.
fn built(programs: &Path) -> Result<PathBuf, String> {
    let place = programs.join("bench-peers");
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    Ok(place)
}

/// Compiles a server of `peers/`, and returns its path.
fn build_c(programs: &Path, name: &str, flags: &str) -> Result<String, String> {
    let source = folder().join(format!("{name}.c"));
    let program = built(programs)?.join(name).to_string_lossy().into_owned();
    let source = source.to_string_lossy();
    let mut arguments = vec!["-O2", "-o", &program, &source];
    arguments.extend(flags.split_whitespace());
    run("cc", &arguments)?;
    Ok(program)
}

/// Returns the words of a tool under which a server can be told to [trim](ServerProcess::trim) its
/// memory.
///
/// # Errors
///
/// When it cannot be built.
pub fn trimmer(programs: &Path) -> Result<[String; 2], String> {
    let library = build_c(programs, "trim", "-shared -fPIC")?;
    Ok(["env".to_owned(), format!("LD_PRELOAD={library}")])
}

/// Returns the Python of an environment with uvloop, which is made when there is none yet.
fn uvloop(programs: &Path) -> Result<String, String> {
    let venv = built(programs)?.join("venv");
    let python = venv.join("bin/python").to_string_lossy().into_owned();
    let has_it = || run(&python, &["-c", "import uvloop"]);
    if has_it().is_err() {
        run("python3", &["-m", "venv", &venv.to_string_lossy()])?;
        let install = ["-m", "pip", "install", "--quiet", "--timeout", "15"];
        let what = ["--disable-pip-version-check", "uvloop"];
        run(&python, &[&install[..], &what].concat())?;
        has_it()?;
    }
    Ok(python)
}

/// Runs a program and returns its output, trimmed.
///
/// # Errors
///
/// That it is not there, or the last line of what it complained about.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let name = Path::new(program).file_name();
    let name = name.unwrap_or_default().to_string_lossy();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().rev().find(|line| !line.trim().is_empty());
        return Err(format!("{name}: {}", last.unwrap_or("failed")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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

    #[test]
    fn a_program_that_is_missing_or_fails_says_so_in_one_line() {
        assert_eq!(run("echo", &["a", "b"]), Ok("a b".to_owned()));
        assert!(run("no-such-program", &[]).is_err());
        let complaint = run("sh", &["-c", "echo first >&2; echo last >&2; exit 1"]);
        assert_eq!(complaint, Err("sh: last".to_owned()));
    }
}
