//! One run of a protocol of datagrams, in a world of its own.

use super::case::DatagramCase;
use super::conversation::DatagramConversation;
use super::outcome::{Group, Outcome};
use crate::check::{Step, remains};
use crate::datagram_peers::DatagramPeers;
use crate::faults::{Fault, Faults};
use crate::log::{Log, Seen};
use crate::network::{Host, Link};
use crate::scripted_peer::within;
use crate::unreported_violations::collect;
use crate::watched::Watched;
use crate::world::{StepLimitExceeded, World};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    DatagramOptions, DatagramProtocol, DatagramTransport, Failure, Handle, WriteLimits,
};

const PORT: u16 = 7;

/// Maximum number of steps of a run. A protocol that is still busy then is busy for ever.
const STEPS: u64 = 200_000;

/// The maximum length of a datagram of UDP (udp(7)).
const LONGEST: usize = 65_507;

/// The cost of a datagram beside its bytes, as watermarks count it.
const OVERHEAD: usize = 64;

/// Times that the conversation is held in a storm.
const ROUNDS: usize = 3;

/// The bandwidth in bytes a second of the link to the peers. It bounds what a protocol that sends without end can
/// send in no time.
const WIDE: u64 = 1 << 30;

/// The one of paused runs.
const NARROW: u64 = 10_000;

/// The peers: that of the conversation, another one, and one that comes afterwards.
const PEER: usize = 0;
const STRANGER: usize = 1;
const NEXT: usize = 2;

type Make = dyn FnMut(&Handle, DatagramOptions, &Log) -> io::Result<DatagramTransport>;

/// Makes the protocol of each run.
pub(super) struct Subject(Box<Make>);

impl Subject {
    pub(super) fn new<P: DatagramProtocol>(mut factory: impl FnMut() -> P + 'static) -> Self {
        Self(Box::new(move |handle, options, log| {
            handle.create_datagram_endpoint(options, Watched::new(factory(), log))
        }))
    }
}

/// Runs one case; beside the plain run, if there was one, with the replies of which there are to be waited for.
pub(super) fn run(
    subject: &mut Subject,
    conversation: &DatagramConversation,
    case: DatagramCase,
    plain: Option<&Outcome>,
) -> Outcome {
    let failures: Rc<RefCell<Vec<Failure>>> = Rc::default();
    let (mut outcome, violations) =
        collect(
            || match Play::begin(subject, conversation, case, plain, &failures) {
                Ok(mut play) => {
                    let busy = play.play().err();
                    play.outcome(busy)
                }
                Err(error) => {
                    let mut outcome = Outcome::default();
                    outcome.health.busy = Some(error.to_string());
                    outcome
                }
            },
        );
    outcome.health.violations.extend(violations);
    outcome.health.note(&failures.borrow());
    outcome
}

struct Play<'c> {
    // The world ends before the log.
    world: World,
    host: Host,
    endpoint: DatagramTransport,
    peers: DatagramPeers,
    log: Log,
    conversation: &'c DatagramConversation,
    case: DatagramCase,
    plain: Option<&'c Outcome>,
    at: SocketAddr,
    /// The number of datagrams of each peer that are in a group, or loose.
    noted: [usize; 3],
    /// When the last datagram was sent.
    said: Duration,
    outcome: Outcome,
    left: Option<String>,
}

