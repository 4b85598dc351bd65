//! The scripts on Tidegate. Line by line the counterpart of `interop/asyncio_scripts.py`.

use super::driven::{Driven, Shared, pattern};
use super::sockets::{CLOG, clog, pair};
use super::{PeerOp, Script, Step};
use socket2::Socket;
use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use support::{Kind, Peer, settle, strict_loop};
use tidegate::{EventLoop, Handle, OnEof, Transport};

/// Connections that are open at the same time; the tests beside this one have theirs.
const BATCH: usize = 200;

/// The traces, in the order of the scripts.
pub(crate) fn ours(scripts: &[Script]) -> Vec<Vec<String>> {
    let batches = scripts.chunks(BATCH).map(run);
    batches.collect::<Vec<_>>().concat()
}

fn run(scripts: &[Script]) -> Vec<Vec<String>> {
    let mut event_loop = strict_loop();
    // An error of a script is expected.
    event_loop.handle().set_error_handler(|_, _| {});
    let mut sessions: Vec<_> = scripts.iter().map(Session::new).collect();
    let clogged = sessions.iter().filter(|session| session.clogged);
    let sockets: Vec<_> = clogged
        .filter_map(|session| session.socket.as_ref())
        .collect();
    clog(&mut event_loop, &sockets);
    for (session, script) in sessions.iter_mut().zip(scripts) {
        session.connect(event_loop.handle(), script.kind);
    }
    quiet(&mut event_loop, &mut sessions);
    sessions.iter_mut().for_each(Session::note);
    while sessions.iter().any(|session| !session.steps.is_empty()) {
        let stepping: Vec<bool> = sessions.iter_mut().map(Session::step).collect();
        quiet(&mut event_loop, &mut sessions);
        let stepped = sessions
            .iter_mut()
            .zip(stepping)
            .filter(|(_, stepped)| *stepped);
        stepped.for_each(|(session, _)| session.note());
    }
    for session in &mut sessions {
        session.peer_reads = true;
    }
    quiet(&mut event_loop, &mut sessions);
    sessions.into_iter().map(Session::finish).collect()
}

fn quiet(event_loop: &mut EventLoop, sessions: &mut [Session]) {
    loop {
        settle(event_loop);
        let moved = sessions.iter_mut().map(Session::pump).sum::<usize>();
        if moved == 0 {
            return;
        }
    }
}

struct Session {
    shared: Rc<Shared>,
    steps: VecDeque<Step>,
    /// Until it is connected.
    socket: Option<Socket>,
    transport: Option<Transport>,
    peer: Peer,
    peer_reads: bool,
    peer_sent: u64,
    trace: Vec<String>,
    clogged: bool,
    untouched: bool,
}

impl Session {
    fn new(script: &Script) -> Self {
        let (setup, steps) = script.steps();
        let (socket, peer) = pair(script.kind);
        let mut session = Self {
            shared: Rc::default(),
            steps: steps.into(),
            socket: Some(socket),
            transport: None,
            peer,
            peer_reads: false,
            peer_sent: 0,
            trace: Vec::new(),
            clogged: false,
            untouched: true,
        };
        for step in setup {
            session.act(step);
        }
        session
    }

    fn connect(&mut self, handle: &Handle, kind: Kind) {
        let protocol = Driven::new(&self.shared, "");
        let fd = OwnedFd::from(self.socket.take().unwrap());
        let transport = match kind {
            Kind::Tcp => handle.adopt(std::net::TcpStream::from(fd), protocol),
            Kind::Unix => handle.adopt(std::os::unix::net::UnixStream::from(fd), protocol),
        };
        self.transport = Some(transport.unwrap());
    }

    fn transport(&self) -> &Transport {
        self.transport.as_ref().unwrap()
    }

    fn step(&mut self) -> bool {
        let step = self.steps.pop_front();
        let stepped = step.is_some();
        step.into_iter().for_each(|step| self.act(step));
        stepped
    }

    fn act(&mut self, step: Step) {
        let shared = &self.shared;
        match step {
            Step::Clogged => self.clogged = true,
            Step::Buffered => shared.buffered.set(true),
            Step::Default => shared.default.set(true),
            Step::Eof(answer) => shared.keep_open.set(answer == OnEof::KeepOpen),
            Step::On(name, ops) => drop(shared.hooks.borrow_mut().insert(name, ops)),
            Step::Peer(op) => self.peer_acts(op),
            Step::Settle => {}
            Step::Calls(ops) => {
                for op in ops {
                    // Only callbacks raise.
                    shared.call(self.transport(), op).unwrap();
                }
            }
        }
    }

    fn peer_acts(&mut self, op: PeerOp) {
        match op {
            PeerOp::Sends(len) => {
                // Nothing is sent on a connection that was reset.
                let sent = self.peer.try_write(&pattern(self.peer_sent, len));
                self.peer_sent += sent.unwrap_or(0) as u64;
            }
            PeerOp::Reads => {
                self.peer_reads = true;
                self.untouched = false;
            }
            PeerOp::Stops => self.peer_reads = false,
            PeerOp::Shuts => {
                // As above.
                let _ = self.peer.as_sock().shutdown(Shutdown::Write);
            }
            PeerOp::Closes => self.peer.close(),
            PeerOp::Resets => self.peer.reset(),
        }
    }

    /// Reads all that is there; returns the number of reads that found something, be it the end.
    fn pump(&mut self) -> usize {
        if !self.peer_reads || self.peer.is_closed() || self.peer.is_ended() {
            return 0;
        }
        let before = self.peer.received().len();
        self.peer.read_available();
        self.peer.received().len() - before + usize::from(self.peer.is_ended())
    }

    fn state(&self) -> String {
        if self.shared.lost.get() {
            return "lost".to_owned();
        }
        let transport = self.transport();
        let size = match transport.write_buffer_size() {
            0 => "0".to_owned(),
            size if self.clogged && self.untouched => size.to_string(),
            // Depends on what the kernel took.
            _ => "some".to_owned(),
        };
        let word = if transport.is_closing() {
            "closing"
        } else if self.shared.saw_eof.get() {
            // Whether it is reading is a question of its own: the call `is_reading`.
            "eof"
        } else if transport.is_reading() {
            "reading"
        } else {
            "paused"
        };
        format!("{word} {size}")
    }

    fn note(&mut self) {
        let events = self.shared.events.take().join(", ");
        let line = format!("{events} [{}]", self.state());
        self.trace.push(line.trim_start().to_owned());
    }

    fn finish(mut self) -> Vec<String> {
        let received = self.peer.received();
        let clog = received.iter().take_while(|byte| **byte == CLOG).count();
        let received = &received[clog..];
        let corrupt = received != pattern(0, received.len());
        self.shared.see(format!("peer got {}", received.len()));
        let end = match self.peer.saw_error() {
            _ if self.peer.is_closed() => "gone",
            Some(_) => "reset",
            None if self.peer.saw_eof() => "eof",
            None => "open",
        };
        self.shared.see(end.to_owned());
        if corrupt {
            self.shared.see("corrupt".to_owned());
        }
        self.note();
        self.transport().abort();
        self.trace
    }
}
