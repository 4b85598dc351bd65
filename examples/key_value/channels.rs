//! Subscribers, and messages to them.

use super::resp::Reply;
use super::store::Refused;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tidegate::{Transport, TransportId, WriteError};

/// Maximum number of channels of a subscriber, and of bytes in the name of each.
const MAX_CHANNELS: usize = 256;

/// The subscribers by channel. A borrow of them lasts while they are written to: that is safe, as a write
/// calls no protocol back.
#[derive(Default)]
pub(crate) struct Channels(RefCell<BTreeMap<Vec<u8>, BTreeMap<TransportId, Transport>>>);

impl Channels {
    /// Returns the number of subscribers that the message is on its way to.
    pub(crate) fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let mut push = Reply::default();
        push.array(3);
        push.bulk(b"message");
        push.bulk(channel);
        push.bulk(message);
        let channels = self.0.borrow();
        let subscribers = channels.get(channel).into_iter().flatten();
        let is_taken = |(_, transport): &(&TransportId, &Transport)| {
            let written = transport.write(&push.0);
            if let Err(WriteError::BufferFull { .. }) = written {
                // It reads too slowly. Its own `connection_lost` says so.
                transport.abort();
            }
            // An error is the subscriber's, and ends no publisher.
            written.is_ok()
        };
        subscribers.filter(is_taken).count()
    }
}

/// The channels of a client.
pub(crate) struct Subscriptions {
    names: BTreeSet<Vec<u8>>,
    channels: Rc<Channels>,
}

impl Subscriptions {
    pub(crate) fn new(channels: &Rc<Channels>) -> Self {
        Self {
            names: BTreeSet::new(),
            channels: channels.clone(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn subscribe(
        &mut self,
        names: &[&[u8]],
        transport: &Transport,
        reply: &mut Reply,
    ) -> Result<(), Refused> {
        let is_long = names.iter().any(|name| name.len() > MAX_CHANNELS);
        if is_long || self.names.len() + names.len() > MAX_CHANNELS {
            return Err("ERR too many channels, or too long a name");
        }
        for &name in names {
            self.names.insert(name.to_vec());
            let mut channels = self.channels.0.borrow_mut();
            let subscribers = channels.entry(name.to_vec()).or_default();
            subscribers.insert(transport.id(), transport.clone());
            self.confirm(b"subscribe", Some(name), reply);
        }
        Ok(())
    }

    /// Leaves these channels, or all of them.
    pub(crate) fn unsubscribe(
        &mut self,
        names: &[&[u8]],
        transport: &Transport,
        reply: &mut Reply,
    ) {
        let all = self.names.clone();
        let all: Vec<_> = all.iter().map(Vec::as_slice).collect();
        if names.is_empty() && all.is_empty() {
            return self.confirm(b"unsubscribe", None, reply);
        }
        for &name in if names.is_empty() { &all } else { names } {
            self.leave(name, transport);
            self.confirm(b"unsubscribe", Some(name), reply);
        }
    }

    /// Leaves all channels without a word.
    pub(crate) fn leave_all(&mut self, transport: &Transport) {
        while let Some(name) = self.names.pop_first() {
            self.leave(&name, transport);
        }
    }

    fn leave(&mut self, name: &[u8], transport: &Transport) {
        self.names.remove(name);
        let mut channels = self.channels.0.borrow_mut();
        if let Some(subscribers) = channels.get_mut(name) {
            subscribers.remove(&transport.id());
            if subscribers.is_empty() {
                channels.remove(name);
            }
        }
    }

    fn confirm(&self, kind: &[u8], name: Option<&[u8]>, reply: &mut Reply) {
        reply.array(3);
        reply.bulk(kind);
        reply.bulk_or_nil(name);
        reply.integer(self.names.len() as i64);
    }
}
