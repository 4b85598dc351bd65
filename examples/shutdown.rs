//! An echo server that ends in order: SIGINT (Ctrl-C) or SIGTERM stops it from listening and closes
//! its connections, each when its last byte is sent. Connections that are left when the grace is over
//! are cut, and all at a second signal.
//!
//! Run:
//!
//!     cargo run --example shutdown -- --listen 127.0.0.1:8888 --grace 5
//!
//! Expect `listening on 127.0.0.1:8888`; connect with `nc 127.0.0.1 8888` and press Ctrl-C here:
//! `shutting down within 5 s`, then `1 closed, 0 cut, 0 bytes unsent`. A connection whose peer goes
//! on sending after our close lingers for a second at most, so that its last bytes are not lost.
//!
//! The exit code is 0 when nothing was cut, 3 when something was, 1 after an error, 2 when the
//! arguments are wrong.
//!
//! `wait_signal` takes both signals when it is called, and gives them back when one has come. Waited
//! for once more, the second one stops the loop. A third one has its default action: it kills.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use tidegate::{EventLoop, Protocol, Result, Signal, Transport};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses, say};

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// The exit code of a program that had to cut connections.
const CUT: u8 = 3;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

fn run() -> Result<ExitCode> {
    let args = Args::from_env(&[LISTEN, ("grace", "SECONDS")])?;
    let grace = Duration::from_secs_f64(args.number("grace", 0.0..=1e9, 5.0)?);
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let handle = event_loop.handle().clone();
    // Before the address is printed: from now on a signal does not kill us.
    let signal = handle.wait_signal(&SIGNALS);
    let server = handle.create_server(args.listen("127.0.0.1:8888"), || Echo)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_until(signal)?;

    handle.wait_signal(&SIGNALS).then(|handle, second| {
        // It fails when no descriptor is left, which is no reason to cut the grace short.
        if second.is_ok() {
            handle.stop();
        }
    });
    say!("shutting down within {} s", grace.as_secs_f64());
    io::stdout().flush()?;
    let report = event_loop.run_until(server.shutdown(grace));
    // An error: stopped by the second signal. The shortest grace holds.
    let report = report.or_else(|_| event_loop.run_until(server.shutdown(Duration::ZERO)))?;
    let (closed, aborted) = (report.closed, report.aborted);
    say!(
        "{closed} closed, {aborted} cut, {} bytes unsent",
        report.unsent
    );
    Ok(ExitCode::from(if aborted > 0 { CUT } else { 0 }))
}

fn main() -> ExitCode {
    exit_code(run)
}
