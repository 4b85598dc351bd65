//! One end of a connection, with what the transport does: it acts on edges, offers its queue from the
//! front, and asks a layered socket what it must.

use super::dice::Dice;
use super::line::LineEnd;
use crate::driver::{Socket, StreamSocket};
use crate::layer::fault::may_be_over;
use crate::layer::{Layer, LayeredSocket, Shared};
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

const MEMORY_RETRY: Duration = Duration::from_millis(20);

/// The most that a connection sends or reads before others get their turn.
const STEPS: usize = 64;

/// A clock that the test moves.
#[derive(Debug, Clone)]
pub(in crate::layer) struct Clock(Rc<Cell<Instant>>);

impl Clock {
    pub(in crate::layer) fn new() -> Self {
        Self(Rc::new(Cell::new(Instant::now())))
    }

    pub(in crate::layer) fn now(&self) -> Instant {
        self.0.get()
    }

    pub(in crate::layer) fn set(&self, now: Instant) {
        assert!(now >= self.now());
        self.0.set(now);
    }
}

pub(in crate::layer) struct End {
    /// `None` when it was aborted.
    pub(in crate::layer) socket: Option<Socket>,
    pub(in crate::layer) line: LineEnd,
    pub(in crate::layer) shared: Rc<Shared>,
    clock: Clock,
    dice: Dice,
    layers: usize,
    /// Of two ends one reads on whatever waits.
    pub(in crate::layer) connected: bool,

    readable: bool,
    writable: bool,
    /// A timer of the transport's own.
    retry: Option<Instant>,
    pub(in crate::layer) opening: bool,

    pub(in crate::layer) paused: bool,
    pub(in crate::layer) received: Vec<u8>,
    pub(in crate::layer) eof: bool,
    pub(in crate::layer) read_error: Option<io::Error>,

    pub(in crate::layer) queue: Vec<u8>,
    pub(in crate::layer) written: usize,
    pub(in crate::layer) sent: usize,
    pub(in crate::layer) write_error: Option<io::Error>,

    pub(in crate::layer) closing: bool,
    pub(in crate::layer) closed: bool,
}

impl End {
    pub(in crate::layer) fn new(line: LineEnd, clock: &Clock, dice: &Dice) -> Self {
        let time = clock.clone();
        Self {
            socket: Some(Socket::foreign(line.clone())),
            line,
            shared: Shared::new(move || time.now()),
            clock: clock.clone(),
            dice: dice.clone(),
            layers: 0,
            connected: false,
            readable: false,
            writable: true,
            retry: None,
            opening: false,
            paused: false,
            received: Vec::new(),
            eof: false,
            read_error: None,
            queue: Vec::new(),
            written: 0,
            sent: 0,
            write_error: None,
            closing: false,
            closed: false,
        }
    }

    pub(in crate::layer) fn push(&mut self, layer: Box<dyn Layer>, unread: Vec<u8>) {
        let below = self.socket.take().unwrap();
        let (past, shared) = (self.queue.len() as u64, self.shared.clone());
        let mut layered = LayeredSocket::new(below, layer, unread, past, shared);
        if self.connected {
            layered.never_refuse_input();
        }
        self.socket = Some(Socket::foreign(layered));
        self.layers += 1;
        self.opening = true;
        self.look();
        // The first call starts the layer, and needs no event.
        self.readable = true;
    }

    pub(in crate::layer) fn layered(&mut self) -> Option<&mut LayeredSocket> {
        self.socket.as_mut()?.foreign_mut()
    }

    pub(in crate::layer) fn write(&mut self, data: &[u8]) {
        if self.write_error.is_none() {
            self.queue.extend_from_slice(data);
        }
        self.written += data.len();
    }

