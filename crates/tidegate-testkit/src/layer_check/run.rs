//! One run: both layers in a world of their own, and what each end saw.

use super::case::{LayerCase, LayerVariation, Side};
use super::middle::{Middle, Way};
use super::observed::{Calls, LayerCalls};
use super::subject::Subject;
use super::talker::{Plan, Record, Sends, Talker};
use crate::network::{Host, Link};
use crate::world::World;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{CloseReason, Closed, ConnectOptions, Failure, ListenOptions, WriteLimits};

const PORT: u16 = 7;

/// Longer than the default limit of opening, and than most layers wait for anything.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Maximum number of steps without a byte between the layers.
const STEPS: u64 = 100_000;

/// Maximum number of bytes between the layers, beside 16 for each byte of the messages.
const WIRE: usize = 1 << 20;

/// The length of the messages of [`LayerVariation::Long`].
const LONG: usize = 300_000;

/// The result of a run.
pub(super) struct Outcome {
    pub(super) client: Seen,
    pub(super) server: Seen,
    /// The number of bytes to the server, and to the client.
    pub(super) wire: [usize; 2],
    /// A stream was cut: bytes were lost, or an end that was still to come.
    pub(super) was_cut: bool,
    pub(super) panic: Option<String>,
    /// The layers do not come to rest.
    pub(super) busy: Option<String>,
    /// The sources that the loops still held at the end.
    pub(super) left: Option<String>,
    pub(super) calls: LayerCalls,
}

/// The view of one end.
#[derive(Default)]
pub(super) struct Seen {
    /// The bytes that its peer was to send.
    pub(super) expected: Rc<[u8]>,
    pub(super) received: Vec<u8>,
    pub(super) was_made: bool,
    pub(super) saw_eof: bool,
    pub(super) closed: Option<Closed>,
    /// The error of the connect.
    pub(super) failed: Option<String>,
}

impl Outcome {
    pub(super) fn of(&self, side: Side) -> &Seen {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }
}

pub(super) fn run(subject: &Subject, messages: &[Rc<[u8]>; 2], case: &LayerCase) -> Outcome {
    let calls = Calls::default();
    let outcome = match Run::begin(subject, messages, case, &calls) {
        Ok(mut run) => {
            let busy = run.play().err();
            run.outcome(busy.map(|error| error.to_string()))
        }
        Err(error) => Outcome {
            client: Seen::default(),
            server: Seen::default(),
            wire: [0; 2],
            was_cut: false,
            panic: None,
            busy: Some(error.to_string()),
            left: None,
            calls: LayerCalls::default(),
        },
    };
    Outcome {
        calls: calls.take(),
        ..outcome
    }
}

struct Run {
    world: World,
    hosts: [Host; 2],
    plans: [Plan; 2],
    records: [Rc<RefCell<Record>>; 2],
    connect: Rc<RefCell<Option<io::Result<()>>>>,
    panic: Rc<RefCell<Option<String>>>,
    middle: Middle,
}

impl Run {
    fn begin(
        subject: &Subject,
        messages: &[Rc<[u8]>; 2],
        case: &LayerCase,
        calls: &Calls,
    ) -> io::Result<Self> {
        let mut world = World::builder().step_limit(STEPS).build();
        let hosts = [world.add_host("client")?, world.add_host("server")?];
        let panic: Rc<RefCell<Option<String>>> = Rc::default();
        for host in &hosts {
            let panic = panic.clone();
            host.handle().set_error_handler(move |_, failure| {
                note_panic(&panic, failure);
            });
        }
        let variation = case.variation();
        let mut limits = WriteLimits::new();
        if let LayerVariation::Tight { buffer } | LayerVariation::Long { buffer } = variation {
            let link = Link::new().send_buffer(buffer).receive_buffer(buffer);
            for host in &hosts {
                world.network().set_link_to_peers(host, link.clone());
            }
            limits = limits.with_high(buffer / 2).with_low(buffer / 4);
        }
        let plans = plans(messages, variation);
        let records: [Rc<RefCell<Record>>; 2] = Default::default();
        let [client, server] = &hosts;
        let listen = ListenOptions::new(server.addr(PORT)).write_limits(limits);
        let (plan, record) = (plans[1].clone(), records[1].clone());
        let serving = server
            .handle()
            .create_server(subject.listen(listen, calls), move || {
                Talker::new(&plan, &record)
            })?;
        let listener = world.network().listen(0)?;
        let to = ConnectOptions::new(listener.addr()).write_limits(limits);
        let connect: Rc<RefCell<Option<io::Result<()>>>> = Rc::default();
        let result = connect.clone();
        client
            .handle()
            .create_connection(
                subject.connect(to, calls),
                Talker::new(&plans[0], &records[0]),
            )
            .then(move |_, connected| {
                result.replace(Some(connected.map(drop)));
            });
        let to_server = world.network().dial(server.addr(PORT))?;
        let mut to_client = None;
        // The connect needs no time.
        while to_client.is_none() && connect.borrow().is_none() {
            world.pump()?;
            to_client = listener.accept();
        }
        serving.close();
        let to_client = to_client.ok_or_else(|| io::Error::other("no connect was made"))?;
        let way = |to: Side| {
            let cut_at = match variation {
                LayerVariation::Cut { to: cut, at } if cut == to => Some(at),
                _ => None,
            };
            Way::new(case.chunks(to).to_vec(), cut_at)
        };
        let ways = [way(Side::Server), way(Side::Client)];
        Ok(Self {
            world,
            hosts,
            plans,
            records,
            connect,
            panic,
            middle: Middle::new(to_client, to_server, ways),
        })
    }

