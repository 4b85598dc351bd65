//! One run of a protocol, in a world of its own.

use super::case::{Case, Variation};
use super::conversation::{Conversation, Step};
use super::flow::Watermarked;
use super::health::{Health, remains};
use super::subject::Subject;
use crate::dialogue::{Dialogue, Escaped};
use crate::log::{Log, Seen};
use crate::network::{Host, Link};
use crate::scripted_peer::{ScriptedPeer, within};
use crate::unreported_violations::collect;
use crate::watched::Watched;
use crate::world::{StepLimitExceeded, World};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use tidegate::{Failure, ListenOptions, WriteLimits};

const PORT: u16 = 7;

/// Maximum number of steps of a run. A protocol that is still busy then is busy for ever: a timer of a
/// second takes a hundredth of it in an hour, and a byte there and back twenty steps.
const STEPS: u64 = 500_000;
const STEPS_PER_BYTE: u64 = 200;

/// How the connection ended, as the peer saw it when the conversation was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    Eof,
    Reset,
}

impl Ending {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Open => "the connection stays open",
            Self::Eof => "the protocol ends its stream",
            Self::Reset => "the protocol resets the connection",
        }
    }
}

/// The result of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) reply: Vec<u8>,
    pub(super) ending: Ending,
    pub(super) health: Health,
    /// A reply that was not the expected one: the expected one, and the one that came.
    pub(super) wrong_answer: Option<(String, String)>,
    pub(super) pauses: u64,
    /// The largest number of bytes that was written in one step of the peer.
    pub(super) burst: u64,
    /// The largest number of bytes that was written in one pause.
    pub(super) overrun: u64,
    pub(super) dialogue: Dialogue,
}

pub(super) fn run(subject: &Subject, conversation: &Conversation, case: &Case) -> Outcome {
    let (mut outcome, violations) = collect(|| run_one(subject, conversation, case));
    outcome.health.violations.extend(violations);
    outcome
}

fn run_one(subject: &Subject, conversation: &Conversation, case: &Case) -> Outcome {
    let failures: Rc<RefCell<Vec<Failure>>> = Rc::default();
    let mut outcome = match Play::begin(subject, conversation, case, &failures) {
        Ok(mut play) => {
            let busy = play.play().err();
            play.outcome(busy)
        }
        Err(error) => Outcome {
            reply: Vec::new(),
            ending: Ending::Reset,
            health: Health {
                busy: Some(error.to_string()),
                ..Health::default()
            },
            wrong_answer: None,
            pauses: 0,
            burst: 0,
            overrun: 0,
            dialogue: Dialogue::default(),
        },
    };
    outcome.health.note(&failures.borrow());
    outcome
}

struct Play<'c> {
    // The world ends before the log.
    world: World,
    host: Host,
    subject: Subject,
    peer: ScriptedPeer,
    log: Log,
    conversation: &'c Conversation,
    case: &'c Case,
    /// The number of bytes that were sent.
    said: usize,
    reply: Vec<u8>,
    ending: Ending,
    wrong_answer: Option<(String, String)>,
    left: Option<String>,
    /// The number of bytes that the protocol has written before this step of the peer.
    written: u64,
    burst: u64,
    overrun: Rc<Cell<u64>>,
}

impl<'c> Play<'c> {
    fn begin(
        subject: &Subject,
        conversation: &'c Conversation,
        case: &'c Case,
        failures: &Rc<RefCell<Vec<Failure>>>,
    ) -> io::Result<Self> {
        let steps = STEPS + conversation.len() as u64 * STEPS_PER_BYTE;
        let mut world = World::builder().step_limit(steps).build();
        let host = world.add_host("host")?;
        let told = failures.clone();
        let tell = move |_: &_, failure: &Failure| told.borrow_mut().push(failure.clone());
        host.handle().set_error_handler(tell);
        let mut options = ListenOptions::new(host.addr(PORT));
        if let Some(buffer) = case.variation().buffer() {
            let link = Link::new().send_buffer(buffer).receive_buffer(buffer);
            world.network().set_link_to_peers(&host, link);
            let limits = WriteLimits::new()
                .with_high(buffer / 2)
                .with_low(buffer / 4);
            options = options.write_limits(limits);
        }
        let log = Log::new();
        let (served, factory) = (log.clone(), subject.clone());
        let overrun = Rc::new(Cell::new(0));
        let noted = overrun.clone();
        let server = host.handle().create_server(options, move || {
            Watermarked::new(Watched::new(factory.make(), &served), &noted)
        })?;
        let peer = world.network().dial(host.addr(PORT))?;
        world.pump()?;
        server.close();
        world.pump()?;
        Ok(Self {
            world,
            host,
            subject: subject.clone(),
            peer: ScriptedPeer::new(peer),
            log,
            conversation,
            case,
            said: 0,
            reply: Vec::new(),
            ending: Ending::Open,
            wrong_answer: None,
            left: None,
            written: 0,
            burst: 0,
            overrun,
        })
    }

    fn play(&mut self) -> Result<(), StepLimitExceeded> {
        self.converse()?;
        match self.case.variation() {
            Variation::Whole | Variation::Paused { .. } | Variation::Slow { .. } => {
                if !self.conversation.stays {
                    self.peer.send_eof(&mut self.world)?;
                }
                self.listen(|_| false)?;
            }
            Variation::Reset { .. } => self.peer.take(&self.world),
            Variation::Eof { .. } => {
                self.peer.send_eof(&mut self.world)?;
                self.listen(|_| false)?;
            }
            Variation::Silence { .. } => {
                let silence = self.conversation.silence;
                self.peer
                    .listen(&mut self.world, silence, |peer| peer.is_over())?;
                self.look()?;
            }
        }
        self.reply = self.peer.received().to_vec();
        self.ending = if self.peer.is_ended() {
            Ending::Eof
        } else if self.peer.is_reset() {
            Ending::Reset
        } else {
            Ending::Open
        };
        self.part()
    }

