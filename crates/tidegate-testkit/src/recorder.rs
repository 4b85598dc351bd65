//! A protocol that records its callbacks, checks their grammar and does what a test tells it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tidegate::{CloseReason, Closed, OnEof, OnPause, Protocol, Result, Transport};

/// One callback, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match it")]
pub enum Seen {
    /// `connection_made`
    Made,
    /// `data_received` or `buffer_updated`
    Data(Vec<u8>),
    /// `eof_received`
    Eof,
    /// `pause_writing`
    Pause,
    /// `resume_writing`
    Resume,
    /// `connection_lost`
    Lost,
    /// What a test wrote in between.
    Note(String),
}

#[derive(Debug, Default)]
struct Shared {
    seen: RefCell<Vec<Seen>>,
    closed: RefCell<Option<Closed>>,
    violations: RefCell<Vec<String>>,
    running: Cell<Option<&'static str>>,
    dropped: Cell<u32>,
}

/// The record of one connection; outlives its protocol. When the last clone is dropped, a
/// violation of the callback grammar fails the test.
#[derive(Debug, Clone, Default)]
pub struct Log(Rc<Shared>);

impl Log {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The callbacks so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.borrow().clone()
    }

    /// The callbacks so far, one word each; neighbouring data joined.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for seen in self.0.seen.borrow().iter() {
            let word = match seen {
                Seen::Made => "made",
                Seen::Data(_) => "data",
                Seen::Eof => "eof",
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

    /// All received bytes.
    pub fn data(&self) -> Vec<u8> {
        let seen = self.0.seen.borrow();
        let chunks = seen.iter().filter_map(|seen| match seen {
            Seen::Data(data) => Some(data.as_slice()),
            _ => None,
        });
        chunks.collect::<Vec<_>>().concat()
    }

    /// How many bytes were received.
    pub fn data_len(&self) -> usize {
        self.data().len()
    }

    /// How often something was seen.
    pub fn count(&self, what: &Seen) -> usize {
        self.0
            .seen
            .borrow()
            .iter()
            .filter(|seen| *seen == what)
            .count()
    }

    /// Whether something was seen.
    pub fn has(&self, what: &Seen) -> bool {
        self.count(what) > 0
    }

    /// Whether `connection_lost` came.
    pub fn is_lost(&self) -> bool {
        self.has(&Seen::Lost)
    }

    /// What `connection_lost` said.
    #[track_caller]
    pub fn closed(&self) -> Closed {
        match &*self.0.closed.borrow() {
            Some(closed) => closed.clone(),
            None => panic!("connection_lost has not come: {:?}", self.seen()),
        }
    }

    /// The reason that `connection_lost` gave, in one word.
    #[track_caller]
    pub fn reason(&self) -> String {
        reason_word(self.closed().reason()).to_owned()
    }

    /// Adds a note to the record.
    pub fn note(&self, note: impl Into<String>) {
        self.0.seen.borrow_mut().push(Seen::Note(note.into()));
    }

    /// How many protocols with this record were dropped.
    pub fn dropped(&self) -> u32 {
        self.0.dropped.get()
    }

    fn push(&self, seen: Seen) {
        self.check(&seen);
        self.0.seen.borrow_mut().push(seen);
    }

    /// made (data | pause resume)* eof? lost
    fn check(&self, next: &Seen) {
        let seen = self.0.seen.borrow();
        let last_flow = seen
            .iter()
            .rev()
            .find(|seen| matches!(seen, Seen::Pause | Seen::Resume));
        let has = |what: &Seen| seen.contains(what);
        let complaint = match next {
            _ if has(&Seen::Lost) => "after lost",
            Seen::Made if has(&Seen::Made) => "made twice",
            Seen::Made | Seen::Note(_) => return,
            _ if !has(&Seen::Made) => "before made",
            Seen::Data(data) if data.is_empty() => "empty data",
            Seen::Data(_) if has(&Seen::Eof) => "data after eof",
            Seen::Eof if has(&Seen::Eof) => "eof twice",
            Seen::Pause if last_flow == Some(&Seen::Pause) => "pause twice",
            Seen::Resume if last_flow != Some(&Seen::Pause) => "resume without pause",
            _ => return,
        };
        self.0
            .violations
            .borrow_mut()
            .push(format!("{next:?}: {complaint}; seen {seen:?}"));
    }

    fn enter(&self, callback: &'static str) -> Running {
        if let Some(other) = self.0.running.replace(Some(callback)) {
            let violation = format!("{callback} within {other}");
            self.0.violations.borrow_mut().push(violation);
        }
        Running(self.clone())
    }

    /// For a protocol that takes the place of another: it starts in the middle of the grammar.
    pub fn switched_in(self) -> Self {
        self.0.seen.borrow_mut().push(Seen::Made);
        self
    }

    /// The violations so far, which are then forgiven; for tests of the check itself.
    pub fn take_violations(&self) -> Vec<String> {
        self.0.violations.take()
    }
}

struct Running(Log);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.set(None);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let violations = self.violations.get_mut();
        if !violations.is_empty() && !std::thread::panicking() {
            panic!("the callback grammar was violated: {violations:#?}");
        }
    }
}

