//! A guide to the library, in chapters that begin with a program and end with its pitfalls.
//!
//! The chapters build on each other. The tests compile every program, and run those that end by themselves.
//! To try one, put it into `src/main.rs` of a package with these dependencies; the
//! [first chapter](first_protocol#to-run-it) says more:
//!
//! ```toml
//! [dependencies]
//! tidegate = "0.1"
//! tidegate-framing = "0.1"
//! tidegate-service = "0.1"
//! tidegate-streams = "0.1"
//! tidegate-testkit = "0.1"
//! tidegate-tls = "0.1"
//! rcgen = "0.14"
//! ```
//!
//! | chapter | subject |
//! | --- | --- |
//! | [`first_protocol`] | a package, callbacks, lines, a timeout, errors in the log |
//! | [`flow_control`] | a producer, a pipelining server, watermarks and the cap |
//! | [`endings`] | how connections end, what the peer sees, the end of the loop |
//! | [`servers`] | listening, refusing, a limit of connections, graceful shutdown |
//! | [`connecting`] | clients, names, connecting again |
//! | [`datagrams`] | UDP and Unix datagrams: asking again, errors of one datagram |
//! | [`pipes`] | a program in a shell's pipe, FIFOs, terminals, the standard streams, other descriptors |
//! | [`processes`] | child processes, with the feature `process` |
//! | [`signals`] | Ctrl-C and SIGTERM, with the feature `signal` |
//! | [`framing`] | lines and other messages, with limits |
//! | [`shared_state`] | several connections, blocking work, other threads |
//! | [`threads`] | a loop on each core, mailboxes, connections that move |
//! | [`streams`] | async code on the same loop |
//! | [`tls`] | TLS on any connection, and layers of your own |
//! | [`testing`] | simulated networks, virtual time, faults |
//! | [`operating`] | all timeouts, the table of bounds, logs, numbers |
//! | [`from_asyncio`] | asyncio's protocols, transports and loop beside these |

// A chapter ends with the targets of its links as they are on GitHub. `links.txt`, before it, has those
// of rustdoc: of two definitions of a link, the first counts. `.ci/run links` checks both.

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/first_protocol.md")]
pub mod first_protocol {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/flow_control.md")]
pub mod flow_control {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/endings.md")]
pub mod endings {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/servers.md")]
pub mod servers {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/connecting.md")]
pub mod connecting {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/datagrams.md")]
pub mod datagrams {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/pipes.md")]
pub mod pipes {}

// Without the feature its programs would not compile.
#[cfg_attr(feature = "process", doc = include_str!("../docs/guide/links.txt"))]
#[cfg_attr(feature = "process", doc = include_str!("../docs/guide/process_links.txt"))]
#[cfg_attr(feature = "process", doc = include_str!("../docs/guide/processes.md"))]
#[cfg_attr(
    not(feature = "process"),
    doc = "Child processes, with the feature `process`."
)]
pub mod processes {}

#[cfg_attr(feature = "signal", doc = include_str!("../docs/guide/links.txt"))]
#[cfg_attr(feature = "signal", doc = include_str!("../docs/guide/signal_links.txt"))]
#[cfg_attr(feature = "signal", doc = include_str!("../docs/guide/signals.md"))]
#[cfg_attr(
    not(feature = "signal"),
    doc = "Signals of the process, with the feature `signal`."
)]
pub mod signals {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/framing.md")]
pub mod framing {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/shared_state.md")]
pub mod shared_state {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/threads.md")]
pub mod threads {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/streams.md")]
pub mod streams {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/tls.md")]
pub mod tls {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/guide/links.txt")]
#[doc = include_str!("../docs/guide/from_asyncio.md")]
pub mod from_asyncio {}
