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
use std::io::{self, Write};
use std::pin::Pin;
use std::process::ExitCode;
use tidegate::Result;
use tidegate_streams::{Connection, StreamReader, StreamWriter, block_on, start_server};

const USAGE: &str = "usage: websocket [--listen 127.0.0.1:8765 | --listen unix:/path]";

/// Text and binary messages come back; pings are answered, and the close handshake is done, by
/// tungstenite. It reads on when `send` has brought its message into the kernel, so a client that
/// does not read is not read from.
async fn echo(reader: StreamReader, writer: StreamWriter) -> Result {
    let mut socket = accept_async(Connection::new(reader, writer)).await?;
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

    let mut listen = "127.0.0.1:8765".to_owned();
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
        eprintln!("websocket: {error}; {USAGE}");
        return ExitCode::from(2);
    }
    eprintln!("websocket: {error}");
    ExitCode::FAILURE
}
