//! A server under test: started, asked where it listens, stopped and continued, killed at the end.

use crate::usage;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it listens. Under valgrind it takes seconds.
const START: Duration = Duration::from_secs(30);

/// How a server says where it is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Listening {
    /// By a line `listening on IP:PORT`.
    Says,
    /// It was told a port, and may say nothing: it is there when it takes connections.
    At(SocketAddr),
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// The server itself: the child, or the child's child where a tool runs the server.
    pid: u32,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not listen in time.
    pub fn start(mut command: Command, listening: Listening) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let address = match listening {
            Listening::Says => first_line(&mut child),
            Listening::At(address) => until_it_accepts(&mut child, address).map(|()| address),
        };
        let pid = child.id();
        match address {
            Ok(address) => Ok(Self {
                child,
                pid,
                address,
            }),
            Err(error) => {
                // The reason to tell is why it did not start.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The server is the only child of what was started, as with strace.
    ///
    /// # Errors
    ///
    /// When there is no child.
    pub fn is_child_of_tool(mut self) -> io::Result<Self> {
        let tool = self.child.id();
        let path = format!("/proc/{tool}/task/{tool}/children");
        let children = fs::read_to_string(path)?;
        let first = children.split_whitespace().next();
        self.pid = first
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| io::Error::other("the tool runs no server"))?;
        Ok(self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// Those of asking.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Stops it, so that it takes no processor time from others.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Undoes [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Has its allocator give back the memory that is free, if it was started under
    /// [`trimmer`](crate::peers::trimmer).
    pub fn trim(&self) {
        self.signal(Signal::USR1);
    }

    /// Lets the server run while another program puts load on it. Returns what `load` does, and the processor
    /// time that the server has taken until it is at rest.
    ///
    /// # Errors
    ///
    /// When its processor time cannot be read.
    pub fn run_for<R>(&self, load: impl FnOnce() -> R) -> io::Result<(R, Duration)> {
        self.resume();
        let before = usage::cpu_time(self.pid)?;
        let result = load();
        self.settle();
        let used = usage::cpu_time(self.pid)?.saturating_sub(before);
        self.pause();
        Ok((result, used))
    }

    /// Waits until it uses no more processor time, for instance because it has seen the end of
    /// all connections; a second at the most.
    pub fn settle(&self) {
        let end = Instant::now() + Duration::from_secs(1);
        let mut before = usage::cpu_time(self.pid).ok();
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(4));
            let now = usage::cpu_time(self.pid).ok();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Asks it to end with SIGTERM, and waits: a tool that runs it writes its report then.
    ///
    /// # Errors
    ///
    /// When it has not ended after a while.
    pub fn terminate(mut self) -> io::Result<()> {
        self.signal(Signal::TERM);
        let end = Instant::now() + START;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err(io::Error::other("it does not end on SIGTERM"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended needs no signal; that shows elsewhere.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command whose process is killed when this one ends, however it ends: a stopped server would
/// otherwise stay for ever after Ctrl-C. (`setpriv` is of util-linux.)
pub fn tied_to_us(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let setpriv = Command::new("setpriv").arg("--version").output();
    if setpriv.is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

/// A port that was free a moment ago.
///
/// # Errors
///
/// Those of binding.
pub fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn first_line(child: &mut Child) -> io::Result<SocketAddr> {
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // Only the first one is waited for; the others are read so that it never blocks.
        let _ = sender.send(lines.next());
        lines.for_each(drop);
    });
    let line = receiver
        .recv_timeout(START)
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it said nothing in time"))?
        .ok_or_else(|| io::Error::other("it ended at once"))?;
    let address = line.strip_prefix("listening on ");
    address
        .and_then(|address| address.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("it said: {line}")))
}

fn until_it_accepts(child: &mut Child, address: SocketAddr) -> io::Result<()> {
    if let Some(mut stdout) = child.stdout.take() {
        thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
    }
    let end = Instant::now() + START;
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("it ended at once: {status}")));
        }
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = tied_to_us("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_server_is_where_it_says_until_it_is_dropped() {
        let command = shell("echo listening on 127.0.0.1:7; exec sleep 60");
        let mut server = ServerProcess::start(command, Listening::Says).unwrap();
        assert_eq!(server.address().to_string(), "127.0.0.1:7");
        server.pause();
        server.resume();
        assert_eq!(server.ended().unwrap(), None);
        let pid = server.pid();
        drop(server);
        assert!(usage::resident(pid).is_err());
    }

    #[test]
    fn a_server_that_ends_or_talks_nonsense_is_an_error() {
        for script in ["true", "echo good morning", "no-such-command 2>/dev/null"] {
            assert!(ServerProcess::start(shell(script), Listening::Says).is_err());
        }
        let address = free_port().unwrap();
        assert!(ServerProcess::start(shell("true"), Listening::At(address)).is_err());
    }
}
