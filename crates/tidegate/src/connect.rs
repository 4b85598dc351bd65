//! The connect path: from an address to a connection.

use crate::completion::{Completer, Completion};
use crate::driver::{Readiness, Socket};
use crate::event_loop::{Core, Grave, Source, add};
use crate::flow::{Watermarks, WriteLimits};
use crate::timers::TimerId;
use crate::transport::{NewConnection, Transport};
use crate::{Address, Closed, Handle, LoopClosed, Protocol, TransportId, address};
use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long to wait for room in the backlog of a Unix listener, which connect(2) says with
/// EAGAIN and nothing announces.
const BACKLOG_RETRY: Duration = Duration::from_millis(10);

/// Where to connect to, and how; see
/// [`Handle::create_connection`](crate::Handle::create_connection).
///
/// Made from `"127.0.0.1:8888"`, `"[::1]:8888"`, `"unix:/path"`, a [`SocketAddr`] or an
/// [`Address`].
#[derive(Debug)]
pub struct ConnectOptions {
    to: io::Result<Address>,
    timeout: Option<Duration>,
    write_limits: WriteLimits,
}

impl ConnectOptions {
    /// Connects there, with the defaults. What is wrong with an address is said by the
    /// completion.
    pub fn new(to: impl Into<Self>) -> Self {
        to.into()
    }

    fn to(to: io::Result<Address>) -> Self {
        Self {
            to,
            timeout: None,
            write_limits: WriteLimits::new(),
        }
    }

    /// Fails with [`TimedOut`](io::ErrorKind::TimedOut) when the connection does not stand by
    /// then. Without one the system's own limit holds, which is minutes.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The write limits of the connection.
    pub fn write_limits(mut self, limits: WriteLimits) -> Self {
        self.write_limits = limits;
        self
    }
}

impl From<Address> for ConnectOptions {
    fn from(address: Address) -> Self {
        Self::to(Ok(address))
    }
}

impl From<&Address> for ConnectOptions {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<SocketAddr> for ConnectOptions {
    fn from(addr: SocketAddr) -> Self {
        Address::Inet(addr).into()
    }
}

impl From<&str> for ConnectOptions {
    fn from(text: &str) -> Self {
        let invalid = |complaint| io::Error::new(io::ErrorKind::InvalidInput, complaint);
        Self::to(address::parse(text).map_err(invalid))
    }
}

impl From<String> for ConnectOptions {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// A connect under way.
#[derive(Debug)]
pub(crate) struct Connecting {
    id: TransportId,
    handle: Handle,
    to: Address,
    marks: Watermarks,
    socket: RefCell<Option<Socket>>,
    /// What waits for the connection; `None` once it is decided.
    client: RefCell<Option<Client>>,
    timeout: Cell<Option<TimerId>>,
    retry: Cell<Option<TimerId>>,
}

struct Client {
    protocol: Box<dyn Protocol>,
    completer: Completer<Transport>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

pub(crate) fn connect(
    handle: &Handle,
    options: ConnectOptions,
    protocol: Box<dyn Protocol>,
) -> Completion<Transport> {
    let core = handle.core();
    let checked = if core.is_closed() {
        Err(LoopClosed.into())
    } else {
        options
            .to
            .and_then(|to| Ok((to, options.write_limits.resolve()?)))
    };
    let (to, marks) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            core.bury(Grave::Protocol(protocol));
            return Completion::known(handle, Err(error));
        }
    };
    let (completer, completion) = Completion::pair(handle);
    let client = Client {
        protocol,
        completer,
    };
    let mut registry = core.registry.borrow_mut();
    let connecting = registry.insert(Source::Connecting, |id| {
        client.completer.on_drop(id, |transport| transport.close());
        Rc::new(Connecting {
            id,
            handle: handle.clone(),
            to,
            marks,
            socket: RefCell::new(None),
            client: RefCell::new(Some(client)),
            timeout: Cell::new(None),
            retry: Cell::new(None),
        })
    });
    drop(registry);
    if let Some(limit) = options.timeout {
        connecting.set_timeout(limit);
    }
    connecting.start();
    completion
}

impl Connecting {
    fn core(&self) -> &Rc<Core> {
        self.handle.core()
    }

