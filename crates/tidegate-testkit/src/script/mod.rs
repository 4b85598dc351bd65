//! A peer that follows a script, against a protocol.

mod mismatch;
mod step;

use crate::hand::{Hand, Waited, within};
use crate::log::Log;
use crate::network::Host;
use crate::single::single;
use crate::watched::Watched;
use crate::world::{StillBusy, World};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Closed, EventLoop, Failure, PanicPolicy, Protocol};

pub use mismatch::Mismatch;
use step::Step;

const PORT: u16 = 7;

/// Long enough for a timer between a question and its answer, too short for most timeouts.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a peer does, step by step, and what it expects of the protocol under test.
///
/// The time is the simulated world's: a wait of an hour takes no longer than its callbacks. An
/// `expect` waits until so many bytes have come, in whatever pieces, for
/// [a minute](Self::patience) at most; what comes while the peer waits or sends is kept for the
/// next `expect`. At the end nothing may be left over.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::Script;
///
/// /// Answers in capitals, and says good bye after ten minutes of silence.
/// struct Shout;
///
/// impl Protocol for Shout {
///     fn connection_made(&mut self, transport: &Transport) -> Result {
///         transport.call_later(Duration::from_secs(600), |_: &mut Self, transport| {
///             transport.write(b"BYE")?;
///             transport.close();
///             Ok(())
///         });
///         Ok(())
///     }
///
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         transport.write(&data.to_ascii_uppercase())?;
///         Ok(())
///     }
/// }
///
/// let played = Script::new()
///     .send(b"hello")
///     .expect(b"HELLO")
///     .expect_nothing(Duration::from_secs(599))
///     .wait(Duration::from_secs(1))
///     .expect(b"BYE")
///     .expect_eof()
///     .play(Shout)
///     .unwrap();
/// assert_eq!(played.elapsed(), Duration::from_secs(600));
///
/// let mismatch = Script::new().send(b"hello").expect(b"hello").play(Shout).unwrap_err();
/// let text = mismatch.to_string();
/// assert!(text.contains(r#"step 2, expect "hello""#), "{text}");
/// assert!(text.contains(r#"came: "HELLO""#), "{text}");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a script does nothing unless it is played"]
pub struct Script {
    steps: Vec<Step>,
    patience: Duration,
    seed: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// An empty script: connects, and leaves at the end.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            patience: PATIENCE,
            seed: 0,
        }
    }

    /// How long an expectation may take, in the world's time; a minute unless set. With zero, what
    /// is expected must have come without time passing.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The seed of the world; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    // What the peer does.

    /// Sends, as one piece. The protocol must take it.
    pub fn send(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(data.as_ref().to_vec()))
    }

    /// Sends byte by byte, each read by the protocol before the next.
    pub fn send_bytewise(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::SendBytewise(data.as_ref().to_vec()))
    }

    /// Lets time pass.
    pub fn wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Ends the own stream; the protocol may still answer.
    pub fn send_eof(self) -> Self {
        self.then(Step::SendEof)
    }

    /// Resets the connection.
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    // What it expects.

    /// These bytes come next, in whatever pieces.
    pub fn expect(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::Expect(data.as_ref().to_vec()))
    }

    /// Nothing comes for so long: no byte, no end.
    pub fn expect_nothing(self, time: Duration) -> Self {
        self.then(Step::ExpectNothing(time))
    }

    /// The protocol ends its stream, after what was expected before.
    pub fn expect_eof(self) -> Self {
        self.then(Step::ExpectEof)
    }

    /// The protocol resets the connection.
    pub fn expect_reset(self) -> Self {
        self.then(Step::ExpectReset)
    }

    /// The protocol's connection has ended, in whatever way, and it has had its
    /// `connection_lost`.
    pub fn expect_closed(self) -> Self {
        self.then(Step::ExpectClosed)
    }

    // Playing it.

    /// Plays the script against a protocol that accepts the peer's connection.
    ///
    /// # Errors
    ///
    /// The first step that went another way.
    ///
    /// # Panics
    ///
    /// A panic of the protocol goes on here.
    pub fn play(&self, protocol: impl Protocol) -> Result<Played, Mismatch> {
        self.run(|world, host, log| {
            let factory = single(Watched::new(protocol, log));
            let server = host.handle().create_server(host.addr(PORT), factory)?;
            let peer = world.network().dial(host.addr(PORT))?;
            world.pump()?;
            server.close();
            world.pump()?;
            Ok(peer)
        })
    }

    /// Plays the script against a protocol that connects to the peer.
    ///
    /// # Errors
    ///
    /// The first step that went another way.
    ///
    /// # Panics
    ///
    /// A panic of the protocol goes on here.
    pub fn play_client(&self, protocol: impl Protocol) -> Result<Played, Mismatch> {
        self.run(|world, host, log| {
            let listener = world.network().listen(0)?;
            let protocol = Watched::new(protocol, log);
            let connecting = host.handle().create_connection(listener.addr(), protocol);
            // Told by the log and the error handler; dropping it would close the connection.
            connecting.then(|_, _| ());
            world.pump()?;
            listener
                .accept()
                .ok_or_else(|| io::Error::other("the protocol did not connect"))
        })
    }

    fn run(
        &self,
        connect: impl FnOnce(&mut World, &Host, &Log) -> io::Result<crate::Peer>,
    ) -> Result<Played, Mismatch> {
        let mut world = World::builder().seed(self.seed).build();
        let log = Log::new();
        let strict = EventLoop::builder().panic_policy(PanicPolicy::Propagate);
        let failures: Rc<RefCell<Vec<Failure>>> = Rc::default();
        let begun = world.add_host_with("host", strict).and_then(|host| {
            let told = failures.clone();
            let tell = move |_: &_, failure: &Failure| told.borrow_mut().push(failure.clone());
            host.handle().set_error_handler(tell);
            connect(&mut world, &host, &log)
        });
        let peer = begun.map_err(|error| Mismatch::at_start(&error))?;
        let mut stage = Stage {
            hand: Hand::new(peer),
            world,
            log,
            patience: self.patience,
            used: 0,
        };
        let played = stage.play(&self.steps);
        let failures = failures.take();
        match played {
            Ok(elapsed) => Ok(Played {
                elapsed,
                failures,
                dialogue: stage.hand.dialogue().clone(),
                log: stage.log,
            }),
            Err(mismatch) => Err(mismatch.with(stage.hand.dialogue(), &failures)),
        }
    }
}

