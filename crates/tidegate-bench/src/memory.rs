//! The resident memory that connections cost a server, seen from outside.

use crate::carrier::Carrier;
use crate::server_process::ServerProcess;
use crate::service::{MEGABYTE, SOURCE_PERIOD};
use crate::tls::{self, Handshake};
use crate::usage;
use rustls::{ClientConfig, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a server, over TLS or not.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// The way to a server.
struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    fn new(server: &ServerProcess, carrier: Carrier) -> Self {
        Self {
            address: server.address(),
            tls: (carrier == Carrier::Tls).then(|| tls::client_config(Handshake::Full)),
        }
    }

    /// Returns a connection that is known to the server, since it has echoed a byte.
    fn used_once(&self) -> io::Result<Box<dyn Stream>> {
        let mut stream = self.over(TcpStream::connect(self.address)?)?;
        stream.write_all(b".")?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    }

    /// Returns the connection on a socket, after the handshake.
    fn over(&self, mut socket: TcpStream) -> io::Result<Box<dyn Stream>> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let mut session = tls::session(config);
        session.complete_io(&mut socket)?;
        Ok(Box::new(StreamOwned::new(session, socket)))
    }
}

/// Returns the memory of a server, without files behind it, once it has not run for a while: it has
/// done what it was asked to.
fn settled(server: &ServerProcess) -> io::Result<f64> {
    let end = Instant::now() + PATIENCE;
    let mut before = None;
    loop {
        let used = usage::cpu_time(server.pid())?;
        if before == Some(used) || Instant::now() > end {
            return Ok(usage::anonymous(server.pid())? as f64);
        }
        before = Some(used);
        thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the bytes for each idle connection of an echo server that was just started: the growth
/// of its memory without files behind it, from `few` connections to `many`. Each connection has
/// echoed a byte, so the server knows it.
///
/// # Errors
///
/// Those of connecting, and of an echo that does not come.
pub fn idle(server: &ServerProcess, carrier: Carrier, few: usize, many: usize) -> io::Result<f64> {
    let target = Target::new(server, carrier);
    let mut connections = Vec::new();
    let mut up_to = |count: usize| -> io::Result<f64> {
        while connections.len() < count {
            connections.push(target.used_once()?);
        }
        settled(server)
    };
    let before = up_to(few)?;
    let after = up_to(many)?;
    Ok((after - before) / (many - few) as f64)
}

/// Returns the growth of an echo server in a burst of connections, and how much of it is left after
/// their end, in bytes. The server was started under [`trimmer`](crate::peers::trimmer). Connections
/// before the burst have brought in what all need.
///
/// # Errors
///
/// As [`idle`].
pub fn burst(
    server: &ServerProcess,
    carrier: Carrier,
    connections: usize,
) -> io::Result<(f64, f64)> {
    let target = Target::new(server, carrier);
    let peak_of = |connections: usize| -> io::Result<f64> {
        let open = (0..connections).map(|_| target.used_once());
        let open = open.collect::<io::Result<Vec<_>>>()?;
        let memory = settled(server);
        drop(open);
        memory
    };
    let trimmed = || {
        settled(server)?;
        server.trim();
        settled(server)
    };
    peak_of(10)?;
    let before = trimmed()?;
    let peak = peak_of(connections)?;
    let after = trimmed()?;
    Ok((peak - before, after - before))
}

/// The cost of peers that do not read, for a server that owes each of them a megabyte.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Owed {
    /// Bytes by which its memory has grown for each peer.
    pub growth: f64,
    /// Bytes of the megabyte that wait in the server, before they are encrypted: those that are not
    /// in a whole record in the kernel.
    pub waiting: f64,
}

/// Measures a server of the service `megabyte`. It is stopped then, and killed by its end.
///
/// # Errors
///
/// Those of connecting, and a byte that is wrong.
pub fn owed(server: &ServerProcess, carrier: Carrier, peers: usize) -> io::Result<Owed> {
    let target = Target::new(server, carrier);
    let mut peers = (0..peers)
        .map(|_| SlowPeer::connect(&target))
        .collect::<io::Result<Vec<_>>>()?;
    let before = settled(server)?;
    for peer in &mut peers {
        peer.stream.write_all(b".")?;
    }
    let after = settled(server)?;
    // From now on nothing leaves the server: what still arrives was in the kernel.
    server.pause();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        for peer in &mut peers {
            if peer.read()? {
                last = Instant::now();
            }
        }
    }
    let count = peers.len() as f64;
    let received: usize = peers.iter().map(|peer| peer.received).sum();
    Ok(Owed {
        growth: (after - before) / count,
        waiting: MEGABYTE as f64 - received as f64 / count,
    })
}

/// Takes little into its kernel while it does not read.
struct SlowPeer {
    stream: Box<dyn Stream>,
    received: usize,
}

impl SlowPeer {
    fn connect(target: &Target) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, None)?;
        // Without these the kernel takes megabytes between two programs of one machine: its buffer
        // for a connection follows the size of a segment, which is 64 KiB there and this elsewhere.
        socket.set_tcp_mss(1460)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&target.address.into())?;
        let socket = TcpStream::from(socket);
        let handle = socket.try_clone()?;
        let stream = target.over(socket)?;
        handle.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: 0,
        })
    }

    /// Reads once, and returns whether something was there.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let len = match self.stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            read => read?,
        };
        let place = |index| ((self.received + index) % SOURCE_PERIOD) as u8;
        if (0..len).any(|index| buffer[index] != place(index)) {
            return Err(io::Error::other("a byte is wrong"));
        }
        self.received += len;
        Ok(len > 0)
    }
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
    let first = Target::new(server, Carrier::Tcp).used_once()?;
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
