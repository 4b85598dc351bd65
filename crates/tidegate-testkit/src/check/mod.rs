//! Checks a protocol, or a handler, in every way in which its peer may talk to it.

mod case;
mod conversation;
mod flow;
mod health;
mod report;
mod rule;
mod run;
mod subject;
mod tally;
mod violation;

use crate::check::rule::{judge, judge_case, judge_flow, judge_plain};
use crate::check::run::{Outcome, run};
use crate::check::subject::Subject;
use crate::dialogue::Dialogue;
use crate::shrink::shrink;
use tidegate::Protocol;
use tidegate_streams::{StreamReader, StreamWriter};

pub use case::{Case, ParseCaseError, Variation};
pub use conversation::Conversation;
pub(crate) use conversation::Step;
pub(crate) use health::{Health, remains};
pub use report::Report;
pub use rule::Rule;
pub(crate) use tally::Tally;
pub use violation::Violation;

/// Maximum number of bytes of which all chunkings are tried: 2,048 of them.
const ALL_CHUNKINGS: usize = 12;

/// Maximum number of places to cut or to break off at. Of more, a sample is tried.
const MOST_PLACES: usize = 1000;

/// Sizes of the kernel buffers on the way to a peer that reads late or slowly, in bytes.
const BUFFERS: [usize; 3] = [1, 8, 64];

/// Number of random chunkings in which a peer reads late, and in which it reads slowly, for each size of
/// the buffers.
const PAUSED_CHUNKINGS: usize = 8;

/// Runs protocols that `factory` makes, each on a connection that it accepted, through one
/// conversation in every way in which bytes may come, and in which a peer may break off:
///
/// * The bytes of the peer in chunks. Up to twelve bytes: in all chunkings. Else in one piece, cut
///   in two at each place, byte by byte, and in random chunks that follow from the seed.
/// * A peer that does not read until it has sent everything, with so little room that `pause_writing`
///   and `resume_writing` really come.
/// * A peer that reads slowly: a few bytes at a time, and only while the protocol does not read what was
///   sent. The protocol must stop writing when it is paused.
/// * A reset, an end of the stream, and a silence after each number of bytes.
///
/// [`Rule`] lists the rules. Each run has a world and a time of its own: a timeout passes at once. In a
/// conversation of more than a thousand bytes a thousand places to cut or to break off at are drawn
/// from the seed.
///
/// ```
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::{Conversation, Rule, check_protocol};
///
/// /// Replies to each line with its length. Does it?
/// struct Lengths;
///
/// impl Protocol for Lengths {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         for line in data.split_inclusive(|byte| *byte == b'\n') {
///             write!(transport, "{} ", line.len())?;
///         }
///         Ok(())
///     }
/// }
///
/// let conversation = Conversation::new().say(b"one\nthree\n");
/// let violation = check_protocol(|| Lengths, &conversation).unwrap_err();
/// assert_eq!(violation.rule(), Rule::Reply);
/// // Cut after the first byte, which gets a reply as if it were a line.
/// assert_eq!(violation.case().to_string(), "cut 1");
/// ```
///
/// # Errors
///
/// The first violation, with the shortest case that was found for it.
pub fn check_protocol<P: Protocol>(
    factory: impl FnMut() -> P + 'static,
    conversation: &Conversation,
) -> Result<Report, Violation> {
    all_cases(Subject::protocol(factory), conversation)
}

/// Runs one case of [`check_protocol`], beside the plain run that it is compared with.
///
/// ```
/// use tidegate_testkit::{Conversation, Log, Recorder, check_case};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let conversation = Conversation::new().say(b"hello");
/// check_case(|| Recorder::echo(&Log::new()), &conversation, &"cut 2 3, eof 4".parse()?)?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// The violation; [`Rule::Case`] for a place that the conversation does not have.
pub fn check_case<P: Protocol>(
    factory: impl FnMut() -> P + 'static,
    conversation: &Conversation,
    case: &Case,
) -> Result<(), Violation> {
    one_case(Subject::protocol(factory), conversation, case)
}

