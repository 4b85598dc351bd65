//! Clients that send a pattern and check every byte of its echo. Each blocks, in a thread of its
//! own: what can go wrong here is the server's side.

use super::{PATIENCE, Server};
use crate::pattern;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::RwLock;
use std::thread;
use std::time::Duration;
use tidegate::Address;

/// The number of bytes sent in one go: two buffers of the kernel's take it, whatever becomes of the echo.
const AT_ONCE: usize = 4096;

const SMALL: usize = 32 * 1024;

/// A write that takes this long has met a server that does not read.
const STUCK: Duration = Duration::from_millis(50);

/// A connection to an echo server.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    /// Where its pattern begins, so that no two clients send the same.
    base: u64,
    sent: u64,
    received: u64,
    random: u64,
}

impl Client {
    /// Connects; the number makes its bytes and its sizes.
    pub fn connect(address: &Address, number: u64) -> io::Result<Self> {
        Self::connect_with(address, number, |_| Ok(()))
    }

    /// As `connect`, with room for little in the kernel, so that what is not read soon piles up
    /// at the server.
    pub fn connect_small(address: &Address, number: u64) -> io::Result<Self> {
        Self::connect_with(address, number, |socket| {
            socket.set_recv_buffer_size(SMALL)?;
            socket.set_send_buffer_size(SMALL)
        })
    }