/// One word for a reason.
fn reason_word(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::LocalClose => "local-close",
        CloseReason::LocalAbort => "local-abort",
        CloseReason::PeerEof => "peer-eof",
        CloseReason::Timeout(_) => "timeout",
        CloseReason::Io(_) => "io",
        CloseReason::Callback(_) => "callback",
        CloseReason::Panic(_) => "panic",
        CloseReason::Shutdown => "shutdown",
        _ => "unknown",
    }
}

type Hook<A, R> = Option<Box<dyn FnMut(&Transport, A) -> Result<R>>>;
type DataHook = Option<Box<dyn FnMut(&Transport, &[u8]) -> Result>>;
type BufferHook = Option<Box<dyn FnMut(&Transport, usize)>>;
type LostHook = Option<Box<dyn FnMut(&Transport, &Closed)>>;

/// Records every callback in a [`Log`], then does what the test's closures say.
#[derive(Default)]
pub struct Recorder {
    log: Log,
    made: Hook<(), ()>,
    data: DataHook,
    eof: Hook<(), OnEof>,
    pause: Hook<(), OnPause>,
    resume: Hook<(), ()>,
    lost: LostHook,
    buffer: Option<Vec<u8>>,
    get_buffer: BufferHook,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records into `log` and does nothing else.
    pub fn new(log: &Log) -> Self {
        let mut recorder = Self::default();
        recorder.log = log.clone();
        recorder
    }

    /// Sends back what it receives.
    pub fn echo(log: &Log) -> Self {
        Self::new(log).on_data(|transport, data| {
            transport.write(data)?;
            Ok(())
        })
    }

    /// What to do in `connection_made`.
    pub fn on_made(mut self, mut hook: impl FnMut(&Transport) -> Result + 'static) -> Self {
        self.made = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// What to do with data.
    pub fn on_data(mut self, hook: impl FnMut(&Transport, &[u8]) -> Result + 'static) -> Self {
        self.data = Some(Box::new(hook));
        self
    }

    /// What to do, and answer, at the end of the stream; `Close` unless set.
    pub fn on_eof(mut self, mut hook: impl FnMut(&Transport) -> Result<OnEof> + 'static) -> Self {
        self.eof = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// Answers `KeepOpen` at the end of the stream.
    pub fn keep_open(self) -> Self {
        self.on_eof(|_| Ok(OnEof::KeepOpen))
    }

    /// What to do, and answer, on a pause; the provided answer unless set.
    pub fn on_pause(
        mut self,
        mut hook: impl FnMut(&Transport) -> Result<OnPause> + 'static,
    ) -> Self {
        self.pause = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// What to do on a resume.
    pub fn on_resume(mut self, mut hook: impl FnMut(&Transport) -> Result + 'static) -> Self {
        self.resume = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// What to do in `connection_lost`.
    pub fn on_lost(mut self, hook: impl FnMut(&Transport, &Closed) + 'static) -> Self {
        self.lost = Some(Box::new(hook));
        self
    }

    /// Reads into an own buffer of this size, through `get_buffer` and `buffer_updated`.
    pub fn buffered(mut self, size: usize) -> Self {
        self.buffer = Some(vec![0; size]);
        self
    }

    /// What to do in `get_buffer`, with its size hint.
    pub fn on_get_buffer(mut self, hook: impl FnMut(&Transport, usize) + 'static) -> Self {
        self.get_buffer = Some(Box::new(hook));
        self
    }

    fn received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.log.push(Seen::Data(data.to_vec()));
        match &mut self.data {
            Some(hook) => hook(transport, data),
            None => Ok(()),
        }
    }
}

/// What the trait itself provides.
struct Provided;

impl Protocol for Provided {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        Ok(())
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let _running = self.log.enter("connection_made");
        self.log.push(Seen::Made);
        match &mut self.made {
            Some(hook) => hook(transport, ()),
            None => Ok(()),
        }
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let _running = self.log.enter("data_received");
        self.received(transport, data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        let _running = self.log.enter("eof_received");
        self.log.push(Seen::Eof);
        match &mut self.eof {
            Some(hook) => hook(transport, ()),
            None => Provided.eof_received(transport),
        }
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        let _running = self.log.enter("pause_writing");
        self.log.push(Seen::Pause);
        match &mut self.pause {
            Some(hook) => hook(transport, ()),
            None => Provided.pause_writing(transport),
        }
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let _running = self.log.enter("resume_writing");
        self.log.push(Seen::Resume);
        match &mut self.resume {
            Some(hook) => hook(transport, ()),
            None => Ok(()),
        }
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _running = self.log.enter("connection_lost");
        if closed.unsent() != transport.written() - transport.sent() {
            let violation = format!("{closed:?} does not add up: {:?}", transport.stats());
            self.log.0.violations.borrow_mut().push(violation);
        }
        self.log.push(Seen::Lost);
        self.log.0.closed.replace(Some(closed.clone()));
        if let Some(hook) = &mut self.lost {
            hook(transport, closed);
        }
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        let _running = self.log.enter("get_buffer");
        if let Some(hook) = &mut self.get_buffer {
            hook(transport, size_hint);
        }
        self.buffer.as_deref_mut()
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let _running = self.log.enter("buffer_updated");
        let buffer = self.buffer.take().unwrap_or_default();
        let result = self.received(transport, &buffer[..len]);
        self.buffer = Some(buffer);
        result
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.log.0.dropped.set(self.log.0.dropped.get() + 1);
    }
}
