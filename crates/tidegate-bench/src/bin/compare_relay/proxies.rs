//! The proxies: their commands and their files of settings.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tidegate_bench::peers::run;
use tidegate_bench::server_process::{Listening, ServerProcess, free_port, tied_to_us};

/// A proxy that can be started before any back.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// `serve_relay` with these words.
    Ours(&'static str),
    /// HAProxy with these lines among its defaults.
    Haproxy(&'static str),
    Nginx,
}

/// The proxy that all others are compared with.
pub(crate) const REFERENCE: &str = "haproxy";

const PROXIES: [(&str, Kind); 8] = [
    (REFERENCE, Kind::Haproxy("")),
    ("haproxy-again", Kind::Haproxy("")),
    (
        "haproxy-splice",
        Kind::Haproxy("option splice-request\n    option splice-response"),
    ),
    ("nginx", Kind::Nginx),
    ("tokio", Kind::Ours("tokio")),
    ("tidegate-copy", Kind::Ours("tidegate --splice-from never")),
    ("tidegate", Kind::Ours("tidegate")),
    (
        "tidegate-splice-all",
        Kind::Ours("tidegate --splice-from 0"),
    ),
];

/// Returns the proxies that this machine has, and the others with the reason.
pub(crate) fn find() -> (Vec<Proxy>, Vec<String>) {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for (name, kind) in PROXIES {
        let proxy = Proxy { name, kind };
        match proxy.version() {
            Ok(()) => found.push(proxy),
            Err(why) => left_out.push(format!("{name}: {why}")),
        }
    }
    (found, left_out)
}

impl Proxy {
    fn version(&self) -> Result<(), String> {
        match self.kind {
            Kind::Ours(_) => Ok(()),
            Kind::Haproxy(_) => run("haproxy", &["-v"]).map(drop),
            Kind::Nginx => stream_module().map(drop),
        }
    }

    /// Starts it in front of a back. Its file of settings goes into `folder`.
    pub(crate) fn start(
        &self,
        programs: &Path,
        folder: &Path,
        back: SocketAddr,
    ) -> io::Result<ServerProcess> {
        let (command, listening) = match self.kind {
            Kind::Ours(words) => {
                let mut command = tied_to_us(programs.join("serve_relay"));
                let words = words.split(' ').map(str::to_owned);
                command.args(words.chain(["--to".to_owned(), back.to_string()]));
                (command, Listening::Says)
            }
            Kind::Haproxy(lines) => {
                let at = free_port()?;
                let file = self.settings(folder, at, &haproxy(lines, at, back))?;
                let mut command = tied_to_us("haproxy");
                command.arg("-db").arg("-f").arg(file);
                (command, Listening::At(at))
            }
            Kind::Nginx => {
                let at = free_port()?;
                let module = stream_module().map_err(io::Error::other)?;
                let file = self.settings(folder, at, &nginx(&module, folder, at, back))?;
                let mut command = tied_to_us("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(file);
                (command, Listening::At(at))
            }
        };
        ServerProcess::start(quiet(command), listening)
    }

    fn settings(&self, folder: &Path, at: SocketAddr, text: &str) -> io::Result<PathBuf> {
        let file = folder.join(format!("{}-{}.conf", self.name, at.port()));
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// Without the warnings of other programs. The error of `start` says that one has not started.
fn quiet(mut command: Command) -> Command {
    command.stderr(Stdio::null());
    command
}

/// Returns the line that loads nginx's module, or an empty one where it is built in.
fn stream_module() -> Result<String, String> {
    run("nginx", &["-v"])?;
    let folders = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"];
    let files = folders.map(|folder| Path::new(folder).join("ngx_stream_module.so"));
    let file = files.iter().find(|file| file.exists());
    file.map(|file| format!("load_module {};", file.display()))
        .ok_or_else(|| "nginx has no stream module".to_owned())
}

fn haproxy(lines: &str, at: SocketAddr, back: SocketAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 4096
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    {lines}
listen relay
    bind {at}
    server back {back}
"
    )
}

fn nginx(module: &str, folder: &Path, at: SocketAddr, back: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "{module}
daemon off;
master_process off;
pid {folder}/nginx-{port}.pid;
error_log /dev/null;
events {{ worker_connections 4096; }}
stream {{
    server {{
        listen {at};
        proxy_pass {back};
    }}
}}
",
        port = at.port()
    )
}
