//! A proxy: every connection that it accepts is tied to one of its own, to another address. Both
//! may be TCP or a Unix socket.
//!
//! Run, with the example `echo_server` for the other end:
//!
//!     cargo run --example relay -- --listen 127.0.0.1:8889 --to 127.0.0.1:8888
//!
//! Expect `listening on 127.0.0.1:8889`; then talk through it, with `cargo run --example
//! echo_client` or `nc 127.0.0.1 8889`. With `RUST_LOG=info` it tells of each connection's end.
//! Ctrl-C ends it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use tidegate::{EventLoop, Handle, Relay, RelayReport, Result};

const USAGE: &str = "usage: relay --to ADDRESS [--listen 127.0.0.1:8889], \
                     an address is 127.0.0.1:8888 or unix:/path";

fn ended(_: &Handle, report: &RelayReport) {
    let (up, down) = (report.to_back.sent, report.to_front.sent);
    match &report.back {
        Err(error) => log::warn!("{error}"),
        Ok(_) if report.is_clean() => log::info!("{up} bytes to the back, {down} to the front"),
        Ok(back) => {
            let lost = report.to_back.lost + report.to_front.lost;
            let front = &report.front;
            log::info!("{lost} bytes lost; front: {front}; back: {back}");
        }
    }
}

fn run() -> Result {
    let (listen, to) = arguments()?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let relay = move || Relay::to(to.as_str()).on_end(ended);
    let server = event_loop.handle().create_server(listen, relay)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    io::stdout().flush()?;
    event_loop.run_forever()?;
    Ok(())
}

/// Where to listen, and where to connect to.
fn arguments() -> std::result::Result<(String, String), lexopt::Error> {
    use lexopt::prelude::*;

    let mut listen = "127.0.0.1:8889".to_owned();
    let mut to = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = parser.value()?.string()?,
            Long("to") => to = Some(parser.value()?.string()?),
            Short('h') | Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    let to = to.ok_or("--to is missing")?;
    Ok((listen, to))
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
        eprintln!("relay: {error}; {USAGE}");
        return ExitCode::from(2);
    }
    eprintln!("relay: {error}");
    ExitCode::FAILURE
}
