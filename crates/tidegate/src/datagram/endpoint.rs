//! The data of an endpoint. The code that changes it lies in the files beside.

use super::DatagramError;
use super::options::{Settings, WhenFull};
use super::queue::Queue;
use super::runs::{Lesson, Runs};
use super::stats::Numbers;
use super::{DatagramProtocol, DatagramTransport};
use crate::completion::Completer;
use crate::driver::Datagrams;
use crate::event_loop::{Core, Slot};
use crate::flow::Watermarks;
use crate::timers::TimerId;
use crate::transport::{BoxCell, Spent, State};
use crate::write_buffer::MAX_OFFER;
use crate::{Address, Closed, Handle, TransportId, WriteError};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Kept small: an idle endpoint has this, its protocol and its descriptor.
pub(crate) struct Endpoint {
    pub(super) state: Cell<State>,
    pub(super) id: TransportId,
    pub(super) handle: Handle,
    pub(super) local: Address,
    pub(super) remote: Option<Address>,
    /// Borrowed while a callback runs, and during `with_protocol`. All other code only tries.
    pub(super) protocol: RefCell<Option<Box<dyn DatagramProtocol>>>,
    pub(super) socket: RefCell<Option<Datagrams>>,
    pub(super) queue: BoxCell<Queue>,
    pub(super) extra: BoxCell<Extra>,
    pub(super) marks: Cell<Watermarks>,
    pub(super) when_full: WhenFull,
    /// The maximum number of datagrams of one call.
    pub(super) segments: u8,
    pub(super) runs: Runs,
    /// The kernel tells of room.
    pub(super) watches_room: Cell<bool>,
    /// The protocol is called at the end of a batch, as far as is known.
    pub(super) hears_of_batches: Cell<bool>,
    /// The tick that delivered the last `resume_writing`.
    pub(super) resume_tick: Cell<u32>,
    /// The tick that received last.
    pub(super) read_tick: Cell<u32>,
    /// The tick that sent last, and what is left of its budget.
    pub(super) budget: Cell<(u32, u32)>,
    pub(super) numbers: Numbers,
}

/// The allocator adds 24 bytes, two words of the `Rc` among them.
const _: () = assert!(size_of::<Endpoint>() <= 440);

/// Data that most endpoints do not have most of the time.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) closed: Option<Closed>,
    /// Errors that wait for the protocol.
    pub(super) errors: VecDeque<DatagramError>,
    /// Datagrams that came in one call with others, and wait for the protocol to read on.
    pub(super) kept: Option<Kept>,
    /// The remote address as the kernel spells it, if it does so in another way.
    pub(super) remote_of_kernel: Option<Address>,
    /// The lesson of the last refused run.
    pub(super) lesson: Option<Lesson>,
    pub(super) drains: Vec<Completer<()>>,
    /// With the number of datagrams that must have gone; in order.
    pub(super) flushes: VecDeque<(u64, Completer<()>)>,
    pub(super) writable_waits: Vec<Completer<()>>,
    pub(super) closes: Vec<Completer<Closed>>,
    /// Timers that die with the endpoint.
    pub(super) timers: BTreeSet<TimerId>,
    pub(super) close_deadline: Option<(Instant, TimerId)>,
    /// The pause before a Unix socket is tried again that tells of no room.
    pub(super) retry: Duration,
    /// The number of datagrams that had been sent when the kernel last refused one.
    pub(super) sent_at_refusal: u64,
    /// The number of datagrams that had gone when the endpoint ended, and dropped the rest.
    pub(super) gone_at_end: Option<u64>,
}

/// Datagrams of one sender.
pub(super) struct Kept {
    pub(super) from: Address,
    pub(super) data: Vec<u8>,
    /// Where those begin that have not been delivered.
    pub(super) at: usize,
    pub(super) segment: usize,
}

impl Endpoint {
    pub(super) fn start(
        settings: Settings,
        socket: Datagrams,
        protocol: Box<dyn DatagramProtocol>,
    ) -> DatagramTransport {
        let core = settings.handle.core().clone();
        let remote_of_kernel = settings.remote_of_kernel;
        let endpoint = core.registry.borrow_mut().insert(Slot::other, |id| {
            Rc::new(Self {
                state: Cell::new(State::CONNECTING.with(State::WRITABLE)),
                id,
                handle: settings.handle,
                local: settings.local,
                remote: settings.remote,
                protocol: RefCell::new(Some(protocol)),
                socket: RefCell::new(Some(socket)),
                queue: BoxCell::default(),
                extra: BoxCell::default(),
                marks: Cell::new(settings.marks),
                when_full: settings.when_full,
                segments: settings.segments,
                runs: Runs::default(),
                watches_room: Cell::new(false),
                hears_of_batches: Cell::new(true),
                resume_tick: Cell::new(0),
                read_tick: Cell::new(core.tick().wrapping_sub(1)),
                budget: Cell::new((core.tick(), MAX_OFFER as u32)),
                numbers: Numbers::default(),
            })
        });
        if let Some(remote) = remote_of_kernel {
            endpoint.with_extra(|extra| extra.remote_of_kernel = Some(remote));
        }
        DatagramTransport(endpoint)
    }

    pub(super) fn core(&self) -> &Rc<Core> {
        self.handle.core()
    }

    pub(super) fn is(&self, any: State) -> bool {
        self.state.get().any(any)
    }

    pub(super) fn set(&self, flags: State) {
        self.state.set(self.state.get().with(flags));
    }

    pub(super) fn clear(&self, flags: State) {
        self.state.set(self.state.get().without(flags));
    }

    pub(super) fn with_extra<R>(&self, call: impl FnOnce(&mut Extra) -> R) -> R {
        self.extra.with(|extra| call(extra.get_or_insert_default()))
    }

    pub(super) fn with_queue<R>(&self, call: impl FnOnce(&Queue) -> R) -> Option<R> {
        self.queue.with(|queue| queue.as_deref().map(call))
    }

    /// Returns the number of datagrams that wait.
    pub(super) fn queued(&self) -> usize {
        self.with_queue(Queue::len).unwrap_or(0)
    }

    /// Returns the number that is compared with the watermarks.
    pub(super) fn cost(&self) -> usize {
        self.with_queue(Queue::cost).unwrap_or(0)
    }

    pub(super) fn closed(&self) -> Option<Closed> {
        self.extra.with(|extra| extra.as_ref()?.closed.clone())
    }

    pub(super) fn spent(&self) -> Spent {
        Spent {
            resume: self.resume_tick.get() == self.core().tick(),
            budget: self.budget() == 0,
        }
    }

    /// Returns the bytes that may still be sent in this tick.
    pub(super) fn budget(&self) -> usize {
        let (tick, left) = self.budget.get();
        if tick == self.core().tick() {
            left as usize
        } else {
            MAX_OFFER
        }
    }

    /// Why a send is refused now.
    pub(super) fn refusal(&self) -> WriteError {
        let transport = self.id;
        match self.closed() {
            Some(closed) => WriteError::Closed { transport, closed },
            None => WriteError::Closing { transport },
        }
    }
}
