//! A TCP proxy with one thread: ties each connection to one that it opens to the same back.
//!
//! ```sh
//! serve_relay tidegate|tokio --to IP:PORT [--splice-from BYTES] [--listen 127.0.0.1:7000]
//! ```
//!
//! `tidegate` is a `Relay`, and `--splice-from` its option: 0 splices all, and `never` nothing. `tokio` is
//! `copy_bidirectional` with its default buffers.

use pico_args::Arguments;
use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use tidegate::{Address, EventLoop, Relay};
use tidegate_bench::program::{self, Result, named};
use tidegate_bench::service::announce;
use tidegate_bench::{tokio_server, usage};
use tokio::net::TcpStream;

const USAGE: &str = "\
usage: serve_relay tidegate|tokio --to IP:PORT [--splice-from BYTES|never] [--listen IP:PORT]";

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Proxy {
    Tidegate,
    Tokio,
}

struct Options {
    proxy: Proxy,
    to: SocketAddr,
    splice_from: Option<usize>,
    listen: SocketAddr,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, run)
}

fn parse(words: &mut Arguments) -> Result<Options> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Options {
        to: words.value_from_str("--to")?,
        splice_from: words.opt_value_from_fn("--splice-from", bytes)?,
        listen: words.opt_value_from_str("--listen")?.unwrap_or(any),
        proxy: words.free_from_fn(named)?,
    })
}

fn bytes(text: &str) -> Result<usize> {
    match text {
        "never" => Ok(usize::MAX),
        number => Ok(number.parse()?),
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    usage::raise_descriptor_limit();
    match options.proxy {
        Proxy::Tidegate => relay(options)?,
        Proxy::Tokio => tokio_server::run(copy(options))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn relay(options: &Options) -> tidegate::Result {
    let mut event_loop = EventLoop::new()?;
    let (to, splice_from) = (options.to, options.splice_from);
    let relay = move || {
        let relay = Relay::to(to);
        match splice_from {
            Some(bytes) => relay.splice_from(bytes),
            None => relay,
        }
    };
    let server = event_loop.handle().create_server(options.listen, relay)?;
    if let Some(Address::Inet(address)) = server.local_addrs().first() {
        announce(*address);
    }
    // Nothing stops this loop: an error is its only end.
    loop {
        event_loop.run_forever()?;
    }
}

async fn copy(options: &Options) -> io::Result<()> {
    let to = options.to;
    tokio_server::accept(options.listen, async move |mut front| {
        let mut back = TcpStream::connect(to).await?;
        back.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut front, &mut back).await
    })
    .await
}
