//! The sources of events: a slab whose entries carry a generation, so that an event for what was
//! closed reaches nobody, also when its slot was used again.

use crate::TransportId;
use crate::accept::Listener;
use crate::connect::Attempt;
use crate::transport::{Lingering, Transport};
use slab::Slab;
use std::rc::Rc;

/// One source, at one of the stages of its life. An attempt to connect becomes a connection, and
/// that a lingering socket, in the same slot and under the same id, so that the kernel is told of
/// a descriptor once.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Connection(Transport),
    Attempt(Rc<Attempt>),
    Listener(Rc<Listener>),
    Lingering(Rc<Lingering>),
}

#[derive(Debug)]
struct Entry {
    id: TransportId,
    source: Source,
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Slab<Entry>,
    generation: u32,
}

impl Registry {
    /// Makes a source with its id, and keeps a clone of it.
    pub(crate) fn insert<S: Clone>(
        &mut self,
        stage: impl FnOnce(S) -> Source,
        make: impl FnOnce(TransportId) -> S,
    ) -> S {
        self.generation = self.generation.wrapping_add(1);
        let vacant = self.entries.vacant_entry();
        let id = TransportId::new(vacant.key(), self.generation);
        let made = make(id);
        vacant.insert(Entry {
            id,
            source: stage(made.clone()),
        });
        made
    }

    pub(crate) fn get(&self, id: TransportId) -> Option<&Source> {
        self.entries
            .get(id.slot())
            .filter(|entry| entry.id == id)
            .map(|entry| &entry.source)
    }

    /// Gives a source its next stage; answers the one before.
    pub(crate) fn replace(&mut self, id: TransportId, next: Source) -> Option<Source> {
        let entry = self
            .entries
            .get_mut(id.slot())
            .filter(|entry| entry.id == id)?;
        Some(std::mem::replace(&mut entry.source, next))
    }

    pub(crate) fn remove(&mut self, id: TransportId) -> Option<Source> {
        self.get(id)?;
        Some(self.entries.remove(id.slot()).source)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.entries.iter().map(|(_, entry)| &entry.source)
    }

    /// Every id, for walks during which sources come and go.
    pub(crate) fn ids(&self) -> Vec<TransportId> {
        self.entries.iter().map(|(_, entry)| entry.id).collect()
    }
}
