//! Signals of the process. A flag for each says that it has come; a byte in a socket only wakes the loop.
//!
//! A process that was forked shares the socket and not the flags, so its signals are not told here.

use super::OsDriver;
use crate::Signal;
use crate::driver::{Token, uninterrupted};
use mio::Interest;
use signal_hook::SigId;
use signal_hook::flag;
use signal_hook::low_level::{pipe, unregister};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More than a socket of one-byte writes can hold.
const BUFFER: usize = 4096;

/// The exit code of a program that a signal has ended, less the number of the signal, as shells tell it.
const ENDED_BY_SIGNAL: i32 = 128;

/// Whether SIGIO ends the process (signal(7)). signal-hook counts it as ignored, as other systems do.
const SIGIO_ENDS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Every signal that a loop of this process has ever taken.
static TAKEN: Mutex<BTreeMap<Signal, Taken>> = Mutex::new(BTreeMap::new());

/// A signal, as the process has it.
struct Taken {
    /// The number of loops that want it.
    loops: usize,
    /// Whether its default action is taken when it comes. `None` when it had none of that before.
    default: Option<Arc<AtomicBool>>,
}

/// The signals that one loop has taken.
#[derive(Debug)]
pub(super) struct OsSignals {
    reader: UnixStream,
    writer: UnixStream,
    watched: BTreeMap<Signal, Watched>,
}

#[derive(Debug)]
struct Watched {
    raised: Arc<AtomicBool>,
    /// The parts of the system's handler.
    actions: [SigId; 2],
}

impl OsDriver {
    pub(super) fn take_signal(&mut self, signal: Signal, token: Token) -> io::Result<()> {
        let mut signals = match self.signals.take() {
            Some(signals) => signals,
            None => {
                let new = OsSignals::new()?;
                self.watch(new.reader.as_raw_fd(), token, Interest::READABLE)?;
                new
            }
        };
        let taken = signals.take(signal);
        self.keep(signals);
        taken.map_err(|error| explained(error, signal))
    }

    pub(super) fn release_signal(&mut self, signal: Signal) {
        if let Some(mut signals) = self.signals.take() {
            signals.release(signal);
            self.keep(signals);
        }
    }

    /// Keeps the signals, unless there are none.
    fn keep(&mut self, signals: OsSignals) {
        if signals.watched.is_empty() {
            // A forked process may have a copy of the socket.
            self.forget(signals.reader.as_raw_fd());
        } else {
            self.signals = Some(signals);
        }
    }
}

impl OsSignals {
    fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        Ok(Self {
            reader,
            writer,
            watched: BTreeMap::new(),
        })
    }

    fn take(&mut self, signal: Signal) -> io::Result<()> {
        let Entry::Vacant(place) = self.watched.entry(signal) else {
            return Ok(());
        };
        let mut all = lock();
        let taken = match all.entry(signal) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(first) => first.insert(Taken::new(signal)?),
        };
        let raised = Arc::new(AtomicBool::new(false));
        let writer = self.writer.try_clone()?;
        // The flag is set before the byte is written: actions run in the order in which they were registered.
        let set = flag::register(signal.raw(), raised.clone())?;
        let wake = pipe::register(signal.raw(), writer).inspect_err(|_| {
            unregister(set);
        })?;
        taken.add_loop();
        place.insert(Watched {
            raised,
            actions: [wake, set],
        });
        Ok(())
    }

    fn release(&mut self, signal: Signal) {
        let Some(watched) = self.watched.remove(&signal) else {
            return;
        };
        if let Some(taken) = lock().get_mut(&signal) {
            taken.remove_loop();
        }
        for action in watched.actions {
            unregister(action);
        }
    }

    /// Returns the signals that have come, by number.
    pub(super) fn take_raised(&mut self) -> Vec<Signal> {
        // The bytes before the flags: a signal that comes in between leaves a byte for the next event.
        let mut buffer = [0; BUFFER];
        while let Ok(BUFFER) = uninterrupted(|| self.reader.read(&mut buffer)) {}
        let raised = self
            .watched
            .iter()
            .filter(|(_, watched)| watched.raised.swap(false, Ordering::SeqCst));
        raised.map(|(signal, _)| *signal).collect()
    }
}

