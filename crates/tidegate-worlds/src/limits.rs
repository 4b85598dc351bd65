//! The limits of servers and loops, and whether they hold whenever somebody looks.

use crate::ledger::Ledger;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{CloseReason, EventLoop, EventLoopBuilder, ListenOptions, TimeoutKind, Transport};
use tidegate_testkit::{Clock, Host};

/// How much later than a limit and a quarter of it an idle connection may end: the times for which its host
/// may be kept from running, at each of five looks.
const SLACK: Duration = Duration::from_secs(5);

/// The maximum number of bytes of a write in these worlds, in which those of one callback are one: an echo of what one
/// read of a loop brings through layers.
const ONE_WRITE: u64 = 128 * 1024;

/// The limits of one server, and the connections that it serves.
#[derive(Debug)]
pub(crate) struct Limits {
    ledger: Rc<Ledger>,
    clock: Clock,
    most: Option<usize>,
    most_of_peer: Option<usize>,
    idle: Option<Duration>,
    write: Option<Duration>,
    close: Option<Duration>,
    /// The protocol sees all bytes: no layer has some of its own.
    is_plain: bool,
    /// It must not accept now.
    pub(crate) paused: Cell<bool>,
    /// It takes the backlog, also above its maximum.
    pub(crate) is_finishing: Cell<bool>,
    served: RefCell<Vec<Served>>,
    /// When somebody looked last.
    looked: Cell<Duration>,
}

#[derive(Debug)]
struct Served {
    transport: Transport,
    /// The number of bytes that had come and gone at the last look.
    moved: u64,
    /// The last of them moved between these times.
    since: (Duration, Duration),
}

impl Limits {
    /// Each limit is one of one server in four.
    pub(crate) fn any(
        ledger: &Rc<Ledger>,
        clock: &Clock,
        is_plain: bool,
        rng: &mut fastrand::Rng,
    ) -> Rc<Self> {
        Rc::new(Self {
            ledger: ledger.clone(),
            clock: clock.clone(),
            most: one_in_four(rng, |rng| rng.usize(1..10)),
            most_of_peer: one_in_four(rng, |rng| rng.usize(1..4)),
            idle: one_in_four(rng, |rng| Duration::from_millis(rng.u64(1000..60_000))),
            write: one_in_four(rng, |rng| Duration::from_millis(rng.u64(1000..60_000))),
            close: one_in_four(rng, |rng| Duration::from_millis(rng.u64(1000..60_000))),
            is_plain,
            paused: Cell::default(),
            is_finishing: Cell::default(),
            served: RefCell::default(),
            looked: Cell::default(),
        })
    }

    pub(crate) fn set(&self, mut options: ListenOptions) -> ListenOptions {
        if let Some(most) = self.most {
            options = options.max_connections(most);
        }
        if let Some(most) = self.most_of_peer {
            options = options.max_connections_per_peer(most);
        }
        if let Some(limit) = self.idle {
            options = options.idle_timeout(limit);
        }
        if let Some(limit) = self.write {
            options = options.write_timeout(limit);
        }
        if let Some(limit) = self.close {
            options = options.close_timeout(limit);
        }
        options
    }

    /// The server serves one more connection.
    pub(crate) fn serve(&self, transport: &Transport) {
        let now = self.clock.elapsed();
        let mut served = self.served.borrow_mut();
        served.push(Served {
            transport: transport.clone(),
            moved: 0,
            since: (now, now),
        });
        let open = || served.iter().filter(|it| it.transport.closed().is_none());
        let peer = ip_of(transport);
        let of_peer = open().filter(|it| ip_of(&it.transport) == peer).count();
        let open = open().count();
        if self.most == Some(open) {
            self.ledger.filled.set(self.ledger.filled.get() + 1);
        }
        let too_many = self.most.is_some_and(|most| open > most) && !self.is_finishing.get();
        if too_many || self.most_of_peer.is_some_and(|most| of_peer > most) {
            self.ledger.violation(format!(
                "{open} connections, {of_peer} of the peer, and the limits are {:?} and {:?}: {transport:?}",
                self.most, self.most_of_peer
            ));
        }
    }

    /// Looks at all connections, in a pause of the world. `step` is the time since the last look, unless
    /// the clock has jumped.
    pub(crate) fn look(&self, step: Duration) {
        let now = self.clock.elapsed();
        let before = self.looked.replace(now);
        self.served.borrow_mut().retain_mut(|it| {
            let stats = it.transport.stats();
            let moved = stats.received + stats.sent;
            if moved > it.moved {
                it.moved = moved;
                it.since = (before.max(it.since.0), now);
            }
            if !it.transport.is_reading() && stats.write_buffer_size == 0 {
                // Perhaps a throttle holds it back, and its time stands still.
                it.since.1 = now;
            }
            if now > before + step {
                // The server has looked once in all this time.
                it.since.1 = now;
            }
            let closed = it.transport.closed();
            if let Some(limit) = self.idle.filter(|_| self.is_plain) {
                let reason = closed.as_ref().map(|closed| closed.reason());
                let wrong = match reason {
                    Some(CloseReason::Timeout(TimeoutKind::Idle)) => now < it.since.0 + limit,
                    Some(_) => false,
                    // The peer's EOF, of which nothing is known here, counts as a byte.
                    None => now > it.since.1 + 2 * (limit + limit / 4) + SLACK,
                };
                if wrong {
                    self.ledger.violation(format!(
                        "{reason:?} at {now:?}, idle since {:?}, and the limit is {limit:?}: {:?}",
                        it.since, it.transport
                    ));
                }
            }
            closed.is_none()
        });
    }
}

fn ip_of(transport: &Transport) -> Option<IpAddr> {
    transport
        .peer_addr()
        .as_inet()
        .map(|addr| addr.ip().to_canonical())
}

fn one_in_four<T>(
    rng: &mut fastrand::Rng,
    draw: impl FnOnce(&mut fastrand::Rng) -> T,
) -> Option<T> {
    (rng.u32(..4) == 0).then(|| draw(rng))
}

/// The write budget of a loop; one in four has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget(Option<usize>);

impl Budget {
    pub(crate) fn any(rng: &mut fastrand::Rng) -> Self {
        Self(one_in_four(rng, |rng| 1 << rng.usize(12..19)))
    }

    pub(crate) fn builder(self) -> EventLoopBuilder {
        let builder = EventLoop::builder();
        match self.0 {
            Some(bytes) => builder.write_budget(bytes),
            None => builder,
        }
    }

    /// Looks at the buffers of a loop, in a pause of the world. The output of layers comes on top, and is left
    /// out.
    pub(crate) fn look(self, host: &Host, ledger: &Ledger) {
        let Some(budget) = self.0 else { return };
        let buffered = ledger.buffered(host.handle());
        if buffered > budget as u64 + ONE_WRITE {
            ledger.violation(format!(
                "{buffered} bytes are buffered at {}, and its budget is {budget}: {}",
                host.name(),
                ledger.show_open(Some(host.handle()))
            ));
        }
    }
}
