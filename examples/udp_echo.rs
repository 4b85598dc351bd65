//! An echo server of datagrams, written twice: as a protocol, and as async code.
//!
//! Run, and speak with it:
//!
//!     cargo run --example udp_echo -- --listen 127.0.0.1:8888 --as protocol
//!     cargo run --example udp_echo -- --listen 127.0.0.1:8888 --as task
//!     echo hello | nc -u -W 1 127.0.0.1 8888
//!
//! Expect `hello`. Many datagrams of one sender are replied to with one system call: `strace -c -f` shows
//! fewer `sendto` and `sendmsg` than `recvfrom`.

use std::process::ExitCode;
use tidegate::{Address, DatagramError, DatagramProtocol, DatagramTransport, EventLoop, Result};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_streams::{DatagramSocket, block_on};

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        // While the kernel takes nothing the endpoint does not receive: the queue is bounded.
        transport.send_to(data, from)?;
        Ok(())
    }

    fn error_received(&mut self, _: &DatagramTransport, error: &DatagramError) -> Result {
        log::info!("{error}");
        Ok(())
    }
}

fn as_protocol(at: String) -> Result {
    let mut event_loop = EventLoop::new()?;
    let endpoint = event_loop.handle().create_datagram_endpoint(at, Echo)?;
    print_addresses(std::slice::from_ref(endpoint.local_addr()))?;
    event_loop.run_forever()?;
    Ok(())
}

async fn as_task(at: String) -> Result {
    let socket = DatagramSocket::bind(at)?;
    print_addresses(std::slice::from_ref(socket.local_addr()))?;
    loop {
        let (data, from) = socket.recv_from().await?;
        socket.drain().await?;
        // One peer that cannot be replied to, such as an unnamed Unix socket, ends nothing.
        if let Err(error) = socket.send_to(&data, &from) {
            log::info!("{error}");
        }
    }
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("as", "protocol|task")])?;
    let at = args.listen("127.0.0.1:8888");
    match args.get("as") {
        None | Some("protocol") => as_protocol(at),
        Some("task") => block_on(as_task(at))?,
        Some(other) => Err(lexopt::Error::from(format!("--as {other}: protocol or task")).into()),
    }
}

fn main() -> ExitCode {
    exit_code(run)
}