    fn connect_with(
        address: &Address,
        number: u64,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (domain, addr) = match address {
            Address::Inet(addr) => (Domain::for_address(*addr), SockAddr::from(*addr)),
            Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
            _ => return Err(ErrorKind::AddrNotAvailable.into()),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        prepare(&socket)?;
        socket.connect(&addr)?;
        Ok(Self {
            socket,
            base: number << 40,
            sent: 0,
            received: 0,
            random: number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        })
    }

    /// The port of its own end, on TCP.
    pub fn port(&self) -> Option<u16> {
        let addr = self.socket.local_addr().ok()?.as_socket()?;
        Some(addr.port())
    }

    /// How many bytes have come back, all of them right.
    pub fn verified(&self) -> u64 {
        self.received
    }

    /// A size up to `most`, small ones as often as large ones.
    pub fn size(&mut self, most: usize) -> usize {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let bits = (self.random >> 32) % u64::from(most.ilog2() + 1);
        let size = (self.random as usize & 0xFFFF_FFFF) % (2 << bits);
        size.clamp(1, most)
    }

    /// Sends `len` bytes.
    pub fn send(&mut self, len: usize) -> io::Result<()> {
        let data = pattern(self.base + self.sent, len);
        self.sent += len as u64;
        self.socket.write_all(&data)
    }

    /// Reads and checks `len` bytes.
    pub fn receive(&mut self, len: usize) -> io::Result<()> {
        receive(&self.socket, self.base + self.received, len)?;
        self.received += len as u64;
        Ok(())
    }

    /// Sends `len` bytes, and reads and checks them.
    pub fn exchange(&mut self, len: usize) -> io::Result<()> {
        if len <= AT_ONCE {
            self.send(len)?;
            return self.receive(len);
        }
        let data = pattern(self.base + self.sent, len);
        self.receive_while_sending(&data, len)
    }

    /// Sends these bytes and reads `len`: with the echo unread, neither side would get on.
    fn receive_while_sending(&mut self, data: &[u8], len: usize) -> io::Result<()> {
        self.sent += data.len() as u64;
        let (sent, received) = thread::scope(|scope| {
            let sending = scope.spawn(|| (&self.socket).write_all(data));
            let received = receive(&self.socket, self.base + self.received, len);
            if received.is_err() {
                // Or the sender would wait for it.
                let _ = self.socket.shutdown(Shutdown::Both);
            }
            (sending.join().expect("does not panic"), received)
        });
        // A reset is told only once, and not always to the reader.
        match (sent, received) {
            (Err(error), Err(_)) if is_reset(&error) => Err(error),
            (sent, received) => received.and(sent),
        }?;
        self.received += len as u64;
        Ok(())
    }

    /// As `exchange`, but reads nothing before everything between here and the server, and back,
    /// is full, or all is sent.
    pub fn exchange_late(&mut self, len: usize) -> io::Result<()> {
        let data = pattern(self.base + self.sent, len);
        self.socket.set_write_timeout(Some(STUCK))?;
        let mut at_once = 0;
        while at_once < len {
            match self.socket.write(&data[at_once..]) {
                Ok(n) => at_once += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.socket.set_write_timeout(Some(PATIENCE))?;
        self.sent += at_once as u64;
        self.receive_while_sending(&data[at_once..], len)
    }

    /// Sends while the kernel takes it, without ever reading.
    pub fn flood(&mut self) -> io::Result<()> {
        self.socket.set_write_timeout(Some(STUCK))?;
        let data = vec![0; 256 * 1024];
        loop {
            match self.socket.write(&data) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads until reading fails.
    pub fn error(&mut self) -> io::Error {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Ends the own side; the server's must end then, with nothing more said.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        match self.socket.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("more than was sent came back")),
        }
    }

    /// Reads for this time, and gets nothing, not even an end.
    #[track_caller]
    pub fn assert_hears_nothing(&mut self, during: Duration) {
        self.socket.set_read_timeout(Some(during)).unwrap();
        let heard = self.socket.read(&mut [0]);
        assert_eq!(heard.map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

/// Of what was written and not read; see tcp_wmem in tcp(7).
fn more_than_the_kernel_keeps() -> usize {
    let sizes = fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    let most: usize = sizes.split_whitespace().last().unwrap().parse().unwrap();
    most + 2 * 1024 * 1024
}

fn is_reset(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == ErrorKind::ConnectionReset || kind == ErrorKind::ConnectionAborted
}

fn receive(mut socket: &Socket, from: u64, len: usize) -> io::Result<()> {
    let mut data = vec![0; len];
    socket.read_exact(&mut data)?;
    let expected = pattern(from, len);
    if let Some(at) = (0..len).find(|&at| data[at] != expected[at]) {
        let text = format!("a wrong byte came back, {at} of {len}");
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// The traffic of clients, all at the same time.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "tests build it")]
pub struct Traffic {
    /// How many there are.
    pub clients: u64,
    /// How many messages each sends.
    pub messages: u32,
    /// How large a message can be.
    pub most: usize,
    /// Whether one in eight begins with a message that piles up at the server before it is read.
    pub late: bool,
}

impl Traffic {
    /// Runs all of it; returns the result of each client. A third of them closes at once in the
    /// end, a third ends its own side first, a third is silent until the others are done.
    fn run(self, address: &Address) -> Vec<io::Result<u64>> {
        let others = RwLock::new(());
        thread::scope(|scope| {
            let at_work = others.write().expect("nobody has panicked");
            let clients: Vec<_> = (0..self.clients)
                .map(|number| {
                    let others = &others;
                    scope.spawn(move || self.one(address, number, others))
                })
                .collect();
            let (idle, busy): (Vec<_>, Vec<_>) = clients
                .into_iter()
                .enumerate()
                .partition(|(i, _)| i % 3 == 2);
            let mut results = Vec::new();
            let join = |(_, client): (_, thread::ScopedJoinHandle<'_, _>)| {
                client.join().expect("does not panic")
            };
            results.extend(busy.into_iter().map(join));
            drop(at_work);
            results.extend(idle.into_iter().map(join));
            results
        })
    }

    fn one(self, address: &Address, number: u64, others: &RwLock<()>) -> io::Result<u64> {
        let late = self.late && number % 8 == 3;
        let mut client = if late {
            Client::connect_small(address, number)?
        } else {
            Client::connect(address, number)?
        };
        for message in 0..self.messages {
            if message == self.messages / 2 && number % 3 == 2 {
                drop(others.read());
            }
            let len = client.size(self.most);
            if message == 0 && late {
                client.exchange_late(more_than_the_kernel_keeps())?;
            } else {
                client.exchange(len)?;
            }
        }
        if number % 3 == 1 {
            client.half_close()?;
        }
        Ok(client.verified())
    }

    /// Runs all of it; no client may lose a connection or a byte. Returns the number of
    /// bytes.
    #[track_caller]
    pub fn verify(self, server: &Server) -> u64 {
        let results = self.run(server.address());
        let failed: Vec<_> = results.iter().filter(|result| result.is_err()).collect();
        assert!(
            failed.is_empty(),
            "of {} clients: {failed:#?}",
            results.len()
        );
        results.into_iter().flatten().sum()
    }
}
