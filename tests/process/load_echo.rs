//! Counts the descriptors of the process, and needs thousands of them.
//!
//! A thousand connections at once, both ends on loops of this crate, each loop on a thread of its
//! own.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Kind, Rng, TempDir, descriptors, drive, that_fit};
use tidegate::{
    Address, Closed, Completer, EventLoop, ListenOptions, LoopStats, Protocol, RemoteHandle,
    Result, Transport, WriteLimits,
};

const CONNECTIONS: usize = 1000;

const LARGEST: usize = 1 << 20;

/// A prime, so that a stream that lost or repeated a block of round size is out of step.
const PERIOD: usize = LARGEST + 7;

/// Far beyond what it takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The contents of all streams: each is this, over and over, from a place of its own.
struct Stream(Vec<u8>);

impl Stream {
    fn new(rng: &mut Rng) -> Self {
        let mut bytes = rng.bytes(PERIOD);
        // Twice, so that every message is one slice.
        bytes.extend_from_within(..);
        Self(bytes)
    }

    fn at(&self, position: usize, len: usize) -> &[u8] {
        &self.0[position % PERIOD..][..len]
    }
}

/// Mostly small; one at least is more than a write buffer takes before it pauses the writer.
fn sizes(rng: &mut Rng) -> Vec<usize> {
    let high = WriteLimits::new().high();
    let mut sizes: Vec<_> = (0..2 + rng.below(6))
        .map(|_| {
            let bits = rng.below(17);
            1 + rng.below(1 << bits)
        })
        .collect();
    let large = match rng.below(20) {
        0 => LARGEST,
        1..4 => high + 1 + rng.below(LARGEST - high),
        _ => high + 1 + rng.below(high),
    };
    let place = rng.below(sizes.len() + 1);
    sizes.insert(place, large);
    sizes
}

/// Sends back what it receives; nothing else.
struct Echo(Rc<Server>);

struct Server {
    connections: usize,
    made: Cell<usize>,
    ended: Cell<usize>,
    wrong: RefCell<Vec<String>>,
    all_made: RefCell<Option<Completer<()>>>,
    all_ended: RefCell<Option<Completer<()>>>,
}

/// Counts one more; completes when these were all.
fn count(so_far: &Cell<usize>, all: usize, answer: &RefCell<Option<Completer<()>>>) {
    so_far.set(so_far.get() + 1);
    if so_far.get() == all
        && let Some(completer) = answer.take()
    {
        completer.complete(Ok(()));
    }
}

impl Protocol for Echo {
    fn connection_made(&mut self, _: &Transport) -> Result {
        count(&self.0.made, self.0.connections, &self.0.all_made);
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let stats = transport.stats();
        if !closed.is_clean() || stats.received != stats.sent {
            self.0
                .wrong
                .borrow_mut()
                .push(format!("{closed}: {stats:?}"));
        }
        count(&self.0.ended, self.0.connections, &self.0.all_ended);
    }
}

/// The state that the clients share.
struct Clients {
    connections: usize,
    stream: Stream,
    transports: RefCell<Vec<Transport>>,
    ended: Cell<usize>,
    echoed: Cell<usize>,
    wrong: RefCell<Vec<String>>,
    all_ended: RefCell<Option<Completer<()>>>,
}

/// Sends its messages, checks every byte of the echo, then ends the connection.
struct Client {
    all: Rc<Clients>,
    /// Where its stream begins.
    from: usize,
    sizes: Vec<usize>,
    next: usize,
    written: usize,
    received: usize,
    /// Waits for each echo, instead of sending as much as the transport takes.
    by_turns: bool,
    /// Ends its side of the stream and waits for the other, instead of closing.
    half_closes: bool,
}

impl Client {
    fn new(all: &Rc<Clients>, rng: &mut Rng) -> Self {
        Self {
            all: all.clone(),
            from: rng.below(PERIOD),
            sizes: sizes(rng),
            next: 0,
            written: 0,
            received: 0,
            by_turns: rng.below(2) == 0,
            half_closes: rng.below(2) == 0,
        }
    }

