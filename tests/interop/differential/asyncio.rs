//! The scripts on asyncio: one run of python3 for all of them.

use super::Script;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Far more than it needs: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(100);

/// A version of CPython: 3, its minor version and its patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) [u32; 3]);

impl Version {
    /// Of a text such as `3.11.4`, or the beginning of one such as `3.14.0rc1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().ok()
        };
        let mut parts = text.trim().splitn(3, '.').map(digits);
        Some(Self([parts.next()??, parts.next()??, parts.next()??]))
    }
}

/// The version of the interpreter, and the traces in the order of the scripts.
#[track_caller]
pub(crate) fn asyncio(scripts: &[Script]) -> (Version, Vec<Vec<String>>) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/asyncio_scripts.py");
    let mut command = Command::new("python3");
    command
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            panic!("python3 does not start: {error}; it is needed: apt-get install python3")
        }
    };
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let lines = scripts
        .iter()
        .map(|script| format!("{}\t{}\n", script.kind_word(), script.text));
    // It reads all of them before it begins.
    let sent = stdin.write_all(lines.collect::<String>().as_bytes());
    drop(stdin);
    let (answer, answered) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let result = stdout.read_to_string(&mut text);
        // Nobody listens after the limit.
        let _ = answer.send(result.map(|_| text));
    });
    let answer = answered.recv_timeout(LIMIT);
    if answer.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(
        status.success(),
        "{command:?}: {status}, {sent:?}, {answer:?}"
    );
    let text = answer.unwrap().unwrap();
    let mut lines = text.lines();
    let version = lines.next().and_then(Version::parse).unwrap();
    let split = |line: &str| line.split('\t').map(str::to_owned).collect();
    let traces: Vec<_> = lines.map(split).collect();
    assert_eq!(traces.len(), scripts.len(), "{text}");
    (version, traces)
}
