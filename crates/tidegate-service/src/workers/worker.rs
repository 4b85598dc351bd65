//! The keeping side of a server, on each loop: connections that were given to the loop get their protocols.

use super::counted::Counted;
use super::gate::{Gate, Place};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate::{Completion, Detached, Handle, ListenOptions, Protocol, Server, ShutdownReport};

thread_local! {
    /// By the numbers of their servers.
    static HOMES: RefCell<BTreeMap<u64, Home>> = const { RefCell::new(BTreeMap::new()) };
}

/// Shuts a server down, within a grace.
pub(super) type ShutDown = Rc<dyn Fn(Duration) -> Completion<ShutdownReport>>;

/// The part of a server on one loop.
#[derive(Clone)]
pub(super) struct Home {
    server: Server,
    shut_down: ShutDown,
    /// Of the connection that is being given a protocol.
    arriving: Rc<Cell<Option<Place>>>,
}

impl Home {
    /// Makes the part of a server on the loop of this thread.
    pub(super) fn open<P: Protocol>(
        handle: &Handle,
        options: ListenOptions,
        mut factory: impl FnMut() -> P + 'static,
        gate: &Arc<Gate>,
        shut_down: impl FnOnce(&Server) -> ShutDown,
    ) -> io::Result<()> {
        let most = options.most_connections();
        let arriving: Rc<Cell<Option<Place>>> = Rc::default();
        let place = arriving.clone();
        let counted = move || {
            let place = place.take();
            Counted::new(factory(), place)
        };
        let server = handle.create_server(options, counted)?;
        if !server.local_addrs().is_empty() {
            server.close();
            let message =
                "the options of workers add an address: name all of them where it is to listen";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if let Some(most) = most {
            gate.limit(most);
        }
        let home = Self {
            shut_down: shut_down(&server),
            server,
            arriving,
        };
        HOMES.with_borrow_mut(|homes| homes.insert(gate.server(), home));
        Ok(())
    }

    /// Gives a connection its protocol.
    pub(super) fn take_in(server: u64, detached: Detached, place: Place) {
        let home = HOMES.with_borrow(|homes| homes.get(&server).cloned());
        let Some(home) = home else { return };
        home.arriving.set(Some(place));
        let attached = home.server.attach(detached);
        // It is there still when the factory was not asked.
        home.arriving.take();
        if let Err(error) = attached {
            log::debug!(target: "tidegate::workers", "a connection is closed: {error}");
        }
    }

    /// Takes a server off the loop of this thread, because it cannot listen on another one. It may have
    /// connections by then.
    pub(super) fn close(server: u64) {
        let home = HOMES.with_borrow_mut(|homes| homes.remove(&server));
        if let Some(home) = home {
            home.server.close();
            home.server.abort_clients();
        }
    }

    /// Shuts every server of the loop of this thread down.
    pub(super) fn shut_down_all(grace: Duration) -> Vec<Completion<ShutdownReport>> {
        let homes = HOMES.with_borrow_mut(mem::take);
        let shut_down = |home: Self| (home.shut_down)(grace);
        homes.into_values().map(shut_down).collect()
    }
}
