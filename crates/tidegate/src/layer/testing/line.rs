//! A line in memory with two ends, on which sockets take and give any part and fail anywhere.

use super::dice::Dice;
use crate::driver::StreamSocket;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;

/// How likely what goes wrong is, of 256.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::layer) struct Rates {
    /// A call is refused although it need not be.
    pub(in crate::layer) refused: u8,
    /// A call takes or gives only a part.
    pub(in crate::layer) short: u8,
    /// The system is out of memory.
    pub(in crate::layer) no_memory: u8,
}

#[derive(Default)]
struct Direction {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// All bytes that were ever taken.
    taken: Vec<u8>,
    ended: bool,
    /// The writer was refused.
    refused: bool,
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, taken) = (self.bytes.len(), self.taken.len());
        write!(f, "{len} bytes of {taken} in {}", self.capacity)?;
        f.write_str(if self.ended { ", ended" } else { "" })
    }
}

/// The news of one end from an edge-triggered poll.
#[derive(Debug, Default)]
pub(in crate::layer) struct Events {
    pub(in crate::layer) readable: Cell<bool>,
    pub(in crate::layer) writable: Cell<bool>,
}

/// One end of a line, as a socket. Its twin looks at it from outside.
#[derive(Debug, Clone)]
pub(in crate::layer) struct LineEnd {
    into: Rc<RefCell<Direction>>,
    out: Rc<RefCell<Direction>>,
    events: Rc<Events>,
    peer_events: Rc<Events>,
    rates: Rates,
    dice: Dice,
    /// The error that each call meets, once the line has failed.
    broken: Rc<Cell<Option<i32>>>,
    /// The results of the next writes, in place of the room of the line.
    script: Rc<RefCell<VecDeque<Result<usize, i32>>>>,
    /// The sizes of the writes that were asked for, and the number of reads.
    writes: Rc<RefCell<Vec<usize>>>,
    reads: Rc<Cell<usize>>,
}

/// Makes a line that holds `capacity` bytes each way.
pub(in crate::layer) fn line(capacity: usize, rates: Rates, dice: &Dice) -> (LineEnd, LineEnd) {
    let direction = || {
        Rc::new(RefCell::new(Direction {
            capacity,
            ..Direction::default()
        }))
    };
    let one = LineEnd {
        into: direction(),
        out: direction(),
        events: Rc::default(),
        peer_events: Rc::default(),
        rates,
        dice: dice.clone(),
        broken: Rc::default(),
        script: Rc::default(),
        writes: Rc::default(),
        reads: Rc::default(),
    };
    let other = LineEnd {
        into: one.out.clone(),
        out: one.into.clone(),
        events: one.peer_events.clone(),
        peer_events: one.events.clone(),
        script: Rc::default(),
        writes: Rc::default(),
        reads: Rc::default(),
        ..one.clone()
    };
    one.events.writable.set(true);
    other.events.writable.set(true);
    (one, other)
}

impl LineEnd {
    pub(in crate::layer) fn events(&self) -> &Events {
        &self.events
    }

    /// Returns all bytes that this end has sent.
    pub(in crate::layer) fn sent(&self) -> Vec<u8> {
        self.out.borrow().taken.clone()
    }

    /// Returns the sizes of the writes since the last call.
    pub(in crate::layer) fn writes(&self) -> Vec<usize> {
        self.writes.take()
    }

    /// Returns the number of reads since the last call.
    pub(in crate::layer) fn reads(&self) -> usize {
        self.reads.take()
    }

    /// Has the next writes take that number of bytes, or fail with that number.
    pub(in crate::layer) fn script(&self, outcomes: impl IntoIterator<Item = Result<usize, i32>>) {
        self.script.borrow_mut().extend(outcomes);
    }

    /// Changes how much the line holds that this end sends.
    pub(in crate::layer) fn set_capacity(&self, capacity: usize) {
        self.out.borrow_mut().capacity = capacity;
        self.events.writable.set(true);
    }

    /// Ends what this end sends, whatever it has sent.
    pub(in crate::layer) fn cut(&self) {
        self.out.borrow_mut().ended = true;
        self.peer_events.readable.set(true);
    }

    /// Makes all calls at both ends fail, once what has arrived is read.
    pub(in crate::layer) fn break_with(&self, errno: i32) {
        self.broken.set(Some(errno));
        for events in [&self.events, &self.peer_events] {
            events.readable.set(true);
            events.writable.set(true);
        }
    }

    /// Takes the failure back.
    pub(in crate::layer) fn mend(&self) {
        self.broken.set(None);
    }

    fn take_part(&self, most: usize) -> usize {
        if most > 1 && self.dice.strikes(self.rates.short) {
            1 + self.dice.below(most - 1)
        } else {
            most
        }
    }
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl StreamSocket for LineEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        assert!(!buffer.is_empty(), "a read into nothing");
        if self.dice.strikes(self.rates.no_memory) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        if self.dice.strikes(self.rates.refused) {
            self.events.readable.set(true);
            return would_block();
        }
        let mut into = self.into.borrow_mut();
        let there = into.bytes.len().min(buffer.len());
        if there == 0 {
            return match self.broken.get() {
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None if into.ended => Ok(0),
                None => would_block(),
            };
        }
        let len = self.take_part(there);
        if len < there || into.ended || self.broken.get().is_some() {
            // As when the rest had come just afterwards.
            self.events.readable.set(true);
        }
        for (to, byte) in buffer.iter_mut().zip(into.bytes.drain(..len)) {
            *to = byte;
        }
        if into.refused {
            into.refused = false;
            self.peer_events.writable.set(true);
        }
        Ok(len)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered = slices.iter().map(|slice| slice.len()).sum::<usize>();
        assert!(offered > 0, "a write of nothing");
        self.writes.borrow_mut().push(offered);
        if let Some(errno) = self.broken.get()
            && self.script.borrow().is_empty()
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.dice.strikes(self.rates.no_memory) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        if self.dice.strikes(self.rates.refused) {
            self.events.writable.set(true);
            return would_block();
        }
        let mut out = self.out.borrow_mut();
        assert!(!out.ended, "a write after the end");
        let room = match self.script.borrow_mut().pop_front() {
            Some(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Ok(room)) => room,
            None => out.capacity.saturating_sub(out.bytes.len()),
        };
        if room == 0 {
            out.refused = true;
            return would_block();
        }
        let most = offered.min(room);
        let len = self.take_part(most);
        match len {
            _ if len < most => self.events.writable.set(true),
            _ if len < offered => out.refused = true,
            _ => {}
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let taken: Vec<_> = bytes.take(len).collect();
        out.bytes.extend(&taken);
        out.taken.extend(taken);
        self.peer_events.readable.set(true);
        Ok(len)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.cut();
        Ok(())
    }
}
