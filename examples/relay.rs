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

use std::process::ExitCode;
use std::time::Duration;
use tidegate::{ConnectOptions, EventLoop, Handle, Relay, RelayReport, Result};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};

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
    let args = Args::from_env(&[LISTEN, ("to", LISTEN.1)])?;
    let listen = args.listen("127.0.0.1:8889");
    let to = args.required("to")?;
    ConnectOptions::new(to).validate()?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let to = to.to_owned();
    let relay = move || Relay::to(to.as_str()).on_end(ended);
    let server = event_loop.handle().create_server(listen, relay)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
