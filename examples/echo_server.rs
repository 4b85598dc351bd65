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

use std::process::ExitCode;
use std::time::Duration;
use tidegate::{EventLoop, Protocol, Result, Transport};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};

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
    let args = Args::from_env(&[LISTEN, ("mode", "protocol|buffered")])?;
    let buffered = match args.get("mode") {
        Some("buffered") => true,
        Some("protocol") | None => false,
        Some(other) => {
            return Err(lexopt::Error::from(format!("there is no mode {other:?}")).into());
        }
    };
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
    let server = event_loop
        .handle()
        .create_server(args.listen("127.0.0.1:8888"), factory)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
