//! QUIC: quinn-proto's state machine on an endpoint of datagrams. A server sends 100 MiB to each client.
//!
//! Run in two terminals:
//!
//!     cargo run --release --example quic -- --listen 127.0.0.1:4433 --cert cert.der
//!     cargo run --release --example quic -- --connect 127.0.0.1:4433 --cert cert.der
//!
//! The server makes a certificate for `localhost` when it starts. The file has it for the client to trust. The client
//! checks every byte. Expect `100 MiB in 0.14 s, 89881 datagrams in 2212 reads`, or similar numbers. With `--offload off`
//! on both sides each datagram is a system call of its own. The server's address is one of the machine's, not
//! `0.0.0.0`: the system would choose the address of its replies, and clients drop those from another one.

mod endpoint;
mod transfer;

use endpoint::Quic;
use quinn_proto::rustls::RootCertStore;
use quinn_proto::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn_proto::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tidegate::{
    BoxError, Completion, DatagramOptions, DatagramTransport, EventLoop, Handle, Result,
};
use tidegate_examples::{Args, CERT, LISTEN, exit_code, print_addresses, say};
use transfer::Transfer;

/// Sets whether the kernel cuts and joins datagrams, and a size for bursts. The kernel may give less.
fn tuned(options: DatagramOptions, offload: bool) -> DatagramOptions {
    let options = options.segmentation(offload).coalesce(offload);
    options.receive_ecn(offload).receive_buffer(4 << 20)
}

/// Returns the endpoint of a server, and its certificate.
fn serve(
    handle: &Handle,
    at: &str,
    len: u64,
    offload: bool,
) -> Result<(DatagramTransport, CertificateDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let cert = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![cert.clone()], key.into())?;
    let options = tuned(DatagramOptions::new(at), offload);
    let endpoint = handle.create_datagram_endpoint(options, Quic::new(Some(config), len))?;
    Ok((endpoint, cert))
}

/// Returns the endpoint of a client. The completion has the number of bytes that came.
fn fetch(
    handle: &Handle,
    server: SocketAddr,
    cert: CertificateDer<'static>,
    offload: bool,
) -> Result<(DatagramTransport, Completion<u64>)> {
    let mut roots = RootCertStore::empty();
    roots.add(cert)?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    let (done, completion) = handle.completion();
    let mut client = Quic::new(None, 0);
    let made = client
        .endpoint
        .connect(handle.now(), config, server, "localhost")?;
    client.add(made, Transfer::new(0, Some(done)));
    let options = tuned(DatagramOptions::connected(server), offload);
    let client = handle.create_datagram_endpoint(options, client)?;
    Ok((client, completion))
}

fn wrong(argument: String) -> BoxError {
    lexopt::Error::from(argument).into()
}

fn run() -> Result {
    let (connect, mib, offload) = (
        ("connect", "ADDRESS"),
        ("mib", "100"),
        ("offload", "on|off"),
    );
    let args = Args::from_env(&[LISTEN, connect, CERT, mib, offload])?;
    let offload = match args.get("offload") {
        None | Some("on") => true,
        Some("off") => false,
        Some(other) => return Err(wrong(format!("--offload {other}: on or off"))),
    };
    let file = args.required("cert")?;
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let Some(server) = args.get("connect") else {
        let len = args.number("mib", 0..=1 << 20, 100_u64)? << 20;
        let (endpoint, cert) = serve(&handle, &args.listen("127.0.0.1:4433"), len, offload)?;
        std::fs::write(file, cert)?;
        print_addresses(std::slice::from_ref(endpoint.local_addr()))?;
        return Ok(event_loop.run_forever()?);
    };
    let cert = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let server = (server.parse()).map_err(|error| wrong(format!("--connect {server}: {error}")))?;
    let begin = handle.now();
    let (client, done) = fetch(&handle, server, cert.into(), offload)?;
    let mib = event_loop.run_until(done)? >> 20;
    let (time, datagrams) = (handle.now() - begin, client.stats().received);
    let reads = handle.stats().reads;
    say!(
        "{mib} MiB in {:.2} s, {datagrams} datagrams in {reads} reads",
        time.as_secs_f64()
    );
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

    /// Fetches 4 MiB. Returns the number of datagrams that came to both ends, and that of reads.
    fn transfer(offload: bool) -> (u64, u64) {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let (server, cert) = serve(&handle, "127.0.0.1:0", 4 << 20, offload).unwrap();
        let at = server.local_addr().as_inet().unwrap();
        let (client, done) = fetch(&handle, at, cert, offload).unwrap();
        assert_eq!(event_loop.run_until(done).unwrap(), 4 << 20);
        let datagrams = client.stats().received + server.stats().received;
        (datagrams, handle.stats().reads)
    }

    #[test]
    fn all_bytes_come_and_with_offload_in_fewer_reads() {
        let (datagrams, reads) = transfer(false);
        assert!(reads > datagrams, "{datagrams} datagrams, {reads} reads");
        let (datagrams, reads) = transfer(true);
        assert!(
            reads < datagrams / 2,
            "{datagrams} datagrams, {reads} reads"
        );
    }

    #[test]
    fn a_server_of_another_certificate_is_not_trusted() {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let (server, _) = serve(&handle, "127.0.0.1:0", 1, true).unwrap();
        let (_, cert) = serve(&handle, "127.0.0.1:0", 1, true).unwrap();
        let at = server.local_addr().as_inet().unwrap();
        let (_, done) = fetch(&handle, at, cert, true).unwrap();
        let error = event_loop.run_until(done).unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }

    #[test]
    fn a_client_fails_at_once_where_nothing_receives() {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let (_server, cert) = serve(&handle, "127.0.0.1:0", 1, true).unwrap();
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = nobody.local_addr().unwrap();
        drop(nobody);
        let (_, done) = fetch(&handle, at, cert, true).unwrap();
        let error = event_loop.run_until(done).unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn a_server_refuses_connections_beyond_its_limit() {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let (server, cert) = serve(&handle, "127.0.0.1:0", 1, true).unwrap();
        let limited = server.with_protocol(|quic: &mut Quic, _| quic.max_connections = 0);
        limited.unwrap();
        let at = server.local_addr().as_inet().unwrap();
        let (_, done) = fetch(&handle, at, cert, true).unwrap();
        let error = event_loop.run_until(done).unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
