//! The result of a run of a protocol of datagrams.

use crate::check::Health;
use crate::dialogue::Dialogue;
use std::time::Duration;

/// The replies to one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The number of the datagram; `None` for what comes before the first.
    pub(super) of: Option<usize>,
    pub(super) replies: Vec<Vec<u8>>,
    /// The time until the last of them.
    pub(super) took: Duration,
}

/// The result of a run.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) health: Health,
    /// In the order in which the datagrams were sent.
    pub(super) groups: Vec<Group>,
    /// Replies of which it is not known what they reply to.
    pub(super) loose: Vec<Vec<u8>>,
    /// When the conversation was held once more.
    pub(super) again: Vec<Group>,
    /// How the endpoint ended, if it did so before the check closed it.
    pub(super) ended: Option<String>,
    /// The number of sends that were refused at the cap.
    pub(super) refused: u64,
    pub(super) pauses: u64,
    pub(super) dialogue: Dialogue,
}

impl Outcome {
    pub(super) fn replies(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.groups.iter().flat_map(|group| &group.replies)
    }

    /// Returns the number of replies to a datagram, and the time that they took.
    pub(super) fn replies_to(&self, number: usize) -> (usize, Duration) {
        let group = self.groups.iter().find(|group| group.of == Some(number));
        group.map_or_else(Default::default, |group| (group.replies.len(), group.took))
    }
}
