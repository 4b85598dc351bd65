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
}

impl Peer {
    fn new<const N: usize>(name: &str, words: [&str; N]) -> Self {
        Self {
            name: name.to_owned(),
            words: words.map(str::to_owned).to_vec(),
            told_port: false,
            only: None,
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
        let script = format!("exec {command}");
        Ok(Self {
            told_port: command.contains("{port}"),
            ..Self::new(name, ["sh", "-c", &script])
        })
    }

    /// The same server under another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// Whether it is to be measured in a mode.
    pub fn serves(&self, mode: &str) -> bool {
        self.only.is_none_or(|only| only == mode)
    }

    /// Its name in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is run for a mode.
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
        // What it complains about a mode that it does not know is said once, as the reason.
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

/// The directory with the release builds of the programs of this crate, after building them
/// there. It is beside the directory of the running program.
///
/// # Errors
///
/// When cargo fails.
pub fn build_programs() -> io::Result<PathBuf> {
    let here = env::current_exe()?;
    let target = here.parent().and_then(Path::parent);
    let target = target.ok_or_else(|| io::Error::other("no target directory"))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building the servers");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "-p", "tidegate-bench"])
        .args(["--bins", "--target-dir"])
        .arg(target)
        .current_dir(workspace())
        .status()?;
    if !status.success() {
        return Err(io::Error::other("cargo build failed"));
    }
    Ok(target.join("release"))
}

/// Another name of `epoll`: what differs between the two is noise.
pub const TWIN: &str = "epoll-again";

/// Names of ours: protocols that are given their bytes, those with a buffer of their own, streams.
pub const OURS: [&str; 3] = ["tidegate", "tidegate-buffered", "tidegate-streams"];

/// Ours, and those in Rust that every checkout can build.
pub fn rust_peers(programs: &Path) -> Vec<Peer> {
    let program = |name: &str| programs.join(name).to_string_lossy().into_owned();
    let ours = program("serve");
    let tokio = program("serve_tokio");
    let apis = ["protocol", "buffered", "streams"];
    let mut peers: Vec<Peer> = (OURS.iter().zip(apis))
        .map(|(name, api)| Peer::new(name, [&ours, "{mode}", "--api", api, "--listen", ANY]))
        .collect();
    let words = [&ours, "{mode}", "--write", "owned", "--listen", ANY];
    peers.push(Peer {
        only: Some("source"),
        ..Peer::new("tidegate-owned", words)
    });
    let mio = program("serve_mio");
    peers.push(Peer::new("mio", [&mio, "{mode}", "--listen", ANY]));
    for buffers in ["task", "shared"] {
        let name = format!("tokio-{buffers}");
        let words = [&tokio, "{mode}", "--buffers", buffers, "--listen", ANY];
        peers.push(Peer::new(&name, words));
    }
    // The way to write it when one knows that a write of a line is a system call.
    let words = [&tokio, "{mode}", "--lines", "buffered", "--listen", ANY];
    peers.push(Peer {
        only: Some("lines"),
        ..Peer::new("tokio-buffered", words)
    });
    peers
}

const ANY: &str = "127.0.0.1:0";

/// All that can be built or found on this machine. With `quick` only the raw loops beside ours.
pub fn find(programs: &Path, quick: bool) -> Peers {
    let mut peers = Peers::default();
    peers.add("epoll", || build_c(programs, "epoll", &[]));
    if let Some(epoll) = peers.found.first() {
        let twin = epoll.named(TWIN);
        peers.found.push(twin);
    }
    peers.found.extend(rust_peers(programs));
    if quick {
        peers
            .found
            .retain(|peer| !peer.name().starts_with("tokio-"));
        return peers;
    }
    peers.add("libuv", || {
        let flags = run("pkg-config", &["--cflags", "--libs", "libuv"])?;
        build_c(
            programs,
            "libuv",
            &flags.split_whitespace().collect::<Vec<_>>(),
        )
    });
    let script = workspace().join("crates/tidegate-bench/peers/asyncio_server.py");
    let script = script.to_string_lossy();
    for api in ["protocol", "streams"] {
        peers.add(&format!("asyncio-{api}"), || {
            let python = run("python3", &["-c", "import sys; print(sys.executable)"])?;
            Ok(asyncio(&python, &script, api))
        });
    }
    match uvloop(programs) {
        Ok(python) => {
            for api in ["protocol", "streams"] {
                let mut peer = asyncio(&python, &script, api).named(&format!("uvloop-{api}"));
                peer.words.push("--uvloop".to_owned());
                peers.found.push(peer);
            }
        }
        Err(why) => peers.left_out.push(("uvloop".to_owned(), why)),
    }
    peers
}

impl Peers {
    fn add(&mut self, name: &str, find: impl FnOnce() -> Result<Peer, String>) {
        match find() {
            Ok(peer) => self.found.push(peer.named(name)),
            Err(why) => self.left_out.push((name.to_owned(), why)),
        }
    }
}

fn asyncio(python: &str, script: &str, api: &str) -> Peer {
    Peer::new(
        "asyncio",
        [python, script, "{mode}", "{port}", "--api", api],
    )
}

/// The place for what is built here.
fn built(programs: &Path) -> Result<PathBuf, String> {
    let place = programs.join("bench-peers");
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    Ok(place)
}

/// Compiles a server of `peers/`.
fn build_c(programs: &Path, name: &str, flags: &[&str]) -> Result<Peer, String> {
    let source = workspace().join(format!("crates/tidegate-bench/peers/{name}.c"));
    let program = built(programs)?.join(name).to_string_lossy().into_owned();
    let mut arguments = vec!["-O2", "-o", &program];
    let source = source.to_string_lossy();
    arguments.push(&source);
    arguments.extend(flags);
    run("cc", &arguments)?;
    Ok(Peer::new(name, [&program, "{mode}", "{port}"]))
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
