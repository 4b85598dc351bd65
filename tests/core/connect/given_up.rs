//! A connect by name that ends early, at each of its stages: given up, out of time, or with its
//! loop.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use support::wakers::{leave, local_waker};
use support::{BOUND, Gate, Host, Log, Recorder, drive, knows, settle, v4};
use tidegate::{
    Completion, ConnectError, ConnectOptions, EventLoop, Handle, LoopClosed, Transport,
};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// How far a connect has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of it has run.
    Asked,
    Resolving,
    /// Behind another name, with a single thread.
    WaitingToResolve,
    /// The first attempt runs; a timer for the second one.
    OneAttempt,
    /// All attempts run.
    AllAttempts,
}

const STAGES: [Stage; 5] = [
    Stage::Asked,
    Stage::Resolving,
    Stage::WaitingToResolve,
    Stage::OneAttempt,
    Stage::AllAttempts,
];

/// A connect that never gets a reply.
struct Stuck {
    event_loop: EventLoop,
    gate: Gate,
    hosts: [Host; 2],
    stage: Stage,
    /// A question before ours, at `WaitingToResolve`.
    first: Option<Completion<Vec<std::net::SocketAddr>>>,
    log: Log,
}

impl Stuck {
    fn new(stage: Stage) -> Self {
        let gate = Gate::new();
        let hosts = [Host::hanging(v4(2)), Host::hanging(v4(3))];
        let addresses: Vec<_> = hosts.iter().map(Host::addr).collect();
        let names = knows([
            ("slow.test", addresses.clone()),
            ("many.test", addresses),
            ("slow-first.test", vec![hosts[0].addr()]),
        ]);
        let event_loop = EventLoop::builder()
            .executor_threads(1)
            .executor_grace(20 * MS)
            .resolver(gate.before(names))
            .build()
            .unwrap();
        let first = (stage == Stage::WaitingToResolve)
            .then(|| event_loop.handle().resolve("slow-first.test", 1));
        Self {
            event_loop,
            gate,
            hosts,
            stage,
            first,
            log: Log::new(),
        }
    }

    fn options(&self) -> ConnectOptions {
        let (name, delay) = match self.stage {
            Stage::Asked | Stage::Resolving => ("slow.test:80", HOUR),
            Stage::WaitingToResolve | Stage::OneAttempt => ("many.test:80", HOUR),
            Stage::AllAttempts => ("many.test:80", MS),
        };
        ConnectOptions::new(name).happy_eyeballs_delay(delay)
    }

    fn connect(&self, options: ConnectOptions) -> Completion<Transport> {
        let protocol = Recorder::new(&self.log);
        self.event_loop
            .handle()
            .create_connection(options, protocol)
    }

    /// Runs the loop until the stage is reached.
    fn advance(&mut self) {
        match self.stage {
            Stage::Asked => {}
            Stage::Resolving | Stage::WaitingToResolve => self.gate.wait_for(1),
            Stage::OneAttempt | Stage::AllAttempts => {
                let hosts = &self.hosts[..self.attempts()];
                drive(&mut self.event_loop, "the attempts", || {
                    hosts.iter().all(|host| host.waiting_for_it() == 1)
                });
            }
        }
        let jobs = self.event_loop.handle().stats().jobs;
        assert_eq!(jobs, self.jobs_before() + usize::from(self.attempts() == 0));
    }

    fn jobs_before(&self) -> usize {
        usize::from(self.first.is_some())
    }

    fn attempts(&self) -> usize {
        match self.stage {
            Stage::OneAttempt => 1,
            Stage::AllAttempts => 2,
            _ => 0,
        }
    }

    /// Nothing of it is left, at once; and its protocol goes without a callback.
    fn assert_gone(&mut self) {
        let now = self.event_loop.handle().stats();
        let stage = self.stage;
        assert_eq!((now.connecting, now.timers), (0, 0), "{stage:?}");
        let others = self.jobs_before();
        assert_eq!((now.jobs, now.completions), (others, others), "{stage:?}");
        for host in &self.hosts {
            assert_eq!(host.waiting_for_it(), 0, "{stage:?}");
        }
        settle(&mut self.event_loop);
        assert_eq!(self.log.words(), [""; 0]);
        assert_eq!(self.log.dropped(), 1, "{stage:?}");
        // The late result of the resolver has no waiter.
        self.gate.open();
        let last = self.event_loop.handle().resolve("slow.test", 80);
        self.event_loop.run_until(last).unwrap();
        settle(&mut self.event_loop);
        assert_eq!(self.event_loop.handle().stats().connecting, 0);
        assert_eq!(self.log.dropped(), 1);
        let asked = self.gate.asked();
        let in_vain = asked.iter().filter(|name| *name == "many.test").count();
        assert_eq!(in_vain, usize::from(self.attempts() > 0), "{stage:?}");
    }
}

#[test]
fn dropping_the_completion_ends_a_connect_at_every_stage() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let connecting = stuck.connect(stuck.options().timeout(HOUR));
        stuck.advance();
        drop(connecting);
        stuck.assert_gone();
    }
}

#[test]
fn a_connect_may_be_cancelled_in_a_callback() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let connecting = stuck.connect(stuck.options());
        stuck.advance();
        stuck.event_loop.handle().call_soon(move |handle| {
            drop(connecting);
            assert_eq!(handle.stats().connecting, 0);
        });
        stuck.event_loop.run_once(Some(Duration::ZERO)).unwrap();
        stuck.assert_gone();
    }
}