impl<'c> Play<'c> {
    fn begin(
        subject: &mut Subject,
        conversation: &'c DatagramConversation,
        case: DatagramCase,
        plain: Option<&'c Outcome>,
        failures: &Rc<RefCell<Vec<Failure>>>,
    ) -> io::Result<Self> {
        let seed = match case {
            DatagramCase::Storm { seed } => seed,
            _ => 0,
        };
        let mut world = World::builder().seed(seed).step_limit(STEPS).build();
        let host = world.add_host("host")?;
        let told = failures.clone();
        let tell = move |_: &_, failure: &Failure| told.borrow_mut().push(failure.clone());
        host.handle().set_error_handler(tell);
        let peers = DatagramPeers::new(&world, 3)?;
        let at = host.addr(PORT);
        let mut options = DatagramOptions::new(at);
        if conversation.connected {
            options = options.remote(peers.addr(PEER));
        }
        let mut link = wide();
        if let DatagramCase::Paused { high } = case {
            link = Link::new().bandwidth(NARROW).send_buffer(1);
            let limits = WriteLimits::new().with_high(high).with_low(high / 4);
            options = options.write_limits(limits.with_cap(cap(high, plain)));
        }
        world.network().set_link_to_peers(&host, link);
        let log = Log::new();
        let endpoint = subject.0(host.handle(), options, &log)?;
        Ok(Self {
            world,
            host,
            endpoint,
            peers,
            log,
            conversation,
            case,
            plain,
            at,
            noted: [0; 3],
            said: Duration::ZERO,
            outcome: Outcome::default(),
            left: None,
        })
    }

    fn play(&mut self) -> Result<(), StepLimitExceeded> {
        self.world.settle()?;
        match self.case {
            DatagramCase::Paused { .. } => self.flood()?,
            DatagramCase::Storm { .. } => self.storm()?,
            _ => {
                let groups = self.converse(PEER, true)?;
                self.outcome.groups = groups;
            }
        }
        if self.plain.is_some() && !self.case.ends() {
            self.once_more()?;
        }
        self.look()?;
        if self.log.is_lost() && !self.case.ends() {
            self.outcome.ended = Some(self.log.closed().to_string());
        }
        self.endpoint.close();
        let (log, silence) = (self.log.clone(), self.conversation.silence);
        within(&mut self.world, silence, || log.is_lost())?;
        self.look()
    }

    /// Holds the conversation, with the event of the case or without.
    fn converse(&mut self, peer: usize, varied: bool) -> Result<Vec<Group>, StepLimitExceeded> {
        let case = if varied {
            self.case
        } else {
            DatagramCase::Plain
        };
        let mut groups = Vec::new();
        if peer == PEER {
            groups.push(self.group(peer, None));
        }
        let (mut next, mut awaited, mut late) = (0, 0, None);
        for step in self.conversation.steps() {
            match step {
                Step::Say(data) => {
                    let at = next;
                    next += 1;
                    awaited = 0;
                    self.before(case, at, data)?;
                    match case {
                        DatagramCase::Lost { at: lost } if lost == at => {}
                        DatagramCase::Late { at: last } if last == at => late = Some((at, data)),
                        DatagramCase::Refused { at: refused } if refused == at => {
                            self.say_and_leave(at, data)?;
                        }
                        DatagramCase::Doubled { at: twice } if twice == at => {
                            groups.push(self.say(peer, at, data)?);
                            groups.push(self.say(peer, at, data)?);
                        }
                        _ => groups.push(self.say(peer, at, data)?),
                    }
                }
                Step::Wait(time) => {
                    self.world.advance(*time)?;
                    self.peers.take(&self.world);
                }
                // The replies of the plain run were waited for.
                Step::Answer(_) if self.plain.is_some() => {}
                Step::Answer(_) => {
                    awaited += 1;
                    let there = groups.last().map_or(0, |group| group.replies.len());
                    self.await_replies(peer, awaited - there.min(awaited))?;
                }
            }
            self.note_more(peer, &mut groups);
        }
        self.before(case, next, &[])?;
        if let Some((at, data)) = late {
            groups.push(self.say(peer, at, data)?);
        }
        self.note_more(peer, &mut groups);
        Ok(groups)
    }