    fn go_on(&mut self, transport: &Transport) -> Result {
        while let Some(&size) = self.sizes.get(self.next) {
            if transport.flow().is_paused() || (self.by_turns && self.received < self.written) {
                return Ok(());
            }
            let message = self.all.stream.at(self.from + self.written, size);
            transport.write(message)?;
            self.next += 1;
            self.written += size;
        }
        if self.received == self.written {
            if self.half_closes {
                transport.write_eof()?;
            } else {
                transport.close();
            }
        }
        Ok(())
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.all.transports.borrow_mut().push(transport.clone());
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if self.received + data.len() > self.written {
            return Err("more came back than was sent".into());
        }
        let expected = self.all.stream.at(self.from + self.received, data.len());
        if data != expected {
            let len = data.len();
            return Err(
                format!("{len} bytes after {} are not what was sent", self.received).into(),
            );
        }
        self.received += data.len();
        self.go_on(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.go_on(transport)
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        let all = &self.all;
        let total = self.sizes.iter().sum::<usize>();
        if !closed.is_clean() || self.received != total {
            let complaint = format!("{closed}; {} of {total} echoed", self.received);
            all.wrong.borrow_mut().push(complaint);
        }
        all.echoed.set(all.echoed.get() + self.received);
        count(&all.ended, all.connections, &all.all_ended);
    }
}

/// The result of one side.
struct Outcome {
    stats: LoopStats,
    echoed: usize,
    wrong: Vec<String>,
}

/// The client's thread: connects, waits to be told to begin, and sees all connections end.
fn client_side(
    address: &Address,
    connections: usize,
    mut rng: Rng,
    ready: &mpsc::Sender<RemoteHandle>,
) -> io::Result<Outcome> {
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let (completer, all_ended) = handle.completion();
    let all = Rc::new(Clients {
        connections,
        stream: Stream::new(&mut rng),
        transports: RefCell::default(),
        ended: Cell::new(0),
        echoed: Cell::new(0),
        wrong: RefCell::default(),
        all_ended: RefCell::new(Some(completer)),
    });
    let connecting: Vec<_> = (0..connections)
        .map(|_| handle.create_connection(address, Client::new(&all, &mut rng)))
        .collect();
    for connect in connecting {
        event_loop.run_until(connect.within(LIMIT))?;
    }
    // The test tells it to stop when the server has all of them too.
    let _ = ready.send(handle.remote());
    event_loop.run_forever()?;
    for transport in all.transports.borrow().iter() {
        transport.call_soon(|client: &mut Client, transport| client.go_on(transport));
    }
    event_loop.run_until(all_ended.within(LIMIT))?;
    let empty = handle.clone();
    drive(&mut event_loop, "the end of lingering", || {
        empty.stats().lingering == 0
    });
    Ok(Outcome {
        stats: handle.stats(),
        echoed: all.echoed.get(),
        wrong: all.wrong.take(),
    })
}

/// A listener whose connections have little room in the kernel, so that their transports do the
/// buffering.
fn listen(kind: Kind, dir: &TempDir) -> ListenOptions {
    let (listener, _) = kind.listen(dir);
    listener.set_send_buffer_size(8 * 1024).unwrap();
    listener.set_recv_buffer_size(64 * 1024).unwrap();
    // All of them may come before the first is accepted.
    listener.listen(1024).unwrap();
    let fd = OwnedFd::from(listener);
    match kind {
        Kind::Tcp => std::net::TcpListener::from(fd).into(),
        Kind::Unix => std::os::unix::net::UnixListener::from(fd).into(),
    }
}

#[track_caller]
fn assert_holds_nothing(stats: &LoopStats) {
    let now = stats;
    assert_eq!(
        [
            now.connections,
            now.connecting,
            now.lingering,
            now.timers,
            now.completions,
            now.jobs
        ],
        [0; 6],
        "{now:#?}"
    );
}

fn run(kind: Kind, connections: usize, rng: &mut Rng) {
    let begun = Instant::now();
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (made, all_made) = handle.completion();
    let (ended, all_ended) = handle.completion();
    let shared = Rc::new(Server {
        connections,
        made: Cell::new(0),
        ended: Cell::new(0),
        wrong: RefCell::default(),
        all_made: RefCell::new(Some(made)),
        all_ended: RefCell::new(Some(ended)),
    });
    let each = shared.clone();
    let server = handle
        .create_server(listen(kind, &dir), move || Echo(each.clone()))
        .unwrap();

    let address = server.local_addrs()[0].clone();
    let seed = Rng::new(rng.any());
    let (ready, is_ready) = mpsc::channel();
    let clients = thread::spawn(move || client_side(&address, connections, seed, &ready));

    event_loop.run_until(all_made.within(LIMIT)).unwrap();
    let remote = is_ready.recv_timeout(LIMIT).unwrap();
    // All of them are open on both sides, and nothing was said yet.
    assert_eq!(server.connection_count(), connections);
    assert_eq!(handle.stats().bytes_received, 0);
    remote.call_soon_threadsafe(|handle| handle.stop()).unwrap();

    event_loop.run_until(all_ended.within(LIMIT)).unwrap();
    assert_eq!(server.connection_count(), 0);
    drive(&mut event_loop, "the end of lingering", || {
        handle.stats().lingering == 0
    });
    let ours = handle.stats();
    let theirs = clients.join().unwrap().unwrap();
    assert_eq!(theirs.wrong, [""; 0]);
    assert_eq!(*shared.wrong.borrow(), [""; 0]);
    assert_holds_nothing(&ours);
    assert_holds_nothing(&theirs.stats);
    assert_eq!(ours.bytes_received, theirs.echoed as u64);
    assert_eq!(ours.bytes_sent, theirs.echoed as u64);
    assert!(ours.pauses > 0, "{ours:#?}");
    if kind == Kind::Unix {
        // Over TCP the kernel takes all that a client has to say at once.
        assert!(theirs.stats.pauses > 0, "{:#?}", theirs.stats);
    }
    println!(
        "{kind:?}: {connections} connections at once, {} MiB echoed in {:?}; \
         the server paused {} times, the clients {} times",
        theirs.echoed >> 20,
        begun.elapsed(),
        ours.pauses,
        theirs.stats.pauses,
    );
}

#[test]
fn a_thousand_connections_at_once_get_every_byte_back_and_leave_nothing() {
    let mut rng = Rng::from_environment();
    let connections = that_fit(CONNECTIONS, 2);
    let before = descriptors();
    for kind in Kind::ALL {
        run(kind, connections, &mut rng);
        assert_eq!(descriptors(), before, "{kind:?}");
    }
}
