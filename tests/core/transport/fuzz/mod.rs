//! Rows of operations on a transport in a simulated world, in callbacks and outside: what a
//! transport promises holds after each of them.

mod case;

use case::{Case, Op, Wait, decode};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, Seen, pattern};
use tidegate::{Completion, Flow, OnEof, OnPause, Transport, WriteError, WriteLimits};
use tidegate_testkit::{Fault, Faults, Host, Network, Peer, World, fuzz};

/// The byte that a protocol is given as already read; no byte of a peer's is this one.
const UNREAD: u8 = 0xff;

type WriteResult = Result<Flow, WriteError>;

/// One of what was asked for.
struct Waiter {
    wait: Wait,
    answers: Cell<u32>,
}

struct Run {
    network: Network,
    peer: RefCell<Option<Peer>>,
    transport: RefCell<Option<Transport>>,
    logs: RefCell<Vec<Log>>,
    callbacks: RefCell<VecDeque<Vec<Op>>>,
    waiters: RefCell<Vec<Rc<Waiter>>>,
    /// Bytes that `write` took, and that the peer sent and took.
    written: Cell<usize>,
    peer_sent: Cell<usize>,
    peer_got: RefCell<Vec<u8>>,
    unread: Cell<usize>,
    buffered: Option<usize>,
    keep_reading: bool,
    keep_open: bool,
}

fn data(from: usize, len: usize) -> Vec<u8> {
    let mut data = pattern(from as u64, len);
    data.iter_mut().for_each(|byte| *byte &= 0x7f);
    data
}

fn is_prefix(data_got: &[u8]) -> bool {
    data_got == data(0, data_got.len())
}

impl Run {
    fn protocol(self: &Rc<Self>, log: &Log) -> Recorder {
        self.logs.borrow_mut().push(log.clone());
        let (keep_open, keep_reading) = (self.keep_open, self.keep_reading);
        let recorder = Recorder::new(log)
            .on_made(self.hook(|_| Ok(())))
            .on_resume(self.hook(|_| Ok(())))
            .on_eof(self.hook(move |_| {
                Ok(if keep_open {
                    OnEof::KeepOpen
                } else {
                    OnEof::Close
                })
            }))
            .on_pause(self.hook(move |_| {
                Ok(if keep_reading {
                    OnPause::KeepReading
                } else {
                    OnPause::StopReading
                })
            }))
            .on_data({
                let mut hook = self.hook(|_| Ok(()));
                move |transport, _| hook(transport)
            })
            .on_lost({
                let mut hook = self.hook(|_| Ok(()));
                move |transport, _| drop(hook(transport))
            });
        match self.buffered {
            Some(size) => recorder.buffered(size),
            None => recorder,
        }
    }

    /// Does the next row, then returns its value.
    fn hook<R, F>(
        self: &Rc<Self>,
        answer: F,
    ) -> impl FnMut(&Transport) -> tidegate::Result<R> + use<R, F>
    where
        F: Fn(&Transport) -> tidegate::Result<R>,
    {
        let run = Rc::downgrade(self);
        move |transport| {
            if let Some(run) = run.upgrade() {
                run.transport.replace(Some(transport.clone()));
                run.check(transport);
                let row = run.callbacks.borrow_mut().pop_front();
                for op in row.unwrap_or_default() {
                    if matches!(op, Op::Fail) {
                        return Err("as the case wants it".into());
                    }
                    run.act(transport, &op);
                    run.check(transport);
                }
            }
            answer(transport)
        }
    }

    /// A write that is the first to meet an error fails, and counts as written all the same.
    fn wrote(&self, transport: &Transport, len: usize, result: WriteResult) {
        let counts = match result {
            Ok(_) => true,
            Err(WriteError::Closed { .. }) => transport.written() > self.written.get() as u64,
            Err(_) => false,
        };
        if counts {
            self.written.set(self.written.get() + len);
        }
    }

