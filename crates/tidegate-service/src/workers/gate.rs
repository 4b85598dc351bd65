//! The connections of all loops of a server: how many each loop has, and the maximum of all together.
//!
//! A connection takes a [`Place`] when it is given to a loop, and gives it back when it has ended. At the
//! maximum the loops that accept pause. The place that is given back from the maximum wakes them: nothing
//! polls for it.

use super::door::Door;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidegate::RemoteHandle;

pub(super) struct Gate {
    /// By loop.
    places: Vec<AtomicUsize>,
    all: AtomicUsize,
    most: AtomicUsize,
    /// The loops that accept.
    doors: Mutex<Vec<RemoteHandle>>,
    /// The number of the server.
    server: u64,
}

impl Gate {
    pub(super) fn new(server: u64, loops: usize) -> Arc<Self> {
        Arc::new(Self {
            places: (0..loops).map(|_| AtomicUsize::new(0)).collect(),
            all: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            doors: Mutex::default(),
            server,
        })
    }

    pub(super) fn server(&self) -> u64 {
        self.server
    }

    pub(super) fn limit(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
    }

    /// Takes the maximum away, and wakes those that wait for a place.
    pub(super) fn open(&self) {
        self.limit(usize::MAX);
        self.wake();
    }

    /// Has a loop that accepts woken when there is a place again.
    pub(super) fn add_door(&self, remote: RemoteHandle) {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.push(remote);
    }

    pub(super) fn connections(&self) -> Vec<usize> {
        let places = self.places.iter();
        places
            .map(|number| number.load(Ordering::Relaxed))
            .collect()
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.load(Ordering::SeqCst) >= self.most.load(Ordering::SeqCst)
    }

    /// Takes a place of a connection, if there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Entered> {
        let most = self.most.load(Ordering::SeqCst);
        let add = |all| (all < most).then_some(all + 1);
        let entered = self
            .all
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        entered.is_ok().then(|| Entered(self.clone()))
    }

    fn leave(&self) {
        let before = self.all.fetch_sub(1, Ordering::SeqCst);
        if before == self.most.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let server = self.server;
        for door in &*doors {
            // A loop that is gone accepts nothing.
            let _ = door.call_soon_threadsafe(move |_| Door::wake(server));
        }
    }
}

/// One of the maximum, before it is known which loop has the connection.
pub(super) struct Entered(Arc<Gate>);

impl Entered {
    /// Counts the connection for a loop.
    pub(super) fn on(self, worker: usize) -> Place {
        self.0.places[worker].fetch_add(1, Ordering::Relaxed);
        Place {
            worker,
            entered: self,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The place of a connection in its loop.
pub(super) struct Place {
    worker: usize,
    entered: Entered,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entered.0.places[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}
