//! Runs one case: real sockets, a protocol that follows its scripts, and the model beside it.

use crate::model::{CHUNK_COST, Kept, Model, ours, theirs};
use crate::ops::{Finale, How, Op, Plan, Script, What};
use bytes::Bytes;
use socket2::Socket;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tests::{Kind, Log, Recorder, adopted_with, connected};
use tidegate::{Closed, Completion, EventLoop, OnEof, OnPause, Transport, WriteError, WriteLimits};

/// How long a case waits for what must come.
const BOUND: Duration = Duration::from_secs(10);

/// What the callbacks of a case share. The model stays borrowed across every call of the library,
/// so a call that calls back at once is seen.
struct Shared {
    model: RefCell<Model>,
    complaints: RefCell<Vec<String>>,
    lost: Cell<bool>,
    /// Closures that have neither run nor been dropped.
    closures: Cell<usize>,
}

/// Where an operation is called.
#[derive(Clone, Copy)]
enum Place<'a> {
    Outside,
    Callback,
    /// In `data_received`, with these bytes.
    Data(&'a [u8]),
}

type Answer<R> = tidegate::Result<R>;

impl Shared {
    fn complain(&self, complaint: String) {
        self.complaints.borrow_mut().push(complaint);
    }

    /// A protocol that asks the model at each of its callbacks.
    fn protocol(self: &Rc<Self>, index: usize, log: &Log, buffer: usize) -> Recorder {
        let [made, data, eof, pause, resume, lost, get] = std::array::from_fn(|_| self.clone());
        let mut given = 0;
        let recorder = Recorder::new(log)
            .on_made(move |transport| {
                made.callback(transport, index, "connection_made", None, |_, _| ())
            })
            .on_data(move |transport, bytes| {
                let name = "data_received";
                data.callback(transport, index, name, Some(bytes), |model, _| {
                    model.data(bytes)
                })
            })
            .on_eof(move |transport| {
                eof.callback(transport, index, "eof_received", None, |model, script| {
                    model.eof(!script.closes);
                    if script.closes {
                        OnEof::Close
                    } else {
                        OnEof::KeepOpen
                    }
                })
            })
            .on_pause(move |transport| {
                pause.callback(transport, index, "pause_writing", None, |model, script| {
                    let answer = if script.stops {
                        OnPause::StopReading
                    } else {
                        OnPause::KeepReading
                    };
                    model.pause(answer);
                    answer
                })
            })
            .on_resume(move |transport| {
                let name = "resume_writing";
                resume.callback(transport, index, name, None, |model, _| {
                    model.resume(transport);
                })
            })
            .on_lost(move |transport, closed| {
                lost.lost.set(true);
                // It cannot return an error; the script's is for the others.
                let _ = lost.callback(transport, index, "connection_lost", None, |model, _| {
                    model.lose(transport, closed);
                });
            });
        if buffer == 0 {
            return recorder;
        }
        recorder
            .buffered(buffer)
            .on_get_buffer(move |transport, _| {
                given += 1;
                if given % 5 == 0 {
                    get.get_buffer(transport, index);
                }
            })
    }

    /// One callback: the model's check, what the script does, the answer.
    fn callback<R>(
        self: &Rc<Self>,
        transport: &Transport,
        index: usize,
        name: &str,
        data: Option<&[u8]>,
        check: impl FnOnce(&mut Model, &Script) -> R,
    ) -> Answer<R> {
        let Ok(mut model) = self.model.try_borrow_mut() else {
            self.complain(format!("{name} within a call of ours"));
            return Err("called back".into());
        };
        model.enter(transport, index, name);
        // Opening a connection fails with its `connection_made`; that is not for here.
        let silent = model.finale || model.peer.is_none() && name == "connection_made";
        let script = match silent {
            true => Script::default(),
            false => model.scripts.pop_front().unwrap_or_default(),
        };
        let answer = check(&mut model, &script);
        let place = data.map_or(Place::Callback, Place::Data);
        let mut first = None;
        for op in &script.ops {
            let result = self.act(&mut model, transport, op, place);
            first = first.or(result.err());
        }
        if script.fails {
            model.fails(transport, None);
            return Err("the script fails".into());
        }
        if let Some(error) = first.filter(|_| script.propagates) {
            model.fails(transport, Some(&error));
            return Err(error.into());
        }
        if name == "eof_received" && script.closes {
            model.begin_close();
        }
        Ok(answer)
    }