    /// Sends everything, or as much as the case says.
    fn converse(&mut self) -> Result<(), StepLimitExceeded> {
        let stop = self.case.variation().at();
        let mut awaited = 0;
        for step in self.conversation.steps() {
            if stop.is_some_and(|stop| self.said >= stop) {
                return Ok(());
            }
            match step {
                Step::Say(message) => self.say(message)?,
                Step::Wait(time) => {
                    let until = self.world.elapsed().saturating_add(*time);
                    let host = self.host.clone();
                    if self.takes() {
                        let gone = |_: &ScriptedPeer| is_gone(&host);
                        self.peer.listen(&mut self.world, *time, gone)?;
                    } else {
                        within(&mut self.world, *time, || is_gone(&host))?;
                    }
                    self.look()?;
                    let left = until.saturating_sub(self.world.elapsed());
                    self.world.advance(left)?;
                }
                Step::Answer(answer) => {
                    let from = awaited;
                    awaited += answer.len();
                    self.listen(|peer| peer.received().len() >= awaited)?;
                    let received = self.peer.received();
                    let come = &received[from.min(received.len())..awaited.min(received.len())];
                    if come != answer && self.wrong_answer.is_none() {
                        let expected = Escaped(answer).to_string();
                        self.wrong_answer = Some((expected, Escaped(come).to_string()));
                    }
                }
            }
            self.look()?;
        }
        Ok(())
    }

    fn say(&mut self, message: &[u8]) -> Result<(), StepLimitExceeded> {
        let start = self.said;
        let end = start + message.len();
        let end = self.case.variation().at().map_or(end, |stop| stop.min(end));
        let cuts = self.case.cuts().iter().copied();
        let mut ends: Vec<usize> = cuts.filter(|cut| start < *cut && *cut < end).collect();
        ends.push(end);
        for end in ends {
            let chunk = &message[self.said - start..end - start];
            let (takes, patience) = (self.takes(), self.conversation.patience);
            self.peer.send(&mut self.world, chunk, takes, patience)?;
            self.said = end;
            if let Variation::Slow { .. } = self.case.variation() {
                self.peer.take_until_read(&mut self.world)?;
            }
            self.note_burst();
        }
        Ok(())
    }

    fn note_burst(&mut self) {
        let transport = self.log.transport();
        let written = transport.map_or(0, |transport| transport.written());
        self.burst = self.burst.max(written - self.written);
        self.written = written;
    }

    /// Returns whether the peer reads while it sends.
    fn takes(&self) -> bool {
        self.case.variation().buffer().is_none()
    }

    fn listen(&mut self, enough: impl Fn(&ScriptedPeer) -> bool) -> Result<(), StepLimitExceeded> {
        let patience = self.conversation.patience;
        self.peer.listen(&mut self.world, patience, enough)?;
        self.look()
    }

    /// Once the protocol is gone, nothing of it may be left: later it would have been forgotten.
    fn look(&mut self) -> Result<(), StepLimitExceeded> {
        self.world.pump()?;
        self.note_burst();
        if self.left.is_none() && is_gone(&self.host) {
            self.left = Some(self.remains());
        }
        Ok(())
    }

    fn remains(&self) -> String {
        let now = self.host.handle().stats();
        // Each of these has a timer of the loop's own.
        let timers = now.timers.saturating_sub(now.lingering);
        remains(&[
            (now.connections, "connection"),
            (timers, "timer"),
            (now.completions, "completion"),
            (now.jobs, "job"),
            (self.subject.running(), "handler"),
        ])
    }

    /// The peer goes, and then the connection must.
    fn part(&mut self) -> Result<(), StepLimitExceeded> {
        match self.case.variation() {
            Variation::Reset { .. } => self.peer.reset(&mut self.world)?,
            _ => {
                self.peer.send_eof(&mut self.world)?;
                self.peer.take(&self.world);
                self.peer.leave(&mut self.world)?;
            }
        }
        let host = self.host.clone();
        let silence = self.conversation.silence;
        within(&mut self.world, silence, || is_gone(&host))?;
        self.look()
    }

    fn outcome(mut self, busy: Option<StepLimitExceeded>) -> Outcome {
        let lost = is_gone(&self.host);
        let mut violations = self.log.take_violations();
        // A protocol that gave its place to another is dropped without one.
        if lost && self.log.has(&Seen::Made) && !self.log.is_lost() && self.log.dropped() == 0 {
            violations.push("connection_lost did not come".into());
        }
        Outcome {
            reply: std::mem::take(&mut self.reply),
            ending: self.ending,
            health: Health {
                violations,
                lost,
                left: self.left.take().unwrap_or_else(|| self.remains()),
                busy: busy.map(|busy| busy.to_string()),
                ..Health::default()
            },
            wrong_answer: self.wrong_answer.take(),
            pauses: self.host.handle().stats().pauses,
            burst: self.burst,
            overrun: self.overrun.get(),
            dialogue: self.peer.dialogue().clone(),
        }
    }
}

fn is_gone(host: &Host) -> bool {
    host.handle().stats().connections == 0
}
