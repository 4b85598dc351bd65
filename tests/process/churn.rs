//! Counts the descriptors and the resident memory of the process.
//!
//! Many short connections, ended in every way: of none of them does anything stay.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Kind, Rng, TempDir, descriptors, drive, resident, that_fit};
use tidegate::{
    Address, CloseReason, Closed, EventLoop, Handle, OnEof, Protocol, Result, Server, Transport,
};

const CYCLES: usize = 50_000;

/// The number of connections after which everything that is kept for good has been allocated.
const WARM: usize = 10_000;

/// Both ends of a connection are in this process.
const AT_ONCE: usize = 100;

const MIB: u64 = 1 << 20;

/// The maximum number of bytes under way, which is more than a Unix socket takes at once.
const MANY: usize = 256 * 1024;

/// Far beyond what it takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The end of the connection, and the side that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    ClientCloses,
    ClientResets,
    ServerCloses,
    ServerResets,
    /// The client ends its side; the server replies after that.
    HalfClose,
    /// Bytes are under way; all of them arrive.
    ClientClosesBehindBytes,
    /// Bytes are under way; some are lost.
    ClientResetsBehindBytes,
    ServerClosesBeforeBytes,
    ServerResetsBeforeBytes,
}

use Ending::*;

const ENDINGS: [Ending; 9] = [
    ClientCloses,
    ClientResets,
    ServerCloses,
    ServerResets,
    HalfClose,
    ClientClosesBehindBytes,
    ClientResetsBehindBytes,
    ServerClosesBeforeBytes,
    ServerResetsBeforeBytes,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// The reason that `connection_lost` gave.
fn word(closed: &Closed) -> &'static str {
    match closed.reason() {
        CloseReason::LocalClose => "closed here",
        CloseReason::LocalAbort => "aborted here",
        CloseReason::PeerEof => "end of stream",
        _ if closed.is_reset() => "reset",
        _ => "something else",
    }
}

impl Ending {
    /// Returns the reasons that the two protocols may get, whichever bytes the kernel was fast enough to pass on.
    fn reasons(self, kind: Kind, side: Side) -> &'static [&'static str] {
        match (self, kind, side) {
            (ClientCloses | ClientClosesBehindBytes, _, Side::Client)
            | (ServerCloses | ServerClosesBeforeBytes, _, Side::Server) => &["closed here"],
            (ClientResets | ClientResetsBehindBytes, _, Side::Client)
            | (ServerResets | ServerResetsBeforeBytes, _, Side::Server) => &["aborted here"],
            (ClientResets | ClientResetsBehindBytes, Kind::Tcp, Side::Server)
            | (ServerResets | ServerResetsBeforeBytes, Kind::Tcp, Side::Client) => &["reset"],
            // A Unix socket that is closed resets only if there was input that nobody had read.
            (ServerResetsBeforeBytes, Kind::Unix, Side::Client) => &["end of stream", "reset"],
            (ClientResets | ClientResetsBehindBytes, Kind::Unix, Side::Server)
            | (ServerResets, Kind::Unix, Side::Client)
            | (ClientCloses | ClientClosesBehindBytes, _, Side::Server)
            | (ServerCloses | ServerClosesBeforeBytes, _, Side::Client)
            | (HalfClose, ..) => &["end of stream"],
        }
    }
}

