//! Servers that pause accepting, refuse some of their peers, and are shut down while others connect.

use crate::ledger::{Guard, Ledger};
use crate::limits::Limits;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Completion, ListenOptions, Server, ShutdownReport};
use tidegate_streams::StreamServer;
use tidegate_testkit::World;

/// A server, and its limits.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) server: AnyServer,
    pub(crate) limits: Rc<Limits>,
    /// Its connections have layers that open before they are made.
    pub(crate) opens_later: bool,
}

#[derive(Clone)]
pub(crate) enum AnyServer {
    Callbacks(Server),
    Streams(StreamServer),
}

/// Where a server listens, and which peers it refuses: none, one of sixteen, or one of four.
pub(crate) fn options(
    at: SocketAddr,
    limits: &Rc<Limits>,
    ledger: &Rc<Ledger>,
    rng: &mut fastrand::Rng,
) -> ListenOptions {
    let (of, ledger) = (limits.clone(), ledger.clone());
    let refuses = [0, 16, 4][rng.usize(..3)];
    let mut rng = rng.fork();
    limits.set(ListenOptions::from(at)).accept_if(move |peer| {
        if of.paused.get() {
            ledger.violation(format!("a paused server accepts {peer}"));
        }
        let refused = refuses > 0 && rng.u32(..refuses) == 0;
        ledger
            .refused
            .set(ledger.refused.get() + u64::from(refused));
        !refused
    })
}

/// Has each server pause now and then within `time`, and in some worlds one be shut down after a
/// pause.
pub(crate) fn schedule(
    world: &World,
    servers: &[Serving],
    time: Duration,
    ledger: &Rc<Ledger>,
    rng: &mut fastrand::Rng,
) {
    let mut millis = |most: Duration| Duration::from_millis(rng.u64(..most.as_millis() as u64));
    for serving in servers {
        for _ in 0..2 {
            let from = millis(time);
            let until = from + millis(Duration::from_secs(20));
            let (pauses, resumes) = (serving.clone(), serving.clone());
            world.network().after(from, move |_| pauses.pause());
            world.network().after(until, move |_| resumes.resume());
        }
    }
    let (from, until) = (millis(time), millis(Duration::from_secs(60)));
    let grace = millis(Duration::from_secs(10));
    if rng.bool() {
        let serving = servers[rng.usize(..servers.len())].clone();
        let (pauses, ledger) = (serving.clone(), ledger.clone());
        world.network().after(from, move |_| pauses.pause());
        world.network().after(from + until, move |_| {
            serving.shut_down(grace, &ledger);
        });
    }
}

impl Serving {
    fn pause(&self) {
        match &self.server {
            AnyServer::Callbacks(server) => server.pause_accepting(),
            AnyServer::Streams(server) => server.pause_accepting(),
        }
        // The backlog of a shutdown may still get its protocols.
        let is_finishing = self.limits.is_finishing.get();
        self.limits.paused.set(!is_finishing);
    }

    fn resume(&self) {
        match &self.server {
            AnyServer::Callbacks(server) => server.resume_accepting(),
            AnyServer::Streams(server) => server.resume_accepting(),
        }
        self.limits.paused.set(false);
    }

    fn shutdown(&self, grace: Duration) -> Completion<ShutdownReport> {
        match &self.server {
            AnyServer::Callbacks(server) => server.shutdown(grace),
            AnyServer::Streams(server) => server.shutdown(grace),
        }
    }

    /// Shuts the server down, with what is in its backlog.
    pub(crate) fn shut_down(&self, grace: Duration, ledger: &Rc<Ledger>) {
        let waiter = Guard::new(ledger, |ledger| &ledger.waiters);
        // The backlog is served, also that of a pause; a later pause has no effect.
        self.limits.paused.set(false);
        self.limits.is_finishing.set(true);
        let shutdown = self.shutdown(grace);
        let ledger = ledger.clone();
        // Streams count handlers, and those of the backlog that are opening then get none.
        let adds_up = !(self.opens_later && matches!(self.server, AnyServer::Streams(_)));
        shutdown.then(move |_, result| {
            drop(waiter);
            let Ok(report) = result else { return };
            let from_backlog = report.from_backlog as u64;
            ledger
                .from_backlog
                .set(ledger.from_backlog.get() + from_backlog);
            if adds_up && report.closed + report.aborted < report.from_backlog {
                ledger.violation(format!("a report that does not add up: {report:?}"));
            }
        });
    }
}
