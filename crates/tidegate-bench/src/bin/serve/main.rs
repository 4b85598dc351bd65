//! The services on tidegate, in each of the ways to write them.
//!
//! ```sh
//! serve echo --api protocol|buffered|streams|framed|framed-ready|framed-next
//!     [--write copy|owned] [--write-timeout] [--limits] [--tls | --udp [--coalesce]]
//!     --listen 127.0.0.1:7000
//! ```
//!
//! They are written as the first page of the documentation suggests: no options, and a write for
//! each of many small replies. With `--write-timeout` an echo, and the lines, of `--api protocol` set
//! one. With `--limits` the server has the timeouts and the maxima that the guide names. `--udp` is for
//! `echo`, `sink` and `source`, which have one form. With `--coalesce` one read may bring several datagrams.

mod buffered;
mod framed;
mod protocol;
mod streams;
mod udp;

use bytes::Bytes;
use pico_args::Arguments;
use serde::Deserialize;
use std::process::ExitCode;
use std::time::Duration;
use tidegate::{Address, DatagramOptions, EventLoop, ListenOptions, Transport};
use tidegate_bench::program::{self, Result, named};
use tidegate_bench::service::{ServerArguments, announce};
use tidegate_bench::{tls, usage};
use tidegate_tls::ListenTls;

const USAGE: &str = "\
usage: serve echo|lines|sink|source|megabyte
             [--api protocol|buffered|streams|framed|framed-ready|framed-next]
             [--write copy|owned] [--write-timeout] [--limits] [--tls | --udp [--coalesce]]
             [--listen IP:PORT]";

/// The interface that is used.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Api {
    Protocol,
    Buffered,
    Streams,
    Framed,
    /// A reader that lends its frames.
    FramedReady,
    FramedNext,
}

/// The write that a source uses.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Writes {
    /// `write`, which copies what must wait.
    Copy,
    /// `write_owned`, which keeps it.
    Owned,
}

impl Writes {
    fn write(self, transport: &Transport, bytes: &Bytes) -> tidegate::Result {
        match self {
            Self::Copy => transport.write(bytes)?,
            Self::Owned => transport.write_owned(bytes.clone())?,
        };
        Ok(())
    }
}

fn main() -> ExitCode {
    program::main(USAGE, parse, run)
}

/// The options of this server alone.
struct Options {
    api: Api,
    writes: Writes,
    write_timeout: bool,
    limits: bool,
    tls: bool,
    udp: bool,
    coalesce: bool,
}

fn parse(words: &mut Arguments) -> Result<(Options, ServerArguments)> {
    let api = words.opt_value_from_fn("--api", named)?;
    let writes = words.opt_value_from_fn("--write", named)?;
    let options = Options {
        api: api.unwrap_or(Api::Protocol),
        writes: writes.unwrap_or(Writes::Copy),
        write_timeout: words.contains("--write-timeout"),
        limits: words.contains("--limits"),
        tls: words.contains("--tls"),
        udp: words.contains("--udp"),
        coalesce: words.contains("--coalesce"),
    };
    Ok((options, ServerArguments::parse(words)?))
}

fn run((options, arguments): &(Options, ServerArguments)) -> Result<ExitCode> {
    usage::raise_descriptor_limit();
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let service = arguments.service;
    let mut listen = ListenOptions::new(arguments.listen);
    if options.limits {
        // The limits of the guide, and as many connections as descriptors.
        listen = listen
            .idle_timeout(Duration::from_secs(60))
            .write_timeout(Duration::from_secs(30))
            .close_timeout(Duration::from_secs(10))
            .max_connections(1_000_000)
            .max_connections_per_peer(1_000_000);
    }
    if options.tls {
        listen = listen.tls(tls::server_config());
    }
    let datagrams = DatagramOptions::new(arguments.listen).coalesce(options.coalesce);
    let (writes, timed) = (options.writes, options.write_timeout);
    let addresses = match options.api {
        _ if options.udp => udp::bind(&handle, service, datagrams)?,
        Api::Protocol => protocol::listen(&handle, service, writes, timed, listen)?,
        Api::Buffered => buffered::listen(&handle, service, writes, listen)?,
        Api::Streams => streams::listen(&handle, service, writes, listen)?,
        Api::Framed => framed::listen(&handle, service, listen)?,
        Api::FramedReady => streams::listen_framed(&handle, service, true, listen)?,
        Api::FramedNext => streams::listen_framed(&handle, service, false, listen)?,
    };
    if let Some(Address::Inet(address)) = addresses.first() {
        announce(*address);
    }
    // Nothing stops this loop: an error is its only end.
    loop {
        event_loop.run_forever()?;
    }
}
