//! Checks a pair of layers in every way in which the bytes between them may come.

mod case;
mod middle;
mod observed;
mod report;
mod rule;
mod run;
mod subject;
mod talker;
mod violation;

use crate::shrink::shrink;
use rule::judge;
use run::{Outcome, run};
use std::fmt;
use std::rc::Rc;
use subject::Subject;
use tidegate::Layer;

pub use case::{LayerCase, LayerVariation, ParseLayerCaseError, Side};
pub use observed::LayerCalls;
pub use report::LayerReport;
pub use rule::LayerRule;
pub use violation::LayerViolation;

/// Of more places than this to cut at, in each direction, a sample is tried.
const MAX_PLACES: usize = 400;

/// Runs with random chunks.
const RANDOM: usize = 100;

/// Sizes in bytes of the kernels' buffers, for short messages.
const BUFFERS: [usize; 3] = [1, 8, 64];

/// Those for long messages.
const LONG_BUFFERS: [usize; 2] = [1000, 64 * 1024];

/// Sizes in bytes of the protocols' own buffers.
const ROOMS: [usize; 3] = [1, 7, 100];

/// Runs with random chunks for each of these sizes.
const EACH: usize = 5;

/// The lengths of the messages, of the client and the server.
const MESSAGES: [usize; 2] = [200, 300];

/// Runs a pair of layers, made anew by `client` and `server` for each run, on one connection in every
/// way in which the bytes between them may come:
///
/// * Both ends send at once, piece by piece. The bytes between the layers come in one piece, cut in
///   two at each place, byte by byte, and in random chunks, in each direction.
/// * The kernel takes a few bytes at a time, so that below a layer a part of its output is refused; and
///   the protocol above reads a few bytes at a time.
/// * One end sends when the stream of the other has ended. The client closes the connection.
/// * Messages of 300,000 bytes, both at once.
/// * The stream to one end is cut after each number of bytes.
///
/// [`LayerRule`] lists what must hold: what goes in comes out, an end is an end, a cut never is one,
/// and the layers come to rest. Each run has a world of its own, and its time: that of a layer's timer
/// passes at once. [`LayerCheck`] has settings.
///
/// ```
/// use tidegate::{Layer, LayerIo, Result};
/// use tidegate_testkit::{LayerRule, check_layer};
///
/// /// A length of one byte before each piece of the stream; 0 is its end. Is it all there?
/// struct Pieces;
///
/// impl Layer for Pieces {
///     fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
///         while let [len, rest @ ..] = &*io.input() {
///             let len = usize::from(*len);
///             if rest.len() < len {
///                 break;
///             }
///             if len == 0 {
///                 io.end_of_stream();
///             }
///             let (input, mut above, _) = io.parts();
///             above.deliver(&input[1..=len]);
///             io.consume(1 + len);
///         }
///         Ok(())
///     }
///
///     fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
///         let data = &data[..data.len().min(255)];
///         io.send(&[data.len() as u8]);
///         io.send(data);
///         Ok(data.len())
///     }
///
///     fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
///         io.send(&[0]);
///         Ok(())
///     }
/// }
///
/// // No: the default `input_ended` takes each end of the stream below for one of the stream above.
/// let violation = check_layer(|| Pieces, || Pieces).unwrap_err();
/// assert_eq!(violation.rule(), LayerRule::Cut);
/// assert_eq!(violation.case().to_string(), "cut-to-server 0");
/// ```
///
/// # Errors
///
/// The first violation, with the shortest case that was found for it.
pub fn check_layer<C: Layer, S: Layer>(
    client: impl FnMut() -> C + 'static,
    server: impl FnMut() -> S + 'static,
) -> Result<LayerReport, LayerViolation> {
    LayerCheck::new(client, server).run()
}

/// A [check of layers](check_layer) with settings.
///
/// ```
/// use tidegate::{Layer, LayerIo, Result};
/// use tidegate_testkit::LayerCheck;
///
/// /// Adds 1 to each byte on its way out.
/// struct Shift;
///
/// impl Layer for Shift {
///     fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
///         let (input, mut above, _) = io.parts();
///         input.iter_mut().for_each(|byte| *byte = byte.wrapping_sub(1));
///         above.deliver(input);
///         let len = input.len();
///         io.consume(len);
///         Ok(())
///     }
///
///     fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
///         let shifted: Vec<_> = data.iter().map(|byte| byte.wrapping_add(1)).collect();
///         io.send(&shifted);
///         Ok(data.len())
///     }
/// }
///
/// // It has no word for the end: that of the TCP stream has to do.
/// LayerCheck::new(|| Shift, || Shift).cut_is_end().run()?;
/// # Ok::<(), tidegate_testkit::LayerViolation>(())
/// ```
#[must_use]
pub struct LayerCheck {
    subject: Subject,
    messages: [Rc<[u8]>; 2],
    cut_is_end: bool,
    seed: u64,
    places: usize,
}

impl LayerCheck {
    /// Checks the layers that `client` and `server` make, one of each for each run.
    pub fn new<C: Layer, S: Layer>(
        client: impl FnMut() -> C + 'static,
        server: impl FnMut() -> S + 'static,
    ) -> Self {
        Self {
            subject: Subject::new(client, server),
            messages: [message(MESSAGES[0], 0), message(MESSAGES[1], 1)],
            cut_is_end: false,
            seed: 0,
            places: MAX_PLACES,
        }
    }

    /// Sets the messages of both ends; some bytes unless set.
    pub fn messages(mut self, client: impl AsRef<[u8]>, server: impl AsRef<[u8]>) -> Self {
        self.messages = [client.as_ref().into(), server.as_ref().into()];
        self
    }

