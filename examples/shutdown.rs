//! An echo server that ends in order: SIGINT (Ctrl-C) or SIGTERM stops it from listening and closes
//! its connections, each when its last byte is sent. What is not sent when the grace is over is
//! cut, and so is everything at a second signal.
//!
//! Run:
//!
//!     cargo run --example shutdown -- --listen 127.0.0.1:8888 --grace 5
//!
//! Expect `listening on 127.0.0.1:8888`; connect with `nc 127.0.0.1 8888` and press Ctrl-C here:
//! `shutting down within 5 s`, then `1 closed, 0 cut, 0 bytes unsent`. A connection whose peer goes
//! on sending after we closed it is listened to for a second more at most, so that its last bytes
//! are not lost.
//!
//! The exit code is 0 when nothing was cut, 3 when something was, 1 after an error, 2 when the
//! arguments are wrong.
//!
//! The signals are taken by a thread, with the crate `signal-hook`, which does what a signal
//! handler may: it writes into a pipe that the thread reads. The thread stops the loop through a
//! `RemoteHandle`; the server is then shut down here, on the loop's thread.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use tidegate::{EventLoop, Protocol, Result, ShutdownReport, Transport};

const USAGE: &str =
    "usage: shutdown [--listen 127.0.0.1:8888 | --listen unix:/path] [--grace SECONDS]";

/// Of a program that had to cut connections.
const CUT: u8 = 3;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

fn run() -> Result<ShutdownReport> {
    let (listen, grace) = arguments()?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    // Before anybody is told that we listen: from now on a signal does not kill us.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let remote = event_loop.handle().remote();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().for_each(|_| remote.stop()))?;
    let server = event_loop.handle().create_server(listen, || Echo)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    io::stdout().flush()?;
    event_loop.run_forever()?;

    println!("shutting down within {} s", grace.as_secs_f64());
    io::stdout().flush()?;
    let report = event_loop.run_until(server.shutdown(grace));
    report.or_else(|_| {
        // Stopped again: the shortest grace holds.
        Ok(event_loop.run_until(server.shutdown(Duration::ZERO))?)
    })
}

/// Where to listen, and the grace.
fn arguments() -> std::result::Result<(String, Duration), lexopt::Error> {
    use lexopt::prelude::*;

    let mut listen = "127.0.0.1:8888".to_owned();
    let mut grace = Duration::from_secs(5);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = parser.value()?.string()?,
            Long("grace") => {
                grace = parser.value()?.parse_with(|text| {
                    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
                    Duration::try_from_secs_f64(seconds).map_err(|_| "not a time")
                })?;
            }
            Short('h') | Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((listen, grace))
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let error = match run() {
        Ok(report) => {
            let ShutdownReport {
                closed,
                aborted,
                unsent,
                ..
            } = report;
            println!("{closed} closed, {aborted} cut, {unsent} bytes unsent");
            return ExitCode::from(if aborted > 0 { CUT } else { 0 });
        }
        Err(error) => error,
    };
    let asked_wrongly = error.is::<lexopt::Error>()
        || error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput);
    if asked_wrongly {
        eprintln!("shutdown: {error}; {USAGE}");
        return ExitCode::from(2);
    }
    eprintln!("shutdown: {error}");
    ExitCode::FAILURE
}
