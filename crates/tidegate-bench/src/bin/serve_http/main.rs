//! The page of the example `http`, from three servers, each with one thread.
//!
//! ```sh
//! serve_http tidegate|tokio|hyper [--pipeline-flush] [--listen 127.0.0.1:7000]
//! ```
//!
//! `tidegate` is the example itself, all of its files but the command line. `tokio` reads and writes by
//! hand, with the example's parser and its replies. `hyper` is hyper on tokio, as its documentation has
//! it; with `--pipeline-flush` it sends the replies to requests that came together in one write.

mod by_hand;
mod by_hyper;
#[path = "../../../../../examples/http/codec.rs"]
mod codec;
#[path = "../../../../../examples/http/connection.rs"]
mod connection;
#[path = "../../../../../examples/http/head.rs"]
mod head;
mod ours;
#[path = "../../../../../examples/http/reply.rs"]
mod reply;
#[path = "../../../../../examples/http/site.rs"]
mod site;

use pico_args::Arguments;
use serde::Deserialize;
use std::net::SocketAddr;
use std::process::ExitCode;
use tidegate_bench::program::{self, Result, named};
use tidegate_bench::{tokio_server, usage};

const USAGE: &str = "\
usage: serve_http tidegate|tokio|hyper [--pipeline-flush] [--listen IP:PORT]";

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Server {
    Tidegate,
    Tokio,
    Hyper,
}

struct Options {
    server: Server,
    pipeline_flush: bool,
    listen: SocketAddr,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, run)
}

fn parse(words: &mut Arguments) -> Result<Options> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Options {
        pipeline_flush: words.contains("--pipeline-flush"),
        listen: words.opt_value_from_str("--listen")?.unwrap_or(any),
        server: words.free_from_fn(named)?,
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    usage::raise_descriptor_limit();
    match options.server {
        Server::Tidegate => ours::run(options.listen)?,
        Server::Tokio => tokio_server::run(by_hand::run(options.listen))?,
        Server::Hyper => tokio_server::run(by_hyper::run(options.listen, options.pipeline_flush))?,
    }
    Ok(ExitCode::SUCCESS)
}
