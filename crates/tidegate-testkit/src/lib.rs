//! Tests for [`tidegate`]'s protocols without sockets and without waiting.
//!
//! The same event loop runs on a simulated network and a virtual clock. A timeout of ten minutes takes
//! milliseconds, and faults follow from a seed.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::{Protocol, Result, Transport};
//! use tidegate_testkit::{Conversation, Script, check_protocol};
//!
//! /// Replies to each line with its length, and hangs up after ten minutes.
//! #[derive(Default)]
//! struct Lengths(usize);
//!
//! impl Protocol for Lengths {
//!     fn connection_made(&mut self, transport: &Transport) -> Result {
//!         let ten_minutes = Duration::from_secs(600);
//!         transport.call_later(ten_minutes, |_: &mut Self, transport| {
//!             transport.close();
//!             Ok(())
//!         });
//!         Ok(())
//!     }
//!
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
//!         for byte in data {
//!             self.0 += 1;
//!             if *byte == b'\n' {
//!                 let len = std::mem::take(&mut self.0);
//!                 transport.write(format!("{len}\n").as_bytes())?;
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! // One conversation, step by step.
//! let script = Script::new()
//!     .send("hello\n")
//!     .expect("6\n")
//!     .expect_nothing(Duration::from_secs(599))
//!     .wait(Duration::from_secs(1))
//!     .expect_eof();
//! script.play(Lengths::default()).unwrap();
//!
//! // And in every way in which its bytes may come, and its peer may leave.
//! let conversation = Conversation::new().say("a line\n\nxyz").answer("7\n1\n");
//! check_protocol(Lengths::default, &conversation).unwrap();
//! ```
//!
//! # A world with faults
//!
//! A test names the faults and their probabilities, and checks its rule in many worlds, each with a seed
//! of its own. The seed in the message of a failure repeats the run:
//!
//! ```
//! use tidegate_testkit::{Fault, Faults, Log, Recorder, World};
//!
//! # fn main() -> tidegate::Result {
//! for seed in 0..20 {
//!     let faults = Faults::none()
//!         .with(Fault::ShortRead, 0.5)
//!         .with(Fault::Stall, 0.1)
//!         .with(Fault::Reset, 0.02);
//!     let mut world = World::builder().seed(seed).faults(faults).build();
//!     let (a, b) = (world.add_host("a")?, world.add_host("b")?);
//!     let (client, served) = (Log::new(), Log::new());
//!     let log = served.clone();
//!     b.handle().create_server(b.addr(7), move || Recorder::echo(&log))?;
//!     let hello = Recorder::new(&client).on_made(|transport| {
//!         transport.write(b"hello")?;
//!         transport.write_eof()?;
//!         Ok(())
//!     });
//!     a.handle().create_connection(b.addr(7), hello).then(|_, _| ());
//!     world.run_until_idle()?;
//!     // Either the echo is whole, or the client was told why it is not.
//!     let told = client.is_lost() && !client.closed().is_clean();
//!     assert!(client.data() == b"hello" || told, "seed {seed}: {}", world.fault_counts());
//! }
//! # Ok(()) }
//! ```
//!
//! # Datagrams
//!
//! A world has UDP: [`Handle::create_datagram_endpoint`](tidegate::Handle::create_datagram_endpoint) binds
//! at the addresses of a host. Faults lose, double and delay datagrams, a partition loses them, and a
//! [`Link`] with a bandwidth refuses a sender until there is room. [`check_datagram_protocol`] and
//! [`DatagramScript`] make such a world for one protocol.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::{Address, DatagramOptions, DatagramProtocol, DatagramTransport, Result};
//! use tidegate_testkit::{Fault, World};
//!
//! struct Echo;
//!
//! impl DatagramProtocol for Echo {
//!     fn datagram_received(
//!         &mut self,
//!         transport: &DatagramTransport,
//!         data: &[u8],
//!         from: &Address,
//!     ) -> Result {
//!         transport.send_to(data, from)?;
//!         Ok(())
//!     }
//! }
//!
//! /// Asks each second until there is a reply.
//! struct Ask;
//!
//! impl Ask {
//!     fn ask(&mut self, transport: &DatagramTransport) -> Result {
//!         transport.send(b"hello")?;
//!         transport.call_later(Duration::from_secs(1), Self::ask);
//!         Ok(())
//!     }
//! }
//!
//! impl DatagramProtocol for Ask {
//!     fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
//!         self.ask(transport)
//!     }
//!
//!     fn datagram_received(
//!         &mut self,
//!         transport: &DatagramTransport,
//!         data: &[u8],
//!         _: &Address,
//!     ) -> Result {
//!         assert_eq!(data, b"hello");
//!         transport.close();
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut world = World::new();
//! let (a, b) = (world.add_host("a")?, world.add_host("b")?);
//! b.handle().create_datagram_endpoint(b.addr(7), Echo)?;
//! let client = a
//!     .handle()
//!     .create_datagram_endpoint(DatagramOptions::connected(b.addr(7)), Ask)?;
//! world.network().force(Fault::DatagramLost, 2);
//! let closed = world.run_until(client.wait_closed())?;
//! assert!(closed.is_clean());
//! assert_eq!(world.elapsed(), Duration::from_secs(2));
//! # Ok(()) }
//! ```
//!
//! # Child processes
//!
//! [`Network::program`] puts a scripted [`Program`] on a host, where the loop starts it as a child:
//!
//! ```
//! use std::process::Command;
//! use std::time::Duration;
//! use tidegate_streams::{Process, sleep};
//! use tidegate_testkit::{Program, World};
//!
//! /// Starts a program until it succeeds, each time after twice the pause.
//! async fn supervise() -> tidegate::Result<u32> {
//!     let (mut starts, mut pause) = (1, Duration::from_secs(1));
//!     while !Process::spawn(&mut Command::new("worker"))?.wait().await?.success() {
//!         sleep(pause).await;
//!         starts += 1;
//!         pause *= 2;
//!     }
//!     Ok(starts)
//! }
//!
//! # fn main() -> tidegate::Result {
//! let mut world = World::new();
//! let host = world.add_host("host")?;
//! let mut runs = 0;
//! world.network().program(&host, "worker", move |_| {
//!     runs += 1;
//!     let worker = Program::new().write("at work\n").wait(Duration::from_secs(5));
//!     if runs < 6 { worker.exit(1) } else { worker }
//! });
//! let starts = world.block_on(&host, supervise())??;
//! assert_eq!((starts, world.elapsed().as_secs()), (6, 6 * 5 + 31));
//! # Ok(()) }
//! ```
//!
//! # Where to go next
//!
//! The [guide](https://docs.rs/tidegate/latest/tidegate/guide/testing/) of `tidegate` has a chapter on
//! testing, and one that leads to the library
//! [from asyncio](https://docs.rs/tidegate/latest/tidegate/guide/from_asyncio/). Handlers are those of
//! [tidegate-streams](https://docs.rs/tidegate-streams), and layers include that of
//! [tidegate-tls](https://docs.rs/tidegate-tls). The tools, from the least to write to the most to control:
//!
//! | | |
//! | --- | --- |
//! | [`check_protocol`] | a protocol that accepts, in thousands of runs of one [`Conversation`]: chunkings, slow readers, resets, ends and silences everywhere; returns the shortest case that violates a [`Rule`] |
//! | [`check_handler`] | the same for an async handler of `tidegate_streams` |
//! | [`check_datagram_protocol`] | a protocol of datagrams, in hundreds of runs of one [`DatagramConversation`]: lost, doubled, late, empty, long and cut datagrams, refusals, pauses, storms, ends everywhere |
//! | [`check_layer`] | a pair of layers, in the same manner: chunks, small buffers, long messages, ends and cuts everywhere |
//! | [`Script`] | a peer that sends, expects and waits, step by step, against a protocol or a handler that accepts or connects |
//! | [`DatagramScript`] | peers that send, expect and wait, step by step, against a protocol of datagrams |
//! | [`pair()`] | two protocols on one connection |
//! | [`World`] | hosts, each an event loop; servers, clients, endpoints of datagrams, async code, on one clock |
//! | [`Network`] | the network between the hosts: [`Link`]s, partitions, resets; [`Peer`]s and [`DatagramPeer`]s without a loop |
//! | [`Program`], [`Network::program`] | scripted child processes of a host: their pipes, signals and exits |
//! | [`Faults`], [`FaultCounts`] | the probability of each fault, and how often it struck |
//! | [`Recorder`], [`DatagramRecorder`], [`Watched`], [`Log`] | a protocol that records its callbacks, one that records those of any other, and the record, which checks their order |
//! | [`Trace`], [`Dialogue`] | the events of a run, and the bytes of both sides |
//! | [`conformance`] | the rules for every transport, over sockets or over another [`Harness`](conformance::Harness) |
//! | [`fuzz()`] | random inputs for a rule, in an ordinary test |
//!
//! # Time, chance and seeds
//!
//! The clock of a world moves only when a test lets it: `pump` runs everything that needs no time,
//! `advance` lets time pass, `run_until_idle` jumps from one timer or arrival to the next. A timer of ten
//! minutes costs as much as its callback, and fires at exactly its time. A protocol should ask
//! [`Handle::now`](tidegate::Handle::now) for the time, not the system.
//!
//! Everything that is left to chance (the order of events at one moment, jitter, faults) follows from the
//! [seed](WorldBuilder::seed). The same seed, on the same build, is the same run, with the same
//! [`Trace::digest`]. That holds as long as the code under test has no chance of its own, such as the
//! order of a `HashMap`, threads, or real time.
//!
//! # Failures that read well
//!
//! [`Violation`] is the error of a check, [`Mismatch`] that of a script. Both name the expected and the
//! seen result and show the dialogue before it, in their `Debug` too: `unwrap` them. A `Log` whose
//! callbacks came out of order panics when it is dropped, or when its world is. In a `Pair` and a
//! `Script` a panic of a protocol fails the test.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `signal` | off | `Network::raise`: signals of simulated hosts; `signal` of `tidegate`, which brings signal-hook |
#![warn(clippy::missing_errors_doc)]

