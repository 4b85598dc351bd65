//! The steps of the peer in a check of a protocol of datagrams.

use crate::check::Step;
use std::time::Duration;

const SILENCE: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);
const STORMS: u64 = 50;

/// The datagrams of the peer of a protocol that is [checked](crate::check_datagram_protocol), and the limits of the
/// check.
///
/// ```
/// use tidegate_testkit::DatagramConversation;
///
/// let conversation = DatagramConversation::new()
///     .say(b"PING")
///     .answer(b"PONG")
///     .say(b"nonsense")
///     .say(b"TIME 0")
///     .answer(b"1970");
/// # drop(conversation);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct DatagramConversation {
    steps: Vec<Step>,
    pub(super) connected: bool,
    pub(super) remembers: bool,
    pub(super) storms: u64,
    pub(super) silence: Duration,
    pub(super) patience: Duration,
    pub(super) may_fail: bool,
    pub(super) may_fail_on_junk: bool,
    pub(super) may_drop: bool,
}

impl Default for DatagramConversation {
    fn default() -> Self {
        Self::new()
    }
}

impl DatagramConversation {
    /// Returns an empty conversation.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            connected: false,
            remembers: false,
            storms: STORMS,
            silence: SILENCE,
            patience: PATIENCE,
            may_fail: false,
            may_fail_on_junk: false,
            may_drop: false,
        }
    }

    // The steps of the peer.

    /// Sends a datagram; an empty one is one.
    pub fn say(mut self, data: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Say(data.as_ref().to_vec()));
        self
    }

    /// Waits, in the world's time.
    pub fn wait(mut self, time: Duration) -> Self {
        self.steps.push(Step::Wait(time));
        self
    }

    /// Waits for this datagram, which the plain run must have. In a conversation with replies they are all that
    /// the protocol sends. One before the first [`say`](Self::say) is sent by the protocol on its own.
    pub fn answer(mut self, data: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Answer(data.as_ref().to_vec()));
        self
    }

    // The check.

    /// Gives the endpoint the peer as its remote address: for the protocol of a client.
    pub fn connected(mut self) -> Self {
        self.connected = true;
        self
    }

    /// Lets the replies to a datagram depend on those before it, or on the time: also for a protocol that sends on
    /// its own. They are compared between runs of the same datagrams only.
    pub fn remembers(mut self) -> Self {
        self.remembers = true;
        self
    }

    /// Sets the number of runs in which datagrams and system calls meet faults by chance; 50 unless set.
    pub fn storms(mut self, count: u64) -> Self {
        self.storms = count;
        self
    }

    /// Sets the time that an endpoint may last after its close; an hour unless set.
    pub fn silence(mut self, time: Duration) -> Self {
        self.silence = time;
        self
    }

    /// Sets the maximum time of a reply, in the world's time; a minute unless set.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Lets callbacks return errors in the plain run; in the other runs, the same ones.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Lets callbacks return errors in the runs with an empty, a long or a cut datagram: for a protocol that
    /// reports what it cannot read.
    pub fn may_fail_on_junk(mut self) -> Self {
        self.may_fail_on_junk = true;
        self
    }

    /// Lets the queue reach its cap: for a protocol that goes on while it is paused, and drops replies.
    pub fn may_drop(mut self) -> Self {
        self.may_drop = true;
        self
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns the datagrams of the peer.
    pub(super) fn says(&self) -> Vec<&[u8]> {
        let says = self.steps.iter().filter_map(|step| match step {
            Step::Say(data) => Some(data.as_slice()),
            _ => None,
        });
        says.collect()
    }

    /// Returns the replies to each datagram, those before the first one in the first place; `None` when the
    /// conversation has none, and so does not define them.
    pub(super) fn answers(&self) -> Option<Vec<Vec<Vec<u8>>>> {
        let mut answers = vec![Vec::new()];
        for step in &self.steps {
            match (step, answers.last_mut()) {
                (Step::Say(_), _) => answers.push(Vec::new()),
                (Step::Answer(data), Some(last)) => last.push(data.clone()),
                _ => {}
            }
        }
        answers
            .iter()
            .any(|answers| !answers.is_empty())
            .then_some(answers)
    }
}