/// How often a side was told which reason.
type Reasons = BTreeMap<(Kind, Ending, Side, &'static str), usize>;

/// The report of the loop's protocols to the test.
struct Seen {
    reasons: RefCell<Reasons>,
    wrong: RefCell<Vec<String>>,
    bytes: Vec<u8>,
}

impl Seen {
    fn ended(&self, kind: Kind, ending: Ending, side: Side, closed: &Closed) {
        let word = word(closed);
        if !ending.reasons(kind, side).contains(&word) {
            self.wrong(kind, ending, side, closed);
        }
        *self
            .reasons
            .borrow_mut()
            .entry((kind, ending, side, word))
            .or_default() += 1;
    }

    fn wrong(&self, kind: Kind, ending: Ending, side: Side, what: impl std::fmt::Display) {
        self.wrong
            .borrow_mut()
            .push(format!("{kind:?} {ending:?} {side:?}: {what}"));
    }
}

struct Client {
    seen: Rc<Seen>,
    kind: Kind,
    ending: Ending,
    /// How many bytes it says, the first eight of which tell how many follow.
    size: usize,
    answer: Vec<u8>,
}

impl Client {
    fn write(&self, transport: &Transport) -> Result {
        transport.write(&(self.size as u64).to_be_bytes())?;
        transport.write(&self.seen.bytes[..self.size])?;
        Ok(())
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        match self.ending {
            ClientCloses => transport.close(),
            ClientResets => transport.reset(),
            ServerCloses => {}
            // Not before the connection is made here, or the connect would fail.
            ServerResets => drop(transport.write(b"!")?),
            HalfClose => {
                self.write(transport)?;
                transport.write_eof()?;
            }
            ClientClosesBehindBytes => {
                self.write(transport)?;
                transport.close();
            }
            ClientResetsBehindBytes => {
                self.write(transport)?;
                transport.reset();
            }
            ServerClosesBeforeBytes | ServerResetsBeforeBytes => self.write(transport)?,
        }
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        self.answer.extend_from_slice(data);
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        let expected = (8 + self.size as u64).to_be_bytes();
        if self.ending == HalfClose && self.answer != expected {
            let what = format!("{:?} is no answer to {}", self.answer, self.size);
            self.seen.wrong(self.kind, self.ending, Side::Client, what);
        }
        self.seen
            .ended(self.kind, self.ending, Side::Client, closed);
    }
}

struct Servant {
    seen: Rc<Seen>,
    kind: Kind,
    ending: Ending,
    announced: Vec<u8>,
    received: usize,
}

impl Protocol for Servant {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        if self.ending == ServerCloses {
            transport.close();
        }
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let missing = 8 - self.announced.len();
        self.announced.extend(data.iter().take(missing));
        self.received += data.len();
        match self.ending {
            ServerClosesBeforeBytes => transport.close(),
            ServerResets | ServerResetsBeforeBytes => transport.reset(),
            _ => {}
        }
        Ok(())
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        if self.ending != HalfClose {
            return Ok(OnEof::Close);
        }
        transport.write(&(self.received as u64).to_be_bytes())?;
        transport.close();
        Ok(OnEof::KeepOpen)
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        if matches!(self.ending, HalfClose | ClientClosesBehindBytes) {
            let rest = (self.received as u64).wrapping_sub(8);
            if self.announced != rest.to_be_bytes() {
                let what = format!("{rest} bytes of {:?}", self.announced);
                self.seen.wrong(self.kind, self.ending, Side::Server, what);
            }
        }
        self.seen
            .ended(self.kind, self.ending, Side::Server, closed);
    }
}

/// A listener for each ending. That also spreads the TCP connections that the kernel remembers
/// for a minute (TIME-WAIT) over as many ports.
fn listen(handle: &Handle, seen: &Rc<Seen>, kind: Kind, ending: Ending, dir: &TempDir) -> Server {
    let place = match kind {
        Kind::Tcp => kind.somewhere(dir),
        Kind::Unix => format!("unix:{}", dir.path(format!("{ending:?}")).display()),
    };
    let seen = seen.clone();
    let factory = move || Servant {
        seen: seen.clone(),
        kind,
        ending,
        announced: Vec::new(),
        received: 0,
    };
    handle.create_server(place, factory).unwrap()
}

/// Of the cycle of this number: every ending on either kind of socket, Unix a quarter of them.
fn drawn(cycle: usize) -> (Kind, Ending) {
    let kind = if cycle.is_multiple_of(4) {
        Kind::Unix
    } else {
        Kind::Tcp
    };
    (kind, ENDINGS[cycle % ENDINGS.len()])
}

struct Churn {
    event_loop: EventLoop,
    seen: Rc<Seen>,
    addresses: BTreeMap<(Kind, Ending), Address>,
    rng: Rng,
    begun: Instant,
}

