//! How the memory of a process grows that writes more than its peer takes.

use crate::writer::STYLES;
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tidegate_bench::server_process::tied_to_us;
use tidegate_bench::{peers, usage};

/// Bytes a second.
const TAKEN: f64 = 8.0 * 1_048_576.0;
const TICK: Duration = Duration::from_millis(10);
const START: Duration = Duration::from_secs(10);

/// Words of a command that is given an address.
pub(crate) type Words = Vec<OsString>;

/// All writers that this machine has, with their names; and those left out, with the reason. With
/// `quick` nothing is installed for them.
#[expect(clippy::type_complexity, reason = "two lists of pairs")]
pub(crate) fn writers(
    programs: &Path,
    quick: bool,
) -> io::Result<(Vec<(String, Words)>, Vec<(String, String)>)> {
    let here = env::current_exe()?.into_os_string();
    let names = [
        "tidegate, Flow ignored",
        "tidegate-streams, never drained",
        "tidegate-streams, drained",
    ];
    let mut found = Vec::new();
    for (name, (_, style)) in names.into_iter().zip(STYLES) {
        let words = vec![here.clone(), "--writer".into(), style.into()];
        found.push((name.to_owned(), words));
    }
    let mut left_out = Vec::new();
    let script = peers::workspace().join("crates/tidegate-bench/peers/flood.py");
    let script = script.into_os_string();
    let python = peers::run("python3", &["-c", "import sys; print(sys.executable)"]);
    let asyncio = python.map(|python| vec![python.into(), script.clone()]);
    let uvloop = if quick {
        Err("it would have to be installed".to_owned())
    } else {
        peers::uvloop(programs)
    };
    let uvloop = uvloop.map(|python| vec![python.into(), script, "--uvloop".into()]);
    let libuv = peers::run("pkg-config", &["--cflags", "--libs", "libuv"])
        .and_then(|flags| {
            let flags: Vec<&str> = flags.split_whitespace().collect();
            peers::compile(programs, "libuv_flood", &flags)
        })
        .map(|program| vec![program.into()]);
    for (name, words) in [
        ("asyncio, never drained", asyncio),
        ("uvloop, never drained", uvloop),
        ("libuv, queue ignored", libuv),
    ] {
        match words {
            Ok(words) => found.push((name.to_owned(), words)),
            Err(why) => left_out.push((name.to_owned(), why)),
        }
    }
    Ok((found, left_out))
}

/// Seconds, and bytes by which a process had grown.
pub(crate) struct Growth {
    pub(crate) name: String,
    pub(crate) samples: Vec<(f64, f64)>,
}

impl Growth {
    pub(crate) fn measure(name: &str, words: Words, seconds: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut command = tied_to_us(&words[0]);
        command.args(&words[1..]);
        command.arg(listener.local_addr()?.to_string());
        let mut child = Ended(Command::spawn(command.stdin(Stdio::null()))?);
        let mut stream = accept(&listener, &mut child.0)
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        stream.set_nonblocking(true)?;
        let pid = child.0.id();
        let start = Instant::now();
        let before = usage::resident(pid)?;
        let mut growth = Self {
            name: name.to_owned(),
            samples: Vec::new(),
        };
        let mut taken = 0;
        while start.elapsed() < seconds {
            let due = TAKEN * start.elapsed().as_secs_f64();
            taken += take(&mut stream, due as usize - taken)?;
            let grown = usage::resident(pid)?.saturating_sub(before);
            growth
                .samples
                .push((start.elapsed().as_secs_f64(), grown as f64));
            thread::sleep(TICK);
        }
        Ok(growth)
    }

    pub(crate) fn peak(&self) -> f64 {
        self.samples
            .iter()
            .map(|(_, bytes)| *bytes)
            .fold(0.0, f64::max)
    }
}

/// A child that does not outlive its measurement.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn accept(listener: &TcpListener, child: &mut Child) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(error) if start.elapsed() > START => return Err(error),
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("it has ended: {status}")));
        }
        thread::sleep(TICK);
    }
}

/// Reads so many bytes at the most.
fn take(stream: &mut TcpStream, most: usize) -> io::Result<usize> {
    let mut buffer = [0; 16 << 10];
    let mut taken = 0;
    while taken < most {
        let room = (most - taken).min(buffer.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Err(io::Error::other("the writer has ended")),
            Ok(len) => taken += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}