/// A script that is being played.
struct Stage {
    hand: Hand,
    world: World,
    log: Log,
    patience: Duration,
    /// So many of the received bytes were expected.
    used: usize,
}

impl Stage {
    fn play(&mut self, steps: &[Step]) -> Result<Duration, Mismatch> {
        for (n, step) in steps.iter().enumerate() {
            match self.step(step) {
                Ok(Ok(())) => {}
                Ok(Err(seen)) => return Err(Mismatch::at_step(n + 1, step, seen)),
                Err(busy) => return Err(Mismatch::at_step(n + 1, step, busy.to_string())),
            }
        }
        let elapsed = self.world.elapsed();
        match self.end() {
            Ok(Ok(())) => Ok(elapsed),
            Ok(Err(seen)) => Err(Mismatch::at_end(steps.len(), seen)),
            Err(busy) => Err(Mismatch::at_end(steps.len(), busy.to_string())),
        }
    }

    /// `Err` within says what came.
    fn step(&mut self, step: &Step) -> Result<Result<(), String>, StillBusy> {
        let (world, hand) = (&mut self.world, &mut self.hand);
        match step {
            Step::Send(data) => return self.send(data),
            Step::SendBytewise(data) => {
                for byte in data.chunks(1) {
                    if let Err(seen) = self.send(byte)? {
                        return Ok(Err(seen));
                    }
                }
            }
            Step::Wait(time) => {
                let until = world.elapsed().saturating_add(*time);
                hand.listen(world, *time, |_| false)?;
                // Listening ends with the connection, waiting does not.
                let left = until.saturating_sub(world.elapsed());
                world.advance(left)?;
            }
            Step::SendEof => hand.send_eof(world)?,
            Step::Reset => hand.reset(world)?,
            Step::Expect(data) => return self.expect(data),
            Step::ExpectNothing(time) => {
                let before = hand.received().len();
                if before == self.used {
                    hand.listen(world, *time, |hand| hand.received().len() > before)?;
                    let left = self.left_over();
                    if left.is_empty() && !self.hand.is_over() {
                        return Ok(Ok(()));
                    }
                }
                return Ok(Err(self.what_came()));
            }
            Step::ExpectEof => return self.expect_end(|hand| hand.is_ended()),
            Step::ExpectReset => return self.expect_end(|hand| hand.is_reset()),
            Step::ExpectClosed => {
                let lost = self.log.clone();
                within(world, self.patience, || lost.is_lost())?;
                hand.take(world);
                if !self.left_over().is_empty() {
                    return Ok(Err(self.what_came()));
                }
                if !self.log.is_lost() {
                    return Ok(Err("the connection is still there".into()));
                }
            }
        }
        Ok(Ok(()))
    }

