//! Checks a protocol of datagrams in every way in which its peers and the network may treat it.

mod case;
mod conversation;
mod outcome;
mod report;
mod rule;
mod run;

use crate::check::Violation;
use crate::dialogue::Dialogue;
use outcome::Outcome;
use rule::{judge, judge_plain, violation};
use run::{Subject, run};
use tidegate::DatagramProtocol;

pub use case::{DatagramCase, ParseDatagramCaseError};
pub use conversation::DatagramConversation;
pub use report::DatagramReport;
pub use rule::DatagramRule;

/// Names the rule that a protocol of datagrams violated, and the case that shows it.
pub type DatagramViolation = Violation<DatagramRule, DatagramCase>;

/// Maximum number of places that are tried of each kind of case. Of more, a sample is tried.
const MOST_PLACES: usize = 100;

/// The high-water marks of paused runs.
const MARKS: [usize; 3] = [0, 256, 8192];

/// Runs protocols that `factory` makes, each on an endpoint of its own, through one conversation in every way in
/// which it may go:
///
/// * Each datagram is lost, comes twice, or comes after all others.
/// * Before each datagram another peer sends an empty one, one of the maximum length, and each beginning of the
///   next one.
/// * The peer is gone when the replies to a datagram come. An endpoint with a
///   [remote address](DatagramConversation::connected) is told of the refusal.
/// * The conversation comes again and again while the kernel takes hardly any reply, with so small watermarks that
///   `pause_writing` and `resume_writing` really come.
/// * Storms: datagrams are lost, doubled and late, and system calls fail, by chance.
/// * The endpoint is closed, and aborted, before each datagram.
///
/// Unless the check ended the endpoint, the conversation is then held once more, by a new peer if the endpoint
/// hears everybody, and must have its replies. [`DatagramRule`] lists the rules. Each run has a world and a time of
/// its own. Of many places a sample is tried.
///
/// ```
/// use tidegate::{Address, DatagramProtocol, DatagramTransport, Result};
/// use tidegate_testkit::{DatagramConversation, DatagramRule, check_datagram_protocol};
///
/// /// A message is a number and that many bytes, which it sends back. Is it always?
/// struct Strict;
///
/// impl DatagramProtocol for Strict {
///     fn datagram_received(
///         &mut self,
///         transport: &DatagramTransport,
///         data: &[u8],
///         from: &Address,
///     ) -> Result {
///         let len = usize::from(data[0]);
///         transport.send_to(&data[1..=len], from)?;
///         Ok(())
///     }
/// }
///
/// let conversation = DatagramConversation::new().say(b"\x05hello").answer("hello");
/// let violation = check_datagram_protocol(|| Strict, &conversation).unwrap_err();
/// assert_eq!(violation.rule(), DatagramRule::NoPanic);
/// // An empty datagram has no first byte.
/// assert_eq!(violation.case().to_string(), "empty 0");
/// ```
///
/// # Errors
///
/// The first violation.
pub fn check_datagram_protocol<P: DatagramProtocol>(
    factory: impl FnMut() -> P + 'static,
    conversation: &DatagramConversation,
) -> Result<DatagramReport, DatagramViolation> {
    let mut check = Check::new(Subject::new(factory), conversation)?;
    let mut report = DatagramReport::new(&check.plain);
    for case in cases(conversation) {
        let pauses = check.run(case)?;
        report.count(case, pauses);
    }
    Ok(report)
}

/// Runs one case of [`check_datagram_protocol`], beside the plain run that it is compared with.
///
/// ```
/// use tidegate_testkit::{DatagramConversation, DatagramRecorder, Log, check_datagram_case};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let conversation = DatagramConversation::new().say("one").say("two");
/// let echo = || DatagramRecorder::echo(&Log::new());
/// check_datagram_case(echo, &conversation, &"late 0".parse()?)?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// The violation; [`DatagramRule::Case`] for a datagram that the conversation does not have.
pub fn check_datagram_case<P: DatagramProtocol>(
    factory: impl FnMut() -> P + 'static,
    conversation: &DatagramConversation,
    case: &DatagramCase,
) -> Result<(), DatagramViolation> {
    let says = conversation.says();
    if case.is_beyond(&says) {
        let expected = format!("a place within {} datagrams", says.len());
        let beyond = violation(DatagramRule::Case, expected, case.to_string());
        return Err(beyond.in_case(*case, Dialogue::default()));
    }
    let mut check = Check::new(Subject::new(factory), conversation)?;
    check.run(*case).map(|_| ())
}

struct Check<'c> {
    subject: Subject,
    conversation: &'c DatagramConversation,
    plain: Outcome,
}

impl<'c> Check<'c> {
    /// Makes the plain run.
    fn new(
        mut subject: Subject,
        conversation: &'c DatagramConversation,
    ) -> Result<Self, DatagramViolation> {
        let plain = run(&mut subject, conversation, DatagramCase::Plain, None);
        if let Some(violation) = judge_plain(&plain, conversation) {
            return Err(violation.in_case(DatagramCase::Plain, plain.dialogue));
        }
        Ok(Self {
            subject,
            conversation,
            plain,
        })
    }

    /// Returns the number of pauses.
    fn run(&mut self, case: DatagramCase) -> Result<u64, DatagramViolation> {
        let plain = &self.plain;
        let outcome = run(&mut self.subject, self.conversation, case, Some(plain));
        match judge(&outcome, plain, case, self.conversation) {
            Some(violation) => Err(violation.in_case(case, outcome.dialogue)),
            None => Ok(outcome.pauses),
        }
    }
}

fn cases(conversation: &DatagramConversation) -> Vec<DatagramCase> {
    use DatagramCase::*;
    let says = conversation.says();
    let count = says.len();
    // The plain case again finds a protocol that has moods.
    let mut cases = vec![Plain];
    let mut rng = fastrand::Rng::with_seed(0);
    let mut sample = |count: usize| {
        let mut places = rng.choose_multiple(0..count, MOST_PLACES);
        places.sort_unstable();
        places
    };
    for make in [
        |at| Lost { at },
        |at| Doubled { at },
        |at| Late { at },
        |at| Refused { at },
    ] {
        cases.extend(sample(count).into_iter().map(make));
    }
    for make in [
        |at| Empty { at },
        |at| Long { at },
        |at| Closed { at },
        |at| Aborted { at },
    ] {
        cases.extend(sample(count + 1).into_iter().map(make));
    }
    let cuts = says.iter().enumerate();
    let cuts = cuts.flat_map(|(at, data)| (0..data.len()).map(move |len| Cut { at, len }));
    let cuts: Vec<_> = cuts.collect();
    cases.extend(sample(cuts.len()).into_iter().map(|n| cuts[n]));
    cases.extend(MARKS.map(|high| Paused { high }));
    cases.extend((0..conversation.storms).map(|seed| Storm { seed }));
    cases
}