/// Runs a handler of `tidegate_streams` through one conversation as [`check_protocol`] does, as the
/// task of each connection.
///
/// The rules for callbacks hold for the handler: it may neither panic nor return an error.
/// The error of a handler whose own connection has ended is none. A handler that goes on after its
/// connection violates [`Rule::NothingLeft`].
///
/// ```
/// use tidegate::Result;
/// use tidegate_streams::{StreamReader, StreamWriter};
/// use tidegate_testkit::{Conversation, Rule, check_handler};
///
/// /// Replies to each line with its length.
/// async fn lengths(mut reader: StreamReader, writer: StreamWriter) -> Result {
///     while let Some(line) = reader.lines().next().await? {
///         write!(writer, "{} ", line.len())?;
///         writer.drain().await?;
///     }
///     Ok(())
/// }
///
/// /// Takes the result of a read for a line.
/// async fn hasty(mut reader: StreamReader, writer: StreamWriter) -> Result {
///     while !reader.at_eof() {
///         let line = reader.read_chunk(1024).await?;
///         write!(writer, "{} ", line.len())?;
///     }
///     Ok(())
/// }
///
/// // A line that the end of the stream cuts short has a length too.
/// let conversation = Conversation::new().say("one\nthree\n").may_answer_when_cut_short();
/// assert_eq!(check_handler(lengths, &conversation).unwrap().reply(), b"4 6 ");
/// let violation = check_handler(hasty, &conversation).unwrap_err();
/// assert_eq!(violation.rule(), Rule::Reply);
/// ```
///
/// # Errors
///
/// The first violation, with the shortest case that was found for it.
pub fn check_handler<F>(handler: F, conversation: &Conversation) -> Result<Report, Violation>
where
    F: AsyncFn(StreamReader, StreamWriter) -> tidegate::Result + 'static,
{
    let subject = Subject::handler(handler);
    all_cases(subject, conversation).map_err(Violation::of_handler)
}

/// Runs one case of [`check_handler`], as [`check_case`] does for a protocol.
///
/// # Errors
///
/// Those of [`check_case`].
pub fn check_handler_case<F>(
    handler: F,
    conversation: &Conversation,
    case: &Case,
) -> Result<(), Violation>
where
    F: AsyncFn(StreamReader, StreamWriter) -> tidegate::Result + 'static,
{
    let subject = Subject::handler(handler);
    one_case(subject, conversation, case).map_err(Violation::of_handler)
}

fn all_cases(subject: Subject, conversation: &Conversation) -> Result<Report, Violation> {
    let mut check = Check::new(subject, conversation)?;
    check.run_all()?;
    Ok(check.report)
}

fn one_case(subject: Subject, conversation: &Conversation, case: &Case) -> Result<(), Violation> {
    if let Some(violation) = judge_case(case, conversation.len()) {
        return Err(violation.in_case(case.clone(), Dialogue::default()));
    }
    let check = Check::new(subject, conversation)?;
    let (outcome, violation) = check.run(case);
    match violation {
        Some(violation) => Err(violation.in_case(case.clone(), outcome.dialogue)),
        None => Ok(()),
    }
}

struct Check<'c> {
    subject: Subject,
    conversation: &'c Conversation,
    plain: Outcome,
    report: Report,
}

impl<'c> Check<'c> {
    /// Makes the plain run.
    fn new(subject: Subject, conversation: &'c Conversation) -> Result<Self, Violation> {
        let plain = run(&subject, conversation, &Case::PLAIN);
        if let Some(violation) = judge_plain(&plain, conversation) {
            return Err(violation.in_case(Case::PLAIN, plain.dialogue));
        }
        Ok(Self {
            subject,
            conversation,
            report: Report::new(&plain),
            plain,
        })
    }

    fn run(&self, case: &Case) -> (Outcome, Option<Violation>) {
        let outcome = run(&self.subject, self.conversation, case);
        let violation = judge(&outcome, &self.plain, case, self.conversation)
            .or_else(|| self.judge_flow(&outcome, case));
        (outcome, violation)
    }

