//! The sources of events: a slab whose entries carry a generation, so that an event for a closed source
//! reaches no other, also when its slot was used again. When most of its slots are unused, the sources are
//! moved together; they keep their ids, which name the slots in which they began.

use super::core::Core;
use super::counters::LoopStats;
use super::source::Source;
use crate::TransportId;
use crate::memory::{Moved, is_sparse};
use crate::transport::Transport;
use slab::Slab;
use std::mem;
use std::rc::Rc;

/// One source, at one of the stages of its life. An attempt to connect becomes a connection, and
/// that a lingering socket, in the same slot and under the same id, so that the kernel is told of
/// a descriptor once.
///
/// Connections are named because nearly every event is for one: behind `dyn Source`, each event
/// would cost more instructions.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Connection(Transport),
    Other(Rc<dyn Source>),
}

impl Slot {
    pub(crate) fn other<S: Source + 'static>(source: Rc<S>) -> Self {
        Self::Other(source)
    }

    pub(super) fn on_leftover(self, core: &Core, buffer: &mut [u8]) {
        match self {
            Self::Connection(transport) => transport.read_leftover(buffer),
            Self::Other(source) => source.on_leftover(core, buffer),
        }
    }

    pub(super) fn end(self, core: &Core) {
        match self {
            Self::Connection(transport) => transport.shut_down(),
            Self::Other(source) => source.end(core),
        }
    }
}

/// A slot in use, and which use of it. A connection has its whole id, which one comparison checks.
/// Beside the larger pointer of other sources is room for the generation only, next to the tag.
///
/// Connections come second: the tags are then 0, 1, and 2 for a vacant place, and one bit tells a
/// connection from both of the others.
#[derive(Debug)]
enum Entry {
    Other(u32, Rc<dyn Source>),
    Connection(TransportId, Transport),
}

// A third more around a `Slot`, for each connection.
const _: () = assert!(size_of::<Option<Entry>>() == 24);

impl Entry {
    fn new(id: TransportId, slot: Slot) -> Self {
        match slot {
            Slot::Connection(transport) => Self::Connection(id, transport),
            Slot::Other(source) => Self::Other(id.generation(), source),
        }
    }

    fn generation(&self) -> u32 {
        match self {
            Self::Connection(id, _) => id.generation(),
            Self::Other(generation, _) => *generation,
        }
    }

    /// Returns the id, given the place in the slab.
    fn id(&self, place: usize) -> TransportId {
        match self {
            Self::Connection(id, _) => *id,
            Self::Other(generation, _) => TransportId::new(place, *generation),
        }
    }

    fn slot(&self) -> Slot {
        match self {
            Self::Connection(_, transport) => Slot::Connection(transport.clone()),
            Self::Other(_, source) => Slot::Other(source.clone()),
        }
    }

    fn into_slot(self) -> Slot {
        match self {
            Self::Connection(_, transport) => Slot::Connection(transport),
            Self::Other(_, source) => Slot::Other(source),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Slab<Entry>,
    /// By their generations.
    moved: Moved<u32>,
    generation: u32,
}

impl Registry {
    /// Makes a source with its id, and keeps a clone of it.
    pub(crate) fn insert<S: Clone>(
        &mut self,
        slot: impl FnOnce(S) -> Slot,
        make: impl FnOnce(TransportId) -> S,
    ) -> S {
        self.generation = self.generation.wrapping_add(1);
        let vacant = self.entries.vacant_entry();
        let id = TransportId::new(vacant.key(), self.generation);
        let made = make(id);
        vacant.insert(Entry::new(id, slot(made.clone())));
        made
    }

    /// Returns the entry of this id, if it is still there.
    fn entry(&self, id: TransportId) -> Option<&Entry> {
        match self.entries.get(id.slot()) {
            Some(entry) if entry.generation() == id.generation() => Some(entry),
            _ => self.moved_entry(id),
        }
    }

    #[cold]
    #[inline(never)]
    fn moved_entry(&self, id: TransportId) -> Option<&Entry> {
        self.entries.get(self.moved.find(&id.generation())?)
    }

    /// The slot in which the entry of this id is now.
    fn slot_of(&self, id: TransportId) -> Option<usize> {
        match self.entries.get(id.slot()) {
            Some(entry) if entry.generation() == id.generation() => Some(id.slot()),
            _ => self.moved.find(&id.generation()),
        }
    }

    /// Returns the connection of this id, if that is what the slot holds.
    #[inline]
    pub(super) fn connection(&self, id: TransportId) -> Option<&Transport> {
        match self.entries.get(id.slot()) {
            Some(Entry::Connection(own, transport)) if *own == id => Some(transport),
            _ => self.moved_connection(id),
        }
    }

    #[cold]
    fn moved_connection(&self, id: TransportId) -> Option<&Transport> {
        if self.moved.is_empty() {
            return None;
        }
        match self.moved_entry(id)? {
            Entry::Connection(_, transport) => Some(transport),
            Entry::Other(..) => None,
        }
    }

    /// Returns the source of this id, if that is no connection.
    pub(super) fn other(&self, id: TransportId) -> Option<&Rc<dyn Source>> {
        match self.entry(id) {
            Some(Entry::Other(_, source)) => Some(source),
            _ => None,
        }
    }

    pub(super) fn get(&self, id: TransportId) -> Option<Slot> {
        self.entry(id).map(Entry::slot)
    }

    /// Gives a source its next stage; returns the one before.
    pub(crate) fn replace(&mut self, id: TransportId, next: Slot) -> Option<Slot> {
        let slot = self.slot_of(id)?;
        let entry = self.entries.get_mut(slot)?;
        let before = mem::replace(entry, Entry::new(id, next));
        Some(before.into_slot())
    }

    pub(crate) fn remove(&mut self, id: TransportId) -> Option<Slot> {
        let slot = self.slot_of(id)?;
        let gone = self.entries.remove(slot);
        self.moved.forget(&id.generation());
        if is_sparse(self.entries.len(), self.entries.capacity()) {
            self.shrink();
        }
        Some(gone.into_slot())
    }

    /// Gives back the memory of the sources that are gone.
    #[cold]
    fn shrink(&mut self) {
        self.entries.compact(|entry, _, slot| {
            self.moved.note(entry.generation(), slot);
            true
        });
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = &Transport> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Connection(_, transport) => Some(transport),
            Entry::Other(..) => None,
        })
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &Rc<dyn Source>> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Other(_, source) => Some(source),
            Entry::Connection(..) => None,
        })
    }

    /// Returns every id, for walks during which sources come and go.
    pub(super) fn ids(&self) -> Vec<TransportId> {
        let entries = self.entries.iter();
        entries.map(|(place, entry)| entry.id(place)).collect()
    }

    /// Adds what is registered to the numbers of the loop.
    pub(super) fn count(&self, stats: &mut LoopStats) {
        // A connect whose layers are opening is counted as such.
        for transport in self
            .connections()
            .filter(|transport| !transport.is_of_connect())
        {
            stats.connections += 1;
            stats.closing += usize::from(transport.is_closing());
        }
        for source in self.others() {
            source.count(stats);
        }
    }
}
