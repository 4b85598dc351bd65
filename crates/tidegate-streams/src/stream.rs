//! The connection under a reader and a writer: a protocol that keeps what arrives.

use crate::executor::{Executor, Task};
use crate::options::StreamOptions;
use crate::read_buffer::ReadBuffer;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Waker;
use tidegate::{CloseReason, Closed, OnEof, OnPause, Protocol, Result, Transport};

/// The state that a connection's protocol and its reader share. For each message it is borrowed mutably
/// even to be looked at: that takes less to check.
pub(crate) struct Incoming {
    pub(crate) buffer: RefCell<ReadBuffer>,
    /// The number of bytes that the reader has out of the buffer, and may put back.
    pub(crate) lent: Cell<usize>,
    pub(crate) limit: Cell<usize>,
    /// The peer's end of stream.
    pub(crate) ended: Cell<bool>,
    /// The connection has ended, or has left its loop or this protocol.
    pub(crate) lost: Cell<bool>,
    /// Reading is paused because of the limit.
    full: Cell<bool>,
    /// The connection of which reading is paused.
    paused: Cell<Option<Transport>>,
    /// The reader is gone: bytes that come are discarded.
    abandoned: Cell<bool>,
    /// There is no writer: the connection ends with its reader.
    pub(crate) is_alone: bool,
    /// The task that waited last in a read.
    reader: RefCell<Option<Reader>>,
    /// Since a read has begun to wait, until it is woken.
    waiting: Cell<bool>,
    /// Of the loop, once the connection is made.
    executor: OnceCell<Rc<Executor>>,
}

/// The task or the waker that is woken when something has arrived.
enum Reader {
    /// A task of the same loop, which can be run without its waker.
    Task(Rc<Task>),
    Other(Waker),
}

impl Reader {
    fn is_woken_by(&self, waker: &Waker) -> bool {
        match self {
            Self::Task(task) => task.is_woken_by(waker),
            Self::Other(known) => known.will_wake(waker),
        }
    }
}

impl Incoming {
    pub(crate) fn new(options: StreamOptions) -> Rc<Self> {
        Rc::new(Self::with(options, false))
    }

    /// Of a connection that is only read.
    pub(crate) fn without_writer() -> Rc<Self> {
        Rc::new(Self::with(StreamOptions::new(), true))
    }

    fn with(options: StreamOptions, is_alone: bool) -> Self {
        Self {
            buffer: RefCell::default(),
            lent: Cell::new(0),
            limit: Cell::new(options.limit),
            ended: Cell::new(false),
            lost: Cell::new(false),
            full: Cell::new(false),
            paused: Cell::default(),
            abandoned: Cell::new(false),
            reader: RefCell::default(),
            waiting: Cell::new(false),
            executor: OnceCell::new(),
            is_alone,
        }
    }

