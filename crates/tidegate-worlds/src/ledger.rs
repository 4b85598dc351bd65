//! The counts of a world, and every violation that was found in it.

use crate::layers::Stack;
use crate::{datagrams, programs};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::rc::Rc;
use tidegate::{Address, CloseReason, Closed, Handle, Transport};

/// The book of one connection's end, closed by its `connection_lost`.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) sent: u64,
    pub(crate) unsent: u64,
    /// It ended by a close of ours, with all that was written.
    pub(crate) is_clean: bool,
    pub(crate) received: u64,
    /// Also set later: a reader of streams may come to it after the end.
    pub(crate) saw_eof: Rc<Cell<bool>>,
}

/// The addresses of one end of a connection, and of its peer.
type Ends = (String, String);

/// Begun and ended: equal when nothing is left.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    begun: Cell<u64>,
    ended: Cell<u64>,
}

impl Pairs {
    pub(crate) fn begin(&self) {
        self.begun.set(self.begun.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.ended.set(self.ended.get() + 1);
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    fn open(&self) -> u64 {
        self.begun.get() - self.ended.get()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) protocols: Pairs,
    pub(crate) connections: Pairs,
    pub(crate) waiters: Pairs,
    pub(crate) tasks: Pairs,
    pub(crate) calls: Pairs,
    pub(crate) layers: Pairs,
    /// Those of callback protocols that have not ended.
    open: RefCell<BTreeMap<Ends, Transport>>,
    /// By how much more than was counted as sent may have arrived.
    slack: RefCell<BTreeMap<Ends, u64>>,
    /// Bytes that protocols have received and handed to layers.
    given_back: RefCell<BTreeMap<Ends, u64>>,
    /// Those of which a layer knows the end of a stream from a cut.
    knows_cuts: RefCell<BTreeSet<Ends>>,
    /// Those that ended their stream, or may have.
    ended: RefCell<BTreeSet<Ends>>,
    accounts: RefCell<BTreeMap<Ends, Account>>,
    /// The clients' connections, by their layers.
    pub(crate) stacks: RefCell<BTreeMap<String, u64>>,
    pub(crate) reasons: RefCell<BTreeMap<&'static str, u64>>,
    pub(crate) bytes: Cell<u64>,
    pub(crate) echoed_whole: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    /// The replies of services whose clients have got them.
    pub(crate) replies: Cell<u64>,
    /// The replies of services that have seen the end of the requests, by the number of the client.
    pub(crate) replied: RefCell<BTreeMap<u64, u64>>,
    /// Protocols that took over in the middle of a frame.
    pub(crate) torn: Cell<u64>,
    /// The bytes that throttled services have received.
    pub(crate) throttled: Cell<u64>,
    /// Connections that filled a server to its maximum.
    pub(crate) filled: Cell<u64>,
    pub(crate) from_backlog: Cell<u64>,
    /// Ends that lost bytes, and whose peers' ends are known.
    pub(crate) cuts: Cell<u64>,
    /// Ends of stream that layers told, with a peer to compare them with.
    pub(crate) told_ends: Cell<u64>,
    pub(crate) datagrams: Cell<datagrams::Counts>,
    pub(crate) programs: Cell<programs::Counts>,
    violations: RefCell<Vec<String>>,
}

impl Ledger {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Records a violation.
    pub(crate) fn violation(&self, what: impl fmt::Display) {
        let mut violations = self.violations.borrow_mut();
        // The first ones are enough.
        if violations.len() < 20 {
            violations.push(what.to_string());
        }
    }

    pub(crate) fn take_violations(&self) -> Vec<String> {
        self.violations.take()
    }

    /// A connection was made.
    pub(crate) fn open(&self, transport: &Transport) {
        self.connections.begin();
        self.open
            .borrow_mut()
            .insert(ends(transport), transport.clone());
    }

    /// Returns the connections that have not ended, those of a loop or all, as a text.
    pub(crate) fn show_open(&self, handle: Option<&Handle>) -> String {
        let open = self.open.borrow();
        let here = open
            .iter()
            .filter(|(_, open)| handle.is_none_or(|handle| open.handle() == handle));
        let texts = here.map(|((local, peer), open)| format!("{local} to {peer}: {open:?}"));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// Returns the number of bytes in the write buffers of a loop's connections.
    pub(crate) fn buffered(&self, handle: &Handle) -> u64 {
        let open = self.open.borrow();
        let here = open.values().filter(|open| open.handle() == handle);
        here.map(|open| open.stats().write_buffer_size as u64).sum()
    }

    /// A connection has ended.
    pub(crate) fn close(&self, transport: &Transport, closed: &Closed, saw_eof: bool) {
        self.connections.end();
        let open = self.open.borrow_mut().remove(&ends(transport));
        drop(open);
        let stats = transport.stats();
        if let CloseReason::Io(error) = closed.reason()
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.violation(format!("a layer got other bytes than were sent: {error}"));
        }
        if stats.write_buffer_size != 0 {
            self.violation(format!("{transport:?} ended with a buffer"));
        }
        let reason = reason_word(closed);
        *self.reasons.borrow_mut().entry(reason).or_default() += 1;
        self.bytes.set(self.bytes.get() + stats.received);
        self.enter(transport, closed, Rc::new(Cell::new(saw_eof)));
    }

    /// Notes bytes that a protocol has received and hands to a layer, as they were not for it.
    pub(crate) fn give_back(&self, transport: &Transport, len: usize) {
        let mut given_back = self.given_back.borrow_mut();
        *given_back.entry(ends(transport)).or_default() += len as u64;
    }

    /// Allows for the layers of a connection, beside those that it had.
    pub(crate) fn behind(&self, transport: &Transport, stack: &Stack) {
        *self.slack.borrow_mut().entry(ends(transport)).or_default() += stack.slack();
        if stack.knows_cuts() {
            self.knows_cuts.borrow_mut().insert(ends(transport));
        }
    }

    /// A connection ends its stream, or may do so.
    pub(crate) fn ends_stream(&self, transport: &Transport) {
        self.ended.borrow_mut().insert(ends(transport));
    }

    /// A client has layers.
    pub(crate) fn count_stack(&self, layers: String) {
        *self.stacks.borrow_mut().entry(layers).or_default() += 1;
    }

    fn enter(&self, transport: &Transport, closed: &Closed, saw_eof: Rc<Cell<bool>>) {
        let stats = transport.stats();
        if closed.unsent() != stats.written - stats.sent {
            self.violation(format!("{closed:?} does not add up with {stats:?}"));
        }
        let given_back = self.given_back.borrow();
        let given_back = given_back.get(&ends(transport)).copied().unwrap_or(0);
        let account = Account {
            sent: stats.sent,
            unsent: closed.unsent(),
            is_clean: closed.is_clean(),
            received: stats.received - given_back,
            saw_eof,
        };
        self.accounts.borrow_mut().insert(ends(transport), account);
    }

    /// Keeps the book of a connection of streams. The task that reads it sets what is returned, when
    /// it comes to the end of the stream.
    pub(crate) fn follow(
        self: &Rc<Self>,
        transport: &Transport,
        stack: Option<&Stack>,
    ) -> Rc<Cell<bool>> {
        let (ledger, saw_eof) = (self.clone(), Rc::new(Cell::new(false)));
        let (followed, seen) = (transport.clone(), saw_eof.clone());
        // Asked for while there is a socket.
        if let Some(stack) = stack {
            self.behind(transport, stack);
        }
        transport.wait_closed().then(move |_, closed| {
            // An error is the end of the loop, whose connections are not checked.
            if let Ok(closed) = closed {
                ledger.enter(&followed, &closed, seen);
            }
        });
        saw_eof
    }

    /// Holds the two ends of each connection against each other.
    pub(crate) fn balance(&self) {
        let (accounts, slack) = (self.accounts.borrow(), self.slack.borrow());
        let (knows_cuts, ended) = (self.knows_cuts.borrow(), self.ended.borrow());
        for ((local, peer), account) in accounts.iter() {
            let Some(other) = accounts.get(&(peer.clone(), local.clone())) else {
                continue;
            };
            let fits = if account.saw_eof.get() {
                account.received == other.sent
            } else {
                let slack = slack.get(&(peer.clone(), local.clone()));
                let slack = slack.copied().unwrap_or(0).min(other.unsent);
                account.received <= other.sent + slack
            };
            if !fits {
                self.violation(format!(
                    "{local} received what {peer} did not send: {account:?} {other:?}"
                ));
            }
            if account.saw_eof.get() && knows_cuts.contains(&(local.clone(), peer.clone())) {
                self.told_ends.set(self.told_ends.get() + 1);
                if !other.is_clean && !ended.contains(&(peer.clone(), local.clone())) {
                    self.violation(format!(
                        "{local} saw an end, and {peer} did not end its stream: {account:?} {other:?}"
                    ));
                }
            }
            if other.unsent > 0 {
                self.cuts.set(self.cuts.get() + 1);
                if account.saw_eof.get() {
                    self.violation(format!(
                        "{local} saw a clean end, and {peer} lost bytes: {account:?} {other:?}"
                    ));
                }
            }
        }
    }

    /// Records a violation for everything that was begun and has not ended.
    pub(crate) fn nothing_is_open(&self) {
        let all = [
            ("connections without connection_lost", &self.connections),
            ("waiters that did not complete", &self.waiters),
            ("tasks that were not dropped", &self.tasks),
            ("closures that were not dropped", &self.calls),
            ("protocols that were not dropped", &self.protocols),
            ("layers that were not dropped", &self.layers),
        ];
        for (what, pairs) in all {
            if pairs.open() != 0 {
                self.violation(format!("{what}: {}", pairs.open()));
            }
        }
    }
}

fn ends(transport: &Transport) -> Ends {
    let [local, peer] = [transport.local_addr(), transport.peer_addr()].map(Address::to_string);
    (local, peer)
}

fn reason_word(closed: &Closed) -> &'static str {
    use tidegate::{CloseReason as Reason, TimeoutKind};
    match closed.reason() {
        Reason::LocalClose => "local close",
        Reason::LocalAbort => "local abort",
        Reason::PeerEof => "end of stream",
        Reason::Timeout(TimeoutKind::Idle) => "idle timeout",
        Reason::Timeout(_) => "timeout",
        Reason::Io(_) if closed.is_reset() => "reset",
        Reason::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "cut of the stream",
        Reason::Io(_) => "another error",
        Reason::Memory => "write budget of the loop",
        Reason::Shutdown => "shutdown of the loop",
        _ => "error of a callback",
    }
}

/// Counts its own end; held by everything that must not be left.
#[derive(Debug)]
pub(crate) struct Guard {
    ledger: Rc<Ledger>,
    of: fn(&Ledger) -> &Pairs,
}

impl Guard {
    pub(crate) fn new(ledger: &Rc<Ledger>, of: fn(&Ledger) -> &Pairs) -> Self {
        of(ledger).begin();
        Self {
            ledger: ledger.clone(),
            of,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        (self.of)(&self.ledger).end();
    }
}
