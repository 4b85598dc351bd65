//! A layer of twenty lines: it reads the header with which a proxy tells the address of its client
//! (PROXY protocol, version 1), and leaves. From then on bytes cost nothing more than without a layer,
//! and the protocol asks the layer for the address. TLS may stand above it: the header comes before
//! the handshake.
//!
//! Run:
//!
//!     cargo run --example proxy_header -- --listen 127.0.0.1:8888
//!
//! Expect `listening on 127.0.0.1:8888`; then
//!
//!     printf 'PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nping\n' | nc -N 127.0.0.1 8888
//!
//! prints `hello, 192.0.2.1:56324` and `ping`. With `--cert FILE --key FILE` (see `tls_echo`) the rest
//! is TLS. Only a proxy may reach such a server: a client that reaches it can tell any address. Ctrl-C
//! ends it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate::{EventLoop, Layer, LayerIo, ListenOptions, Protocol, Result, Transport};
use tidegate_examples::{Args, CERT, KEY, LISTEN, exit_code, print_addresses};
use tidegate_tls::{prelude::*, server_config_from_pem};

/// The maximum length of a header with its line break, in bytes (section 2.1 of its specification,
/// <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
const MAX_HEADER: usize = 107;

#[derive(Default)]
struct ProxyHeader {
    /// `None` when the proxy knows none.
    client: Option<SocketAddr>,
}

impl Layer for ProxyHeader {
    /// Waits: the layer opens, and the connection is made, when the header is there.
    fn start(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    /// Gets all input that was not consumed, each time with more behind it.
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input();
        let Some(end) = input
            .iter()
            .take(MAX_HEADER)
            .position(|&byte| byte == b'\n')
        else {
            return match input.len() < MAX_HEADER && could_begin(input) {
                true => Ok(()),
                false => Err("no PROXY header".into()),
            };
        };
        self.client = client_of(&input[..=end])?;
        io.consume(end + 1);
        io.open();
        io.leave();
        Ok(())
    }

    /// Not called: the layer leaves when it opens.
    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }

    /// A proxy sends the header at once.
    fn open_limit(&self) -> Duration {
        Duration::from_secs(5)
    }
}

fn could_begin(input: &[u8]) -> bool {
    let word = b"PROXY ";
    let len = input.len().min(word.len());
    input[..len] == word[..len]
}

/// Returns the client that a header tells of: `PROXY TCP4 CLIENT SERVER PORT PORT` and a line break.
fn client_of(header: &[u8]) -> Result<Option<SocketAddr>> {
    let line = str::from_utf8(header)?.strip_suffix("\r\n");
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4" | "TCP6", client, _, port, _] => {
            Ok(Some(SocketAddr::new(client.parse()?, port.parse()?)))
        }
        _ => Err("a bad PROXY header".into()),
    }
}

/// Greets its client, then sends back what it gets.
struct Greeter;

impl Protocol for Greeter {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let client = transport.with_layer(|header: &mut ProxyHeader, _| header.client);
        match client.flatten() {
            Some(client) => writeln!(transport, "hello, {client}")?,
            None => writeln!(transport, "hello, client of {}", transport.peer_addr())?,
        };
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, CERT, KEY])?;
    let mut options = ListenOptions::new(args.listen("127.0.0.1:8888")).layer(ProxyHeader::default);
    if args.get("cert").or(args.get("key")).is_some() {
        let config = server_config_from_pem(args.required("cert")?, args.required("key")?)?;
        options = options.tls(Arc::new(config));
    }
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let server = event_loop.handle().create_server(options, || Greeter)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}

/// How a layer is tested: both ends of it in every way in which the bytes between them may come.
#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_testkit::LayerCheck;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

    /// The proxy's end.
    struct Proxy;

    impl Layer for Proxy {
        fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
            io.send(HEADER);
            io.leave();
            Ok(())
        }

        fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
            unreachable!("it has left")
        }

        fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
            unreachable!("it has left")
        }
    }

    #[test]
    fn what_is_behind_the_header_comes_whole_however_the_bytes_come() {
        let check = LayerCheck::new(|| Proxy, ProxyHeader::default);
        // From the header on it is a plain stream, whose end is that of TCP.
        check.cut_is_end().run().unwrap();
    }
}