    fn judge_flow(&self, outcome: &Outcome, case: &Case) -> Option<Violation> {
        if case.variation().buffer().is_none() || outcome.overrun == 0 {
            return None;
        }
        let undisturbed = run(&self.subject, self.conversation, &case.undisturbed());
        judge_flow(outcome.overrun, undisturbed.burst)
    }

    fn run_all(&mut self) -> Result<(), Violation> {
        let len = self.conversation.len();
        let places = self.conversation.places();
        // The plain case again finds a protocol that has moods.
        self.try_case(Case::PLAIN)?;
        let chunkings = self.chunkings(&places);
        for cuts in chunkings {
            self.try_case(Case::new(cuts, Variation::Whole))?;
        }
        let mut rng = fastrand::Rng::with_seed(!self.conversation.seed);
        for buffer in BUFFERS {
            for held_up in [Variation::Paused { buffer }, Variation::Slow { buffer }] {
                self.try_case(Case::new(Vec::new(), held_up))?;
                for _ in 0..PAUSED_CHUNKINGS.min(places.len()) {
                    self.try_case(Case::new(some_of(&places, &mut rng), held_up))?;
                }
                self.try_case(Case::new(places.clone(), held_up))?;
            }
        }
        for at in self.thinned((0..=len).collect()) {
            for variation in [
                Variation::Reset { at },
                Variation::Eof { at },
                Variation::Silence { at },
            ] {
                self.try_case(Case::new(Vec::new(), variation))?;
            }
        }
        Ok(())
    }

    /// Returns those with few cuts first, so that the first failure is short.
    fn chunkings(&self, places: &[usize]) -> Vec<Vec<usize>> {
        if places.len() < ALL_CHUNKINGS {
            let mut all: Vec<Vec<usize>> = (1..1_usize << places.len())
                .map(|mask| {
                    let chosen = places.iter().enumerate();
                    let chosen = chosen.filter(|(n, _)| mask >> n & 1 == 1);
                    chosen.map(|(_, place)| *place).collect()
                })
                .collect();
            all.sort_by_key(Vec::len);
            return all;
        }
        let mut rng = fastrand::Rng::with_seed(self.conversation.seed);
        let single = self.thinned(places.to_vec()).into_iter();
        let mut chunkings: Vec<Vec<usize>> = single.map(|place| vec![place]).collect();
        chunkings.push(places.to_vec());
        chunkings.extend((0..self.conversation.random).map(|_| some_of(places, &mut rng)));
        chunkings
    }

    /// Returns at most [`MOST_PLACES`] of the places, in their order: a sample of a long conversation.
    fn thinned(&self, mut places: Vec<usize>) -> Vec<usize> {
        if places.len() > MOST_PLACES {
            let mut rng = fastrand::Rng::with_seed(self.conversation.seed);
            rng.shuffle(&mut places);
            places.truncate(MOST_PLACES);
            places.sort_unstable();
        }
        places
    }

    fn try_case(&mut self, case: Case) -> Result<(), Violation> {
        let (outcome, violation) = self.run(&case);
        self.report.count(case.variation(), outcome.pauses);
        match violation {
            None => Ok(()),
            Some(violation) => Err(self.shorten(case, outcome, violation)),
        }
    }

    /// Merges neighbouring chunks for as long as the same rule is violated.
    fn shorten(&self, case: Case, outcome: Outcome, violation: Violation) -> Violation {
        let rule = violation.rule();
        let mut found = (outcome, violation);
        let count = |case: &Case| case.cuts().len();
        let case = shrink(case, count, Case::without, |shorter| {
            if shorter.is_plain() {
                return false;
            }
            let (outcome, violation) = self.run(shorter);
            let violation = violation.filter(|violation| violation.rule() == rule);
            violation.is_some_and(|violation| {
                found = (outcome, violation);
                true
            })
        });
        let (outcome, violation) = found;
        violation.in_case(case, outcome.dialogue)
    }
}

/// Draws a probability, then each place with it, so that there are long chunks and short.
fn some_of(places: &[usize], rng: &mut fastrand::Rng) -> Vec<usize> {
    let density = rng.f64();
    let chosen = places.iter().filter(|_| rng.f64() < density);
    chosen.copied().collect()
}