    fn get_buffer(self: &Rc<Self>, transport: &Transport, index: usize) {
        let Ok(mut model) = self.model.try_borrow_mut() else {
            self.complain("get_buffer within a call of ours".to_owned());
            return;
        };
        model.enter(transport, index, "get_buffer");
        model.check_reading();
        let script = match model.finale {
            true => Script::default(),
            false => model.scripts.pop_front().unwrap_or_default(),
        };
        for op in &script.ops {
            // A buffer is given or not; there is no error to return.
            let _ = self.act(&mut model, transport, op, Place::Callback);
        }
    }

    /// One operation. Answers the error of a write.
    fn act(
        self: &Rc<Self>,
        model: &mut Model,
        transport: &Transport,
        op: &Op,
        place: Place<'_>,
    ) -> Result<(), WriteError> {
        model.note(format!("{op:?}"));
        model.observe(transport);
        match op {
            Op::Write(len) => {
                return self.write(model, transport, *len, 1, |bytes| transport.write(bytes));
            }
            Op::WriteOwned(len) => {
                return self.write(model, transport, *len, 1, |bytes| {
                    transport.write_owned(Bytes::copy_from_slice(bytes))
                });
            }
            Op::WriteVectored(len, count) => {
                return self.write(model, transport, *len, *count, |bytes| {
                    let size = bytes.len().div_ceil(*count).max(1);
                    let mut slices: Vec<_> = bytes.chunks(size).map(IoSlice::new).collect();
                    slices.insert(slices.len() / 2, IoSlice::new(&[]));
                    transport.write_vectored(&slices)
                });
            }
            Op::WriteEof => {
                let result = transport.write_eof();
                let refused = match &result {
                    Ok(()) => false,
                    Err(WriteError::Closing { .. }) => model.closing,
                    Err(error) => error.closed().is_some(),
                };
                model.expect(refused == model.is_ended(), "write_eof fails at the end");
                model.eof_asked |= result.is_ok();
            }
            Op::PauseReading => {
                transport.pause_reading();
                model.reading_paused = true;
            }
            Op::ResumeReading => {
                transport.resume_reading();
                model.reading_paused = false;
            }
            Op::SetProtocol { unread, buffer } => {
                self.set_protocol(model, transport, *unread, *buffer, place);
            }
            Op::WithProtocol => {
                // Within a callback it is another one's turn.
                let found = transport.with_protocol(|_: &mut Recorder, _| ()).is_some();
                let gone = model.lost.is_some();
                model.expect(!(found && gone), "with_protocol finds nobody at the end");
                if found {
                    model.switch();
                }
            }
            Op::Limits { high, low, cap } => limits(model, transport, *high, *low, *cap),
            Op::Wait(what, how) => self.wait(model, transport, *what, *how),
            Op::DropKept => {
                for kept in std::mem::take(&mut model.kept) {
                    let (Kept::Unit(index, _) | Kept::Closed(index, _)) = &kept;
                    model.forget_waiter(*index);
                }
            }
            Op::Close => {
                transport.close();
                model.begin_close();
            }
            Op::CloseWithin(limit) => {
                transport.close_within(Duration::from_millis(*limit));
                model.timed = true;
                model.begin_close();
            }
            Op::Abort => {
                transport.abort();
                model.abort();
            }
            Op::Reset => {
                transport.reset();
                model.abort();
            }
            Op::Soon(ops) => {
                let run = self.closure(ops);
                transport.call_soon(move |_: &mut Recorder, transport| run(transport, true));
            }
            Op::Later(delay, ops) => {
                let run = self.closure(ops);
                let delay = Duration::from_millis(*delay);
                transport.call_later(delay, move |_: &mut Recorder, transport| {
                    run(transport, true)
                });
            }
            Op::LoopSoon(ops) => {
                let run = self.closure(ops);
                let at = transport.clone();
                transport.handle().call_soon(move |_| {
                    // Nobody takes an error here.
                    let _ = run(&at, false);
                });
            }
            Op::PeerRead(most) => model.peer_read(transport, *most),
            Op::PeerWrite(len) => peer_write(model, *len),
            Op::PeerEof => {
                if let Some(peer) = model.peer.as_ref().filter(|_| !model.peer_gone) {
                    // It fails after a reset of ours.
                    let _ = peer.as_sock().shutdown(std::net::Shutdown::Write);
                    model.peer_eof = true;
                }
            }
            Op::PeerClose | Op::PeerReset => {
                if let Some(peer) = model.peer.as_mut().filter(|_| !model.peer_gone) {
                    match op {
                        Op::PeerClose => peer.close(),
                        _ => peer.reset(),
                    }
                    model.peer_gone = true;
                }
            }
            Op::Turns(_) => {}
        }
        model.observe(transport);
        Ok(())
    }

