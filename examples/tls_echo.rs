//! An echo server over TLS: the protocol of `echo_server`, and one more line of options.
//!
//! Make a certificate, and run:
//!
//!     openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
//!         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
//!         -keyout key.pem -out cert.pem
//!     cargo run --example tls_echo -- --listen 127.0.0.1:8443 --cert cert.pem --key key.pem
//!
//! Expect `listening on 127.0.0.1:8443`; then
//!
//!     openssl s_client -connect 127.0.0.1:8443 -CAfile cert.pem -verify_return_error -quiet
//!
//! gets back what it sends. With `RUST_LOG=info` it tells what each handshake has negotiated. The files
//! are read once, at the start. Ctrl-C ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate::{EventLoop, ListenOptions, Protocol, Result, Transport};
use tidegate_examples::{Args, CERT, KEY, LISTEN, exit_code, print_addresses};
use tidegate_tls::{prelude::*, server_config_from_pem};

struct Echo;

impl Protocol for Echo {
    /// Called when the handshake is done. A client whose handshake fails has no callbacks at all.
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let peer = transport.peer_addr();
        if let Some(tls) = transport.tls() {
            log::info!("{peer}: {:?} with {:?}", tls.version, tls.cipher_suite);
        }
        Ok(())
    }

    /// Plain bytes, both ways. A peer that does not take its echo is not read from.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, CERT, KEY])?;
    let config = server_config_from_pem(args.required("cert")?, args.required("key")?)?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let options = ListenOptions::new(args.listen("127.0.0.1:8443")).tls(Arc::new(config));
    let server = event_loop.handle().create_server(options, || Echo)?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
