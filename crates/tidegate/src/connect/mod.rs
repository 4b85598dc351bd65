//! The connect path: from a name or an address to a connection.
//!
//! A name is resolved by a job. Its addresses are raced: [`happy_eyeballs`] decides the order and the
//! times, each [`Attempt`] is a socket of its own, and the slot of the one that wins becomes the
//! connection.

mod attempt;
mod error;
mod happy_eyeballs;
mod options;
mod outcome;

use crate::address::Target;
use crate::callback::Once;
use crate::completion::{Completer, Completion, Work};
use crate::driver::{JobId, Socket};
use crate::event_loop::{Core, Deferred};
use crate::flow::Watermarks;
use crate::protocol::boxed;
use crate::resolve::in_zone;
use crate::socket_options::SocketOptions;
use crate::timeouts::Timeouts;
use crate::timers::TimerId;
use crate::transport::{NewLayer, Transport};
use crate::{Address, Handle, LingerLimits, LoopClosed, Protocol};
use happy_eyeballs::{Move, Race};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use attempt::Attempt;
pub use error::ConnectError;
pub use options::ConnectOptions;
use outcome::drop_layers;

/// # Connecting
impl Handle {
    /// Connects, and gives the connection `protocol`.
    ///
    /// The completion completes after `connection_made`. Dropping it before cancels the connect, or closes
    /// a connection that was not taken.
    ///
    /// A name is resolved on the threads of [jobs](Self::run_in_executor), and waits while they are
    /// all busy. The error of a connect whose time was up meanwhile says that the name was still
    /// being resolved.
    ///
    /// # Errors
    ///
    /// Of the completion: a [`ConnectError`], with each address and its
    /// reason, also when the [time](ConnectOptions::timeout) was up or a
    /// [layer](ConnectOptions::layer) did not open; the
    /// [`Closed`](crate::Closed) of a connection whose `connection_made` failed;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for bad addresses and limits;
    /// [`LoopClosed`].
    #[doc(alias = "create_unix_connection")]
    pub fn create_connection(
        &self,
        options: impl Into<ConnectOptions>,
        protocol: impl Protocol,
    ) -> Completion<Transport> {
        connect(self, options.into(), boxed(protocol), None)
    }
}

/// Has a say in the attempts of a connect.
pub(crate) trait Guide {
    /// Returns an error for an address that must not be tried.
    fn check(&self, core: &Core, to: &Address) -> io::Result<()>;

    /// Called when an attempt has begun, and before the peer's end of it can be accepted.
    fn begun(&self, core: &Core, from: &Address, to: &Address);
}

impl fmt::Debug for dyn Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guide").finish_non_exhaustive()
    }
}

/// Names a connect of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectId(u64);

/// The connects under way.
#[derive(Debug, Default)]
pub(crate) struct Connects {
    begun: u64,
    under_way: BTreeMap<ConnectId, Rc<Connecting>>,
}

impl Connects {
    fn insert(&mut self, make: impl FnOnce(ConnectId) -> Connecting) -> Rc<Connecting> {
        let id = ConnectId(self.begun);
        self.begun += 1;
        let connecting = Rc::new(make(id));
        self.under_way.insert(id, connecting.clone());
        connecting
    }

    pub(crate) fn get(&self, id: ConnectId) -> Option<Rc<Connecting>> {
        self.under_way.get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Rc<Connecting>> {
        self.under_way.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }
}

/// A connect under way.
#[derive(Debug)]
pub(crate) struct Connecting {
    id: ConnectId,
    handle: Handle,
    target: Target,
    local_addr: Option<SocketAddr>,
    attempt_delay: Duration,
    marks: Watermarks,
    socket_options: RefCell<SocketOptions>,
    linger: Option<LingerLimits>,
    timeouts: Timeouts,
    guide: Option<Box<dyn Guide>>,
    layers: RefCell<Vec<NewLayer>>,
    /// The connection whose layers are opening.
    opening: RefCell<Option<Transport>>,
    /// The protocol and the completer that wait for the connection; `None` once it is decided.
    client: RefCell<Option<Client>>,
    resolving: Cell<Option<JobId>>,
    /// Without addresses until they are known.
    race: RefCell<Race>,
    running: RefCell<Vec<Rc<Attempt>>>,
    /// Every address so far, and why it failed if it has.
    tried: RefCell<Vec<(Address, Option<io::Error>)>>,
    timeout: Cell<Option<TimerId>>,
    /// To make the race's next move.
    next_move: Cell<Option<TimerId>>,
}

struct Client {
    /// Until there is a connection.
    protocol: Option<Box<dyn Protocol>>,
    completer: Completer<Transport>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

pub(crate) fn connect(
    handle: &Handle,
    mut options: ConnectOptions,
    protocol: Box<dyn Protocol>,
    guide: Option<Box<dyn Guide>>,
) -> Completion<Transport> {
    let core = handle.core();
    let layers = options.layers;
    let checked = if core.is_closed() {
        Err(LoopClosed.into())
    } else {
        options
            .to
            .and_then(|target| Ok((target, options.write_limits.resolve()?)))
            .and_then(|checked| {
                options.timeouts.check()?;
                layers.iter().try_for_each(NewLayer::check)?;
                Ok(checked)
            })
    };
    let (target, marks) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            options.socket.retire(core);
            drop_layers(core, layers);
            core.defer_drop(Deferred::Protocol(protocol));
            return Completion::ready(handle, Err(error));
        }
    };
    let (completer, completion) = Completion::pair(handle);
    let client = Client {
        protocol: Some(protocol),
        completer,
    };
    let connecting = core.connects.borrow_mut().insert(|id| Connecting {
        id,
        handle: handle.clone(),
        target,
        local_addr: options.local_addr,
        attempt_delay: options.attempt_delay,
        marks,
        socket_options: RefCell::new(options.socket),
        linger: options.linger_limits,
        timeouts: options.timeouts,
        guide,
        layers: RefCell::new(layers),
        opening: RefCell::default(),
        client: RefCell::new(Some(client)),
        resolving: Cell::new(None),
        race: RefCell::new(Race::new(Vec::new(), options.attempt_delay)),
        running: RefCell::default(),
        tried: RefCell::default(),
        timeout: Cell::new(None),
        next_move: Cell::new(None),
    });
    completion.on_drop(
        Work::Connect(connecting.id),
        Some(|transport| transport.close()),
    );
    if let Some(limit) = options.timeout {
        connecting.set_timeout(limit);
    }
    if connecting.socket_options.borrow().has_hook() {
        connecting.start_soon();
    } else {
        connecting.start();
    }
    completion
}

