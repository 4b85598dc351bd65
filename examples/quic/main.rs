//! QUIC: quinn-proto's state machine on an endpoint of datagrams. A server sends 100 MiB to each client.
//!
//! Run in two terminals:
//!
//!     cargo run --release --example quic -- --listen 0.0.0.0:4433 --cert cert.der
//!     cargo run --release --example quic -- --connect 127.0.0.1:4433 --cert cert.der
//!
//! The server makes a certificate for `localhost` when it starts. The file has it for the client to trust. Expect
//! `100 MiB in 0.14 s, 89881 datagrams in 2212 reads`, or similar numbers. With `--offload off` on both sides each
//! datagram is a system call of its own, and the server's address must be one of the machine's.

mod endpoint;

use endpoint::Quic;
use quinn_proto::rustls::RootCertStore;
use quinn_proto::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn_proto::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tidegate::{Completion, DatagramOptions, DatagramTransport, EventLoop, Handle, Result};
use tidegate_examples::{Args, CERT, LISTEN, exit_code, print_addresses, say};

type Cert = CertificateDer<'static>;
type Made<T> = Result<(DatagramTransport, T)>;

/// Sets whether the kernel cuts and joins datagrams, and a size for bursts. The kernel may give less.
fn tuned(at: impl Into<DatagramOptions>, offload: bool) -> DatagramOptions {
    let options = at.into().segmentation(offload).coalesce(offload);
    let options = options.receive_ecn(offload).receive_destination(offload);
    options.receive_buffer(4 << 20)
}

/// Returns the endpoint of a server, and its certificate.
fn serve(handle: &Handle, at: DatagramOptions, len: u64) -> Made<Cert> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let cert = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![cert.clone()], key.into())?;
    let server = Quic::new(Some(Arc::new(config)), len);
    Ok((handle.create_datagram_endpoint(at, server)?, cert))
}

/// Returns the endpoint of a client. The completion has the number of bytes that came.
fn fetch(handle: &Handle, from: SocketAddr, cert: Cert, offload: bool) -> Made<Completion<u64>> {
    let mut roots = RootCertStore::empty();
    roots.add(cert)?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    let (done, completion) = handle.completion();
    let mut client = Quic::new(None, 0);
    let made = (client.endpoint).connect(handle.now(), config, from, "localhost")?;
    client.add(made, Some(done));
    let options = tuned(DatagramOptions::connected(from), offload);
    let client = handle.create_datagram_endpoint(options, client)?;
    Ok((client, completion))
}

fn run() -> Result {
    let (connect, mib) = (("connect", "ADDRESS"), ("mib", "100"));
    let args = Args::from_env(&[LISTEN, connect, CERT, mib, ("offload", "on|off")])?;
    let offload = args.choice("offload", &["on", "off"])? == "on";
    let mib = args.number("mib", 0..=1 << 20, 100)?;
    let file = args.required("cert")?;
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let Some(server) = args.get("connect") else {
        let at = tuned(args.listen("127.0.0.1:4433").as_str(), offload);
        let (server, cert) = serve(&handle, at, mib << 20)?;
        std::fs::write(file, cert)?;
        print_addresses(std::slice::from_ref(server.local_addr()))?;
        return Ok(event_loop.run_forever()?);
    };
    let cert = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let begin = handle.now();
    let from = server.parse::<SocketAddr>();
    let from = from.map_err(|error| lexopt::Error::from(format!("--connect {server}: {error}")))?;
    let (client, done) = fetch(&handle, from, cert.into(), offload)?;
    let mib = event_loop.run_until(done)? >> 20;
    let time = (handle.now() - begin).as_secs_f64();
    let (datagrams, reads) = (client.stats().received, handle.stats().reads);
    say!("{mib} MiB in {time:.2} s, {datagrams} datagrams in {reads} reads");
    client.close();
    event_loop.run_until(client.wait_closed())?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fetches 4 MiB, if the server is there. Returns the numbers of datagrams and of reads, too.
    fn fetched(offload: bool, is_there: bool) -> (std::io::Result<u64>, [u64; 2]) {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let made = serve(&handle, tuned("127.0.0.1:0", offload), 4 << 20);
        let (server, cert) = made.unwrap();
        if !is_there {
            server.close();
            event_loop.run_until(server.wait_closed()).unwrap();
        }
        let at = server.local_addr().as_inet().unwrap();
        let (client, done) = fetch(&handle, at, cert, offload).unwrap();
        let result = event_loop.run_until(done);
        let datagrams = client.stats().received + server.stats().received;
        (result, [datagrams, handle.stats().reads])
    }

    #[test]
    fn all_bytes_come_and_with_offload_in_fewer_reads() {
        for offload in [false, true] {
            let (result, [datagrams, reads]) = fetched(offload, true);
            assert_eq!(result.unwrap(), 4 << 20);
            assert_eq!(reads < datagrams / 2, offload, "{reads} for {datagrams}");
        }
    }

    #[test]
    fn a_client_fails_at_once_where_nothing_receives() {
        let error = fetched(true, false).0.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
