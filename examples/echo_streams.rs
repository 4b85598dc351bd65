//! The echo server of `echo_server` as async code: a task for each connection.
//!
//! Run:
//!
//!     cargo run --example echo_streams -- --listen 127.0.0.1:8888
//!
//! Expect `listening on 127.0.0.1:8888`; then talk to it with `cargo run --example echo_client` or
//! `nc 127.0.0.1 8888`. Ctrl-C ends it.

use std::io::{self, Write};
use std::process::ExitCode;
use tidegate::Result;
use tidegate_streams::{StreamReader, StreamWriter, block_on, start_server};

const USAGE: &str = "usage: echo_streams [--listen 127.0.0.1:8888 | --listen unix:/path]";

/// Reads no further while more than enough waits to be sent: `drain` bounds what a peer that does
/// not read can cost.
async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result {
    while !reader.at_eof() {
        let data = reader.read_chunk(64 * 1024).await?;
        writer.write(&data)?;
        writer.drain().await?;
    }
    Ok(())
}

async fn run() -> Result {
    let server = start_server(listen()?, echo)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    io::stdout().flush()?;
    server.wait_closed().await?;
    Ok(())
}

fn listen() -> std::result::Result<String, lexopt::Error> {
    use lexopt::prelude::*;

    let mut listen = "127.0.0.1:8888".to_owned();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = parser.value()?.string()?,
            Short('h') | Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(listen)
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let Err(error) = block_on(run())
        .map_err(Into::into)
        .and_then(|result| result)
    else {
        return ExitCode::SUCCESS;
    };
    let asked_wrongly = error.is::<lexopt::Error>()
        || error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput);
    if asked_wrongly {
        eprintln!("echo_streams: {error}; {USAGE}");
        return ExitCode::from(2);
    }
    eprintln!("echo_streams: {error}");
    ExitCode::FAILURE
}
