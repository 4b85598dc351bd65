//! The echo server of `echo_server` as async code: a task for each connection.
//!
//! Run:
//!
//!     cargo run --example echo_streams -- --listen 127.0.0.1:8888
//!
//! Expect `listening on 127.0.0.1:8888`; then talk to it with `cargo run --example echo_client` or
//! `nc 127.0.0.1 8888`. Ctrl-C ends it.

use std::process::ExitCode;
use tidegate::Result;
use tidegate_examples::{exit_code, listen_from_args, print_addresses};
use tidegate_streams::{StreamReader, StreamWriter, block_on, start_server};

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
    let server = start_server(listen_from_args("127.0.0.1:8888")?, echo)?;
    print_addresses(server.local_addrs())?;
    server.wait_closed().await?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(|| block_on(run())?)
}
