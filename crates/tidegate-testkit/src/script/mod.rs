//! A peer that follows a script, against a protocol.

mod datagrams;
mod mismatch;
mod player;
mod stage;
mod step;

use crate::log::Log;
use crate::network::Host;
use crate::scripted_peer::ScriptedPeer;
use crate::single_connection::single_connection;
use crate::watched::Watched;
use crate::world::World;
use std::io;
use std::time::Duration;
use tidegate::{Closed, Failure, Protocol};
use tidegate_streams::{Handlers, StreamReader, StreamWriter};

pub use datagrams::DatagramScript;
pub use mismatch::Mismatch;
use player::Player;
use stage::Stage;
use step::Step;

const PORT: u16 = 7;

/// The default patience: long enough for a timer between a question and its reply, too short for most
/// timeouts.
const PATIENCE: Duration = Duration::from_secs(60);

/// The steps of a peer, and its expectations of the protocol under test.
///
/// The time is the simulated world's: a wait of an hour takes no longer than its callbacks. An `expect`
/// waits until its number of bytes has come, in any pieces, for [a minute](Self::patience) at most.
/// Bytes that come while the peer waits or sends are kept for the next `expect`. At the end nothing may
/// be left over, and no callback may have failed.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Protocol, Result, Transport};
/// use tidegate_testkit::Script;
///
/// /// Replies in capitals, and says good bye after ten minutes of silence.
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
///
/// A callback that returns an error ends its connection at once. The peer gets the written bytes, as far
/// as the kernel takes them, and then an EOF, or a reset when bytes were lost or its own were not read;
/// `expect_closed` stands for both. A script allows callbacks to fail, and the test looks at the error
/// afterwards:
///
/// ```
/// use tidegate_testkit::{Log, Recorder, Script};
///
/// let picky = Recorder::new(&Log::new()).on_data(|transport, _| {
///     transport.write(b"what?")?;
///     Err("no such command".into())
/// });
/// let script = Script::new().may_fail().send("x").expect("what?").expect_eof();
/// let played = script.play(picky).unwrap();
/// assert_eq!(played.failures()[0].context(), "data_received");
/// assert!(played.failures()[0].reason().to_string().contains("no such command"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a script does nothing unless it is played"]
pub struct Script {
    steps: Vec<Step>,
    patience: Duration,
    seed: u64,
    may_fail: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// Returns an empty script: it connects, and leaves at the end.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            patience: PATIENCE,
            seed: 0,
            may_fail: false,
        }
    }

    /// Sets the maximum time of an expectation, in the world's time; a minute unless set. With zero, the
    /// expected bytes must come without time passing.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets the seed of the world; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Lets callbacks of the protocol return errors; [`Played::failures`] has them. Unless set, one is a
    /// mismatch at the end.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    // The steps of the peer.

    /// Sends, as one piece. The protocol must read all of it within the
    /// [patience](Self::patience): one that has paused reading or has closed does not.
    pub fn send(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(data.as_ref().to_vec()))
    }

    /// Sends, as one piece as far as there is room, to a protocol that may be slow to read it. All
    /// of it must fit on the way, and a later `send` waits until this was read too.
    pub fn send_ahead(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::SendAhead(data.as_ref().to_vec()))
    }

    /// Sends byte by byte, each read by the protocol before the next.
    pub fn send_bytewise(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::SendBytewise(data.as_ref().to_vec()))
    }

    /// Lets time pass.
    pub fn wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Ends the peer's stream; the protocol may still reply.
    pub fn send_eof(self) -> Self {
        self.then(Step::SendEof)
    }

    /// Resets the connection.
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    // The expectations.

    /// Expects these bytes next, in any pieces.
    pub fn expect(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::Expect(data.as_ref().to_vec()))
    }

    /// Expects nothing for this time: no byte, no end.
    pub fn expect_nothing(self, time: Duration) -> Self {
        self.then(Step::ExpectNothing(time))
    }

    /// Expects the EOF of the protocol, after the bytes that were expected before.
    pub fn expect_eof(self) -> Self {
        self.then(Step::ExpectEof)
    }

    /// Expects a reset by the protocol.
    pub fn expect_reset(self) -> Self {
        self.then(Step::ExpectReset)
    }

    /// Expects the end of the protocol's connection, in any way, and its `connection_lost`.
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
            let factory = single_connection(Watched::new(protocol, log));
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
            // The log and the error handler tell of it; dropping it would close the connection.
            connecting.then(|_, _| ());
            world.pump()?;
            listener
                .accept()
                .ok_or_else(|| io::Error::other("the protocol did not connect"))
        })
    }

    /// Plays the script as [`play`](Self::play) does, against a handler of `tidegate_streams`.
    ///
    /// Bytes count as read when the handler's reader has taken them in.
    ///
    /// ```
    /// use tidegate_testkit::Script;
    ///
    /// let script = Script::new().send("hello\n").expect("HELLO\n").send_eof().expect_eof();
    /// let played = script.play_handler(async |mut reader, writer| {
    ///     while let Some(line) = reader.lines().next().await? {
    ///         writer.write(&line.to_ascii_uppercase())?;
    ///         writer.drain().await?;
    ///     }
    ///     Ok(())
    /// });
    /// assert!(played.unwrap().closed().unwrap().is_clean());
    /// ```
    ///
    /// # Errors
    ///
    /// The first step that went another way. A panic of the handler is a mismatch at the end.
    pub fn play_handler<F>(&self, handler: F) -> Result<Played, Mismatch>
    where
        F: AsyncFn(StreamReader, StreamWriter) -> tidegate::Result + 'static,
    {
        self.play(Handlers::new(handler).protocol())
    }

    /// Plays the script as [`play_client`](Self::play_client) does, against an async function that
    /// gets both halves of its connection to the peer.
    ///
    /// # Errors
    ///
    /// As [`play_handler`](Self::play_handler).
    pub fn play_client_handler<F>(&self, handler: F) -> Result<Played, Mismatch>
    where
        F: AsyncFn(StreamReader, StreamWriter) -> tidegate::Result + 'static,
    {
        self.play_client(Handlers::new(handler).protocol())
    }

    fn run(
        &self,
        connect: impl FnOnce(&mut World, &Host, &Log) -> io::Result<crate::Peer>,
    ) -> Result<Played, Mismatch> {
        let mut stage = Stage::new(self.seed)?;
        let peer = connect(&mut stage.world, &stage.host, &stage.ending.log);
        let peer = peer.map_err(|error| Mismatch::at_start("a connection", &error))?;
        let mut player = Player {
            peer: ScriptedPeer::new(peer),
            world: stage.world,
            log: stage.ending.log.clone(),
            patience: self.patience,
            used: 0,
            sent: 0,
        };
        let played = player.play(&self.steps);
        let steps = self.steps.len();
        stage
            .ending
            .judge(played, steps, self.may_fail, player.peer.dialogue())
    }
}

/// The result of a script that met every expectation.
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
    /// Returns the time that it took, in the world's time.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Returns the callbacks of the protocol, those after the peer left included.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the [`Closed`] of `connection_lost`; `None` if that did not come within the
    /// [patience](Script::patience) after the peer left.
    pub fn closed(&self) -> Option<Closed> {
        self.log.is_lost().then(|| self.log.closed())
    }

    /// Returns the errors that callbacks returned.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Returns the dialogue.
    pub fn dialogue(&self) -> &crate::Dialogue {
        &self.dialogue
    }
}
