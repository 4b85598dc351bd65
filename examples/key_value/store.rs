//! Values by key, the least recently used of which go when there are too many.

use lru::LruCache;
use std::collections::VecDeque;
use tidegate::CallbackHandle;

/// The memory of an entry beside its key and its value: its node with two links and the length that the
/// allocator notes, and its place in the map, which is twice as large as need be after it has grown.
const ENTRY: usize = size_of::<(Box<[u8]>, Entry)>() + 2 * 8 + 16 + 40;

/// The memory of an element of a list beside its bytes.
const ELEMENT: usize = size_of::<Box<[u8]>>();

/// The memory of a timer beside its copy of the key: the closure, and its places among the timers of the loop.
const TIMER: usize = 256;

/// A value that becomes shorter keeps its memory if this, and its length, are left over at the most.
const SPARE: usize = 64;

/// The memory that the allocator takes for this number of bytes.
fn allocated(len: usize) -> usize {
    match len {
        0 => 0,
        _ => (len + 8).next_multiple_of(16).max(32),
    }
}

/// The text of an error reply.
pub(crate) type Refused = &'static str;

const WRONG_TYPE: Refused = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(crate) const NOT_A_NUMBER: Refused = "ERR value is not an integer or out of range";

enum Value {
    Text(Vec<u8>),
    /// The memory of the elements is beside them.
    List(VecDeque<Box<[u8]>>, usize),
}

struct Entry {
    value: Value,
    expiry: Option<Expiry>,
}

impl Entry {
    /// The memory that it takes.
    fn cost(&self, key: &[u8]) -> usize {
        let key = allocated(key.len());
        let value = match &self.value {
            Value::Text(text) => allocated(text.capacity()),
            Value::List(list, elements) => allocated(list.capacity() * ELEMENT) + elements,
        };
        let timer = self.expiry.as_ref().map_or(0, |_| TIMER + key);
        ENTRY + key + value + timer
    }
}

/// The timer that removes a key. When an entry goes, its timer goes: another one may have the key then.
pub(crate) struct Expiry(pub(crate) CallbackHandle);

impl Drop for Expiry {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

pub(crate) struct Store {
    /// The crate `lru` has a map and a list in one: with one of std, the oldest key would be searched.
    entries: LruCache<Box<[u8]>, Entry>,
    /// The memory of all entries.
    bytes: usize,
    /// Maximum of `bytes`.
    limit: usize,
}

impl Store {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            bytes: 0,
            limit,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.entries.contains(key)
    }

    pub(crate) fn text(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Refused> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(..)) => Err(WRONG_TYPE),
            None => Ok(None),
        }
    }

    pub(crate) fn list(&mut self, key: &[u8]) -> Result<Option<&VecDeque<Box<[u8]>>>, Refused> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::List(list, _)) => Ok(Some(list)),
            Some(Value::Text(_)) => Err(WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// Sets a value, which does not expire.
    pub(crate) fn set(&mut self, key: &[u8], text: &[u8]) {
        match self.overwrite(key, text) {
            true => drop(self.change(key, |entry| entry.expiry.take())),
            false => self.insert(key, Value::Text(text.to_vec())),
        }
        self.evict();
    }

    /// Adds to a number, and keeps the time at which it expires.
    pub(crate) fn add(&mut self, key: &[u8], change: i64) -> Result<i64, Refused> {
        let old = match self.text(key)? {
            Some(text) => str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            None => Some(0),
        };
        let new = old.and_then(|old: i64| old.checked_add(change));
        let new = new.ok_or(NOT_A_NUMBER)?;
        let text = new.to_string();
        if !self.overwrite(key, text.as_bytes()) {
            self.set(key, text.as_bytes());
        }
        Ok(new)
    }

    /// Puts elements in front of a list, one after the other. Returns its length.
    pub(crate) fn push_front(&mut self, key: &[u8], elements: &[&[u8]]) -> Result<usize, Refused> {
        if self.list(key)?.is_none() {
            self.insert(key, Value::List(VecDeque::new(), 0));
        }
        let len = self.change(key, |entry| {
            let Value::List(list, bytes) = &mut entry.value else {
                return 0;
            };
            for &element in elements {
                list.push_front(element.into());
                *bytes += allocated(element.len());
            }
            list.len()
        });
        self.evict();
        Ok(len.unwrap_or(0))
    }

    /// Keeps the timer that removes a key.
    pub(crate) fn expire(&mut self, key: &[u8], expiry: Expiry) {
        self.change(key, |entry| entry.expiry = Some(expiry));
        self.evict();
    }

    /// Returns whether the key was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let entry = self.entries.pop(key);
        self.bytes -= entry.as_ref().map_or(0, |entry| entry.cost(key));
        entry.is_some()
    }

    /// Changes an entry, if it is there, and counts what it takes then.
    fn change<T>(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(key)?;
        let before = entry.cost(key);
        let result = change(entry);
        self.bytes = self.bytes - before + entry.cost(key);
        Some(result)
    }

    /// Puts a text in the place of another one, whose memory it takes. Returns whether there was one.
    fn overwrite(&mut self, key: &[u8], text: &[u8]) -> bool {
        let is_text = self.change(key, |entry| {
            let Value::Text(old) = &mut entry.value else {
                return false;
            };
            if old.capacity() > 2 * text.len() + SPARE {
                // In place it would leave a hole that the next long value has no room in.
                *old = text.to_vec();
            } else {
                old.clear();
                old.extend_from_slice(text);
            }
            true
        });
        is_text.unwrap_or(false)
    }

    fn insert(&mut self, key: &[u8], value: Value) {
        self.remove(key);
        let expiry = None;
        let entry = Entry { value, expiry };
        self.bytes += entry.cost(key);
        self.entries.put(key.into(), entry);
    }

    fn evict(&mut self) {
        while self.bytes > self.limit
            && let Some((key, entry)) = self.entries.pop_lru()
        {
            self.bytes -= entry.cost(&key);
        }
    }
}
