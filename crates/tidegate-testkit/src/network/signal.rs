//! Signals of hosts, each of which is one process.

use super::kernel::{Kernel, Source};
use super::state::{HostId, State};
use super::{Host, Network};
use std::collections::BTreeMap;
use tidegate::Signal;
use tidegate::driver::{Readiness, Token};

/// The signals that the loop of a host has taken.
#[derive(Debug, Default)]
pub(super) struct HostSignals {
    /// There while it has taken one.
    token: Option<Token>,
    /// Whether each has come since the loop last looked.
    taken: BTreeMap<Signal, bool>,
}

impl Kernel {
    pub(super) fn signal_token(&self) -> Option<Token> {
        self.signals.token
    }
}

impl Network {
    /// Sends a signal to the process of a host. Returns whether its loop has taken that signal: a real process would
    /// otherwise do the default action, which nothing does here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::{Protocol, Signal};
    /// use tidegate_testkit::World;
    ///
    /// struct Idle;
    ///
    /// impl Protocol for Idle {}
    ///
    /// # fn main() -> tidegate::Result {
    /// let mut world = World::new();
    /// let host = world.add_host("server")?;
    /// let server = host.handle().create_server(host.addr(7), || Idle)?;
    /// let ended = host.handle().wait_signal(&[Signal::SIGTERM]);
    /// let raising = host.clone();
    /// world.network().after(Duration::from_secs(3600), move |network| {
    ///     assert!(network.raise(&raising, Signal::SIGTERM));
    /// });
    /// assert_eq!(world.run_until(ended)?, Signal::SIGTERM);
    /// world.run_until(server.shutdown(Duration::from_secs(5)))?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn raise(&self, host: &Host, signal: Signal) -> bool {
        let host = self.id_of(host);
        self.with(|state| state.raise(host, signal))
    }
}

impl State {
    pub(super) fn watch_signal(&mut self, host: HostId, signal: Signal, token: Token) {
        let signals = &mut self.host(host).signals;
        signals.token = Some(token);
        signals.taken.entry(signal).or_insert(false);
    }

    pub(super) fn forget_signal(&mut self, host: HostId, signal: Signal) {
        let kernel = self.host(host);
        kernel.signals.taken.remove(&signal);
        if kernel.signals.taken.is_empty()
            && let Some(token) = kernel.signals.token.take()
        {
            kernel.drop_event(token);
        }
    }

    pub(super) fn take_signals(&mut self, host: HostId) -> Vec<Signal> {
        let taken = self.host(host).signals.taken.iter_mut();
        let came = taken.filter_map(|(signal, came)| std::mem::take(came).then_some(*signal));
        came.collect()
    }

    fn raise(&mut self, host: HostId, signal: Signal) -> bool {
        let number = signal.raw();
        self.note(("signal", host.0 as u64, number as u64), &[], || {
            format!("{host} {signal}")
        });
        let Some(came) = self.host(host).signals.taken.get_mut(&signal) else {
            return false;
        };
        *came = true;
        self.tell(Source::Signals(host), Readiness::new().with_readable());
        true
    }
}
