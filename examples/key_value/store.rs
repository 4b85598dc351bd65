//! Values by key, the least recently used of which go when there are too many.

use lru::LruCache;
use std::collections::VecDeque;
use tidegate::CallbackHandle;

/// The memory of a key or an element of a list beside its bytes, about.
const OVERHEAD: usize = 64;

/// The text of an error reply.
pub(crate) type Refused = &'static str;

const WRONG_TYPE: Refused = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(crate) const NOT_A_NUMBER: Refused = "ERR value is not an integer or out of range";

enum Value {
    Text(Vec<u8>),
    List(VecDeque<Box<[u8]>>),
}

struct Entry {
    value: Value,
    /// The memory that it is taken for.
    bytes: usize,
    expiry: Option<Expiry>,
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
            Some(Value::List(_)) => Err(WRONG_TYPE),
            None => Ok(None),
        }
    }

    pub(crate) fn list(&mut self, key: &[u8]) -> Result<Option<&VecDeque<Box<[u8]>>>, Refused> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::List(list)) => Ok(Some(list)),
            Some(Value::Text(_)) => Err(WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// Sets a value, which does not expire.
    pub(crate) fn set(&mut self, key: &[u8], text: &[u8]) {
        match self.overwrite(key, text) {
            Some(entry) => entry.expiry = None,
            None => self.insert(key, Value::Text(text.to_vec()), text.len()),
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
        if self.overwrite(key, text.as_bytes()).is_none() {
            self.set(key, text.as_bytes());
        }
        Ok(new)
    }

    /// Puts elements in front of a list, one after the other. Returns its length.
    pub(crate) fn push_front(&mut self, key: &[u8], elements: &[&[u8]]) -> Result<usize, Refused> {
        if self.list(key)?.is_none() {
            self.insert(key, Value::List(VecDeque::new()), 0);
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return Ok(0);
        };
        let Value::List(list) = &mut entry.value else {
            return Err(WRONG_TYPE);
        };
        for &element in elements {
            list.push_front(element.into());
            entry.bytes += element.len() + OVERHEAD;
            self.bytes += element.len() + OVERHEAD;
        }
        let len = list.len();
        self.evict();
        Ok(len)
    }

    /// Keeps the timer that removes a key.
    pub(crate) fn expire(&mut self, key: &[u8], expiry: Expiry) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.expiry = Some(expiry);
        }
    }

    /// Returns whether the key was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let entry = self.entries.pop(key);
        self.bytes -= entry.as_ref().map_or(0, |entry| entry.bytes);
        entry.is_some()
    }

    /// Puts a text in the place of another one, whose memory it takes.
    fn overwrite(&mut self, key: &[u8], text: &[u8]) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key)?;
        let Value::Text(old) = &mut entry.value else {
            return None;
        };
        self.bytes = self.bytes - old.len() + text.len();
        entry.bytes = entry.bytes - old.len() + text.len();
        old.clear();
        old.extend_from_slice(text);
        old.shrink_to(2 * text.len() + OVERHEAD);
        Some(entry)
    }

    fn insert(&mut self, key: &[u8], value: Value, len: usize) {
        self.remove(key);
        // A timer has the key too.
        let bytes = 2 * key.len() + len + 2 * OVERHEAD;
        self.bytes += bytes;
        let expiry = None;
        let entry = Entry {
            value,
            bytes,
            expiry,
        };
        self.entries.put(key.into(), entry);
    }

    fn evict(&mut self) {
        while self.bytes > self.limit
            && let Some((_, entry)) = self.entries.pop_lru()
        {
            self.bytes -= entry.bytes;
        }
    }
}