    fn act(self: &Rc<Self>, transport: &Transport, op: &Op) {
        let at = self.written.get();
        match op {
            Op::Write(len) => {
                self.wrote(transport, *len, transport.write(&data(at, *len)));
            }
            Op::WriteOwned(len) => {
                self.wrote(transport, *len, transport.write_owned(data(at, *len)));
            }
            Op::WriteVectored(one, other) => {
                let all = data(at, one + other);
                let (first, second) = all.split_at(*one);
                let slices = [IoSlice::new(first), IoSlice::new(second)];
                self.wrote(transport, all.len(), transport.write_vectored(&slices));
            }
            // Refused when it is over.
            Op::WriteEof => drop(transport.write_eof()),
            Op::PauseReading => transport.pause_reading(),
            Op::ResumeReading => transport.resume_reading(),
            Op::Limits(high, low, cap) => {
                let limits = WriteLimits::new()
                    .with_high(*high)
                    .with_low(*low)
                    .with_cap(*cap);
                let valid = low <= high && high <= cap && *cap > 0;
                assert_eq!(
                    transport.set_write_limits(limits).is_ok(),
                    valid,
                    "{limits:?}"
                );
            }
            Op::Close => transport.close(),
            Op::CloseWithin(limit) => transport.close_within(*limit),
            Op::Abort => transport.abort(),
            Op::Reset => transport.reset(),
            Op::SetProtocol(unread) => self.set_protocol(transport, *unread),
            Op::Later(delay, op) => {
                let (run, transport, op) = (self.clone(), transport.clone(), op.clone());
                let handle = transport.handle().clone();
                handle.call_later(*delay, move |_| run.act(&transport, &op));
            }
            Op::Wait(wait, limit) => self.wait(transport, *wait, *limit),
            Op::DropWaiter(Wait::Drain) => drop(transport.drain()),
            Op::DropWaiter(Wait::Flush) => drop(transport.flush()),
            Op::DropWaiter(Wait::Closed) => drop(transport.wait_closed()),
            Op::Force(fault) => self.network.force(*fault, 1),
            Op::PeerReset | Op::PeerClose => {
                let peer = self.peer.borrow_mut().take();
                if let (Op::PeerReset, Some(peer)) = (op, peer) {
                    peer.reset();
                }
            }
            Op::PeerSend(_) | Op::PeerTake | Op::PeerEof => self.peer_acts(op),
            Op::Advance(_) | Op::Pump | Op::Fail => {}
        }
    }

    fn set_protocol(self: &Rc<Self>, transport: &Transport, unread: usize) {
        let log = Log::new().switched_in();
        let result = transport.set_protocol(self.protocol(&log), &vec![UNREAD; unread]);
        assert_eq!(result.is_err(), self.is_lost());
        if result.is_ok() {
            self.unread.set(self.unread.get() + unread);
        }
    }

    fn wait(self: &Rc<Self>, transport: &Transport, wait: Wait, limit: Option<Duration>) {
        let waiter = Rc::new(Waiter {
            wait,
            answers: Cell::new(0),
        });
        self.waiters.borrow_mut().push(waiter.clone());
        fn ask<T: 'static>(
            completion: Completion<T>,
            limit: Option<Duration>,
            then: impl FnOnce(io::Result<T>) + 'static,
        ) {
            let completion = match limit {
                Some(limit) => completion.within(limit),
                None => completion,
            };
            completion.then(move |_, answer| then(answer));
        }
        let transport_then = transport.clone();
        let sent_then = transport.written();
        match wait {
            Wait::Drain => ask(transport.drain(), limit, move |_| {
                waiter.answers.set(waiter.answers.get() + 1);
            }),
            Wait::Flush => ask(transport.flush(), limit, move |answer| {
                waiter.answers.set(waiter.answers.get() + 1);
                assert!(answer.is_err() || transport_then.sent() >= sent_then);
            }),
            Wait::Closed => ask(transport.wait_closed(), limit, move |answer| {
                waiter.answers.set(waiter.answers.get() + 1);
                assert!(answer.is_ok() || limit.is_some());
            }),
        }
    }

    fn peer_acts(&self, op: &Op) {
        let peer = self.peer.borrow();
        let Some(peer) = peer.as_ref() else { return };
        match op {
            Op::PeerSend(len) => {
                let sent = self.peer_sent.get();
                // Refused when there is no room, or the connection is over.
                let len = peer.send(&data(sent, *len)).unwrap_or(0);
                self.peer_sent.set(sent + len);
            }
            Op::PeerTake => self.peer_got.borrow_mut().extend(peer.take()),
            // Refused when the connection is over.
            _ => drop(peer.send_eof()),
        }
    }

    fn is_lost(&self) -> bool {
        self.logs.borrow().iter().any(Log::is_lost)
    }

    /// Checks the rules of any time.
    fn check(&self, transport: &Transport) {
        let (written, sent) = (transport.written(), transport.sent());
        assert_eq!(
            written,
            self.written.get() as u64,
            "what was written counts"
        );
        assert!(sent <= written, "{sent} of {written} are sent");
        let (buffered, limits) = (transport.write_buffer_size(), transport.write_limits());
        match transport.closed() {
            Some(closed) => assert_eq!(closed.unsent(), written - sent, "{closed:?}"),
            None => assert_eq!(
                buffered as u64,
                written - sent,
                "what is unsent is buffered"
            ),
        }
        if transport.closed().is_none() {
            let fits = if transport.flow().is_paused() {
                buffered > limits.low()
            } else {
                buffered <= limits.high()
            };
            let flow = transport.flow();
            assert!(fits, "{flow:?} with {buffered} buffered, {limits:?}");
        }
        assert!(
            is_prefix(&self.peer_got.borrow()),
            "what the peer got was written"
        );
    }

    /// Checks the rules of a transport with nothing left to do.
    fn check_idle(&self, transport: &Transport) {
        self.check(transport);
        let logs = self.logs.borrow();
        if !transport.is_closing()
            && let Some(log) = logs.last()
        {
            let seen = log.seen();
            let told = seen
                .iter()
                .rev()
                .find(|seen| matches!(seen, Seen::Pause | Seen::Resume));
            let told = told == Some(&Seen::Pause);
            assert_eq!(
                told,
                transport.flow().is_paused(),
                "the flow was told: {seen:?}"
            );
        }
        let received: Vec<u8> = logs.iter().flat_map(Log::data).collect();
        let (unread, received): (Vec<u8>, Vec<u8>) =
            received.iter().partition(|byte| **byte == UNREAD);
        assert!(is_prefix(&received), "what was received was sent");
        assert!(received.len() <= self.peer_sent.get() && unread.len() <= self.unread.get());
    }

    /// Checks the rules of the end; `to_the_end` when the peer took everything until then.
    fn check_end(&self, transport: &Transport, world: &World, host: &Host, to_the_end: bool) {
        self.check_idle(transport);
        let logs = self.logs.borrow();
        let lost = logs.iter().filter(|log| log.is_lost()).count();
        assert_eq!(lost, 1, "connection_lost came {lost} times");
        let closed = transport.closed().expect("a lost connection is closed");
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
        if closed.is_clean() && to_the_end {
            assert_eq!(
                self.peer_got.borrow().len(),
                self.written.get(),
                "{closed:?}"
            );
        }
        for waiter in self.waiters.borrow().iter() {
            let (wait, answers) = (waiter.wait, waiter.answers.get());
            assert_eq!(answers, 1, "{wait:?} was answered {answers} times");
        }
        let left = host.handle().stats();
        let counts = [
            left.connections,
            left.lingering,
            left.timers,
            left.completions,
        ];
        assert_eq!(counts, [0; 4], "{left:?}");
        assert_eq!(world.network().sockets(), 0);
        assert_eq!(world.network().descriptors(host), left.listeners);
    }
}

