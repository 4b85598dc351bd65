//! One connection floods, another is quiet: what came in for this one before a tick of the loop
//! began is delivered in that tick, and the flood gets its share of the tick and no more. Nothing
//! here depends on time: before each tick the kernel is asked what it has for either of them.
//!
//! `fairness` has the same with a peer that sends between the ticks, `quiet_latency` the
//! round-trip times.

use socket2::{Domain, SockRef, Socket, Type};
use std::cell::Cell;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, each_kind};
use tidegate::{EventLoop, Handle, Protocol, Result, Transport};

/// Maximum number of reads of one connection in a tick.
const READS: u64 = 16;
const READ_BUFFER: u64 = 128 * 1024;

/// The buffer of a protocol of whose flood the kernel always has more than a tick reads.
const SMALL: usize = 512;

const TICKS: usize = 300;

/// How the flooded protocol receives, and what it does with that.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flooded {
    /// Drops what it receives, into a small buffer of its own.
    SmallSink,
    /// Drops what it receives, up to a whole read buffer at once.
    Sink,
    /// Sends back what it receives.
    Echo,
}

/// Counts what it receives; may send it back.
struct Counting {
    echo: bool,
    buffer: Option<Vec<u8>>,
    seen: Rc<Seen>,
}

#[derive(Default)]
struct Seen {
    reads: Cell<u64>,
    bytes: Cell<u64>,
}

impl Counting {
    fn received(&self, transport: &Transport, data: &[u8]) -> Result {
        self.seen.reads.set(self.seen.reads.get() + 1);
        self.seen
            .bytes
            .set(self.seen.bytes.get() + data.len() as u64);
        if self.echo {
            transport.write(data)?;
        }
        Ok(())
    }
}

impl Protocol for Counting {
    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        self.buffer.as_deref_mut()
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let buffer = self.buffer.as_deref().unwrap_or_default();
        self.received(transport, &buffer[..len])
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.received(transport, data)
    }
}

/// A connection with both ends in the hands of the test.
struct Connection {
    /// Blocking.
    peer: Socket,
    /// The loop's end once more, to ask the kernel what is in it.
    ours: Socket,
    seen: Rc<Seen>,
}

impl Connection {
    fn new(handle: &Handle, kind: Kind, echo: bool, buffer: Option<Vec<u8>>) -> Self {
        let (ours, peer): (Socket, Socket) = match kind {
            Kind::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                // With a small window the kernel waits for it to be empty before it takes more.
                SockRef::from(&listener)
                    .set_recv_buffer_size(1 << 20)
                    .unwrap();
                let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                peer.set_nodelay(true).unwrap();
                (listener.accept().unwrap().0.into(), peer.into())
            }
            Kind::Unix => Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap(),
        };
        peer.set_read_timeout(Some(BOUND)).unwrap();
        let seen = Rc::<Seen>::default();
        let protocol = Counting {
            echo,
            buffer,
            seen: seen.clone(),
        };
        let fd = OwnedFd::from(ours.try_clone().unwrap());
        match kind {
            Kind::Tcp => handle.adopt(TcpStream::from(fd), protocol),
            Kind::Unix => handle.adopt(UnixStream::from(fd), protocol),
        }
        .unwrap();
        Self { peer, ours, seen }
    }

    /// Waits until the kernel has `len` bytes for the loop's end to read.
    #[track_caller]
    fn wait_for(&self, bytes: usize) {
        let begun = Instant::now();
        let mut room = vec![MaybeUninit::uninit(); bytes];
        // The loop has made the socket non-blocking, for this descriptor too.
        while self.ours.peek(&mut room).unwrap_or(0) < bytes {
            assert!(begun.elapsed() < BOUND, "no {bytes} bytes to read");
            thread::yield_now();
        }
    }
}

/// Writes, and takes what comes back, until the connection is shut down.
fn flood(peer: &Socket) -> Vec<thread::JoinHandle<()>> {
    let mut writing = peer.try_clone().unwrap();
    let mut reading = peer.try_clone().unwrap();
    reading.set_read_timeout(None).unwrap();
    vec![
        thread::spawn(move || {
            let block = vec![7; 256 * 1024];
            while writing.write_all(&block).is_ok() {}
        }),
        thread::spawn(move || {
            let mut room = vec![0; 256 * 1024];
            while reading.read(&mut room).is_ok_and(|n| n > 0) {}
        }),
    ]
}

fn run(kind: Kind, flooded: Flooded, quiet_first: bool) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let quiet = || Connection::new(&handle, kind, true, None);
    let noisy = || {
        let buffer = (flooded == Flooded::SmallSink).then(|| vec![0; SMALL]);
        Connection::new(&handle, kind, flooded == Flooded::Echo, buffer)
    };
    let (mut quiet, noisy) = if quiet_first {
        let quiet = quiet();
        (quiet, noisy())
    } else {
        let noisy = noisy();
        (quiet(), noisy)
    };
    let threads = flood(&noisy.peer);
    // The first tick makes the connections.
    event_loop.run_once(Some(Duration::ZERO)).unwrap();

    let (mut most, mut unannounced) = (0, 0);
    for tick in 0..TICKS {
        let context = format!("{kind:?} {flooded:?}, tick {tick}");
        let message = vec![tick as u8; 1 + tick % 50];
        quiet.peer.write_all(&message).unwrap();
        quiet.wait_for(message.len());
        // More than the small buffer takes in a tick.
        noisy.wait_for(READS as usize * SMALL + 1);

        let polls = handle.stats().polls;
        let (heard, reads, bytes) = (
            quiet.seen.bytes.get(),
            noisy.seen.reads.get(),
            noisy.seen.bytes.get(),
        );
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(handle.stats().polls, polls + 1);

        let heard = quiet.seen.bytes.get() - heard;
        assert_eq!(
            heard,
            message.len() as u64,
            "{context}: the quiet one was not served"
        );
        let reads = noisy.seen.reads.get() - reads;
        let bytes = noisy.seen.bytes.get() - bytes;
        if flooded == Flooded::SmallSink && reads == 0 {
            // The kernel has queued the flood's bytes, and its thread has not announced them yet.
            unannounced += 1;
        } else if flooded == Flooded::SmallSink {
            assert_eq!((reads, bytes), (READS, READS * SMALL as u64), "{context}");
        }
        assert!(
            reads <= READS && bytes <= READS * READ_BUFFER,
            "{context}: {reads} reads"
        );
        most = most.max(bytes);
        // The reply was sent in the same tick as well.
        let mut answer = vec![0; message.len()];
        quiet.peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message, "{context}");
    }
    let total = noisy.seen.bytes.get();
    println!(
        "{kind:?} {flooded:?}: {} KiB flooded in {TICKS} ticks, {} KiB at most in one",
        total / 1024,
        most / 1024
    );
    assert!(
        unannounced < TICKS / 10,
        "{unannounced} ticks without a read"
    );
    assert!(total >= TICKS as u64 * SMALL as u64, "that is no flood");
    noisy.peer.shutdown(Shutdown::Both).unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
}

each_kind!(input_before_a_tick_is_delivered_in_it_and_a_flood_gets_only_its_share);
fn input_before_a_tick_is_delivered_in_it_and_a_flood_gets_only_its_share(kind: Kind) {
    for flooded in [Flooded::SmallSink, Flooded::Sink, Flooded::Echo] {
        for quiet_first in [false, true] {
            run(kind, flooded, quiet_first);
        }
    }
}