impl Churn {
    fn cycles(&mut self, cycles: std::ops::Range<usize>, at_once: usize) {
        let handle = self.event_loop.handle().clone();
        for cycle in cycles {
            self.start(&handle, cycle);
            let busy = || {
                let now = handle.stats();
                now.connections + now.connecting + now.lingering >= 2 * at_once
            };
            while busy() {
                self.event_loop
                    .run_once(Some(Duration::from_millis(5)))
                    .unwrap();
                assert!(self.begun.elapsed() < LIMIT, "{:#?}", handle.stats());
            }
        }
        drive(&mut self.event_loop, "the end of all connections", || {
            let now = handle.stats();
            now.connections + now.connecting + now.lingering == 0
        });
        let now = handle.stats();
        assert_eq!(now.timers + now.completions + now.jobs, 0, "{now:#?}");
    }

    fn start(&mut self, handle: &Handle, cycle: usize) {
        let (kind, ending) = drawn(cycle);
        let bits = self.rng.below(19);
        let client = Client {
            seen: self.seen.clone(),
            kind,
            ending,
            size: 1 + self.rng.below(1 << bits),
            answer: Vec::new(),
        };
        let seen = self.seen.clone();
        handle
            .create_connection(&self.addresses[&(kind, ending)], client)
            .then(move |_, connected| {
                if let Err(error) = connected {
                    seen.wrong(kind, ending, Side::Client, error);
                }
            });
    }
}

#[test]
fn of_fifty_thousand_connections_ended_in_every_way_nothing_stays() {
    let at_once = that_fit(AT_ONCE, 2);
    let mut rng = Rng::from_environment();
    let before = descriptors();
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let seen = Rc::new(Seen {
        reasons: RefCell::default(),
        wrong: RefCell::default(),
        bytes: rng.bytes(MANY),
    });
    let mut servers = BTreeMap::new();
    for kind in Kind::ALL {
        for ending in ENDINGS {
            servers.insert((kind, ending), listen(&handle, &seen, kind, ending, &dir));
        }
    }
    let address = |server: &Server| server.local_addrs()[0].clone();
    let mut churn = Churn {
        event_loop,
        seen: seen.clone(),
        addresses: servers
            .iter()
            .map(|(key, server)| (*key, address(server)))
            .collect(),
        rng,
        begun: Instant::now(),
    };
    let idle = descriptors();

    churn.cycles(0..WARM, at_once);
    let warm = resident();
    assert_eq!(descriptors(), idle);
    churn.cycles(WARM..CYCLES, at_once);
    let end = resident();
    assert_eq!(descriptors(), idle);

    println!(
        "{CYCLES} connections in {:?}; {} KiB resident after {WARM}, {} KiB after all",
        churn.begun.elapsed(),
        warm / 1024,
        end / 1024
    );
    for ((kind, ending, side, reason), count) in seen.reasons.borrow().iter() {
        println!("{kind:?} {ending:?}, {side:?}: {reason} {count} times");
    }
    let wrong = seen.wrong.borrow();
    assert!(
        wrong.is_empty(),
        "{} wrong: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(10)]
    );
    for ((kind, ending), server) in &servers {
        let cycles = (0..CYCLES)
            .filter(|&cycle| drawn(cycle) == (*kind, *ending))
            .count();
        for side in [Side::Client, Side::Server] {
            let reasons = ending.reasons(*kind, side).iter();
            let of = |reason: &&'static str| {
                seen.reasons
                    .borrow()
                    .get(&(*kind, *ending, side, *reason))
                    .copied()
            };
            let counts: Vec<_> = reasons.filter_map(of).collect();
            assert_eq!(
                counts.iter().sum::<usize>(),
                cycles,
                "{kind:?} {ending:?} {side:?}"
            );
        }
        assert_eq!(server.connection_count(), 0);
    }
    assert!(end <= warm + MIB, "memory grew");
    drop((servers, churn, handle));
    assert_eq!(descriptors(), before);
}
