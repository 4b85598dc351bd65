//! The services on tidegate, in each of the ways to write them.
//!
//! ```sh
//! serve echo --api protocol|buffered|streams [--write copy|owned] --listen 127.0.0.1:7000
//! ```
//!
//! They are written as a user would who has read the documentation's first page: no options, and
//! where there are many small answers, a write for each.

mod buffered;
mod protocol;
mod streams;

use lexopt::ValueExt;
use std::process::ExitCode;
use tidegate::{Address, EventLoop};
use tidegate_bench::service::{ServerArguments, announce};
use tidegate_bench::usage;

/// Which of the interfaces is used.
#[derive(Debug, Clone, Copy)]
enum Api {
    Protocol,
    Buffered,
    Streams,
}

/// Which write a source uses.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Writes {
    /// `write`, which copies what must wait.
    Copy,
    /// `write_owned`, which keeps it.
    Owned,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> tidegate::Result {
    let mut api = Api::Protocol;
    let mut writes = Writes::Copy;
    let arguments = ServerArguments::parse(std::env::args_os(), |name, parser| {
        match name {
            "api" => {
                api = parser.value()?.parse_with(|name| match name {
                    "protocol" => Ok(Api::Protocol),
                    "buffered" => Ok(Api::Buffered),
                    "streams" => Ok(Api::Streams),
                    _ => Err("protocol, buffered or streams expected"),
                })?;
            }
            "write" => {
                writes = parser.value()?.parse_with(|name| match name {
                    "copy" => Ok(Writes::Copy),
                    "owned" => Ok(Writes::Owned),
                    _ => Err("copy or owned expected"),
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    usage::raise_descriptor_limit();
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let (service, listen) = (arguments.service, arguments.listen);
    let addresses = match api {
        Api::Protocol => protocol::listen(&handle, service, writes, listen)?,
        Api::Buffered => buffered::listen(&handle, service, writes, listen)?,
        Api::Streams => streams::listen(&handle, service, writes, listen)?,
    };
    if let Some(Address::Inet(address)) = addresses.first() {
        announce(*address);
    }
    event_loop.run_forever()?;
    Ok(())
}
