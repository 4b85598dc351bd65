//! A connection's data. The code that changes it lies in the files beside.

use super::box_cell::BoxCell;
use super::layers::Layers;
use super::linger::LingerLimits;
use super::state::State;
use super::step::Spent;
use super::unread::{Lent, Unread};
use super::write_timeout::{Stall, WriteTimeout};
use crate::callback::Run;
use crate::completion::Completer;
use crate::driver::Socket;
#[cfg(feature = "splice")]
use crate::driver::SplicePipe;
use crate::event_loop::Core;
use crate::flow::{Flow, Watermarks};
use crate::server::ServerState;
use crate::timers::TimerId;
use crate::write_buffer::{MAX_OFFER, WriteBuffer};
use crate::{Address, CloseReason, Closed, Detached, Handle, Protocol, TransportId, WriteError};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Kept small: an idle connection has this, its protocol and its descriptor.
pub(crate) struct Conn {
    pub(super) state: Cell<State>,
    pub(super) pauses: Cell<u32>,
    pub(super) id: TransportId,
    /// Stream offsets. Their difference is the number of buffered bytes, wherever these are.
    pub(super) written: Cell<u64>,
    pub(super) sent: Cell<u64>,
    pub(super) received: Cell<u64>,
    pub(super) marks: Cell<Watermarks>,
    pub(super) write_timeout: Cell<WriteTimeout>,
    /// The tick that delivered the last `resume_writing`.
    pub(super) resume_tick: Cell<u32>,
    /// The tick that read last.
    pub(super) read_tick: Cell<u32>,
    /// The tick that sent last, and what is left of its budget; [`UNSPENT`] since a look for idle
    /// connections.
    pub(super) budget: Cell<(u32, u32)>,
    pub(super) handle: Handle,
    /// Borrowed while a callback runs, and during `with_protocol`. All other code only tries.
    pub(super) protocol: RefCell<Option<Box<dyn Protocol>>>,
    pub(super) socket: RefCell<Option<Socket>>,
    pub(super) queue: BoxCell<WriteBuffer>,
    pub(super) extra: BoxCell<Extra>,
    pub(super) peer: Address,
    pub(super) local: OnceCell<Box<Address>>,
    pub(super) server: Option<Rc<ServerState>>,
}

/// The allocator hands out steps of 16 bytes, with two words of the `Rc` and one of its own: eight
/// bytes more would cost each connection 16.
const _: () = assert!(size_of::<Conn>() <= 216);

/// In place of what is left of the budget of a tick that is over.
const UNSPENT: u32 = u32::MAX;

/// Data that most connections never need.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) closed: Option<Closed>,
    /// The first failure of a callback.
    pub(super) failure: Option<CallbackFailure>,
    /// The value of `written` when a write was last refused at the cap; 0 when none was, for an
    /// empty buffer refuses nothing.
    pub(super) refused_at: u64,
    pub(super) next: Option<Next>,
    /// Of `detach`, until the running callback has returned.
    pub(super) detaching: Option<Completer<Detached>>,
    /// Calls of `set_protocol`.
    pub(super) switches: u64,
    pub(super) unread: Unread,
    pub(super) lent: Lent,
    /// While there are any, `READ_HOLD` is set.
    pub(super) read_holds: usize,
    pub(super) drains: Vec<Completer<()>>,
    /// With the offset that `sent` must reach; in order.
    pub(super) flushes: VecDeque<(u64, Completer<()>)>,
    pub(super) closes: Vec<Completer<Closed>>,
    /// To run when writing fails.
    pub(super) write_failed: Option<Rc<dyn Run>>,
    /// Timers that die with the connection.
    pub(super) timers: BTreeSet<TimerId>,
    pub(super) close_deadline: Option<(Instant, TimerId)>,
    /// Of the `ConnectOptions`.
    pub(super) close_timeout: Option<Duration>,
    /// The close timeout runs.
    pub(super) close_timed: bool,
    /// In place of the limits of the server, or of the defaults.
    pub(super) linger: Option<LingerLimits>,
    /// One that the connection itself has no room for.
    pub(super) write_timeout: Option<Duration>,
    /// There while `STALL_TIMED` is set.
    pub(super) stall: Option<Stall>,
    /// There since the first layer.
    pub(super) layers: Option<Box<Layers>>,
    /// There while `PIPED` is set.
    #[cfg(feature = "splice")]
    pub(super) pipe: Option<SplicePipe>,
}

