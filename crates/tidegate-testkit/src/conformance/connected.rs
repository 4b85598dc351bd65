//! An endpoint that is connected, and the conditions that a case waits for.

use super::probe::Endpoint;
use crate::Seen;
use tidegate::Transport;

/// An endpoint after its `connection_made`, and its transport.
#[derive(Debug, Clone)]
pub(super) struct Connected {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
}

impl Connected {
    /// Returns a condition: the number of bytes has been received, or the connection is lost.
    pub(super) fn got(&self, bytes: u64) -> impl Fn() -> bool + 'static {
        let endpoint = self.endpoint.clone();
        move || endpoint.received() >= bytes || endpoint.is_lost()
    }

    /// Returns a condition: the callback has been seen, or the connection is lost.
    pub(super) fn saw(&self, what: Seen) -> impl Fn() -> bool + 'static {
        let endpoint = self.endpoint.clone();
        move || endpoint.log().has(&what) || endpoint.is_lost()
    }

    /// Returns a condition: the connection is lost.
    pub(super) fn lost(&self) -> impl Fn() -> bool + 'static {
        let endpoint = self.endpoint.clone();
        move || endpoint.is_lost()
    }

    /// Returns the callbacks in one word each, without pause and resume: their times depend on how
    /// much the harness takes at once.
    pub(super) fn words(&self) -> String {
        self.words_but(|word| word == "pause" || word == "resume")
    }

    /// Returns the callbacks of flow control alone.
    pub(super) fn flow_words(&self) -> String {
        self.words_but(|word| word != "pause" && word != "resume")
    }

    /// Returns all callbacks.
    pub(super) fn all_words(&self) -> String {
        self.words_but(|_| false)
    }

    fn words_but(&self, leave_out: impl Fn(&str) -> bool) -> String {
        let mut words = self.endpoint.log().words();
        words.retain(|word| !leave_out(word));
        words.join(" ")
    }
}