    fn play(&mut self) -> io::Result<()> {
        while !self.is_over() {
            self.world.pump()?;
            let mut moved = self.middle.pass();
            for (plan, record) in self.plans.iter().zip(&self.records) {
                moved |= plan.go_on(record);
            }
            let written: usize = self.plans.iter().map(|plan| plan.message.len()).sum();
            let wire: usize = self.middle.ways.iter().map(|way| way.came).sum();
            if wire > WIRE + 16 * written {
                let text = format!("for {written} bytes the layers have sent {wire}, and go on");
                return Err(io::Error::other(text));
            }
            if !moved && !self.wait()? && !self.middle.cut_in_a_pause() {
                break;
            }
        }
        self.part()
    }

    /// Lets time pass until something comes. Returns whether it did.
    fn wait(&mut self) -> io::Result<bool> {
        let (middle, network) = (&self.middle, self.world.network().clone());
        let is_late = || network.elapsed() >= PATIENCE;
        let [client, server] = &self.hosts;
        let is_gone = || is_gone(client) && is_gone(server);
        self.world
            .run_until_true(|| middle.has_news() || is_gone() || is_late())?;
        Ok(!is_late() && (middle.has_news() || is_gone()))
    }

    /// Both connections have ended, or never began.
    fn is_over(&self) -> bool {
        let has_begun =
            self.connect.borrow().is_some() || self.middle.ways.iter().any(|way| way.came > 0);
        has_begun && self.hosts.iter().all(is_gone)
    }

    /// Both peers are gone now, so both ends must end.
    fn part(&mut self) -> io::Result<()> {
        self.middle.leave();
        let [client, server] = self.hosts.clone();
        let network = self.world.network().clone();
        let until = network.elapsed() + PATIENCE;
        self.world.run_until_true(|| {
            (is_gone(&client) && is_gone(&server)) || network.elapsed() >= until
        })?;
        Ok(())
    }

    fn outcome(self, busy: Option<String>) -> Outcome {
        let left = self.left();
        let [client, server] = [0, 1].map(|n| {
            let record = self.records[n].take();
            Seen {
                expected: self.plans[1 - n].message.clone(),
                received: record.received,
                was_made: record.transport.is_some(),
                saw_eof: record.saw_eof,
                closed: record.closed,
                failed: None,
            }
        });
        let failed = match &*self.connect.borrow() {
            Some(Err(error)) => Some(error.to_string()),
            _ => None,
        };
        Outcome {
            client: Seen { failed, ..client },
            server,
            wire: [self.middle.ways[0].passed, self.middle.ways[1].passed],
            was_cut: self.middle.ways.iter().any(|way| way.was_cut),
            panic: self.panic.take(),
            busy,
            left,
            calls: LayerCalls::default(),
        }
    }

    fn left(&self) -> Option<String> {
        let left = [Side::Client, Side::Server].into_iter().zip(&self.hosts);
        let texts = left.filter_map(|(side, host)| {
            let stats = host.handle().stats();
            // A socket that lingers has a timer of the loop's own.
            let timers = stats.timers.saturating_sub(stats.lingering);
            let all = stats.connections + stats.connecting + timers + stats.completions;
            (all > 0).then(|| format!("the {side}'s loop: {stats:?}"))
        });
        let texts: Vec<_> = texts.collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

fn plans(messages: &[Rc<[u8]>; 2], variation: LayerVariation) -> [Plan; 2] {
    let plan = |n: usize| Plan {
        message: messages[n].clone(),
        sends: Sends::InPieces,
        ends: true,
        closes_at: None,
        room: None,
    };
    let [mut client, mut server] = [plan(0), plan(1)];
    match variation {
        LayerVariation::First { side: Side::Client } => server.sends = Sends::Last,
        LayerVariation::First { side: Side::Server } => client.sends = Sends::Last,
        LayerVariation::Room { size } => {
            client.room = Some(size);
            server.room = Some(size);
        }
        LayerVariation::Close => {
            client.closes_at = Some(server.message.len());
            client.ends = false;
            server.ends = false;
        }
        LayerVariation::Long { .. } => {
            for (n, plan) in [&mut client, &mut server].into_iter().enumerate() {
                plan.sends = Sends::AtOnce;
                plan.message = super::message(LONG, n as u8);
            }
        }
        _ => {}
    }
    [client, server]
}

fn note_panic(panic: &RefCell<Option<String>>, failure: &Failure) {
    if let CloseReason::Panic(message) = failure.reason() {
        let text = format!("{} panicked: {message}", failure.context());
        panic.borrow_mut().get_or_insert(text);
    }
}

fn is_gone(host: &Host) -> bool {
    let stats = host.handle().stats();
    stats.connections + stats.connecting == 0
}
