//! A server of lines: it replies to each line with its number and its length.
//!
//! Run, and speak with it:
//!
//!     cargo run --example lines -- --listen 127.0.0.1:8888
//!     printf 'one\nthree' | nc -N 127.0.0.1 8888
//!
//! Expect `1: 3 bytes` and `2: 5 bytes`: the last line needs no end. A line above 1,000 bytes ends the
//! connection, and so does one that takes longer than ten seconds.

use std::process::ExitCode;
use std::time::Duration;
use tidegate::{EventLoop, Result};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_framing::{Lines, framed};

fn run() -> Result {
    let args = Args::from_env(&[LISTEN])?;
    let mut event_loop = EventLoop::new()?;
    let at = args.listen("127.0.0.1:8888");
    let server = event_loop.handle().create_server(at, || {
        let mut number = 0;
        framed(Lines::new().max(1000), move |transport, line| {
            number += 1;
            writeln!(transport, "{number}: {} bytes", line.len())?;
            Ok(())
        })
        .frame_timeout(Duration::from_secs(10))
    })?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
