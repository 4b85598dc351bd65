//! The signals that a loop has asked for, and where each is told.

use super::Signal;
use crate::completion::Completer;
use crate::driver::Readiness;
use crate::event_loop::{Core, Deferred, LoopStats, Slot, Source};
use crate::{Handle, LoopClosed, TransportId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::rc::Rc;

type Call = Box<dyn FnMut(&Handle, Signal)>;

/// One source for all signals of a loop. It is there while somebody wants one.
pub(crate) struct SignalSource {
    id: TransportId,
    handle: Handle,
    /// In the order in which they have asked.
    receivers: RefCell<Vec<(u64, Receiver)>>,
    next_key: Cell<u64>,
}

/// A place where signals are told.
pub(super) enum Receiver {
    Handler {
        signal: Signal,
        /// Taken out while it runs.
        call: Option<Call>,
    },
    Wait {
        signals: Vec<Signal>,
        completer: Completer<Signal>,
    },
}

/// The thing to do for a receiver.
enum Turn {
    Call(Call),
    Complete,
}

impl Receiver {
    pub(super) fn handler(signal: Signal, call: Call) -> Self {
        let call = Some(call);
        Self::Handler { signal, call }
    }

    pub(super) fn wait(signals: &[Signal], completer: Completer<Signal>) -> Self {
        let signals = signals.to_vec();
        Self::Wait { signals, completer }
    }

    fn signals(&self) -> &[Signal] {
        match self {
            Self::Handler { signal, .. } => std::slice::from_ref(signal),
            Self::Wait { signals, .. } => signals,
        }
    }
}

impl SignalSource {
    /// Returns the loop's source, which has taken these signals. The caller pushes a receiver of them.
    pub(super) fn watching(handle: &Handle, signals: &[Signal]) -> io::Result<Rc<Self>> {
        let core = handle.core();
        check(signals)?;
        if core.is_closed() {
            return Err(LoopClosed.into());
        }
        let known = core.signals.borrow().clone();
        let source = known.unwrap_or_else(|| Self::register(handle));
        for (at, signal) in signals.iter().enumerate() {
            let token = source.id.token();
            let taken = core.with_driver(|driver| driver.as_dyn().watch_signal(*signal, token));
            if let Err(error) = taken {
                source.give_back(&signals[..at]);
                return Err(error);
            }
        }
        Ok(source)
    }

    fn register(handle: &Handle) -> Rc<Self> {
        let core = handle.core();
        let source = core.registry.borrow_mut().insert(Slot::other, |id| {
            Rc::new(Self {
                id,
                handle: handle.clone(),
                receivers: RefCell::default(),
                next_key: Cell::new(0),
            })
        });
        core.signals.replace(Some(source.clone()));
        source
    }

    /// Adds a receiver of signals that were taken. Returns its key.
    pub(super) fn push(&self, receiver: Receiver) -> u64 {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        self.receivers.borrow_mut().push((key, receiver));
        key
    }

    fn is_wanted(&self, signal: Signal) -> bool {
        let receivers = self.receivers.borrow();
        receivers
            .iter()
            .any(|(_, receiver)| receiver.signals().contains(&signal))
    }

    /// Gives back those of the signals that nobody in this loop wants. The source goes with the last receiver.
    fn give_back(&self, signals: &[Signal]) {
        let core = self.handle.core();
        for signal in signals.iter().filter(|signal| !self.is_wanted(**signal)) {
            core.with_driver(|driver| driver.as_dyn().forget_signal(*signal));
        }
        if self.receivers.borrow().is_empty() {
            self.deregister();
        }
    }

    fn deregister(&self) {
        let core = self.handle.core();
        let gone = core.registry.borrow_mut().remove(self.id);
        let known = core.signals.take();
        drop((gone, known));
    }

    fn take_out(&self, key: u64) -> Option<Receiver> {
        let mut receivers = self.receivers.borrow_mut();
        let at = receivers.iter().position(|(other, _)| *other == key)?;
        let (_, receiver) = receivers.remove(at);
        drop(receivers);
        self.give_back(receiver.signals());
        Some(receiver)
    }

    /// Takes a handler out, or a wait whose completion was dropped. Returns whether it was there.
    pub(crate) fn remove(&self, key: u64) -> bool {
        let Some(receiver) = self.take_out(key) else {
            return false;
        };
        // A handler that runs is dropped when it has returned.
        if let Receiver::Handler {
            call: Some(call), ..
        } = receiver
        {
            let dropped = Deferred::Value(Box::new(call));
            self.handle.core().defer_drop(dropped);
        }
        true
    }

    /// Tells of a signal that has come. Receivers from `end` on have asked since.
    fn tell(&self, core: &Core, signal: Signal, end: u64) {
        let keys: Vec<u64> = {
            let receivers = self.receivers.borrow();
            let wanting = receivers
                .iter()
                .filter(|(key, receiver)| *key < end && receiver.signals().contains(&signal));
            wanting.map(|(key, _)| *key).collect()
        };
        for key in keys {
            match self.turn_of(key) {
                Some(Turn::Call(call)) => self.run(core, key, call, signal),
                Some(Turn::Complete) => self.complete(key, signal),
                None => {}
            }
        }
    }

    /// Returns what to do for a receiver: nothing, if it is gone by now, or runs.
    fn turn_of(&self, key: u64) -> Option<Turn> {
        let mut receivers = self.receivers.borrow_mut();
        let (_, receiver) = receivers.iter_mut().find(|(other, _)| *other == key)?;
        match receiver {
            Receiver::Handler { call, .. } => call.take().map(Turn::Call),
            Receiver::Wait { .. } => Some(Turn::Complete),
        }
    }

    fn run(&self, core: &Core, key: u64, mut call: Call, signal: Signal) {
        core.guard("a signal handler", || call(&self.handle, signal));
        let mut receivers = self.receivers.borrow_mut();
        let found = receivers.iter_mut().find(|(other, _)| *other == key);
        if let Some((_, Receiver::Handler { call: place, .. })) = found {
            *place = Some(call);
            return;
        }
        drop(receivers);
        core.drop_value(call);
    }

    fn complete(&self, key: u64, signal: Signal) {
        // Given back before: the code that gets the result finds the default action in its place.
        if let Some(Receiver::Wait { completer, .. }) = self.take_out(key) {
            completer.complete(Ok(signal));
        }
    }

    fn all_wanted(&self) -> BTreeSet<Signal> {
        let receivers = self.receivers.borrow();
        let signals = receivers
            .iter()
            .flat_map(|(_, receiver)| receiver.signals());
        signals.copied().collect()
    }
}

fn check(signals: &[Signal]) -> io::Result<()> {
    let message = match signals {
        [] => Some("there is no signal to wait for".to_owned()),
        _ => signals.iter().find_map(|signal| {
            let why = signal.refusal()?;
            Some(format!("no handler may have {signal}: {why}"))
        }),
    };
    message.map_or(Ok(()), |message| {
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    })
}

impl Source for SignalSource {
    fn on_event(self: Rc<Self>, core: &Core, _: Readiness, _: &mut [u8]) {
        let came = core.with_driver(|driver| driver.as_dyn().take_signals());
        let end = self.next_key.get();
        for signal in came {
            self.tell(core, signal, end);
        }
    }

    fn end(self: Rc<Self>, core: &Core) {
        let wanted: Vec<_> = self.all_wanted().into_iter().collect();
        let receivers = self.receivers.take();
        self.give_back(&wanted);
        for (_, receiver) in receivers {
            match receiver {
                Receiver::Handler { call, .. } => core.drop_value(call),
                Receiver::Wait { completer, .. } => completer.complete(Err(LoopClosed.into())),
            }
        }
    }

    fn count(&self, stats: &mut LoopStats) {
        stats.signals += self.all_wanted().len();
    }
}

impl fmt::Debug for SignalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalSource")
            .field("id", &self.id)
            .field("wanted", &self.all_wanted())
            .finish_non_exhaustive()
    }
}