    /// The user does not read, or reads again, which finds also what was kept meanwhile.
    pub(in crate::layer) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.look();
    }

    pub(in crate::layer) fn has_failed(&self) -> bool {
        self.read_error.is_some() || self.socket.is_none()
    }

    pub(in crate::layer) fn deadline(&mut self) -> Option<Instant> {
        if self.has_failed() {
            return None;
        }
        let layers = self.layered().and_then(|layered| layered.deadline());
        layers.into_iter().chain(self.retry).min()
    }

    /// Does what there is to do. Returns whether there was anything.
    pub(in crate::layer) fn run(&mut self) -> bool {
        let mut any = false;
        for _ in 0..STEPS {
            if self.has_failed() || !self.step() {
                return any;
            }
            any = true;
        }
        any
    }

    fn step(&mut self) -> bool {
        let events = self.line.events();
        self.readable |= events.readable.take();
        self.writable |= events.writable.take();
        self.call_timers();
        let read = self.read_step();
        let written = self.write_step();
        let opened = self.take_off_layers();
        read || written || opened
    }

    fn call_timers(&mut self) {
        let now = self.clock.now();
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            (self.readable, self.writable) = (true, true);
        }
        let Some(layered) = self.layered() else {
            return;
        };
        if layered.deadline().is_some_and(|deadline| deadline <= now) {
            layered.timer(now);
            self.look();
        }
    }

    /// Notes what layers want without an event, as after each call of one.
    pub(in crate::layer) fn look(&mut self) {
        let Some(layered) = self.layered() else {
            return;
        };
        let (input, write) = (layered.has_input(), layered.wants_write());
        self.readable |= input;
        self.writable |= write;
    }

    fn retry_later(&mut self) {
        self.retry.get_or_insert(self.clock.now() + MEMORY_RETRY);
    }

    fn read_step(&mut self) -> bool {
        if !self.readable {
            return false;
        }
        if self.opening {
            let advanced = self.layered().unwrap().advance();
            match advanced {
                Ok(()) => self.opening = false,
                Err(error) => self.read_failed(error),
            }
        } else if !self.eof && !self.paused {
            self.read_once();
        } else if self.eof && (self.closed || self.write_error.is_some()) {
            return self.linger();
        } else {
            return self.feed();
        }
        self.look();
        true
    }

    /// Reads for layers that send no more before they have received something, although the user
    /// does not read.
    fn feed(&mut self) -> bool {
        let (queued, failed) = (!self.queue.is_empty(), self.write_error.is_some());
        let Some(layered) = self.layered() else {
            return false;
        };
        let to_send = (queued || layered.has_output()) && !failed;
        if !to_send || !layered.needs_input() {
            return false;
        }
        let fed = layered.feed();
        self.look();
        if let Err(error) = fed {
            // Bytes that are kept for the user do not count here.
            self.readable = false;
            if error.kind() != io::ErrorKind::WouldBlock {
                self.note_write(Err(Some(error)));
            }
        }
        true
    }

    /// Discards, both directions being over, what the peer still sends.
    fn linger(&mut self) -> bool {
        if !mem::replace(&mut self.closed, true) {
            self.line.cut();
        }
        match self.line.read(&mut [0; 1_000]) {
            Ok(0) => self.readable = false,
            Ok(_) => {}
            Err(error) => {
                self.readable = false;
                if error.kind() != io::ErrorKind::WouldBlock && may_be_over(&error) {
                    self.retry_later();
                }
            }
        }
        true
    }

    fn read_once(&mut self) {
        let mut buffer = vec![0; self.dice.size(128 * 1024)];
        match self.socket.as_mut().unwrap().read(&mut buffer) {
            Ok(0) => self.eof = true,
            Ok(len) => {
                self.received.extend_from_slice(&buffer[..len]);
                if len < buffer.len() && !self.has_more() {
                    self.readable = false;
                }
            }
            Err(error) => self.read_failed(error),
        }
    }

    fn has_more(&mut self) -> bool {
        self.layered().is_some_and(|layered| layered.has_more())
    }

    fn read_failed(&mut self, error: io::Error) {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.readable = self.has_more();
        } else if may_be_over(&error) {
            self.readable = false;
            self.retry_later();
        } else {
            self.read_error = Some(error);
        }
    }

    fn write_step(&mut self) -> bool {
        if !self.writable || self.write_error.is_some() || self.closed {
            return false;
        }
        let output = self.layered().is_some_and(|layered| layered.has_output());
        if !self.queue.is_empty() {
            self.write_once();
        } else if output {
            let flushed = self.layered().unwrap().flush_output();
            self.note_write(flushed.map_err(Some));
        } else if self.closing && self.queue.is_empty() && !self.opening {
            let ended = self.layered().map_or(Ok(()), LayeredSocket::end);
            self.closed = ended.is_ok();
            self.note_write(ended.map_err(Some));
            if self.closed {
                self.socket.as_mut().unwrap().shutdown_write().unwrap();
            }
        } else {
            return false;
        }
        self.look();
        true
    }

    fn write_once(&mut self) {
        let len = self.dice.size(self.queue.len()).min(self.queue.len());
        let slice = self.dice.size(len).max(len.div_ceil(64));
        let slices: Vec<_> = self.queue[..len].chunks(slice).map(IoSlice::new).collect();
        let result = self.socket.as_mut().unwrap().write(&slices);
        let result = match result {
            Ok(sent) => {
                assert!(0 < sent && sent <= len, "{sent} of {len}");
                self.sent += sent;
                self.queue.drain(..sent);
                if sent == len {
                    Ok(())
                } else {
                    Err(self.layered().and_then(LayeredSocket::take_write_error))
                }
            }
            Err(error) => Err(Some(error)),
        };
        self.note_write(result);
    }

    /// `Err(None)` is a short write.
    fn note_write(&mut self, result: Result<(), Option<io::Error>>) {
        let Err(error) = result else {
            return;
        };
        self.writable = false;
        match error {
            None => {}
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Some(error) if may_be_over(&error) => self.retry_later(),
            Some(error) => {
                self.write_error = Some(error);
                self.queue.clear();
                self.readable = true;
            }
        }
    }

    /// Takes off layers that have left.
    fn take_off_layers(&mut self) -> bool {
        if !self.layered().is_some_and(|layered| layered.has_left()) {
            return false;
        }
        let socket = self.socket.take().unwrap();
        let layered = socket.into_foreign::<LayeredSocket>().unwrap();
        let (below, off) = layered.take_off_left();
        self.socket = Some(below);
        self.layers -= off.count();
        (self.readable, self.writable) = (true, true);
        true
    }

    /// Ends without a word: the peer finds its stream cut.
    pub(in crate::layer) fn abort(&mut self) {
        self.line.cut();
        drop(mem::take(&mut self.socket));
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End")
            .field("readable", &self.readable)
            .field("writable", &self.writable)
            .field("retry", &self.retry.is_some())
            .field("opening", &self.opening)
            .field("paused", &self.paused)
            .field("received", &self.received.len())
            .field("eof", &self.eof)
            .field("read_error", &self.read_error)
            .field("queue", &self.queue.len())
            .field("written", &self.written)
            .field("sent", &self.sent)
            .field("write_error", &self.write_error)
            .field("closing", &self.closing)
            .field("closed", &self.closed)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
