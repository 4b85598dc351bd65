//! The connection under a reader and a writer: a protocol that keeps what arrives.

use crate::executor::Executor;
use crate::options::StreamOptions;
use crate::read_buffer::ReadBuffer;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Waker;
use tidegate::{CloseReason, Closed, OnEof, OnPause, Protocol, Result, Transport};

/// How much a reader takes in before it stops reading is twice this; it goes on at this.
pub(crate) const DEFAULT_LIMIT: usize = 64 * 1024;

/// What a connection's protocol and its reader share.
pub(crate) struct Incoming {
    pub(crate) buffer: RefCell<ReadBuffer>,
    /// So many bytes the reader has out of the buffer, and may put back.
    pub(crate) lent: Cell<usize>,
    pub(crate) limit: Cell<usize>,
    /// The peer's end of stream.
    pub(crate) ended: Cell<bool>,
    /// The connection has ended.
    pub(crate) lost: Cell<bool>,
    /// Reading is paused because of the limit.
    full: Cell<bool>,
    /// The reader is gone: what comes is thrown away.
    abandoned: Cell<bool>,
    waker: Cell<Option<Waker>>,
    /// Since a read has left its waker, until it is woken.
    waiting: Cell<bool>,
}

impl Incoming {
    pub(crate) fn new(options: StreamOptions) -> Rc<Self> {
        Rc::new(Self {
            buffer: RefCell::default(),
            lent: Cell::new(0),
            limit: Cell::new(options.limit),
            ended: Cell::new(false),
            lost: Cell::new(false),
            full: Cell::new(false),
            abandoned: Cell::new(false),
            waker: Cell::default(),
            waiting: Cell::new(false),
        })
    }

    /// How many bytes wait to be read.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.borrow().len() + self.lent.get()
    }

    /// The reader is gone: what came and what comes is thrown away.
    pub(crate) fn abandon(&self, transport: &Transport) {
        self.abandoned.set(true);
        self.lent.set(0);
        self.buffer.borrow_mut().clear();
        let waker = self.waker.take();
        drop(waker);
        self.make_room(transport, true);
    }

    /// Wakes whoever reads. The waker is kept for the next time: a task reads with the same one.
    fn wake(&self) {
        if self.waiting.replace(false)
            && let Some(waker) = self.waker.take()
        {
            waker.wake_by_ref();
            // It may have read at once, and left another.
            let newer = self.waker.take();
            self.waker.set(Some(newer.unwrap_or(waker)));
        }
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        let known = self.waker.take().filter(|known| known.will_wake(waker));
        self.waker.set(Some(known.unwrap_or_else(|| waker.clone())));
        self.waiting.set(true);
    }

    fn take_in(&self, transport: &Transport, data: &[u8]) {
        if self.abandoned.get() {
            return;
        }
        let held = self.buffer.borrow_mut().push(data) + self.lent.get();
        self.hold_back(transport, held);
        self.wake();
    }

    /// Stops reading when there is more than enough.
    fn hold_back(&self, transport: &Transport, held: usize) {
        if held > self.limit.get().saturating_mul(2) {
            self.full.set(true);
            transport.pause_reading();
        }
    }

    pub(crate) fn set_limit(&self, transport: &Transport, limit: usize) {
        self.limit.set(limit);
        self.hold_back(transport, self.buffered());
        self.make_room(transport, false);
    }

    /// Bytes were read, or more are waited for.
    #[inline]
    pub(crate) fn make_room(&self, transport: &Transport, waits: bool) {
        if self.full.get() {
            self.go_on(transport, waits);
        }
    }

    #[cold]
    fn go_on(&self, transport: &Transport, waits: bool) {
        if waits || self.buffered() <= self.limit.get() {
            self.full.set(false);
            transport.resume_reading();
        }
    }
}

/// What is done when the connection has been made.
type OnMade = Box<dyn FnOnce(&Transport)>;
/// What is done when it has ended.
type OnLost = Box<dyn FnOnce(&Transport, &Closed)>;

pub(crate) struct StreamProtocol {
    incoming: Rc<Incoming>,
    /// Of the loop.
    executor: Option<Rc<Executor>>,
    on_made: Option<OnMade>,
    on_lost: Option<OnLost>,
}

impl StreamProtocol {
    pub(crate) fn new(incoming: Rc<Incoming>) -> Self {
        Self {
            incoming,
            executor: None,
            on_made: None,
            on_lost: None,
        }
    }

    pub(crate) fn on_made(mut self, call: impl FnOnce(&Transport) + 'static) -> Self {
        self.on_made = Some(Box::new(call));
        self
    }

    pub(crate) fn on_lost(mut self, call: impl FnOnce(&Transport, &Closed) + 'static) -> Self {
        self.on_lost = Some(Box::new(call));
        self
    }
}

impl Protocol for StreamProtocol {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.executor = Executor::of(transport.handle());
        if let Some(executor) = &self.executor {
            let spare = executor.spare_buffers();
            self.incoming.buffer.borrow_mut().keep_in(spare);
        }
        if let Some(call) = self.on_made.take() {
            call(transport);
        }
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let take_in = || self.incoming.take_in(transport, data);
        match &self.executor {
            Some(executor) => executor.run_woken_by(take_in),
            None => take_in(),
        }
        Ok(())
    }

    /// Whoever writes may go on; dropping the writer closes.
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        self.incoming.ended.set(true);
        self.incoming.wake();
        Ok(OnEof::KeepOpen)
    }

    /// The reader has a limit of its own, and a task that waits to write may have to read first.
    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.incoming.lost.set(true);
        self.incoming.wake();
        if closed.unsent() > 0 && matches!(closed.reason(), CloseReason::Shutdown) {
            let (id, unsent) = (transport.id(), closed.unsent());
            log::warn!(target: "tidegate::streams", "{id} was cut with {unsent} bytes unsent");
        }
        if let Some(call) = self.on_lost.take() {
            call(transport, closed);
        }
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
