//! The steps of the peer in a check.

use std::time::Duration;

/// The default time of a silence: longer than most protocols wait.
const SILENCE: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);
const RANDOM: usize = 100;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    /// The reply for which the peer waits.
    Answer(Vec<u8>),
}

/// The messages of the peer of a protocol that is [checked](crate::check_protocol), and the limits of
/// the check.
///
/// Messages that follow each other without a wait in between are one stream, which the check cuts
/// anywhere. With [`answer`](Self::answer) the peer waits for a reply before it goes on, as clients do
/// that ask one question at a time.
///
/// In the runs with a silence the peer stays where it stopped for [a time](Self::silence). No rule about
/// replies judges the bytes that it gets meanwhile; see [`Rule`](crate::Rule).
///
/// ```
/// use tidegate_testkit::Conversation;
///
/// let conversation = Conversation::new()
///     .say(b"HELLO\r\n")
///     .answer(b"250 welcome\r\n")
///     .say(b"QUIT\r\n")
///     .answer(b"221 bye\r\n");
/// # drop(conversation);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Conversation {
    steps: Vec<Step>,
    pub(super) stays: bool,
    pub(super) seed: u64,
    pub(super) random: usize,
    pub(super) silence: Duration,
    pub(super) patience: Duration,
    pub(super) may_fail: bool,
    pub(super) may_fail_cut_short: bool,
    pub(super) may_answer_cut_short: bool,
    pub(super) may_say_more: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Returns an empty conversation: the peer connects and ends its stream.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            stays: false,
            seed: 0,
            random: RANDOM,
            silence: SILENCE,
            patience: PATIENCE,
            may_fail: false,
            may_fail_cut_short: false,
            may_answer_cut_short: false,
            may_say_more: false,
        }
    }

    // The steps of the peer.

    /// Sends bytes.
    pub fn say(mut self, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        match self.steps.last_mut() {
            _ if data.is_empty() => {}
            Some(Step::Say(last)) => last.extend_from_slice(data),
            _ => self.steps.push(Step::Say(data.to_vec())),
        }
        self
    }

    /// Waits, in the world's time.
    pub fn wait(mut self, time: Duration) -> Self {
        self.steps.push(Step::Wait(time));
        self
    }

    /// Waits for this reply, which the plain run must give. In a conversation with replies they are all
    /// that the protocol sends, unless it [may say more](Self::may_say_more).
    pub fn answer(mut self, data: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Answer(data.as_ref().to_vec()));
        self
    }

    /// Has the peer wait for the protocol to close when it has sent everything. Unless set, it ends its
    /// stream at once and takes the bytes that still come.
    pub fn stay(mut self) -> Self {
        self.stays = true;
        self
    }

    // The check.

    /// Sets the seed of the random chunkings; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of random chunkings that are tried when there are too many to try all; 100 unless
    /// set.
    pub fn random_chunkings(mut self, count: usize) -> Self {
        self.random = count;
        self
    }

    /// Sets the time that a silent peer stays, and that a connection may last after its peer has gone;
    /// an hour unless set.
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

    /// Lets the protocol go on after the last reply. Its later bytes are only compared between the runs.
    pub fn may_say_more(mut self) -> Self {
        self.may_say_more = true;
        self
    }

    /// Lets callbacks return errors when the peer stops in the middle: for a protocol whose
    /// `eof_received` reports that something is missing.
    pub fn may_fail_when_cut_short(mut self) -> Self {
        self.may_fail_cut_short = true;
        self
    }

    /// Lets the reply to an early EOF differ from the beginning of the whole one: for a protocol that
    /// complains to the peer, or that takes the EOF for the end of a line.
    pub fn may_answer_when_cut_short(mut self) -> Self {
        self.may_answer_cut_short = true;
        self
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns all replies; `None` when the conversation has none, and so does not define the reply.
    pub(super) fn answers(&self) -> Option<Vec<u8>> {
        let answers = self.steps.iter().filter_map(|step| match step {
            Step::Answer(answer) => Some(answer.as_slice()),
            _ => None,
        });
        let answers: Vec<_> = answers.collect();
        (!answers.is_empty()).then(|| answers.concat())
    }

    /// Returns the number of bytes that the peer sends.
    pub(super) fn len(&self) -> usize {
        self.messages().map(<[u8]>::len).sum()
    }

    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().filter_map(|step| match step {
            Step::Say(data) => Some(data.as_slice()),
            _ => None,
        })
    }

    /// Returns the places at which the stream may be cut: all but those where the peer waits anyway.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut places = Vec::new();
        let mut at = 0;
        for message in self.messages() {
            places.extend(at + 1..at + message.len());
            at += message.len();
        }
        places
    }
}
