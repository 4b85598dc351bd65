//! The record of one connection's, or one endpoint's, callbacks, which checks their order.

use crate::grammar::{Call, Grammar};
use crate::unreported_violations;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use tidegate::{Address, CloseReason, Closed, DatagramTransport, Transport, TransportId};

/// One recorded callback.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match it")]
pub enum Seen {
    /// `connection_made`
    Made,
    /// `data_received`; of a [`Recorder`](crate::Recorder) `buffer_updated` too.
    Data(Vec<u8>),
    /// `buffer_updated` of a [`Watched`](crate::Watched) protocol: the number of bytes, in a buffer that
    /// only the protocol knows.
    Filled(usize),
    /// `eof_received`
    Eof,
    /// `datagram_received`: a datagram, and its sender.
    Datagram(Vec<u8>, Address),
    /// `error_received`: the text of the error.
    Error(String),
    /// `pause_writing`
    Pause,
    /// `resume_writing`
    Resume,
    /// `connection_lost`
    Lost,
    /// A note of the test.
    Note(String),
}

impl Seen {
    fn call(&self) -> Option<Call> {
        Some(match self {
            Self::Made => Call::Made,
            Self::Data(data) => Call::Data(data.len()),
            Self::Filled(len) => Call::Data(*len),
            Self::Eof => Call::Eof,
            Self::Datagram(..) => Call::Datagram,
            Self::Error(_) => Call::Error,
            Self::Pause => Call::Pause,
            Self::Resume => Call::Resume,
            Self::Lost => Call::Lost,
            Self::Note(_) => return None,
        })
    }
}

/// The connection of a record. Ids are unique within a loop; the addresses tell two loops apart.
type Connection = (TransportId, Address, Address);

#[derive(Debug, Default)]
struct Shared {
    seen: RefCell<Vec<Seen>>,
    grammar: Cell<Grammar>,
    closed: RefCell<Option<Closed>>,
    transport: RefCell<Option<Transport>>,
    endpoint: RefCell<Option<DatagramTransport>>,
    connection: RefCell<Option<Connection>>,
    violations: RefCell<Vec<String>>,
    running: Cell<Option<&'static str>>,
    refusal: RefCell<Option<String>>,
    dropped: Cell<u32>,
}

/// The record of one connection, or of one endpoint of datagrams; outlives its protocol. Clones are the same record: a factory that
/// makes protocols for many connections needs a log for each.
///
/// It checks the order of the callbacks while it is written, as
/// [`Protocol`](tidegate::Protocol) and [`DatagramProtocol`](tidegate::DatagramProtocol) document it. When the last clone is dropped, a violation that was
/// not [taken](Self::take_violations) panics, and so fails the test. While a
/// [`World`](crate::World) lives, the panic comes when that is dropped: its loops would catch one
/// of a clone in a protocol or in a factory. A loop without a world does catch it, and reports it
/// as it does each panic of a drop: keep a clone outside of it.
///
/// ```
/// use tidegate_testkit::{Log, Recorder, Seen, pair};
///
/// # fn main() -> tidegate::Result {
/// let log = Log::new();
/// let mut pair = pair(Recorder::new(&Log::new()), Recorder::echo(&log))?;
/// pair.a().write(b"ping")?;
/// pair.pump()?;
/// log.note("now the end");
/// pair.a().close();
/// pair.pump()?;
/// assert_eq!(log.seen()[1], Seen::Data(b"ping".to_vec()));
/// assert_eq!(log.words(), ["made", "data", "now the end", "eof", "lost"]);
/// assert!(log.closed().is_clean());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Log(Rc<Shared>);

