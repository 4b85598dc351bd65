//! Runs one case: real sockets, the operations from outside, the ticks of the loop, the end.

use crate::transport::random::layers::Ours;
use crate::transport::random::model::{Kept, Model};
use crate::transport::random::ops::{Finale, Op, Plan};
use crate::transport::random::shared::{Place, Shared};
use socket2::Socket;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use support::{Kind, Log, Peer, Scene, TempDir, poll_once};
use tidegate::{ConnectOptions, EventLoop, Protocol, Transport};

/// How long a case waits for what must come.
const BOUND: Duration = Duration::from_secs(10);

/// How long layers may have something to do now and then.
const RESTS: Duration = Duration::from_millis(200);

/// A case that runs.
struct Case<'a> {
    plan: &'a Plan,
    event_loop: EventLoop,
    shared: Rc<Shared>,
    transport: Transport,
}

impl<'a> Case<'a> {
    fn new(plan: &'a Plan, kind: Kind, tiny: bool) -> io::Result<Self> {
        let mut builder = EventLoop::builder();
        if let Some(budget) = plan.budget {
            builder = builder.write_budget(budget);
        }
        let mut event_loop = builder.build()?;
        event_loop.handle().set_error_handler(|_, _| {});
        let log = Log::new();
        let shared = Shared::new(Model::new(plan, &log), plan.wrappers);
        let protocol = shared.protocol(0, &log, plan.buffer);
        let (is_usual, kernel_buffer) = (plan.is_usual, plan.kernel_buffer);
        let prepare = move |socket: &Socket| {
            if tiny {
                shrink_kernel_buffers(socket, kind, kernel_buffer);
            } else if !is_usual {
                shrink_kernel_buffers(socket, kind, 16 * kernel_buffer);
            }
        };
        let transport = if plan.accepted {
            let (transport, peer) = Scene::of(kind)
                .sockets(prepare)
                .on(&mut event_loop, protocol);
            let mut model = shared.model.borrow_mut();
            model.meet(peer)?;
            for layer in &plan.layers {
                shared.push(&mut model, &transport, *layer);
            }
            transport
        } else {
            connect(plan, kind, &mut event_loop, &shared, protocol)?
        };
        Ok(Self {
            plan,
            event_loop,
            shared,
            transport,
        })
    }

    fn act(&self, op: &Op) {
        let mut model = self.shared.model.borrow_mut();
        // A refusal is checked where it comes.
        let _ = self
            .shared
            .act(&mut model, &self.transport, op, Place::Outside);
    }

    fn is_lost(&self) -> bool {
        self.shared.lost.get()
    }

    fn tick(&mut self, wait: Duration) -> Result<(), String> {
        {
            let mut model = self.shared.model.borrow_mut();
            model.tick += 1;
            model.note("tick".to_owned());
        }
        let turned = self.event_loop.run_once(Some(wait));
        turned.map_err(|error| format!("the loop failed: {error}"))?;
        let mut model = self.shared.model.borrow_mut();
        model.after_tick(&self.transport);
        let buffered = self.event_loop.handle().stats().buffered;
        model.check_account(&self.transport, buffered);
        if model.lost.is_some() {
            self.shared.lost.set(true);
        }
        drop(model);
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        let complaints = self.shared.complaints.borrow();
        let model = self.shared.model.borrow();
        let first = complaints.first().or(model.violations.first());
        match first {
            Some(complaint) => Err(complaint.clone()),
            None => Ok(()),
        }
    }

    /// Runs ticks until the loop has nothing to do.
    fn quiet(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        let (start, mut ticks) = (Instant::now(), 0);
        // A layer that rests has something to do again soon.
        while ticks < 5000 || start.elapsed() < RESTS {
            ticks += 1;
            let before = self.event_loop.handle().stats();
            self.tick(Duration::ZERO)?;
            let mut after = self.event_loop.handle().stats();
            after.polls = before.polls;
            quiet = if after == before { quiet + 1 } else { 0 };
            if quiet == 3 {
                return Ok(());
            }
        }
        let before = self.event_loop.handle().stats();
        self.tick(Duration::ZERO)?;
        let after = self.event_loop.handle().stats();
        let state = format!("{:?}\n{before:?}\n{after:?}", self.transport);
        Err(format!("the loop does not come to rest: {state}"))
    }

