//! Peers that follow a script, against a protocol of datagrams.

mod player;
mod step;

use super::stage::Stage;
use super::{Mismatch, PATIENCE, PORT, Played};
use crate::datagram_peers::DatagramPeers;
use crate::watched::Watched;
use player::Player;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use step::{Act, Step};
use tidegate::{DatagramOptions, DatagramProtocol};

/// The steps of peers, and their expectations of the protocol of datagrams under test.
///
/// The time is the simulated world's, as in a [`Script`](crate::Script). An `expect` waits for the next
/// datagram to its peer, for [a minute](Self::patience) at most. Datagrams that come while the peers do
/// something else are kept for the next `expect`. At the end nothing may be left over, and no callback may have
/// failed. Then the endpoint is closed.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Address, DatagramProtocol, DatagramTransport, Result};
/// use tidegate_testkit::DatagramScript;
///
/// /// Sends each datagram back, to everybody else that has ever sent one.
/// #[derive(Default)]
/// struct Chat(Vec<Address>);
///
/// impl DatagramProtocol for Chat {
///     fn datagram_received(
///         &mut self,
///         transport: &DatagramTransport,
///         data: &[u8],
///         from: &Address,
///     ) -> Result {
///         for other in self.0.iter().filter(|other| *other != from) {
///             transport.send_to(data, other)?;
///         }
///         if !self.0.contains(from) {
///             self.0.push(from.clone());
///         }
///         Ok(())
///     }
/// }
///
/// let script = DatagramScript::new()
///     .send("hello?")
///     .expect_nothing(Duration::from_secs(60))
///     .peer(1)
///     .send("hello")
///     .peer(0)
///     .expect("hello");
/// let played = script.play(Chat::default()).unwrap();
/// assert_eq!(played.log().datagrams(), [&b"hello?"[..], b"hello"]);
///
/// let mismatch = script.expect("hello?").play(Chat::default()).unwrap_err();
/// assert_eq!((mismatch.step(), mismatch.seen()), (Some(5), "nothing"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a script does nothing unless it is played"]
pub struct DatagramScript {
    steps: Vec<Step>,
    peer: usize,
    patience: Duration,
    seed: u64,
    may_fail: bool,
}

impl Default for DatagramScript {
    fn default() -> Self {
        Self::new()
    }
}

impl DatagramScript {
    /// Returns an empty script.
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            peer: 0,
            patience: PATIENCE,
            seed: 0,
            may_fail: false,
        }
    }

    /// Sets the maximum time of an expectation, in the world's time; a minute unless set.
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

    /// Makes the steps from here on those of the peer with this number; of peer 0 unless set. Each has an address
    /// of its own.
    pub fn peer(mut self, number: usize) -> Self {
        self.peer = number;
        self
    }

    fn then(mut self, act: Act) -> Self {
        let peer = self.peer;
        self.steps.push(Step { peer, act });
        self
    }

    // The steps of the peers.

    /// Sends a datagram to the endpoint.
    pub fn send(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Act::Send(data.as_ref().to_vec()))
    }

    /// Lets time pass.
    pub fn wait(self, time: Duration) -> Self {
        self.then(Act::Wait(time))
    }

    /// Closes the socket of the peer. Datagrams to it are refused from then on, of which an endpoint with a remote
    /// address is told.
    pub fn leave(self) -> Self {
        self.then(Act::Leave)
    }

    // The expectations.

    /// Expects this datagram next.
    pub fn expect(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Act::Expect(data.as_ref().to_vec()))
    }

    /// Expects no datagram for this time.
    pub fn expect_nothing(self, time: Duration) -> Self {
        self.then(Act::ExpectNothing(time))
    }

    /// Expects the end of the endpoint, in any way, and its `connection_lost`.
    pub fn expect_closed(self) -> Self {
        self.then(Act::ExpectClosed)
    }

    // Playing it.

    /// Plays the script against a protocol whose endpoint hears every peer.
    ///
    /// # Errors
    ///
    /// The first step that went another way.
    ///
    /// # Panics
    ///
    /// A panic of the protocol goes on here.
    pub fn play(&self, protocol: impl DatagramProtocol) -> Result<Played, Mismatch> {
        self.run(protocol, |at, _| DatagramOptions::new(at))
    }

    /// Plays the script against a protocol whose endpoint has peer 0 as its remote address. It hears no other.
    ///
    /// # Errors
    ///
    /// The first step that went another way.
    ///
    /// # Panics
    ///
    /// A panic of the protocol goes on here.
    pub fn play_connected(&self, protocol: impl DatagramProtocol) -> Result<Played, Mismatch> {
        self.run(protocol, |at, peer| DatagramOptions::new(at).remote(peer))
    }

    fn run(
        &self,
        protocol: impl DatagramProtocol,
        options: impl FnOnce(SocketAddr, SocketAddr) -> DatagramOptions,
    ) -> Result<Played, Mismatch> {
        let Stage {
            world,
            host,
            ending,
        } = Stage::new(self.seed)?;
        let count = self.steps.iter().map(|step| step.peer + 1).max();
        let count = count.unwrap_or(1);
        let at = host.addr(PORT);
        let begin = || {
            let peers = DatagramPeers::new(&world, count)?;
            let protocol = Watched::new(protocol, &ending.log);
            let options = options(at, peers.addr(0));
            let endpoint = host.handle().create_datagram_endpoint(options, protocol)?;
            Ok::<_, io::Error>((peers, endpoint))
        };
        let (peers, endpoint) =
            begin().map_err(|error| Mismatch::at_start("an endpoint", &error))?;
        let mut player = Player {
            peers,
            world,
            log: ending.log.clone(),
            endpoint,
            at,
            patience: self.patience,
            used: vec![0; count],
        };
        let played = player.play(&self.steps);
        ending.judge(
            played,
            self.steps.len(),
            self.may_fail,
            player.peers.dialogue(),
        )
    }
}