#[test]
fn a_limit_on_the_completion_ends_a_connect_at_every_stage() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let connecting = stuck.connect(stuck.options());
        stuck.advance();
        let begun = Instant::now();
        let limited = connecting.within(20 * MS);
        let error = stuck.event_loop.run_until(limited).unwrap_err();
        assert!(begun.elapsed() >= 20 * MS);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        stuck.assert_gone();
    }
}

#[test]
fn the_time_limit_ends_a_connect_at_every_stage() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let options = stuck.options().timeout(400 * MS);
        let connecting = stuck.connect(options);
        let error = stuck.event_loop.run_until(connecting).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let attempts = ConnectError::of(&error).unwrap().attempts().count();
        assert_eq!(attempts, stuck.attempts(), "{error}");
        stuck.assert_gone();
    }
}

#[test]
fn run_until_that_is_stopped_gives_its_connect_up() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let connecting = stuck.connect(stuck.options());
        stuck.advance();
        stuck.event_loop.handle().stop();
        let error = stuck.event_loop.run_until(connecting).unwrap_err();
        assert!(error.to_string().contains("stopped"), "{error}");
        stuck.assert_gone();
    }
}

#[test]
fn the_end_of_the_loop_fails_a_connect_at_every_stage() {
    for stage in STAGES {
        for taken in [false, true] {
            let mut stuck = Stuck::new(stage);
            let handle = stuck.event_loop.handle().clone();
            let mut connecting = Some(stuck.connect(stuck.options().timeout(HOUR)));
            stuck.advance();
            let noted = stuck.log.clone();
            if taken {
                let connecting = connecting.take().unwrap();
                connecting.then(move |_, _| noted.note("called"));
            }
            let Stuck {
                event_loop,
                gate,
                hosts,
                first,
                log,
                ..
            } = stuck;
            let begun = Instant::now();
            // The gate is still closed: a thread that is blocked there is left behind.
            drop(event_loop);
            assert!(begun.elapsed() < BOUND);
            assert_eq!((log.words(), log.dropped()), (Vec::new(), 1), "{stage:?}");
            for completion in connecting.into_iter() {
                let error = answered(completion);
                assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error}");
            }
            let now = handle.stats();
            let left = (now.connecting, now.timers, now.completions, now.jobs);
            assert_eq!(left, (0, 0, 0, 0), "{stage:?}");
            assert!(hosts.iter().all(|host| host.waiting_for_it() == 0));
            drop((gate, first));
        }
    }
}

#[track_caller]
fn answered(mut completion: Completion<Transport>) -> io::Error {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut completion).poll(&mut context) {
        Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Calls `call` when `completion` wakes.
fn on_wake(completion: &mut Completion<Transport>, call: impl FnOnce() + 'static) {
    let call = Cell::new(Some(call));
    leave(
        completion,
        &local_waker(move || {
            if let Some(call) = call.take() {
                call();
            }
        }),
    );
}

/// Gives another connect up, and begins two more.
fn meddle(handle: &Handle, other: Completion<Transport>, log: &Log) -> impl FnOnce() + 'static {
    let (handle, log) = (handle.clone(), log.clone());
    move || {
        drop(other);
        for to in ["many.test:80", "127.0.0.1:1"] {
            let connecting = handle.create_connection(to, Recorder::new(&log));
            drop(connecting);
        }
        log.note("woken");
    }
}

#[test]
fn a_waker_may_meddle_with_other_connects_while_one_fails() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let handle = stuck.event_loop.handle().clone();
        let (other_log, more) = (Log::new(), Log::new());
        let mut connecting = stuck.connect(stuck.options().timeout(60 * MS));
        let other = handle.create_connection(stuck.options(), Recorder::new(&other_log));
        on_wake(&mut connecting, meddle(&handle, other, &more));
        drive(&mut stuck.event_loop, "the waker", || {
            !more.seen().is_empty()
        });
        settle(&mut stuck.event_loop);
        let now = handle.stats();
        assert_eq!((now.connecting, now.timers), (0, 0), "{stage:?}");
        assert_eq!(answered(connecting).kind(), io::ErrorKind::TimedOut);
        assert_eq!((more.words(), more.dropped()), (vec!["woken".into()], 2));
        assert_eq!((other_log.words().len(), other_log.dropped()), (0, 1));
        assert_eq!((stuck.log.words().len(), stuck.log.dropped()), (0, 1));
    }
}

#[test]
fn a_waker_may_meddle_with_other_connects_while_the_loop_ends() {
    for stage in STAGES {
        let mut stuck = Stuck::new(stage);
        let handle = stuck.event_loop.handle().clone();
        let (other_log, more) = (Log::new(), Log::new());
        let mut connecting = stuck.connect(stuck.options());
        stuck.advance();
        let other = handle.create_connection(stuck.options(), Recorder::new(&other_log));
        on_wake(&mut connecting, meddle(&handle, other, &more));
        drop(stuck.event_loop);
        assert_eq!((more.words(), more.dropped()), (vec!["woken".into()], 2));
        assert_eq!((other_log.words().len(), other_log.dropped()), (0, 1));
        assert_eq!((stuck.log.words().len(), stuck.log.dropped()), (0, 1));
        let error = answered(connecting);
        assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error}");
        let now = handle.stats();
        let left = (now.connecting, now.timers, now.completions, now.jobs);
        assert_eq!(left, (0, 0, 0, 0), "{stage:?}");
    }
}