    fn drive(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let start = Instant::now();
        let mut idle = 0;
        while !done(self) {
            if start.elapsed() > BOUND {
                let stats = self.event_loop.handle().stats();
                let state = format!("{:?}\n{stats:#?}", self.transport);
                return Err(format!("waited in vain for {what}\n{state}"));
            }
            idle += 1;
            let wait = if idle < 20 { 0 } else { 1 };
            self.tick(Duration::from_millis(wait))?;
        }
        self.check()
    }

    fn steps(&mut self) -> Result<(), String> {
        let mut after_end = 0;
        for op in &self.plan.ops {
            if let Op::Ticks(count) = op {
                for _ in 0..*count {
                    self.tick(Duration::ZERO)?;
                }
            } else {
                self.act(op);
                self.check()?;
            }
            after_end += usize::from(self.is_lost());
            if after_end > 6 {
                break;
            }
        }
        self.quiet()?;
        self.settled()
    }

    fn settled(&self) -> Result<(), String> {
        let mut model = self.shared.model.borrow_mut();
        model.check_settled(&self.transport);
        drop(model);
        self.check()
    }

    fn ending(&mut self) -> Result<(), String> {
        self.shared.model.borrow_mut().finale = true;
        match self.plan.finale {
            Finale::Close => self.let_all_through()?,
            Finale::Abort => self.act(&Op::Abort),
            Finale::Reset => self.act(&Op::Reset),
            Finale::PeerCloses => self.act(&Op::PeerClose),
            Finale::PeerResets => self.act(&Op::PeerReset),
            Finale::DropLoop => {
                self.shared.model.borrow_mut().shut_down = true;
                return Ok(());
            }
        }
        self.quiet()?;
        self.settled()?;
        self.act(&Op::Close);
        self.drive("connection_lost", |case| {
            case.act(&Op::PeerRead(usize::MAX));
            case.is_lost()
        })?;
        self.drive("the end at the peer", |case| {
            case.act(&Op::PeerRead(usize::MAX));
            let model = case.shared.model.borrow();
            model.peer_gone || model.peer.as_ref().is_none_or(|peer| peer.is_ended())
        })?;
        self.shared.model.borrow_mut().check_peer_end();
        self.act(&Op::PeerClose);
        self.drive("the end of everything", |case| {
            let stats = case.event_loop.handle().stats();
            stats.connections + stats.lingering == 0
        })?;
        self.quiet()?;
        self.kept_answers();
        self.settled()?;
        self.shared.model.borrow_mut().check_waiters();
        let stats = self.event_loop.handle().stats();
        if stats.timers + stats.completions + stats.connecting != 0 {
            return Err(format!("something is left: {stats:#?}"));
        }
        self.check()
    }

    /// Both sides read all there is; then nothing of it may be missing.
    fn let_all_through(&mut self) -> Result<(), String> {
        self.act(&Op::ResumeReading);
        self.shared.model.borrow_mut().holds.clear();
        self.drive("all bytes", |case| {
            case.act(&Op::PeerRead(usize::MAX));
            let model = case.shared.model.borrow();
            model.is_ended() || model.peer_gone || model.is_through()
        })
    }

    fn kept_answers(&mut self) {
        let kept = std::mem::take(&mut self.shared.model.borrow_mut().kept);
        for kept in kept {
            let (index, answer) = match kept {
                Kept::Unit(index, completion) => {
                    let answer = self.event_loop.run_until(completion);
                    (index, answer.map(|()| None))
                }
                Kept::Closed(index, completion) => {
                    (index, self.event_loop.run_until(completion).map(Some))
                }
            };
            let mut model = self.shared.model.borrow_mut();
            model.answered(&self.transport, index, answer);
        }
    }