    fn send(&mut self, data: &[u8]) -> Result<Result<(), String>, StillBusy> {
        let (world, hand) = (&mut self.world, &mut self.hand);
        let sent = hand.send(world, data, true, self.patience)?;
        hand.take(world);
        Ok(if sent == data.len() {
            Ok(())
        } else if hand.is_over() {
            Err(format!("{} after {sent} bytes of it", self.end_text()))
        } else {
            Err(format!("nobody read on after {sent} bytes of it"))
        })
    }

    fn expect(&mut self, data: &[u8]) -> Result<Result<(), String>, StillBusy> {
        let (world, hand) = (&mut self.world, &mut self.hand);
        let from = self.used;
        hand.listen(world, self.patience, |hand| {
            let come = &hand.received()[from..];
            come.len() >= data.len() || !data.starts_with(come)
        })?;
        Ok(if hand.received()[from..].starts_with(data) {
            self.used += data.len();
            Ok(())
        } else {
            Err(self.what_came())
        })
    }

    fn expect_end(&mut self, is_it: fn(&Hand) -> bool) -> Result<Result<(), String>, StillBusy> {
        let (world, hand) = (&mut self.world, &mut self.hand);
        let before = self.used;
        let waited = hand.listen(world, self.patience, |hand| hand.received().len() > before)?;
        let fits = waited == Waited::Done && self.left_over().is_empty() && is_it(&self.hand);
        Ok(if fits { Ok(()) } else { Err(self.what_came()) })
    }

    fn end(&mut self) -> Result<Result<(), String>, StillBusy> {
        self.world.pump()?;
        self.hand.take(&self.world);
        if !self.left_over().is_empty() {
            return Ok(Err(self.what_came()));
        }
        self.hand.leave(&mut self.world)?;
        // What the protocol does about it belongs to the record.
        let log = self.log.clone();
        within(&mut self.world, self.patience, || log.is_lost())?;
        Ok(Ok(()))
    }

    fn left_over(&self) -> &[u8] {
        &self.hand.received()[self.used..]
    }

    fn end_text(&self) -> &'static str {
        if self.hand.is_reset() {
            "a reset"
        } else if self.hand.is_ended() {
            "the end of the stream"
        } else {
            "nothing more"
        }
    }

    fn what_came(&self) -> String {
        let left = self.left_over();
        let end = self.end_text();
        match (left.is_empty(), self.hand.is_over()) {
            (true, false) => "nothing".into(),
            (true, true) => end.into(),
            (false, false) => crate::dialogue::Escaped(left).to_string(),
            (false, true) => format!("{}, then {end}", crate::dialogue::Escaped(left)),
        }
    }
}

/// A script that went as it was written.
///
/// ```
/// use tidegate::CloseReason;
/// use tidegate_testkit::{Log, Recorder, Script};
///
/// let played = Script::new().send_eof().expect_eof().play(Recorder::new(&Log::new()))?;
/// let closed = played.closed().expect("the peer has left");
/// assert!(matches!(closed.reason(), CloseReason::PeerEof));
/// assert_eq!(played.log().words(), ["made", "eof", "lost"]);
/// # Ok::<(), tidegate_testkit::Mismatch>(())
/// ```
#[derive(Debug)]
pub struct Played {
    elapsed: Duration,
    failures: Vec<Failure>,
    dialogue: crate::Dialogue,
    log: Log,
}

impl Played {
    /// How long it took, in the world's time.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The callbacks of the protocol, those after the peer left included.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What `connection_lost` said; `None` if it did not come within the
    /// [patience](Script::patience) after the peer left.
    pub fn closed(&self) -> Option<Closed> {
        self.log.is_lost().then(|| self.log.closed())
    }

    /// The errors that callbacks returned.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// What was said.
    pub fn dialogue(&self) -> &crate::Dialogue {
        &self.dialogue
    }
}
