//! A WebSocket echo server: async-tungstenite on our streams, by the traits of futures-io.
//!
//! Run:
//!
//!     cargo run --example websocket -- --listen 127.0.0.1:8765
//!
//! Expect `listening on 127.0.0.1:8765`; then, with Python's websockets,
//! `python3 -m websockets ws://127.0.0.1:8765`: each line comes back. Ctrl-C ends it.

use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, accept_async};
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::ExitCode;
use tidegate::Result;
use tidegate_examples::{exit_code, listen_from_args, print_addresses};
use tidegate_streams::{Connection, StreamReader, StreamWriter, block_on, start_server};

/// Sends text and binary messages back; tungstenite replies to pings, and does the close handshake. It
/// reads on when `send` has brought its message into the kernel, so a client that does not read is not
/// read.
async fn echo(reader: StreamReader, writer: StreamWriter) -> Result {
    let peer = writer.transport().peer_addr().clone();
    let mut socket = match accept_async(Connection::new(reader, writer)).await {
        Ok(socket) => socket,
        // A port scan, or another protocol: no fault of the server's.
        Err(error) => {
            log::info!("{peer}: no WebSocket handshake: {error}");
            return Ok(());
        }
    };
    loop {
        match next(&mut socket).await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                socket.send(message).await?;
            }
            Some(Ok(_)) => {}
            None | Some(Err(Error::ConnectionClosed)) => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

async fn next(
    socket: &mut WebSocketStream<Connection>,
) -> Option<std::result::Result<Message, Error>> {
    poll_fn(|context| Pin::new(&mut *socket).poll_next(context)).await
}

async fn run() -> Result {
    let server = start_server(listen_from_args("127.0.0.1:8765")?, echo)?;
    print_addresses(server.local_addrs())?;
    server.wait_closed().await?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(|| block_on(run())?)
}