    fn write(
        &self,
        model: &mut Model,
        transport: &Transport,
        len: usize,
        slices: usize,
        write: impl FnOnce(&[u8]) -> Result<tidegate::Flow, WriteError>,
    ) -> Result<(), WriteError> {
        let bytes = ours(model.written, len);
        let was_closed = transport.closed().is_some();
        let refused = was_closed || model.closing || model.eof_asked;
        let before = model.buffered();
        let may_be_full = before + CHUNK_COST * model.chunks >= model.cap;
        let result = write(bytes);
        let flow = match &result {
            Ok(flow) => Some(*flow),
            Err(_) => None,
        };
        let sent = transport.sent() - model.sent;
        match &result {
            _ if bytes.is_empty() => model.expect(result.is_ok(), "an empty write is no write"),
            Ok(_) => {
                model.expect(!refused, "no write after the end");
                let room = before.saturating_sub(sent) < model.cap;
                model.expect(room, "no write at the cap");
                if may_be_full {
                    model.fell_and_rose(transport, before);
                }
                model.written += bytes.len() as u64;
                model.chunks += slices as u64;
            }
            Err(WriteError::BufferFull { .. }) => {
                model.expect(!refused && may_be_full, "BufferFull at the cap only");
            }
            Err(WriteError::Closing { .. }) => {
                model.expect(model.closing && !was_closed, "Closing after close");
            }
            Err(WriteError::AfterEof { .. }) => {
                let open = !was_closed && !model.closing;
                model.expect(open && model.eof_asked, "AfterEof after write_eof");
            }
            Err(WriteError::Closed { .. }) if was_closed => {}
            Err(WriteError::Closed { .. }) => {
                model.expect(model.peer_gone, "a write fails when the peer is gone");
                let counted = transport.written() == model.written + bytes.len() as u64;
                model.expect(counted || may_be_full, "the failed write counts as written");
                model.written = transport.written();
            }
            Err(_) => model.expect(false, "a refusal that cannot be"),
        }
        model.observe_rise(transport);
        let told = flow.is_none_or(|flow| flow == transport.flow());
        model.expect(told, "write answers the flow");
        let size = transport.write_buffer_size();
        let outcome = match &result {
            Err(error) => error.to_string(),
            Ok(flow) => format!("{flow:?}"),
        };
        model.note(format!("   -> {outcome}, buffered {size}"));
        result.map(drop)
    }

    fn set_protocol(
        self: &Rc<Self>,
        model: &mut Model,
        transport: &Transport,
        unread: usize,
        buffer: usize,
        place: Place<'_>,
    ) {
        let index = model.logs.len();
        let log = Log::new().switched_in();
        let protocol = self.protocol(index, &log, buffer);
        // From `data_received`: the rest of the data. Else: bytes that the peer never sent.
        let unread = match place {
            Place::Data(data) => data[data.len().saturating_sub(unread)..].to_vec(),
            _ => theirs(index * 1000 + 7, unread).to_vec(),
        };
        model.logs.push(log);
        let result = transport.set_protocol(protocol, &unread);
        let accepted = result.is_ok();
        model.expect(
            accepted == model.lost.is_none(),
            "set_protocol fails from connection_lost on",
        );
        if accepted {
            model.set_next(index, &unread, !matches!(place, Place::Outside));
        }
    }