    /// Allows that a stream that was cut looks like one that ended. That is so when a layer has no word
    /// of its own for the end of the stream.
    pub fn cut_is_end(mut self) -> Self {
        self.cut_is_end = true;
        self
    }

    /// Sets the seed of random chunks, and of the sample of places; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the maximum number of places at which each direction is cut; 400 unless set.
    ///
    /// Of more bytes a sample is drawn from the [seed](Self::seed). A layer with an expensive handshake
    /// may need a smaller one.
    pub fn places(mut self, most: usize) -> Self {
        self.places = most;
        self
    }

    /// Runs all cases.
    ///
    /// # Errors
    ///
    /// The first violation, with the shortest case that was found for it.
    pub fn run(&self) -> Result<LayerReport, LayerViolation> {
        let (plain, violation) = self.try_case(&LayerCase::PLAIN);
        if let Some(violation) = violation {
            return Err(violation.in_case(LayerCase::PLAIN, plain.calls));
        }
        let mut report = LayerReport::new(&plain);
        report.count(&plain);
        for case in self.cases(plain.wire) {
            let (outcome, violation) = self.try_case(&case);
            report.count(&outcome);
            if let Some(violation) = violation {
                return Err(self.shorten(case, outcome, violation));
            }
        }
        Ok(report)
    }

    /// Runs one case.
    ///
    /// Places beyond the bytes that the layers send have no effect.
    ///
    /// # Errors
    ///
    /// The violation.
    pub fn run_case(&self, case: &LayerCase) -> Result<(), LayerViolation> {
        let (outcome, violation) = self.try_case(case);
        match violation {
            Some(violation) => Err(violation.in_case(case.clone(), outcome.calls)),
            None => Ok(()),
        }
    }

    fn try_case(&self, case: &LayerCase) -> (Outcome, Option<LayerViolation>) {
        let outcome = run(&self.subject, &self.messages, case);
        let violation = judge(&outcome, case, self.cut_is_end);
        (outcome, violation)
    }

    /// All cases but the plain one, those with few cuts first.
    fn cases(&self, wire: [usize; 2]) -> Vec<LayerCase> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let ways = [(Side::Server, wire[0]), (Side::Client, wire[1])];
        let all = |to: Side, len: usize| LayerCase::PLAIN.with_chunks(to, (1..len).collect());
        let mut cases = Vec::new();
        for (to, len) in ways {
            let places = self.sample(1..len, &mut rng);
            let single = places.into_iter().map(|at| vec![at]);
            cases.extend(single.map(|ends| LayerCase::PLAIN.with_chunks(to, ends)));
            cases.push(all(to, len));
        }
        cases.push(byte_by_byte(LayerVariation::Whole, wire));
        cases.extend((0..RANDOM).map(|_| random(LayerVariation::Whole, wire, &mut rng)));
        let tight = BUFFERS.map(|buffer| LayerVariation::Tight { buffer });
        let room = ROOMS.map(|size| LayerVariation::Room { size });
        let first = Side::BOTH.map(|side| LayerVariation::First { side });
        let long = LONG_BUFFERS.map(|buffer| LayerVariation::Long { buffer });
        let others = tight.into_iter().chain(room).chain(first);
        for variation in others.chain([LayerVariation::Close]) {
            cases.push(LayerCase::of(variation));
            cases.push(byte_by_byte(variation, wire));
            cases.extend((0..EACH).map(|_| random(variation, wire, &mut rng)));
        }
        cases.extend(long.map(LayerCase::of));
        for (to, len) in ways {
            for at in self.sample(0..len, &mut rng) {
                cases.push(LayerCase::of(LayerVariation::Cut { to, at }));
            }
        }
        cases
    }

    /// Returns the places, or as many of them as are allowed.
    fn sample(&self, places: std::ops::Range<usize>, rng: &mut fastrand::Rng) -> Vec<usize> {
        let mut chosen = rng.choose_multiple(places, self.places);
        chosen.sort_unstable();
        chosen
    }

    /// Takes chunks out as long as the same rule is violated.
    fn shorten(
        &self,
        case: LayerCase,
        outcome: Outcome,
        violation: LayerViolation,
    ) -> LayerViolation {
        let rule = violation.rule();
        let mut found = (outcome, violation);
        let case = shrink(case, LayerCase::count, LayerCase::without, |shorter| {
            let (outcome, violation) = self.try_case(shorter);
            let violation = violation.filter(|violation| violation.rule() == rule);
            violation.is_some_and(|violation| {
                found = (outcome, violation);
                true
            })
        });
        let (outcome, violation) = found;
        violation.in_case(case, outcome.calls)
    }
}

impl fmt::Debug for LayerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerCheck")
            .field("cut_is_end", &self.cut_is_end)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

fn byte_by_byte(variation: LayerVariation, [to_server, to_client]: [usize; 2]) -> LayerCase {
    LayerCase::of(variation)
        .with_chunks(Side::Server, (1..to_server).collect())
        .with_chunks(Side::Client, (1..to_client).collect())
}

/// Each place as likely as a number that is drawn first, so that there are long chunks and short.
fn random(variation: LayerVariation, wire: [usize; 2], rng: &mut fastrand::Rng) -> LayerCase {
    let [to_server, to_client] = wire.map(|len| {
        let density = rng.f64();
        (1..len).filter(|_| rng.f64() < density).collect()
    });
    LayerCase::of(variation)
        .with_chunks(Side::Server, to_server)
        .with_chunks(Side::Client, to_client)
}

/// Bytes of which no two parts of some length are alike.
fn message(len: usize, of: u8) -> Rc<[u8]> {
    let words =
        (0..).map(|n: u64| (n + 1 + (u64::from(of) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    words.flat_map(u64::to_be_bytes).take(len).collect()
}