    /// Returns the number of bytes that wait to be read.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.borrow_mut().len() + self.lent.get()
    }

    /// Takes what was received and not read: another protocol takes over, which decides on reading.
    fn leave(&self) -> Vec<u8> {
        let lent = self.lent.replace(0);
        let left = self.buffer.borrow_mut().leave(lent);
        self.make_room(true);
        left
    }

    /// The reader is gone: bytes that came, and bytes that come, are discarded.
    pub(crate) fn abandon(&self) {
        self.abandoned.set(true);
        self.lent.set(0);
        self.buffer.borrow_mut().clear();
        let reader = self.reader.take();
        drop(reader);
        self.make_room(true);
    }

    /// Wakes the read that waits, and keeps its waker: a task reads with the same one next time.
    fn wake(&self) {
        if !self.waiting.replace(false) {
            return;
        }
        let reader = self.reader.take();
        match &reader {
            Some(Reader::Task(task)) => task.wake(),
            Some(Reader::Other(waker)) => waker.wake_by_ref(),
            None => {}
        }
        let mut known = self.reader.borrow_mut();
        // It may have read at once, and left another. Then the old one is dropped when that is back in
        // its place, for the drop may be code of users.
        if known.is_none() {
            *known = reader;
        }
    }

    /// As [`wake`](Self::wake), and runs it, if it is a task of this loop.
    #[inline]
    fn wake_and_run(&self) {
        let task = match &*self.reader.borrow_mut() {
            Some(Reader::Task(task)) if self.waiting.get() => Some(task.clone()),
            _ => None,
        };
        match (task, self.executor.get()) {
            (Some(task), Some(executor)) => {
                self.waiting.set(false);
                executor.run_at_once(&task);
            }
            _ => self.wake(),
        }
    }

    /// Waits, if all is as it was when the last read did: mostly it is. Not inlined, so that the
    /// polls that call it are.
    #[inline(never)]
    pub(crate) fn waits_again(&self, waker: &Waker) -> bool {
        let reader = self.reader.borrow_mut();
        let again = !(self.ended.get() | self.lost.get() | self.full.get())
            && reader
                .as_ref()
                .is_some_and(|known| known.is_woken_by(waker));
        if again {
            self.waiting.set(true);
        }
        again
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.waiting.set(true);
        let known = self.reader.borrow();
        if !known.as_ref().is_some_and(|known| known.is_woken_by(waker)) {
            drop(known);
            self.set_reader(waker);
        }
    }

    #[cold]
    fn set_reader(&self, waker: &Waker) {
        let executor = self.executor.get();
        let reader = match executor.and_then(|executor| executor.task_of(waker)) {
            Some(task) => Reader::Task(task),
            None => Reader::Other(waker.clone()),
        };
        let before = self.reader.replace(Some(reader));
        drop(before);
    }

    fn take_in(&self, transport: &Transport, data: &[u8]) {
        if self.abandoned.get() {
            return;
        }
        let held = self.buffer.borrow_mut().push(data) + self.lent.get();
        if self.fills(held) {
            self.pause(transport);
        }
        self.wake_and_run();
    }

    /// Takes in what came from no connection.
    pub(crate) fn feed(&self, data: &[u8]) {
        if self.abandoned.get() || self.ended.get() {
            return;
        }
        let held = self.buffer.borrow_mut().push(data) + self.lent.get();
        self.fills(held);
        self.wake();
    }

    /// Ends the stream.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.wake();
    }

    /// Notes whether there is more than enough, and returns it: then reading stops.
    fn fills(&self, held: usize) -> bool {
        let fills = held > self.limit.get().saturating_mul(2);
        if fills {
            self.full.set(true);
        }
        fills
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.get()
    }

    pub(crate) fn set_limit(&self, transport: &Option<Transport>, limit: usize) {
        self.limit.set(limit);
        if self.fills(self.buffered())
            && let Some(transport) = transport
        {
            self.pause(transport);
        }
        self.make_room(false);
    }

    #[cold]
    fn pause(&self, transport: &Transport) {
        transport.pause_reading();
        self.paused.set(Some(transport.clone()));
    }

    /// Bytes were read, or more are waited for.
    #[inline]
    pub(crate) fn make_room(&self, waits: bool) {
        if self.full.get() {
            self.go_on(waits);
        }
    }

    #[cold]
    fn go_on(&self, waits: bool) {
        if waits || self.buffered() <= self.limit.get() {
            self.full.set(false);
            if let Some(transport) = self.paused.take() {
                transport.resume_reading();
            }
        }
    }
}

/// The part of a server in its connections.
pub(crate) trait Serve {
    fn made(self: Rc<Self>, transport: &Transport, incoming: Rc<Incoming>);
    fn lost(&self, closed: &Closed);
}

pub(crate) struct StreamProtocol {
    incoming: Rc<Incoming>,
    server: Option<Rc<dyn Serve>>,
}

impl StreamProtocol {
    pub(crate) fn new(incoming: Rc<Incoming>, server: Option<Rc<dyn Serve>>) -> Self {
        Self { incoming, server }
    }

    /// Returns the server that has accepted the connection. It is asked of the protocol, within a
    /// callback of its own: connections that stay what they are have no room for more.
    pub(crate) async fn server_of(transport: &Transport) -> Option<Rc<dyn Serve>> {
        let (completer, completion) = transport.handle().completion();
        transport.call_soon(move |protocol: &mut Self, _| {
            completer.complete(Ok(protocol.server.clone()));
            Ok(())
        });
        // It fails when the connection has ended.
        completion.await.ok().flatten()
    }
}

impl Protocol for StreamProtocol {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        if let Some(executor) = Executor::of(transport.handle()) {
            let spare = executor.spare_buffers();
            self.incoming.buffer.borrow_mut().keep_in(spare);
            self.incoming.executor.get_or_init(|| executor);
        }
        if let Some(server) = &self.server {
            server.clone().made(transport, self.incoming.clone());
        }
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.incoming.take_in(transport, data);
        Ok(())
    }

    /// Keeps the connection open for the writer, whose drop closes it.
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        self.incoming.end();
        Ok(OnEof::KeepOpen)
    }

    /// The reader has a limit of its own, and a task that waits to write may have to read first.
    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }

    fn leftover(&mut self) -> Vec<u8> {
        self.incoming.leave()
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.incoming.lost.set(true);
        self.incoming.wake();
        if closed.unsent() > 0 && matches!(closed.reason(), CloseReason::Shutdown) {
            let (id, peer) = (transport.id(), transport.peer_addr());
            let unsent = closed.unsent();
            log::warn!(
                target: "tidegate::streams",
                "{id} (peer {peer}) was cut with {unsent} bytes unsent"
            );
        }
        if let Some(server) = &self.server {
            server.lost(closed);
        }
    }
}

/// A connection that leaves its loop has no `connection_lost`, and its reads end here: how it ended is known by now.
impl Drop for StreamProtocol {
    fn drop(&mut self) {
        self.incoming.lost.set(true);
        self.incoming.wake();
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("buffered", &self.buffered())
            .field("ended", &self.ended.get())
            .field("lost", &self.lost.get())
            .finish_non_exhaustive()
    }
}
