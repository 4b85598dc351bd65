//! The `tcp_echo_client` of asyncio's documentation, as a callback protocol.
//!
//! Run, with `cargo run --example echo_server` in another terminal:
//!
//!     cargo run --example echo_client -- --connect 127.0.0.1:8888
//!
//! Expect `Send: 'Hello World!'`, `Received: 'Hello World!'` and `Close the connection`. Without a
//! server: one line that says so, and exit code 1.

use std::process::ExitCode;
use std::time::Duration;
use tidegate::{CloseReason, EventLoop, Protocol, Result, Transport};
use tidegate_examples::{Args, LISTEN, exit_code, say};

const MESSAGE: &str = "Hello World!";

#[derive(Default)]
struct EchoClient {
    received: Vec<u8>,
}

impl Protocol for EchoClient {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        say!("Send: '{MESSAGE}'");
        transport.write(MESSAGE.as_bytes())?;
        Ok(())
    }

    /// The reply may come in pieces.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.received.extend_from_slice(data);
        if self.received.len() >= MESSAGE.len() {
            say!("Received: '{}'", String::from_utf8_lossy(&self.received));
            say!("Close the connection");
            transport.close();
        }
        Ok(())
    }
}

fn run() -> Result {
    let args = Args::from_env(&[("connect", LISTEN.1)])?;
    let address = args.get("connect").unwrap_or("127.0.0.1:8888");
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let handle = event_loop.handle().clone();
    let connecting = handle.create_connection(address, EchoClient::default());
    let transport = event_loop.run_until(connecting)?;
    let closed = event_loop.run_until(transport.wait_closed())?;
    // We close when the reply is there, and only then.
    match closed.reason() {
        CloseReason::LocalClose => Ok(()),
        _ => Err(format!("no reply: {closed}").into()),
    }
}

fn main() -> ExitCode {
    exit_code(run)
}