    /// The event before a datagram, if there is one.
    fn before(
        &mut self,
        case: DatagramCase,
        number: usize,
        data: &[u8],
    ) -> Result<(), StepLimitExceeded> {
        match case {
            DatagramCase::Empty { at } if at == number => self.intrude(&[]),
            DatagramCase::Long { at } if at == number => self.intrude(&vec![b'x'; LONGEST]),
            DatagramCase::Cut { at, len } if at == number => self.intrude(&data[..len]),
            DatagramCase::Closed { at } if at == number => {
                self.endpoint.close();
                self.world.settle()
            }
            DatagramCase::Aborted { at } if at == number => {
                self.endpoint.abort();
                self.world.settle()
            }
            _ => Ok(()),
        }
    }

    /// Sends a datagram that is none of the conversation.
    fn intrude(&mut self, data: &[u8]) -> Result<(), StepLimitExceeded> {
        let stranger = if self.conversation.connected {
            PEER
        } else {
            STRANGER
        };
        self.peers.send(&mut self.world, stranger, data, self.at)?;
        // It may have replies, which are compared with nothing.
        self.noted[stranger] = self.peers.received(stranger).len();
        Ok(())
    }

    fn expected(&self, at: usize) -> (usize, Duration) {
        self.plain
            .map_or_else(Default::default, |plain| plain.replies_to(at))
    }

    fn say(&mut self, peer: usize, at: usize, data: &[u8]) -> Result<Group, StepLimitExceeded> {
        self.said = self.world.elapsed();
        self.peers.send(&mut self.world, peer, data, self.at)?;
        let (expected, _) = self.expected(at);
        if !self.log.is_lost() && !self.endpoint.is_closing() {
            self.await_replies(peer, expected)?;
        }
        Ok(self.group(peer, Some(at)))
    }

    fn say_and_leave(&mut self, at: usize, data: &[u8]) -> Result<(), StepLimitExceeded> {
        self.peers.put(&self.world, PEER, data, self.at);
        self.peers.leave(&self.world, PEER);
        let (_, took) = self.expected(at);
        self.world.advance(took)?;
        self.world.settle()?;
        // Its address is free: nobody else binds in this world.
        let _ = self.peers.come_back(&self.world, PEER);
        Ok(())
    }

    /// Waits until a peer has this number of datagrams more than were noted.
    fn await_replies(&mut self, peer: usize, count: usize) -> Result<(), StepLimitExceeded> {
        let (enough, patience) = (self.noted[peer] + count, self.conversation.patience);
        let done = |peers: &DatagramPeers| peers.received(peer).len() >= enough;
        self.peers.listen(&mut self.world, patience, done)?;
        Ok(())
    }

    /// Takes what has come for a peer since the last time.
    fn fresh(&mut self, peer: usize) -> Vec<Vec<u8>> {
        self.peers.take(&self.world);
        let fresh = self.peers.received(peer)[self.noted[peer]..].to_vec();
        self.noted[peer] += fresh.len();
        fresh
    }

    fn group(&mut self, peer: usize, of: Option<usize>) -> Group {
        Group {
            of,
            replies: self.fresh(peer),
            took: Duration::ZERO,
        }
    }

    /// Adds what has come since to the last group.
    fn note_more(&mut self, peer: usize, groups: &mut [Group]) {
        let fresh = self.fresh(peer);
        if let Some(last) = groups.last_mut()
            && !fresh.is_empty()
        {
            last.replies.extend(fresh);
            last.took = self.world.elapsed().saturating_sub(self.said);
        }
    }

    /// Sends the conversation until its replies are twice what the queue takes, though no reply leaves.
    fn flood(&mut self) -> Result<(), StepLimitExceeded> {
        let conversation = self.conversation;
        let cap = self.endpoint.write_limits().cap();
        let once: usize = self
            .plain
            .map_or(0, |plain| plain.replies().map(|reply| cost(reply)).sum());
        let rounds = (2 * cap).checked_div(once).map_or(1, |rounds| rounds + 1);
        for _ in 0..rounds {
            for data in conversation.says() {
                self.peers.put(&self.world, PEER, data, self.at);
                self.world.pump()?;
            }
        }
        let endpoint = self.endpoint.clone();
        let sent = || endpoint.write_buffer_size() == 0 && !endpoint.flow().is_paused();
        within(&mut self.world, conversation.silence, sent)?;
        self.world.network().set_link_to_peers(&self.host, wide());
        self.world.settle()?;
        self.outcome.loose = self.fresh(PEER);
        Ok(())
    }

