//! `hello` as async code: a server and a client on one loop, then `drain`: 64 MiB for a reader that takes
//! 1 MiB every 20 ms, and the maximum that waited in our memory.
//!
//! Run:
//!
//!     cargo run --example hello_streams
//!
//! Expect the lines of `hello`: the conversation, and within a few seconds the largest write
//! buffer, at most the high-water mark and one write, 128 KiB.

use std::process::ExitCode;
use std::time::Duration;
use tidegate::Result;
use tidegate_examples::{Args, exit_code, say};
use tidegate_streams::{
    StreamReader, StreamWriter, block_on, open_connection, sleep, start_server,
};

const MESSAGE: &str = "Hello World!";
static CHUNK: [u8; 64 << 10] = [b'.'; 64 << 10];
const CHUNKS: usize = 1024;

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result {
    while !reader.at_eof() {
        let data = reader.read_chunk(64 * 1024).await?;
        writer.write(&data)?;
        writer.drain().await?;
    }
    Ok(())
}

/// `write` takes everything at once; `drain` waits while that is more than enough.
async fn source(_: StreamReader, writer: StreamWriter) -> Result {
    let mut largest = 0;
    for _ in 0..CHUNKS {
        writer.write(&CHUNK)?;
        largest = largest.max(writer.transport().write_buffer_size() >> 10);
        writer.drain().await?;
    }
    let transport = writer.transport().clone();
    writer.close().await?;
    let (sent, closed) = (transport.sent() >> 20, transport.wait_closed().await?);
    say!("{sent} MiB to a slow reader, largest write buffer {largest} KiB ({closed})");
    Ok(())
}

async fn hello() -> Result {
    let server = start_server("127.0.0.1:0", echo)?;
    let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
    say!("Send: '{MESSAGE}'");
    writer.write(MESSAGE.as_bytes())?;
    let mut answer = [0; MESSAGE.len()];
    reader.read_exact(&mut answer).await?;
    say!("Received: '{}'", String::from_utf8_lossy(&answer));
    say!("Close the connection");
    writer.close().await?;
    Ok(())
}

async fn slow_reader() -> Result {
    let server = start_server("127.0.0.1:0", source)?;
    let (mut reader, _writer) = open_connection(&server.local_addrs()[0]).await?;
    let mut mebibyte = vec![0; 1 << 20];
    while !reader.at_eof() {
        reader.read_exact(&mut mebibyte).await?;
        sleep(Duration::from_millis(20)).await;
    }
    // Its handler has a last word.
    server.shutdown(Duration::from_secs(1)).await?;
    Ok(())
}

async fn run() -> Result {
    Args::from_env(&[])?;
    hello().await?;
    slow_reader().await
}

fn main() -> ExitCode {
    exit_code(|| block_on(run())?)
}