    fn wait(self: &Rc<Self>, model: &mut Model, transport: &Transport, what: What, how: How) {
        let index = model.add_waiter(what, how);
        model.note(format!("   is waiter {index}"));
        match what {
            What::Drain => {
                let completion = transport.drain();
                self.answer(model, transport, index, how, completion, Kept::Unit, |()| {
                    None
                });
            }
            What::Flush => {
                let completion = transport.flush();
                self.answer(model, transport, index, how, completion, Kept::Unit, |()| {
                    None
                });
            }
            What::Closed => {
                let completion = transport.wait_closed();
                self.answer(model, transport, index, how, completion, Kept::Closed, Some);
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the two kinds of completion differ in types"
    )]
    fn answer<T: 'static>(
        self: &Rc<Self>,
        model: &mut Model,
        transport: &Transport,
        index: usize,
        how: How,
        completion: Completion<T>,
        keep: impl FnOnce(usize, Completion<T>) -> Kept,
        closed: impl FnOnce(T) -> Option<Closed> + 'static,
    ) {
        let shared = self.clone();
        let at = transport.clone();
        let done = move |answer: io::Result<T>| match shared.model.try_borrow_mut() {
            Ok(mut model) => model.answered(&at, index, answer.map(closed)),
            Err(_) => shared.complain("a waiter within a call of ours".to_owned()),
        };
        match how {
            How::Then => completion.then(move |_, answer| done(answer)),
            How::ThenWithin(limit) => completion
                .within(Duration::from_millis(limit))
                .then(move |_, answer| done(answer)),
            How::ThenOn => completion.then_on(transport, move |_: &mut Recorder, _, answer| {
                done(answer);
                Ok(())
            }),
            How::Keep => model.kept.push(keep(index, completion)),
            How::Drop => drop(completion),
            How::Detach => completion.detach(),
        }
    }

    /// What a scheduled closure does; it is missed when it goes without having run.
    fn closure(self: &Rc<Self>, ops: &[Op]) -> impl FnOnce(&Transport, bool) -> Answer<()> + use<> {
        let ops = ops.to_vec();
        let guard = Guard::new(self);
        move |transport, is_callback| {
            let shared = guard.ran();
            let Ok(mut model) = shared.model.try_borrow_mut() else {
                shared.complain("a closure within a call of ours".to_owned());
                return Ok(());
            };
            if is_callback {
                model.enter_any(transport);
            } else {
                model.enter_outside(transport);
            }
            let place = if is_callback {
                Place::Callback
            } else {
                Place::Outside
            };
            if !model.finale {
                for op in &ops {
                    // Refusals are checked where they come.
                    let _ = shared.act(&mut model, transport, op, place);
                }
            }
            Ok(())
        }
    }
}

/// Sees that a closure is run, or dropped after the end.
struct Guard {
    shared: Rc<Shared>,
    ran: Cell<bool>,
}

impl Guard {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.closures.set(shared.closures.get() + 1);
        Self {
            shared: shared.clone(),
            ran: Cell::new(false),
        }
    }

    fn ran(&self) -> Rc<Shared> {
        self.ran.set(true);
        self.shared.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.closures.set(self.shared.closures.get() - 1);
        if !self.ran.get() && !self.shared.lost.get() {
            let complaint = "a closure was dropped before the end, without having run";
            self.shared.complain(complaint.to_owned());
        }
    }
}

fn limits(model: &mut Model, transport: &Transport, high: usize, low: usize, cap: usize) {
    let limits = WriteLimits::new()
        .with_high(high)
        .with_low(low)
        .with_cap(cap);
    let valid = low <= high && high <= cap && cap > 0;
    let result = transport.set_write_limits(limits);
    model.expect(result.is_ok() == valid, "limits are checked");
    if valid {
        model.high = high as u64;
        model.low = low as u64;
        model.cap = cap as u64;
    }
    let now = transport.write_limits();
    let known = (now.high() as u64, now.low() as u64, now.cap() as u64);
    let same = known == (model.high, model.low, model.cap);
    model.expect(same, "refused limits change nothing");
    model.observe_rise(transport);
}

fn peer_write(model: &mut Model, len: usize) {
    if model.peer_gone || model.peer_eof {
        return;
    }
    let Some(peer) = model.peer.as_mut() else {
        return;
    };
    let bytes = theirs(model.peer_sent, len);
    if bytes.is_empty() {
        return;
    }
    match peer.try_write(bytes) {
        Ok(sent) => {
            model.peer_sent += sent;
            model.note(format!("   -> {sent}"));
        }
        Err(_) => model.peer_write_failed(),
    }
}

/// A case that runs.
struct Case<'a> {
    plan: &'a Plan,
    event_loop: EventLoop,
    shared: Rc<Shared>,
    transport: Transport,
}

