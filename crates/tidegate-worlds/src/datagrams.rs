//! Questions by datagram: servers that reply, and clients that ask again until they have every reply.

use crate::client::bytes;
use crate::datagram_checks::Checks;
use crate::ledger::Ledger;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    Address, Closed, DatagramError, DatagramOptions, DatagramProtocol, DatagramTransport, Handle,
    OnPause, Result, WhenFull, WriteLimits,
};
use tidegate_testkit::{Clock, Host, World};

const PORT: u16 = 10;
const CLIENTS: usize = 16;

/// A question: the number of it, and the length of the reply.
const QUESTION: usize = 8 + 2;

/// The numbers of a world, or of several.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    pub(crate) replies: u64,
    /// Clients that have every reply.
    pub(crate) done: u64,
    /// Datagrams for which a receiver had no room.
    pub(crate) no_room: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.replies += other.replies;
        self.done += other.done;
        self.no_room += other.no_room;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked,
            replies,
            done,
            no_room,
        } = self;
        write!(
            f,
            "{asked} questions by datagram, {replies} replies, {done} clients that have all; \
             {no_room} datagrams found no room"
        )
    }
}

/// The servers and clients of a world.
#[derive(Debug)]
pub(crate) struct Questions {
    pub(crate) ledger: Rc<Ledger>,
    clock: Clock,
    /// A client that has not got its replies by then stops asking.
    last: Duration,
    counts: Cell<Counts>,
    servers: RefCell<Vec<DatagramTransport>>,
    /// Of clients without all replies.
    unanswered: RefCell<Vec<SocketAddr>>,
}

impl Questions {
    /// Starts them, in every other world. The numbers of a seed are drawn apart: the rest of the world does not
    /// depend on them.
    pub(crate) fn start(
        world: &World,
        hosts: (&[Host], &[Host]),
        traffic: Duration,
        ledger: &Rc<Ledger>,
    ) -> std::io::Result<Rc<Self>> {
        let mut rng = fastrand::Rng::with_seed(!world.seed());
        let questions = Rc::new(Self {
            ledger: ledger.clone(),
            clock: world.clock(),
            last: traffic + Duration::from_secs(3600),
            counts: Cell::default(),
            servers: RefCell::default(),
            unanswered: RefCell::default(),
        });
        if rng.bool() {
            return Ok(questions);
        }
        let (servers, clients) = hosts;
        for host in servers {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
            let options = any_options(any, &mut rng).v6only(false);
            let server = Server {
                checks: Checks::new(&questions),
                holds: rng.bool(),
                replies: rng.bool().then(Vec::new),
            };
            let server = host.handle().create_datagram_endpoint(options, server)?;
            questions.servers.borrow_mut().push(server);
        }
        for of in 0..CLIENTS as u64 {
            let host = &clients[rng.usize(..clients.len())];
            let server = &servers[rng.usize(..servers.len())];
            let ip = if rng.bool() {
                server.ip()
            } else {
                server.ipv6()
            };
            let at = SocketAddr::new(ip, PORT);
            let delay = Duration::from_millis(rng.u64(..traffic.as_millis() as u64));
            let (handle, questions, seed) = (host.handle().clone(), questions.clone(), rng.u64(..));
            world.network().after(delay, move |_| {
                questions.client(&handle, at, of, seed);
            });
        }
        Ok(questions)
    }

    fn client(self: &Rc<Self>, handle: &Handle, server: SocketAddr, of: u64, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let options = if rng.bool() {
            any_options(DatagramOptions::connected(server), &mut rng)
        } else {
            let any: &str = if server.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            any_options(any, &mut rng)
        };
        // Of one length, for they go in one call.
        let len = 1 << rng.u32(..11);
        let lengths = (0..rng.usize(1..30)).map(|n| Some(if n % 8 == 7 { 1 } else { len }));
        let client = Client {
            checks: Checks::new(self),
            of,
            server,
            missing: lengths.collect(),
            retry: Duration::from_millis(rng.u64(500..5000)),
            asked: 0,
            in_runs: rng.bool(),
            rng,
        };
        // Without a descriptor there is none; nor on a host that is gone.
        drop(handle.create_datagram_endpoint(options, client));
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Closes the servers, when every client has ended. Notes a violation for each client without a reply of a
    /// server that is there.
    pub(crate) fn end(&self, left: &[&Host], world: &World) {
        for server in self.unanswered.borrow().iter() {
            let is_of = |host: &&&Host| [host.ip(), host.ipv6()].contains(&server.ip());
            if let Some(host) = left.iter().find(is_of) {
                let name = host.name();
                let text = format!("a client has not got every reply of {name}");
                self.ledger.violation(text);
            }
        }
        for server in self.servers.borrow_mut().drain(..) {
            server.close();
        }
        self.count(|counts| counts.no_room = world.network().datagrams_dropped());
        self.ledger.datagrams.set(self.counts.get());
    }
}

fn any_options(at: impl Into<DatagramOptions>, rng: &mut fastrand::Rng) -> DatagramOptions {
    let high = 1 << rng.usize(0..15);
    let limits = WriteLimits::new().with_high(high).with_cap(4 * high);
    let when_full = if rng.bool() {
        WhenFull::Refuse
    } else {
        WhenFull::DropOldest
    };
    let options = at.into().write_limits(limits).when_full(when_full);
    options.segmentation(rng.u32(..4) > 0)
}

/// Replies to each question.
struct Server {
    checks: Checks,
    /// Reads on while it is paused, and leaves replies out.
    holds: bool,
    /// The replies of a batch that go together at its end, if they do.
    replies: Option<Vec<(SocketAddr, Vec<u8>)>>,
}

impl DatagramProtocol for Server {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.checks.callback(transport, "made");
        Ok(())
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        self.checks.received(transport);
        let question = data.split_first_chunk::<8>().and_then(|(number, rest)| {
            let len: [u8; 2] = rest.try_into().ok()?;
            Some((u64::from_be_bytes(*number), u16::from_be_bytes(len)))
        });
        let (Some((number, len)), Some(from)) = (question, from.as_inet()) else {
            let text = format!("{data:?} of {from} is no question");
            self.checks.questions.ledger.violation(text);
            return Ok(());
        };
        let mut reply = number.to_be_bytes().to_vec();
        reply.extend(bytes(number, 0, len.into()));
        match &mut self.replies {
            Some(replies) => replies.push((from, reply)),
            None => {
                self.checks.send(transport, &reply, from);
            }
        }
        Ok(())
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        self.checks.end_batch(transport);
        let replies = self.replies.as_mut().map(std::mem::take);
        for replies in replies.unwrap_or_default().chunk_by(|one, next| {
            let alike = |(to, reply): &(SocketAddr, Vec<u8>)| (*to, reply.len());
            alike(one) == alike(next)
        }) {
            let (to, first) = &replies[0];
            let run: Vec<_> = replies.iter().map(|(_, reply)| &reply[..]).collect();
            self.checks
                .send_run(transport, &run.concat(), first.len(), *to);
        }
        Ok(())
    }