    fn set_timeout(&self, limit: Duration) {
        let id = self.id;
        let timer = self.core().after(limit, move |handle| {
            if let Some(Source::Connecting(connecting)) = handle.core().source(id) {
                connecting.timeout.set(None);
                let message = format!("no connection within {limit:?}");
                connecting.fail(io::Error::new(io::ErrorKind::TimedOut, message));
            }
        });
        self.timeout.set(Some(timer));
    }

    fn start(&self) {
        let core = self.core();
        let result: io::Result<Socket> = core.with_driver(|driver| {
            let mut socket = driver.as_dyn().connect(&self.to)?;
            driver.as_dyn().register(&mut socket, self.id.token())?;
            Ok(socket)
        });
        match result {
            Ok(socket) => {
                add(&core.counters.registrations, 1);
                self.socket.replace(Some(socket));
            }
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && self.to.as_unix().is_some() =>
            {
                self.retry();
            }
            Err(error) => self.fail(error),
        }
    }

    fn retry(&self) {
        let id = self.id;
        let timer = self.core().after(BACKLOG_RETRY, move |handle| {
            if let Some(Source::Connecting(connecting)) = handle.core().source(id) {
                connecting.retry.set(None);
                connecting.start();
            }
        });
        self.retry.set(Some(timer));
    }

    pub(crate) fn on_event(&self, readiness: Readiness, buffer: &mut [u8]) {
        if !readiness.writable && !readiness.failed {
            return;
        }
        let connected = match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.connected(),
            None => return,
        };
        match connected {
            Ok(true) => self.establish(readiness, buffer),
            Ok(false) => {}
            Err(error) => self.fail(error),
        }
    }

    fn establish(&self, readiness: Readiness, buffer: &mut [u8]) {
        self.stop_timers();
        let (socket, client) = (self.socket.take(), self.client.take());
        let (Some(mut socket), Some(client)) = (socket, client) else {
            return;
        };
        socket.set_nodelay_at_start(&self.to);
        let connection = NewConnection {
            socket,
            peer: self.to.clone(),
            protocol: client.protocol,
            accepted: false,
            marks: self.marks,
            server: None,
        };
        let transport = Transport::new(&self.handle, self.id, connection);
        let next = Source::Connection(transport.clone());
        let before = self.core().registry.borrow_mut().replace(self.id, next);
        drop(before);
        transport.settle();
        answer(client.completer, &transport);
        if !transport.is_lost() {
            transport.on_event(readiness, buffer);
        }
    }

    fn stop_timers(&self) {
        for timer in [self.timeout.take(), self.retry.take()]
            .into_iter()
            .flatten()
        {
            self.core().cancel_timer(timer);
        }
    }

    /// Closes the socket and lets go of the rest; answers whom to tell.
    fn give_up(&self) -> Option<Completer<Transport>> {
        self.stop_timers();
        let gone = mem::take(&mut *self.socket.borrow_mut());
        drop(gone);
        let gone = self.core().registry.borrow_mut().remove(self.id);
        drop(gone);
        let client = self.client.take()?;
        self.core().bury(Grave::Protocol(client.protocol));
        Some(client.completer)
    }

    fn fail(&self, error: io::Error) {
        if let Some(completer) = self.give_up() {
            let message = format!("cannot connect to {}: {error}", self.to);
            completer.complete(Err(io::Error::new(error.kind(), message)));
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn cancel(&self) {
        drop(self.give_up());
    }

    /// The loop ends.
    pub(crate) fn end(&self) {
        if let Some(completer) = self.give_up() {
            completer.complete(Err(LoopClosed.into()));
        }
    }
}

/// `connection_made` has returned.
fn answer(completer: Completer<Transport>, transport: &Transport) {
    if completer.is_cancelled() {
        transport.close();
    }
    completer.complete(match transport.failure() {
        Some(reason) => {
            let unsent = transport.closed().map_or(0, |closed| closed.unsent());
            Err(Closed::new(reason, unsent).into())
        }
        None => Ok(transport.clone()),
    });
}