fn check(case: &Case) {
    let mut world = World::builder()
        .seed(case.seed)
        .link(case.link.clone())
        .step_limit(300_000)
        .build();
    let host = world.add_host("a").unwrap();
    let network = world.network().clone();
    let run = Rc::new(Run {
        network: network.clone(),
        peer: RefCell::default(),
        transport: RefCell::default(),
        logs: RefCell::default(),
        callbacks: RefCell::new(case.callbacks.clone().into()),
        waiters: RefCell::default(),
        written: Cell::new(0),
        peer_sent: Cell::new(0),
        peer_got: RefCell::default(),
        unread: Cell::new(0),
        buffered: case.buffered,
        keep_reading: case.keep_reading,
        keep_open: case.keep_open,
    });
    if case.accepted {
        let served = run.clone();
        let protocol = move || served.protocol(&Log::new());
        host.handle().create_server(host.addr(7), protocol).unwrap();
        run.peer.replace(Some(network.dial(host.addr(7)).unwrap()));
        world.run_until_idle().unwrap();
    } else {
        let listener = network.listen(0).unwrap();
        let protocol = run.protocol(&Log::new());
        host.handle()
            .create_connection(listener.addr(), protocol)
            .detach();
        while run.peer.borrow().is_none() {
            world.advance(Duration::from_millis(1)).unwrap();
            run.peer.replace(listener.accept());
        }
        world.run_until_idle().unwrap();
    }
    let transport = run.transport.borrow().clone().expect("it was made");
    if case.faults {
        network.set_faults(&Faults::all());
    }
    for op in &case.ops {
        run.act(&transport, op);
        run.check(&transport);
        match op {
            Op::Advance(by) => world.advance(*by).unwrap(),
            Op::Pump => world.pump().unwrap(),
            _ => continue,
        }
        run.check(&transport);
    }
    run.callbacks.borrow_mut().clear();
    network.set_faults(&Faults::none());
    for fault in Fault::ALL {
        network.force(*fault, 0);
    }
    world.run_until_idle().unwrap();
    run.check_idle(&transport);
    transport.close();
    let mut got = usize::MAX;
    while got != run.peer_got.borrow().len() {
        got = run.peer_got.borrow().len();
        run.peer_acts(&Op::PeerTake);
        world.run_until_idle().unwrap();
    }
    let to_the_end = run
        .peer
        .borrow()
        .as_ref()
        .is_some_and(|peer| !peer.is_reset());
    drop(run.peer.take());
    world.run_until_idle().unwrap();
    run.check_end(&transport, &world, &host, to_the_end);
}

#[test]
fn a_transport_keeps_its_promises_whatever_is_done_to_it_in_whichever_order() {
    fuzz(
        concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/transport"),
        decode,
        check,
    );
}