impl Extra {
    /// The next waiter whose bytes are in the kernel.
    pub(super) fn pop_flushed(&mut self, sent: u64) -> Option<Completer<()>> {
        if self.flushes.front()?.0 > sent {
            return None;
        }
        self.flushes.pop_front().map(|(_, flush)| flush)
    }
}

/// An error or a panic of a callback.
#[derive(Clone)]
pub(super) struct CallbackFailure {
    pub(super) reason: CloseReason,
    /// It is the reason of the end, having come before what sending the rest may meet; not when
    /// the connection was closing with nothing left to send.
    pub(super) ends: bool,
}

/// The protocol of `set_protocol`, until the running callback has returned.
pub(super) struct Next {
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) unread: Vec<u8>,
    /// The number of unread bytes that came with it; behind them are those of protocols that it replaced.
    pub(super) own: usize,
    /// A callback of the connection brought it, and has not returned.
    pub(super) in_callback: bool,
}

impl Conn {
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

    pub(super) fn buffered(&self) -> u64 {
        self.written.get() - self.sent.get()
    }

    /// Whether an end now would look cut to the peer: bytes are unsent, or layers have not ended their
    /// streams.
    pub(super) fn owes_peer(&self) -> bool {
        self.buffered() > 0 || self.state.get().is_to_end_layers()
    }

    /// The buffered bytes that may still be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        if self.is(State::WRITE_FAILED | State::ENDED | State::LOST_CALLED) {
            return 0;
        }
        self.buffered() as usize
    }

    /// A step that is owed, such as `connection_made`, only delays reading.
    pub(super) fn is_reading(&self) -> bool {
        let passing = State::CONNECTING | State::OPENING | State::SWITCH;
        !self.is(State::NO_READ.without(passing)) && !self.is(State::EOF_TOLD)
    }

    /// Whether it is a write pipe: its input counts as ended, and no protocol is told of that end.
    pub(super) fn is_write_only(&self) -> bool {
        self.is(State::EOF_TOLD) && !self.is(State::EOF_DELIVERED)
    }

    pub(super) fn local_addr(&self) -> &Address {
        if self.is(State::IN_LAYER) {
            // The socket is out of its cell, so the address is not known yet.
            return self.local.get().map_or(&Address::Unnamed, |addr| addr);
        }
        self.local.get_or_init(|| {
            let socket = self.socket.borrow();
            let addr = socket.as_ref().and_then(|socket| socket.local_addr().ok());
            Box::new(addr.unwrap_or(Address::Unnamed))
        })
    }

    pub(super) fn flow(&self) -> Flow {
        if self.is(State::PAUSED) {
            Flow::Paused
        } else {
            Flow::Open
        }
    }

    pub(super) fn spent(&self) -> Spent {
        let tick = self.core().tick();
        Spent {
            resume: self.resume_tick.get() == tick,
            budget: self.budget() == 0,
        }
    }

    /// Bytes that may still be sent in this tick.
    pub(super) fn budget(&self) -> usize {
        let (tick, left) = self.budget.get();
        if tick == self.core().tick() {
            left as usize
        } else {
            MAX_OFFER
        }
    }

    /// Takes `cost` from the budget of this tick.
    pub(super) fn spend(&self, budget: usize, cost: usize) {
        let left = budget.saturating_sub(cost) as u32;
        self.budget.set((self.core().tick(), left));
    }

    /// Returns whether bytes were sent since the last call. Those of a tick that lasts may count twice.
    pub(super) fn has_sent_since_look(&self) -> bool {
        let (tick, left) = self.budget.get();
        if tick != self.core().tick() {
            self.budget.set((tick, UNSPENT));
        }
        left != UNSPENT
    }

    pub(super) fn with_extra<R>(&self, call: impl FnOnce(&mut Extra) -> R) -> R {
        self.extra.with(|extra| call(extra.get_or_insert_default()))
    }

    pub(super) fn has_extra(&self) -> bool {
        self.extra.is_some()
    }

    pub(super) fn closed(&self) -> Option<Closed> {
        self.extra.with(|extra| extra.as_ref()?.closed.clone())
    }

    /// Why a write is refused now.
    pub(super) fn refusal(&self) -> WriteError {
        let transport = self.id;
        if let Some(closed) = self.closed() {
            WriteError::Closed { transport, closed }
        } else if self.is(State::CLOSING | State::END_NOTED) {
            WriteError::Closing { transport }
        } else if self.is(State::EOF_ASKED) {
            WriteError::AfterEof { transport }
        } else {
            WriteError::InLayer { transport }
        }
    }
}