mod check;
mod clock;
pub mod conformance;
mod datagram_check;
mod datagram_peers;
mod datagram_recorder;
mod dialogue;
mod difference;
mod faults;
mod fuzz;
mod grammar;
mod layer_check;
mod log;
mod network;
mod pair;
mod program;
mod recorder;
mod script;
mod scripted_peer;
mod shrink;
mod single_connection;
mod trace;
mod unreported_violations;
mod watched;
mod world;

pub use check::{
    Case, Conversation, ParseCaseError, Report, Rule, Variation, Violation, check_case,
    check_handler, check_handler_case, check_protocol,
};
pub use clock::Clock;
pub use datagram_check::{
    DatagramCase, DatagramConversation, DatagramReport, DatagramRule, DatagramViolation,
    ParseDatagramCaseError, check_datagram_case, check_datagram_protocol,
};
pub use datagram_recorder::DatagramRecorder;
pub use dialogue::Dialogue;
pub use faults::{Fault, FaultCounts, Faults};
pub use fuzz::fuzz;
pub use layer_check::{
    LayerCalls, LayerCase, LayerCheck, LayerReport, LayerRule, LayerVariation, LayerViolation,
    ParseLayerCaseError, Side, check_layer,
};
pub use log::{Log, Seen};
pub use network::{DatagramPeer, Host, InstalledProgram, Link, Network, Peer, PeerListener};
pub use pair::{Pair, pair};
pub use program::Program;
pub use recorder::Recorder;
pub use script::{DatagramScript, Mismatch, Played, Script};
pub use trace::Trace;
pub use watched::Watched;
pub use world::{StepLimitExceeded, World, WorldBuilder};