impl Log {
    /// Returns an empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the callbacks so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.borrow().clone()
    }

    /// Returns the callbacks so far, one word each; neighbouring data joined.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for seen in self.0.seen.borrow().iter() {
            let word = match seen {
                Seen::Made => "made",
                Seen::Data(_) | Seen::Filled(_) => "data",
                Seen::Eof => "eof",
                Seen::Datagram(..) => "datagram",
                Seen::Error(_) => "error",
                Seen::Pause => "pause",
                Seen::Resume => "resume",
                Seen::Lost => "lost",
                Seen::Note(note) => note,
            };
            if word != "data" || words.last().is_none_or(|last| last != "data") {
                words.push(word.to_owned());
            }
        }
        words
    }

    /// Returns all received bytes, but for those in [buffers of the protocol's own](Seen::Filled).
    pub fn data(&self) -> Vec<u8> {
        let seen = self.0.seen.borrow();
        let chunks = seen.iter().filter_map(|seen| match seen {
            Seen::Data(data) => Some(data.as_slice()),
            _ => None,
        });
        chunks.collect::<Vec<_>>().concat()
    }

    /// Returns the number of received bytes, those in buffers of the protocol's own included.
    pub fn data_len(&self) -> usize {
        let seen = self.0.seen.borrow();
        let lens = seen.iter().map(|seen| match seen {
            Seen::Data(data) => data.len(),
            Seen::Filled(len) => *len,
            _ => 0,
        });
        lens.sum()
    }

    /// Returns all received datagrams.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        let seen = self.0.seen.borrow();
        let datagrams = seen.iter().filter_map(|seen| match seen {
            Seen::Datagram(data, _) => Some(data.clone()),
            _ => None,
        });
        datagrams.collect()
    }

    /// Returns the number of times that a callback or note was recorded.
    pub fn count(&self, what: &Seen) -> usize {
        let seen = self.0.seen.borrow();
        seen.iter().filter(|seen| *seen == what).count()
    }

    /// Returns whether a callback or note was recorded.
    pub fn has(&self, what: &Seen) -> bool {
        self.count(what) > 0
    }

    /// Returns whether `connection_lost` came.
    pub fn is_lost(&self) -> bool {
        self.0.grammar.get().is_lost()
    }

    /// Returns the [`Closed`] of `connection_lost`.
    ///
    /// # Panics
    ///
    /// When it has not come.
    #[track_caller]
    pub fn closed(&self) -> Closed {
        match &*self.0.closed.borrow() {
            Some(closed) => closed.clone(),
            None => panic!("connection_lost has not come: {:?}", self.seen()),
        }
    }

    /// Returns the reason of `connection_lost`, in one word.
    ///
    /// # Panics
    ///
    /// When it has not come.
    #[track_caller]
    pub fn reason(&self) -> String {
        reason_word(self.closed().reason()).to_owned()
    }

    /// Returns the transport of a [`Watched`](crate::Watched) protocol, from `connection_made` on: that of
    /// a connection which a server accepted, for instance.
    pub fn transport(&self) -> Option<Transport> {
        self.0.transport.borrow().clone()
    }

    /// Returns the endpoint of a [`Watched`](crate::Watched) protocol of datagrams, from `connection_made` on.
    pub fn endpoint(&self) -> Option<DatagramTransport> {
        self.0.endpoint.borrow().clone()
    }

    /// Adds a note to the record.
    pub fn note(&self, note: impl Into<String>) {
        self.0.seen.borrow_mut().push(Seen::Note(note.into()));
    }

    /// Returns the number of dropped protocols with this record.
    pub fn dropped(&self) -> u32 {
        self.0.dropped.get()
    }

    /// Called when `eof_received` has returned.
    pub(crate) fn eof_ended(&self, transport: &Transport) {
        if transport.has_unread() {
            let mut grammar = self.0.grammar.get();
            grammar.take_eof_back();
            self.0.grammar.set(grammar);
        }
    }

    /// Called for `batch_received`. The record has the datagrams alone: most protocols know of no batch.
    pub(crate) fn batch_ended(&self) {
        self.check("batch_received", Call::Batch);
    }

    /// Lets the record start in the middle of the grammar: for a protocol that takes the place of another.
    #[must_use]
    pub fn switched_in(self) -> Self {
        let mut grammar = self.0.grammar.get();
        grammar.skip_made();
        self.0.grammar.set(grammar);
        self.0.seen.borrow_mut().push(Seen::Made);
        self
    }

    /// Takes the violations so far out of the log, so that it does not panic for them.
    pub fn take_violations(&self) -> Vec<String> {
        self.0.violations.take()
    }

    // Written by the recording protocols.

    pub(crate) fn push(&self, seen: Seen) {
        if let Some(call) = seen.call() {
            self.check(&seen, call);
        }
        self.0.seen.borrow_mut().push(seen);
    }

    fn check(&self, seen: impl fmt::Debug, call: Call) {
        let mut grammar = self.0.grammar.get();
        let violation = grammar.next(call);
        self.0.grammar.set(grammar);
        if let Some(violation) = violation {
            let before = self.0.seen.borrow();
            self.violated(format!("{seen:?}: {violation}; seen {before:?}"));
        }
    }

    /// Records `connection_made` of a connection.
    pub(crate) fn made(&self, transport: &Transport) {
        self.made_of(
            transport.id(),
            transport.local_addr(),
            transport.peer_addr(),
        );
    }

    /// Records `connection_made` of an endpoint of datagrams.
    pub(crate) fn endpoint_made(&self, transport: &DatagramTransport) {
        let remote = transport.remote_addr().unwrap_or(&Address::Unnamed);
        self.made_of(transport.id(), transport.local_addr(), remote);
    }

    /// Records it, of the one connection that this is the record of.
    fn made_of(&self, id: TransportId, local: &Address, peer: &Address) {
        let own = (id, local.clone(), peer.clone());
        match &mut *self.0.connection.borrow_mut() {
            Some(first) if *first != own => {
                let (first, own) = (first.0, own.0);
                self.violated(format!(
                    "Made: this log already records connection {first}, and here is connection \
                     {own} to {peer}: each connection needs a log of its own"
                ));
                self.0.seen.borrow_mut().push(Seen::Made);
            }
            connection => {
                *connection = Some(own);
                self.push(Seen::Made);
            }
        }
    }

    pub(crate) fn violated(&self, what: String) {
        self.0.violations.borrow_mut().push(what);
    }

    /// Records `connection_lost`; its numbers must add up.
    pub(crate) fn lost(&self, transport: &Transport, closed: &Closed) {
        let unsent = transport.written() - transport.sent();
        self.lost_with(closed, closed.unsent() == unsent, &transport.stats());
    }

    /// As [`lost`](Self::lost), of an endpoint of datagrams.
    pub(crate) fn endpoint_lost(&self, transport: &DatagramTransport, closed: &Closed) {
        let stats = transport.stats();
        let adds_up = closed.unsent() == stats.taken_bytes - stats.sent_bytes && stats.queued == 0;
        self.lost_with(closed, adds_up, &stats);
    }

    fn lost_with(&self, closed: &Closed, adds_up: bool, stats: &dyn fmt::Debug) {
        if !adds_up {
            self.violated(format!("{closed:?} does not add up: {stats:?}"));
        }
        self.push(Seen::Lost);
        self.0.closed.replace(Some(closed.clone()));
    }

    /// Marks a callback as running until the returned value is dropped: there is one at a time.
    pub(crate) fn enter(&self, callback: &'static str) -> Running {
        if let Some(other) = self.0.running.replace(Some(callback)) {
            self.violated(format!("{callback} within {other}"));
        }
        Running(self.clone())
    }

    pub(crate) fn set_transport(&self, transport: &Transport) {
        self.0.transport.replace(Some(transport.clone()));
    }

    pub(crate) fn set_endpoint(&self, transport: &DatagramTransport) {
        self.0.endpoint.replace(Some(transport.clone()));
    }

    /// Records the error of a watched `connection_made`.
    pub(crate) fn refused(&self, error: String) {
        self.0.refusal.replace(Some(error));
    }

    pub(crate) fn refusal(&self) -> Option<String> {
        self.0.refusal.borrow().clone()
    }

    pub(crate) fn count_drop(&self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

pub(crate) struct Running(Log);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.set(None);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        unreported_violations::report(self.violations.take());
    }
}

/// Returns one word for a reason.
fn reason_word(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::LocalClose => "local-close",
        CloseReason::LocalAbort => "local-abort",
        CloseReason::PeerEof => "peer-eof",
        CloseReason::Timeout(_) => "timeout",
        CloseReason::Io(_) => "io",
        CloseReason::Callback(_) => "callback",
        CloseReason::Panic(_) => "panic",
        CloseReason::Memory => "memory",
        CloseReason::Detached => "detached",
        CloseReason::Shutdown => "shutdown",
        _ => "unknown",
    }
}