    fn storm(&mut self) -> Result<(), StepLimitExceeded> {
        let conversation = self.conversation;
        self.world.network().set_faults(&bad_weather());
        for _ in 0..ROUNDS {
            for data in conversation.says() {
                self.peers.put(&self.world, PEER, data, self.at);
            }
            self.world.advance(Faults::LATE)?;
        }
        self.world.network().set_faults(&Faults::none());
        // Late datagrams arrive, and refused ones go.
        self.world.advance(2 * Faults::LATE)?;
        self.outcome.loose = self.fresh(PEER);
        Ok(())
    }

    /// Holds the conversation as if nothing had been.
    fn once_more(&mut self) -> Result<(), StepLimitExceeded> {
        let peer = if self.conversation.connected {
            PEER
        } else {
            NEXT
        };
        self.noted[peer] = self.peers.received(peer).len();
        let groups = self.converse(peer, false)?;
        self.outcome.again = groups;
        // On its own the protocol speaks once.
        self.outcome.again.retain(|group| group.of.is_some());
        Ok(())
    }

    /// Once the endpoint is gone, nothing of it may be left.
    fn look(&mut self) -> Result<(), StepLimitExceeded> {
        self.world.pump()?;
        if self.left.is_none() && self.log.is_lost() {
            self.left = Some(self.remains());
        }
        Ok(())
    }

    fn remains(&self) -> String {
        let now = self.host.handle().stats();
        remains(&[
            (now.datagram_endpoints, "endpoint"),
            (now.timers, "timer"),
            (now.completions, "completion"),
            (now.jobs, "job"),
        ])
    }

    fn outcome(mut self, busy: Option<StepLimitExceeded>) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        let lost = self.host.handle().stats().datagram_endpoints == 0;
        let health = &mut outcome.health;
        health.violations = self.log.take_violations();
        if lost && self.log.has(&Seen::Made) && !self.log.is_lost() {
            health
                .violations
                .push("connection_lost did not come".into());
        }
        health.lost = lost;
        health.left = self.left.take().unwrap_or_else(|| self.remains());
        health.busy = busy.map(|busy| busy.to_string());
        outcome.refused = self.endpoint.stats().refused;
        outcome.pauses = self.host.handle().stats().pauses;
        outcome.dialogue = self.peers.dialogue().clone();
        outcome
    }
}

/// Returns a cap that a protocol which stops when it is paused does not reach.
fn cap(high: usize, plain: Option<&Outcome>) -> usize {
    let groups = plain.map_or(&[][..], |plain| &plain.groups);
    let most = groups
        .iter()
        .map(|group| group.replies.iter().map(|reply| cost(reply)).sum());
    let most: usize = most.max().unwrap_or(0);
    high + 2 * most + 1024
}

fn wide() -> Link {
    Link::new().bandwidth(WIDE)
}

fn cost(reply: &[u8]) -> usize {
    reply.len() + OVERHEAD
}

fn bad_weather() -> Faults {
    Faults::none()
        .with(Fault::DatagramLost, 0.1)
        .with(Fault::DatagramDoubled, 0.1)
        .with(Fault::DatagramLate, 0.2)
        .with(Fault::DatagramsTogether, 0.3)
        .with(Fault::NoSegmentation, 0.1)
        .with(Fault::ReadAgain, 0.1)
        .with(Fault::WriteAgain, 0.1)
        .with(Fault::Interrupted, 0.1)
        .with(Fault::NoMemory, 0.1)
        .with(Fault::SpuriousEvent, 0.1)
        .with(Fault::FewEvents, 0.1)
        .with(Fault::Crowd, 0.2)
        .with(Fault::Reorder, 0.2)
}