    fn error_received(&mut self, transport: &DatagramTransport, _: &DatagramError) -> Result {
        self.checks.callback(transport, "error");
        Ok(())
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        self.checks.pause(transport, true);
        Ok(if self.holds {
            OnPause::StopReading
        } else {
            OnPause::KeepReading
        })
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        self.checks.pause(transport, false);
        Ok(())
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        self.checks.end(transport, closed);
    }
}

/// A client asks this many times before it gives up.
const LEAST_ASKED: u32 = 100;

/// Asks until every reply is there.
struct Client {
    checks: Checks,
    of: u64,
    server: SocketAddr,
    /// The lengths of the replies that have not come.
    missing: Vec<Option<u16>>,
    retry: Duration,
    /// How often it has asked.
    asked: u32,
    /// Its questions go together.
    in_runs: bool,
    rng: fastrand::Rng,
}

impl Client {
    fn ask(&mut self, transport: &DatagramTransport) {
        let questions = &self.checks.questions;
        self.asked += 1;
        // A clock that jumps leaves no time to ask.
        if questions.clock.elapsed() > questions.last && self.asked > LEAST_ASKED {
            questions.unanswered.borrow_mut().push(self.server);
            transport.close();
            return;
        }
        let mut run = Vec::new();
        for (n, len) in self.missing.iter().enumerate() {
            let Some(len) = len else { continue };
            let mut question = [0; QUESTION];
            question[..8].copy_from_slice(&(self.of << 16 | n as u64).to_be_bytes());
            question[8..].copy_from_slice(&len.to_be_bytes());
            questions.count(|counts| counts.asked += 1);
            if self.in_runs {
                run.extend(question);
            } else if !self.checks.send(transport, &question, self.server) {
                break;
            }
        }
        if !run.is_empty() {
            self.checks.send_run(transport, &run, QUESTION, self.server);
        }
        transport.call_later(self.retry, |this: &mut Self, transport| {
            transport.resume_reading();
            this.ask(transport);
            Ok(())
        });
    }

    fn take(&mut self, transport: &DatagramTransport, data: &[u8], from: &Address) {
        let questions = &self.checks.questions;
        let number = data
            .first_chunk::<8>()
            .map(|number| u64::from_be_bytes(*number));
        let number = number
            .filter(|number| number >> 16 == self.of)
            .unwrap_or(u64::MAX);
        let Some(missing) = self.missing.get_mut((number & 0xffff) as usize) else {
            let text = format!(
                "a reply of another's, of {} bytes: {transport:?}",
                data.len()
            );
            questions.ledger.violation(text);
            return;
        };
        // One that comes again is no news.
        let Some(len) = missing.take() else { return };
        let from_server = from.as_inet() == Some(self.server);
        if data[8..] != bytes(number, 0, len.into()) || !from_server {
            let text = format!("a wrong reply, of {from}: {transport:?}");
            questions.ledger.violation(text);
        }
        questions.count(|counts| counts.replies += 1);
    }

    fn end(&mut self, transport: &DatagramTransport) {
        self.checks.questions.count(|counts| counts.done += 1);
        match self.rng.u32(..3) {
            0 => transport.close(),
            1 => transport.abort(),
            _ => transport.close_within(Duration::from_millis(self.rng.u64(..1000))),
        }
    }
}

impl DatagramProtocol for Client {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.checks.callback(transport, "made");
        self.ask(transport);
        Ok(())
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        self.checks.received(transport);
        if transport.is_closing() || !transport.is_reading() {
            let text = format!("a datagram that is not wanted: {transport:?}");
            self.checks.questions.ledger.violation(text);
        }
        self.take(transport, data, from);
        if self.missing.iter().all(Option::is_none) {
            self.end(transport);
        } else if self.rng.u32(..16) == 0 {
            // Until it asks again.
            transport.pause_reading();
        }
        Ok(())
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        self.checks.end_batch(transport);
        Ok(())
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        self.checks.callback(transport, "error");
        if error
            .to()
            .is_some_and(|to| to.as_inet() != Some(self.server))
        {
            let text = format!("an error of another's: {error}");
            self.checks.questions.ledger.violation(text);
        }
        Ok(())
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        self.checks.pause(transport, true);
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        self.checks.pause(transport, false);
        Ok(())
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        self.checks.end(transport, closed);
    }
}
