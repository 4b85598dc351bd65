//! The accepting side of a server: on a thread of its own, or on each loop.

use super::gate::{Entered, Gate, Place};
use super::spread::Turns;
use super::worker::Home;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use tidegate::{Address, Completion, Detached, Handle, ListenOptions, RemoteHandle, Server};

thread_local! {
    /// By the numbers of their servers.
    static DOORS: RefCell<BTreeMap<u64, Rc<Door>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Accepts for one server, on one loop.
pub(super) struct Door {
    gate: Arc<Gate>,
    to: RefCell<To>,
    server: RefCell<Option<Server>>,
    /// Accepted when another loop had taken the last place.
    waiting: RefCell<VecDeque<Detached>>,
}

/// Where accepted connections go.
pub(super) enum To {
    /// The loops of these.
    Loops(Turns, Vec<RemoteHandle>),
    /// The loop that has accepted, by its number.
    Own(usize),
}

impl Door {
    /// Begins to accept on the loop of this thread. Returns the addresses.
    pub(super) fn open(
        handle: &Handle,
        options: ListenOptions,
        to: To,
        gate: &Arc<Gate>,
    ) -> io::Result<Vec<Address>> {
        let door = Rc::new(Self {
            gate: gate.clone(),
            to: RefCell::new(to),
            server: RefCell::default(),
            waiting: RefCell::default(),
        });
        let accepting = door.clone();
        let server = handle.accept_with(options, move |_, detached| {
            accepting.waiting.borrow_mut().push_back(detached);
            accepting.admit();
        })?;
        // Whatever the options say: there is no other call for it.
        server.start_serving()?;
        let addresses = server.local_addrs().to_vec();
        door.server.replace(Some(server));
        gate.add_door(handle.remote());
        DOORS.with_borrow_mut(|doors| doors.insert(gate.server(), door));
        Ok(addresses)
    }

    /// A place may be free again.
    pub(super) fn wake(server: u64) {
        let door = DOORS.with_borrow(|doors| doors.get(&server).cloned());
        if let Some(door) = door {
            door.admit();
        }
    }

    /// Gives on what waits, as far as there are places, and accepts while there are more.
    fn admit(&self) {
        while !self.waiting.borrow().is_empty() {
            let Some(entered) = self.gate.enter() else {
                break;
            };
            let next = self.waiting.borrow_mut().pop_front();
            let Some(detached) = next else { break };
            self.give(detached, entered);
        }
        let server = self.server.borrow();
        let Some(server) = &*server else { return };
        if self.gate.is_full() {
            server.pause_accepting();
        } else {
            server.resume_accepting();
        }
    }

    fn give(&self, detached: Detached, entered: Entered) {
        let number = self.gate.server();
        let mut to = self.to.borrow_mut();
        let (turns, loops) = match &mut *to {
            To::Own(worker) => return Home::take_in(number, detached, entered.on(*worker)),
            To::Loops(turns, loops) => (turns, loops),
        };
        let Some(worker) = turns.choose(&self.gate) else {
            return;
        };
        if !send(&loops[worker], number, detached, entered.on(worker)) {
            turns.drop_loop(worker);
            let are_over = turns.are_over();
            drop(to);
            log::error!(
                target: "tidegate::workers",
                "worker {worker} has ended: it gets no more connections, and one is closed"
            );
            if are_over {
                self.stop();
            }
        }
    }

    /// No worker is left: peers are refused by the kernel, not accepted for nobody.
    fn stop(&self) {
        let server = self.server.borrow().clone();
        if let Some(server) = server {
            server.close();
            log::error!(
                target: "tidegate::workers",
                "every worker has ended: {:?} is closed",
                server.local_addrs()
            );
        }
    }

    /// Stops accepting for a server, before it has connections.
    pub(super) fn close(server: u64) {
        let door = DOORS.with_borrow_mut(|doors| doors.remove(&server));
        let server = door.and_then(|door| door.server.borrow().clone());
        if let Some(server) = server {
            server.close();
        }
    }

    /// Takes the backlogs of all servers of this loop, and stops accepting.
    pub(super) fn close_all() -> Vec<Completion<usize>> {
        let doors = DOORS.with_borrow_mut(std::mem::take);
        let close = |door: Rc<Self>| {
            door.admit();
            let server = door.server.borrow().clone();
            server.map(|server| server.finish_accepting())
        };
        doors.into_values().filter_map(close).collect()
    }
}

/// Sends a connection to its loop; returns whether there is such a loop.
fn send(to: &RemoteHandle, server: u64, detached: Detached, place: Place) -> bool {
    let take_in = move |_: &Handle| Home::take_in(server, detached, place);
    to.call_soon_threadsafe(take_in).is_ok()
}