impl<'a> Case<'a> {
    fn new(plan: &'a Plan, kind: Kind, tiny: bool) -> io::Result<Self> {
        let mut event_loop = EventLoop::new()?;
        event_loop.handle().set_error_handler(|_, _| {});
        let log = Log::new();
        let shared = Rc::new(Shared {
            model: RefCell::new(Model::new(plan, &log)),
            complaints: RefCell::default(),
            lost: Cell::new(false),
            closures: Cell::new(0),
        });
        let protocol = shared.protocol(0, &log, plan.buffer);
        let prepare = |socket: &Socket| {
            if tiny {
                shrink_kernel_buffers(socket, kind, plan.kernel_buffer);
            } else if !plan.is_usual {
                shrink_kernel_buffers(socket, kind, 16 * plan.kernel_buffer);
            }
        };
        let (transport, peer) = if plan.accepted {
            adopted_with(event_loop.handle(), kind, prepare, protocol)
        } else {
            connected(&mut event_loop, kind, |options| options, protocol)
        };
        if kind == Kind::Tcp {
            peer.as_sock().set_tcp_nodelay(true)?;
        }
        shared.model.borrow_mut().peer = Some(peer);
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

    fn turn(&mut self, wait: Duration) -> Result<(), String> {
        {
            let mut model = self.shared.model.borrow_mut();
            model.turn += 1;
            model.note("turn".to_owned());
        }
        let turned = self.event_loop.run_once(Some(wait));
        turned.map_err(|error| format!("the loop failed: {error}"))?;
        self.shared.model.borrow_mut().after_turn(&self.transport);
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

    /// Turns until the loop has nothing to do.
    fn quiet(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        for _ in 0..5000 {
            let before = self.event_loop.handle().snapshot();
            self.turn(Duration::ZERO)?;
            let mut after = self.event_loop.handle().snapshot();
            after.polls = before.polls;
            quiet = if after == before { quiet + 1 } else { 0 };
            if quiet == 3 {
                return Ok(());
            }
        }
        Err("the loop does not come to rest".to_owned())
    }

    fn drive(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let start = Instant::now();
        let mut idle = 0;
        while !done(self) {
            if start.elapsed() > BOUND {
                let snapshot = self.event_loop.handle().snapshot();
                let state = format!("{:?}\n{snapshot:#?}", self.transport);
                return Err(format!("waited in vain for {what}\n{state}"));
            }
            idle += 1;
            let wait = if idle < 20 { 0 } else { 1 };
            self.turn(Duration::from_millis(wait))?;
        }
        self.check()
    }

    fn steps(&mut self) -> Result<(), String> {
        let mut after_end = 0;
        for op in &self.plan.ops {
            if let Op::Turns(count) = op {
                for _ in 0..*count {
                    self.turn(Duration::ZERO)?;
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
            let snapshot = case.event_loop.handle().snapshot();
            snapshot.connections + snapshot.lingering == 0
        })?;
        self.quiet()?;
        self.kept_answers();
        self.settled()?;
        self.shared.model.borrow_mut().check_waiters();
        let snapshot = self.event_loop.handle().snapshot();
        if snapshot.timers + snapshot.completions + snapshot.connecting != 0 {
            return Err(format!("something is left: {snapshot:#?}"));
        }
        self.check()
    }

    /// Both sides read all there is; then nothing of it may be missing.
    fn let_all_through(&mut self) -> Result<(), String> {
        self.act(&Op::ResumeReading);
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
        shared.model.borrow_mut().observe(&transport);
        let count = Rc::strong_count(&shared);
        let closures = shared.closures.get();
        let result = if !lost {
            Err("no connection_lost at the end of the loop".to_owned())
        } else if closures > 0 || count > 1 {
            Err(format!("{closures} closures and {count} owners are left"))
        } else {
            Ok(())
        };
        (shared, result)
    }
}

/// Runs a case; a failure comes with what was done.
pub(crate) fn run(plan: &Plan, kind: Kind, tiny: bool) -> Result<(), String> {
    let mut case = Case::new(plan, kind, tiny).map_err(|error| error.to_string())?;
    let mut result = case.steps().and_then(|()| case.ending());
    if result.is_err() {
        // What the end of the loop brings is of no interest then.
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