impl Connecting {
    fn core(&self) -> &Rc<Core> {
        self.handle.core()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Makes a socket for an attempt ahead, if there is something to set on it. Fails when code of
    /// the user's that saw the socket has ended the connect.
    fn prepare(&self, address: &Address) -> io::Result<Option<Socket>> {
        let options = self.socket_options.borrow().clone();
        let socket = options.prepare(self.core(), address)?;
        if self.is_decided() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(socket)
    }

    fn is_decided(&self) -> bool {
        self.client.borrow().is_none()
    }

    fn guide(&self) -> Option<&dyn Guide> {
        self.guide.as_deref()
    }

    /// A timer that is gone when the connect is decided.
    fn timer(&self, deadline: Option<Instant>, call: impl FnOnce(&Rc<Self>) + 'static) -> TimerId {
        let id = self.id;
        self.core().at(deadline, move |handle| {
            if let Some(connecting) = handle.core().connecting(id) {
                call(&connecting);
            }
        })
    }

    fn set_timeout(&self, limit: Duration) {
        let deadline = self.core().clock().checked_add(limit);
        let timer = self.timer(deadline, move |connecting| {
            connecting.timeout.set(None);
            let mut message = format!("no connection within {limit:?}");
            if connecting.resolving.get().is_some() {
                message += ": the name was still being resolved";
            } else if connecting.opening.borrow().is_some() {
                message += ": the layers of the connection were not open";
            }
            connecting.fail(Some(io::Error::new(io::ErrorKind::TimedOut, message)));
        });
        self.timeout.set(Some(timer));
    }

    /// Starts from the loop: an attempt runs code of the user's, which no call does before it
    /// returns.
    fn start_soon(&self) {
        let id = self.id;
        let start = move |handle: &Handle| {
            if let Some(connecting) = handle.core().connecting(id) {
                connecting.start();
            }
        };
        self.core()
            .push_ready(Once::new("create_connection", start));
    }

    fn start(self: &Rc<Self>) {
        match &self.target {
            Target::Address(address) => self.race(vec![address.clone()]),
            Target::Zoned { ip, zone, port } => {
                let found = in_zone(self.core(), *ip, zone, *port);
                self.resolved(found.map(|addr| vec![addr]));
            }
            Target::Name { host, port } => {
                let id = self.id;
                let job = self
                    .handle
                    .resolve_name(host, *port, move |handle, answer| {
                        if let Some(connecting) = handle.core().connecting(id) {
                            connecting.resolved(answer);
                        }
                    });
                // Not when it could not even begin.
                if !self.is_decided() {
                    self.resolving.set(Some(job));
                }
            }
        }
    }

    fn resolved(self: &Rc<Self>, answer: io::Result<Vec<SocketAddr>>) {
        self.resolving.set(None);
        match answer {
            Ok(addresses) => self.race(addresses.into_iter().map(Address::Inet).collect()),
            Err(error) => self.fail(Some(error)),
        }
    }

    fn race(self: &Rc<Self>, addresses: Vec<Address>) {
        self.race.replace(Race::new(addresses, self.attempt_delay));
        self.advance();
    }

    fn advance(self: &Rc<Self>) {
        self.stop_timer(&self.next_move);
        while !self.is_decided() {
            let next = self.race.borrow_mut().next(|| self.core().clock());
            match next {
                Move::Start(address) => {
                    self.tried.borrow_mut().push((address.clone(), None));
                    match Attempt::start(self, address.clone()) {
                        Ok(attempt) => self.running.borrow_mut().push(attempt),
                        Err(error) => self.note_failure(&address, error),
                    }
                }
                Move::WaitUntil(time) => {
                    let timer = self.timer(Some(time), |connecting| {
                        connecting.next_move.set(None);
                        connecting.advance();
                    });
                    self.next_move.set(Some(timer));
                    return;
                }
                Move::Wait => return,
                Move::Lost => return self.fail(None),
            }
        }
    }

    fn note_failure(&self, address: &Address, error: io::Error) {
        let mut tried = self.tried.borrow_mut();
        if let Some((_, reason)) = tried.iter_mut().find(|(known, _)| known == address) {
            *reason = Some(error);
        }
        self.race.borrow_mut().failed();
    }

    fn attempt_failed(self: &Rc<Self>, attempt: &Attempt, error: io::Error) {
        self.running
            .borrow_mut()
            .retain(|running| running.id() != attempt.id());
        attempt.close();
        self.note_failure(attempt.address(), error);
        self.advance();
    }
}
