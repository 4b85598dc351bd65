//! The protocol under test: it notes its callbacks, and makes the calls of its script.

use super::Op;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tidegate::{CloseReason, Closed, OnEof, OnPause, Protocol, Result, Transport, WriteLimits};

/// The bytes of both directions. They have no 255, which is what clogs the kernel.
pub(super) fn pattern(start: u64, len: usize) -> Vec<u8> {
    (start..start + len as u64)
        .map(|i| (i % 251) as u8)
        .collect()
}

/// The state that the protocols of a session share with it.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) events: RefCell<Vec<String>>,
    pub(super) hooks: RefCell<HashMap<String, Vec<Op>>>,
    pub(super) keep_open: Cell<bool>,
    pub(super) buffered: Cell<bool>,
    pub(super) default: Cell<bool>,
    pub(super) lost: Cell<bool>,
    pub(super) saw_eof: Cell<bool>,
    pub(super) written: Cell<u64>,
    pub(super) received: Cell<u64>,
}

impl Shared {
    pub(super) fn see(&self, event: String) {
        self.events.borrow_mut().push(event);
    }

    pub(super) fn hook(self: &Rc<Self>, transport: &Transport, name: &str) -> Result {
        let ops = self.hooks.borrow_mut().remove(name);
        let mut ops = ops.into_iter().flatten();
        ops.try_for_each(|op| self.call(transport, op))
    }

    /// Makes a call. Its effects stand behind its result.
    pub(super) fn call(self: &Rc<Self>, transport: &Transport, op: Op) -> Result {
        let closing = transport.is_closing();
        let (name, answer) = match op {
            Op::Raise => {
                self.see("raise".to_owned());
                return Err("as the script says".into());
            }
            Op::Put(_) if closing => ("put", "skipped"),
            Op::PutEof if closing => ("put_eof", "skipped"),
            Op::Put(len) => ("put", self.write(transport, len)),
            Op::Write(len) => ("write", self.write(transport, len)),
            Op::PutEof => ("put_eof", word(transport.write_eof())),
            Op::WriteEof => ("write_eof", word(transport.write_eof())),
            Op::Close => {
                transport.close();
                ("close", "ok")
            }
            Op::Abort => {
                transport.abort();
                ("abort", "ok")
            }
            Op::Pause => {
                transport.pause_reading();
                ("pause", "ok")
            }
            Op::Resume => {
                transport.resume_reading();
                ("resume", "ok")
            }
            Op::IsReading => match transport.is_reading() {
                true => ("is_reading", "true"),
                false => ("is_reading", "false"),
            },
            Op::Limits(high, low) => {
                let marks = limits(high, low);
                ("limits", word(transport.set_write_limits(marks)))
            }
            Op::Switch => {
                let second = Driven::new(self, "second: ");
                ("switch", word(transport.set_protocol(second, b"")))
            }
        };
        self.see(format!("{name} {answer}"));
        Ok(())
    }

    fn write(&self, transport: &Transport, len: usize) -> &'static str {
        let answer = transport.write(&pattern(self.written.get(), len));
        if answer.is_ok() {
            self.written.set(self.written.get() + len as u64);
        }
        word(answer)
    }
}

fn word<T, E>(answer: std::result::Result<T, E>) -> &'static str {
    if answer.is_ok() { "ok" } else { "error" }
}

fn limits(high: Option<usize>, low: Option<usize>) -> WriteLimits {
    let marks = WriteLimits::new();
    let marks = high.map_or(marks, |high| marks.with_high(high));
    low.map_or(marks, |low| marks.with_low(low))
}

/// The protocol under test.
pub(super) struct Driven {
    shared: Rc<Shared>,
    name: &'static str,
    buffer: Vec<u8>,
}

impl Driven {
    pub(super) fn new(shared: &Rc<Shared>, name: &'static str) -> Self {
        let size = if shared.buffered.get() { 64 * 1024 } else { 0 };
        Self {
            shared: shared.clone(),
            name,
            buffer: vec![0; size],
        }
    }

    fn see(&self, event: &str) {
        self.shared.see(format!("{}{event}", self.name));
    }
}

/// The default implementations, for a protocol that defines nothing about pauses.
struct Provided;

impl Protocol for Provided {}

impl Protocol for Driven {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.see("made");
        self.shared.hook(transport, "made")
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let shared = &self.shared;
        let before = shared.received.get();
        let word = match data == pattern(before, data.len()) {
            true => "data",
            false => "corrupt",
        };
        shared.received.set(before + data.len() as u64);
        let prefix = format!("{}{word} ", self.name);
        let mut len = data.len();
        let mut events = shared.events.borrow_mut();
        // However the kernel cut it.
        let more = events.pop_if(|last| last.starts_with(&prefix));
        if let Some(count) = more.and_then(|last| last[prefix.len()..].parse::<usize>().ok()) {
            len += count;
        }
        events.push(format!("{prefix}{len}"));
        drop(events);
        shared.hook(transport, "data")
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.see("eof");
        self.shared.saw_eof.set(true);
        self.shared.hook(transport, "eof")?;
        Ok(match self.shared.keep_open.get() {
            true => OnEof::KeepOpen,
            false => OnEof::Close,
        })
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        if self.shared.default.get() {
            return Provided.pause_writing(transport);
        }
        self.see("pause_writing");
        self.shared.hook(transport, "pause_writing")?;
        // asyncio holds nothing.
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.see("resume_writing");
        self.shared.hook(transport, "resume_writing")
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let end = match closed.reason() {
            CloseReason::LocalClose | CloseReason::LocalAbort | CloseReason::PeerEof => "none",
            _ if closed.is_reset() => "reset",
            _ => "error",
        };
        self.see(&format!("lost {end}"));
        self.shared.lost.set(true);
        // A failure here is only reported.
        let _ = self.shared.hook(transport, "lost");
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        (!self.buffer.is_empty()).then_some(&mut self.buffer)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let data = self.buffer[..len].to_vec();
        self.data_received(transport, &data)
    }
}
