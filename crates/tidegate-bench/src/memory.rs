//! The resident memory that connections cost a server, seen from outside.

use crate::server_process::ServerProcess;
use crate::usage;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes for each idle connection of an echo server that was just started: the growth of its
/// memory without files behind it, from `few` connections to `many`. Each connection has echoed a
/// byte, so the server knows it.
///
/// # Errors
///
/// Those of connecting, and of an echo that does not come.
pub fn idle(server: &ServerProcess, few: usize, many: usize) -> io::Result<f64> {
    let mut connections = Vec::new();
    let mut up_to = |count: usize| -> io::Result<u64> {
        while connections.len() < count {
            connections.push(used_once(server.address())?);
        }
        server.settle();
        usage::anonymous(server.pid())
    };
    let before = up_to(few)?;
    let after = up_to(many)?;
    Ok((after as f64 - before as f64) / (many - few) as f64)
}

fn used_once(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b".")?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

/// Returns the peak growth of an echo server while a peer sends and never reads, and the number of
/// bytes that it took from that peer. The peer gives up when nothing has been taken for half a second,
/// or `most` bytes were.
///
/// # Errors
///
/// Those of connecting, and of reading `/proc`.
pub fn unread(server: &ServerProcess, most: usize) -> io::Result<(u64, u64)> {
    // The first connection brings in what all need.
    let first = used_once(server.address())?;
    let before = usage::resident(server.pid())?;
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_nonblocking(true)?;
    let (mut taken, mut peak) = (0, before);
    let (started, mut progress) = (Instant::now(), Instant::now());
    while progress.elapsed() < Duration::from_millis(500)
        && started.elapsed() < PATIENCE
        && taken < most
    {
        match stream.write(&[b'.'; 65_536]) {
            Ok(len) => {
                taken += len;
                progress = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2));
            }
            // A server may also cut such a peer off.
            Err(_) => break,
        }
        peak = peak.max(usage::resident(server.pid())?);
    }
    drop(first);
    Ok((peak - before, taken as u64))
}
