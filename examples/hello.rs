//! A server and a client on one loop, then backpressure: 64 MiB for a reader that takes 1 MiB every
//! 20 ms, and the maximum that waited in our memory.
//!
//! Run:
//!
//!     cargo run --example hello
//!
//! Expect the conversation of `echo_client`, and within a few seconds a line with the largest
//! write buffer: at most the high-water mark and one write, 128 KiB.

use std::process::ExitCode;
use std::time::Duration;
use tidegate::{Closed, EventLoop, Protocol, Result, Transport};
use tidegate_examples::{Args, exit_code, say};

const MESSAGE: &str = "Hello World!";
static CHUNK: [u8; 64 << 10] = [b'.'; 64 << 10];
const CHUNKS: usize = 1024;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

struct Hello;

impl Protocol for Hello {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        say!("Send: '{MESSAGE}'");
        transport.write(MESSAGE.as_bytes())?;
        Ok(())
    }

    /// These few bytes come in one piece here; `echo_client` does not rely on it.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        say!("Received: '{}'", String::from_utf8_lossy(data));
        say!("Close the connection");
        transport.close();
        Ok(())
    }
}

/// Writes until it is paused, and goes on when it is resumed.
struct Source {
    chunks: usize,
    largest: usize,
}

impl Protocol for Source {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.resume_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        while self.chunks > 0 && !transport.flow().is_paused() {
            transport.write(&CHUNK)?;
            self.chunks -= 1;
            self.largest = self.largest.max(transport.write_buffer_size());
        }
        if self.chunks == 0 {
            transport.close();
        }
        Ok(())
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let (sent, largest) = (transport.sent() >> 20, self.largest >> 10);
        say!("{sent} MiB to a slow reader, largest write buffer {largest} KiB ({closed})");
    }
}

/// Stops reading for 20 ms after each MiB.
struct SlowReader(usize);

impl Protocol for SlowReader {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.0 += data.len();
        if self.0 >= 1 << 20 {
            self.0 -= 1 << 20;
            transport.pause_reading();
            transport.call_later(Duration::from_millis(20), |_: &mut Self, transport| {
                transport.resume_reading();
                Ok(())
            });
        }
        Ok(())
    }
}

fn run() -> Result {
    Args::from_env(&[])?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let handle = event_loop.handle().clone();
    let server = handle.create_server("127.0.0.1:0", || Echo)?;
    let connecting = handle.create_connection(&server.local_addrs()[0], Hello);
    let client = event_loop.run_until(connecting)?;
    event_loop.run_until(client.wait_closed())?;

    let source = || Source {
        chunks: CHUNKS,
        largest: 0,
    };
    let server = handle.create_server("127.0.0.1:0", source)?;
    let connecting = handle.create_connection(&server.local_addrs()[0], SlowReader(0));
    let reader = event_loop.run_until(connecting)?;
    event_loop.run_until(reader.wait_closed())?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
