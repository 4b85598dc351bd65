//! An echo server, on TCP or a Unix socket, with either way to receive: `data_received` is lent
//! the loop's read buffer, `get_buffer` has the bytes read into a buffer of its own.
//!
//! Run:
//!
//!     cargo run --example echo_server -- --listen 127.0.0.1:8888
//!
//! Expect `listening on 127.0.0.1:8888`; then talk to it with `cargo run --example echo_client` or
//! `nc 127.0.0.1 8888`. Ctrl-C ends it; a Unix socket file that this leaves behind is replaced by
//! the next start.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use tidegate::{EventLoop, Protocol, Result, Transport};

const USAGE: &str = "usage: echo_server [--listen 127.0.0.1:8888 | --listen unix:/path] \
                     [--mode protocol | --mode buffered]";

/// Bounded without a line of code: a peer that does not take its echo is not read from.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

struct BufferedEcho {
    buffer: Box<[u8]>,
}

impl Protocol for BufferedEcho {
    fn get_buffer(&mut self, _: &Transport, _size_hint: usize) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        transport.write(&self.buffer[..len])?;
        Ok(())
    }
}

fn run() -> Result {
    let (listen, buffered) = arguments()?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let factory = move || -> Box<dyn Protocol> {
        if buffered {
            let buffer = vec![0; 64 * 1024].into();
            Box::new(BufferedEcho { buffer })
        } else {
            Box::new(Echo)
        }
    };
    let server = event_loop.handle().create_server(listen, factory)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    io::stdout().flush()?;
    event_loop.run_forever()?;
    Ok(())
}

/// Where to listen, and whether in buffered mode.
fn arguments() -> std::result::Result<(String, bool), lexopt::Error> {
    use lexopt::prelude::*;

    let mut listen = "127.0.0.1:8888".to_owned();
    let mut buffered = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = parser.value()?.string()?,
            Long("mode") => {
                buffered = match parser.value()?.string()?.as_str() {
                    "buffered" => true,
                    "protocol" => false,
                    other => return Err(format!("there is no mode {other:?}").into()),
                }
            }
            Short('h') | Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((listen, buffered))
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    let asked_wrongly = error.is::<lexopt::Error>()
        || error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput);
    if asked_wrongly {
        eprintln!("echo_server: {error}; {USAGE}");
        return ExitCode::from(2);
    }
    eprintln!("echo_server: {error}");
    ExitCode::FAILURE
}