impl Drop for OsSignals {
    fn drop(&mut self) {
        while let Some((&signal, _)) = self.watched.first_key_value() {
            self.release(signal);
        }
    }
}

impl Taken {
    /// Before the first loop wants it.
    fn new(signal: Signal) -> io::Result<Self> {
        let status = match fs::read_to_string("/proc/self/status") {
            Ok(status) => Some(status),
            // The next call may succeed, and the result is kept for good.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(error);
            }
            Err(_) => None,
        };
        let mut default = None;
        if had_default_action(status.as_deref(), signal) {
            let condition = Arc::new(AtomicBool::new(true));
            register_default(signal, &condition)?;
            default = Some(condition);
        }
        Ok(Self { loops: 0, default })
    }

    fn add_loop(&mut self) {
        self.loops += 1;
        self.decide();
    }

    fn remove_loop(&mut self) {
        self.loops -= 1;
        self.decide();
    }

    fn decide(&self) {
        if let Some(default) = &self.default {
            default.store(self.loops == 0, Ordering::SeqCst);
        }
    }
}

/// Has the default action taken, under a condition. signal-hook removes no handler, so ours does what the system
/// would do.
fn register_default(signal: Signal, condition: &Arc<AtomicBool>) -> io::Result<SigId> {
    let (number, condition) = (signal.raw(), condition.clone());
    let is_known = signal_hook::low_level::signal_name(number).is_some();
    if is_known && !(SIGIO_ENDS && signal == Signal::SIGIO) {
        return flag::register_conditional_default(number, condition);
    }
    // All that signal-hook has no name for, and that a handler may have, end the process.
    let code = ENDED_BY_SIGNAL.saturating_add(number);
    flag::register_conditional_shutdown(number, code, condition)
}

fn explained(error: io::Error, signal: Signal) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{signal}: the system has no such signal for a handler"),
        ),
        _ => error,
    }
}

/// Returns whether a signal that nobody has taken yet has its default action, given the text of /proc/self/status
/// (proc_pid_status(5)).
fn had_default_action(status: Option<&str>, signal: Signal) -> bool {
    let Some(status) = status else {
        // Programs in Rust ignore it from their start.
        return signal != Signal::SIGPIPE;
    };
    let is_in = |name: &str| {
        let mut lines = status.lines();
        let mask = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let mask = mask.and_then(|mask| u128::from_str_radix(mask.trim(), 16).ok());
        let bit = signal.raw().checked_sub(1);
        let bit = bit.and_then(|bit| u32::try_from(bit).ok());
        mask.zip(bit)
            .and_then(|(mask, bit)| mask.checked_shr(bit))
            .is_some_and(|mask| mask & 1 == 1)
    };
    !is_in("SigIgn") && !is_in("SigCgt")
}

fn lock() -> MutexGuard<'static, BTreeMap<Signal, Taken>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n\
                          SigCgt:\t0000000180000002\n";

    #[test]
    fn a_signal_that_is_ignored_or_has_a_handler_has_no_default_action() {
        let default = |signal| had_default_action(Some(STATUS), signal);
        assert!(!default(Signal::SIGHUP), "ignored");
        assert!(!default(Signal::SIGPIPE), "ignored");
        assert!(!default(Signal::SIGINT), "has a handler");
        assert!(default(Signal::SIGTERM));
        assert!(!default(Signal::from_raw(33)), "has a handler");
    }

    #[test]
    fn without_proc_all_signals_but_sigpipe_have_their_default_action() {
        assert!(had_default_action(None, Signal::SIGHUP));
        assert!(!had_default_action(None, Signal::SIGPIPE));
        assert!(had_default_action(Some("no masks"), Signal::SIGHUP));
    }

    #[test]
    fn a_number_that_is_no_signal_is_in_no_mask() {
        for number in [i32::MIN, -1, 0, 129, i32::MAX] {
            assert!(had_default_action(Some(STATUS), Signal::from_raw(number)));
        }
    }
}
