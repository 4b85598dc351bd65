//! HTTPS by tokio-rustls, over tidegate's streams: one page, whatever is asked for.
//!
//! TLS needs nothing of the loop: with its feature `tokio` a connection of streams has tokio's traits,
//! and tokio-rustls asks for no more.
//!
//! Run:
//!
//!     cargo run --example https -- --listen 127.0.0.1:8443
//!
//! Expect `listening on 127.0.0.1:8443`; then
//!
//!     curl --insecure https://127.0.0.1:8443/
//!
//! The certificate for `localhost` is made at the start, and no client trusts it. `--cert FILE --key
//! FILE` give another one, in PEM. Ctrl-C ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate::Result;
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_streams::{Connection, StreamReader, StreamWriter, block_on, start_server, timeout};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const PAGE: &str = "<!doctype html>
<title>tidegate</title>
<h1>Hello, encrypted World!</h1>
";

/// The maximum length of a request's head in bytes; nginx allows as much.
const MAX_HEAD: u64 = 32 * 1024;

/// How long a client may take for the handshake and its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the certificate and its key from files, or makes both.
fn certificate(args: &Args) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    match (args.get("cert"), args.get("key")) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
            Ok((chain, PrivateKeyDer::from_pem_file(key)?))
        }
        (None, None) => {
            let made = rcgen::generate_simple_self_signed(["localhost".into()])?;
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
            Ok((vec![made.cert.der().clone()], key))
        }
        _ => Err("--cert and --key go together".into()),
    }
}

/// One connection. A client that does not speak TLS, or leaves, is no failure of the server.
async fn connected(tls: TlsAcceptor, reader: StreamReader, writer: StreamWriter) -> Result {
    let peer = writer.transport().peer_addr().clone();
    let connection = Connection::new(reader, writer);
    let replied = timeout(PATIENCE, async {
        let mut stream = BufReader::new(tls.accept(connection).await?);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let left = MAX_HEAD - head.len() as u64;
            if (&mut stream)
                .take(left)
                .read_until(b'\n', &mut head)
                .await?
                == 0
            {
                return Ok(());
            }
        }
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{PAGE}",
            PAGE.len()
        );
        stream.write_all(reply.as_bytes()).await?;
        // Says in TLS that this is all, then ends the stream.
        stream.shutdown().await
    });
    match replied.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("{peer}: {error}"),
        Err(_) => log::debug!("{peer}: no request within {PATIENCE:?}"),
    }
    Ok(())
}

async fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("cert", "FILE"), ("key", "FILE")])?;
    let (chain, key) = certificate(&args)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let tls = TlsAcceptor::from(Arc::new(config));
    let server = start_server(args.listen("127.0.0.1:8443"), move |reader, writer| {
        connected(tls.clone(), reader, writer)
    })?;
    print_addresses(server.local_addrs())?;
    server.wait_closed().await?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(|| block_on(run())?)
}