    /// Drops the loop: nothing may outlive it.
    fn drop_all(self) -> (Rc<Shared>, Result<(), String>) {
        let (shared, transport) = (self.shared, self.transport);
        drop(self.event_loop);
        let lost = shared.lost.get();
        let kept = std::mem::take(&mut shared.model.borrow_mut().kept);
        drop(kept);
        let mut model = shared.model.borrow_mut();
        model.observe(&transport);
        let lost = lost || model.is_unmade();
        let layers = model.alive.count();
        drop(model);
        let count = Rc::strong_count(&shared);
        let closures = shared.closures.get();
        let result = if !lost {
            Err("no connection_lost at the end of the loop".to_owned())
        } else if closures > 0 || count > 1 {
            Err(format!("{closures} closures and {count} owners are left"))
        } else if layers > 0 {
            Err(format!("{layers} layers are left"))
        } else {
            Ok(())
        };
        (shared, result)
    }
}

/// Runs a case; a failure comes with what was done.
pub(crate) fn run(plan: &Plan, kind: Kind, tiny: bool) -> Result<(), String> {
    let mut case = Case::new(plan, kind, tiny).map_err(|error| error.to_string())?;
    let run = AssertUnwindSafe(|| case.steps().and_then(|()| case.ending()));
    let Ok(mut result) = catch_unwind(run) else {
        let trace = case.shared.model.borrow().trace.join("\n  ");
        // Its drop may panic again, and then nobody would be told which case it was.
        std::mem::forget(case);
        return Err(format!("panicked, as told above\n  {trace}"));
    };
    if result.is_err() {
        // The callbacks at the end of the loop are of no interest then.
        case.shared.model.borrow_mut().trace_is_over = true;
    }
    let failed = result.is_err();
    let (shared, at_drop) = case.drop_all();
    result = result.and(at_drop);
    let mut model = shared.model.borrow_mut();
    let logs = std::mem::take(&mut model.logs);
    let grammar: Vec<_> = logs.iter().flat_map(Log::take_violations).collect();
    if let Some(violation) = grammar.first() {
        result = result.and(Err(violation.chars().take(300).collect()));
    }
    if !failed && let Some(violation) = model.violations.first() {
        result = result.and(Err(violation.clone()));
    }
    result.map_err(|error| format!("{error}\n  {}", model.trace.join("\n  ")))
}

/// Has the loop open the connection, with its layers.
fn connect(
    plan: &Plan,
    kind: Kind,
    event_loop: &mut EventLoop,
    shared: &Rc<Shared>,
    protocol: Box<dyn Protocol>,
) -> io::Result<Transport> {
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let mut options = ConnectOptions::new(&address);
    let mut model = shared.model.borrow_mut();
    for layer in &plan.layers {
        options = options.layer(Ours::new(*layer, false, &model.alive));
        let level = model.wire.add(*layer, false);
        model.wire.place(level, 0);
    }
    drop(model);
    shared.is_connecting.set(true);
    let mut completion = event_loop.handle().create_connection(options, protocol);
    let start = Instant::now();
    let transport = loop {
        event_loop.run_once(Some(Duration::from_millis(1)))?;
        if let Poll::Ready(answer) = poll_once(Pin::new(&mut completion)) {
            break answer?;
        }
        if start.elapsed() > BOUND {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !plan.layers.is_empty() {
            let mut model = shared.model.borrow_mut();
            if model.peer.is_none() {
                model.meet(Peer::new(listener.accept()?.0))?;
            }
            model.shake_hands();
        }
    };
    shared.is_connecting.set(false);
    let mut model = shared.model.borrow_mut();
    if model.peer.is_none() {
        model.meet(Peer::new(listener.accept()?.0))?;
    }
    model.wire.all_are_open();
    drop(model);
    Ok(transport)
}

/// So that the kernel takes a part of nearly every write.
fn shrink_kernel_buffers(socket: &Socket, kind: Kind, size: usize) {
    // A kernel that refuses a size leaves its own, which is right too.
    let _ = socket.set_send_buffer_size(size);
    let _ = socket.set_recv_buffer_size(size);
    if kind == Kind::Tcp {
        // Segments that fit into such windows; or the kernel waits for its probe timer.
        let _ = socket.set_tcp_mss(536);
    }
}
