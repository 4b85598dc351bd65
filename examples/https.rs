//! HTTPS by hyper, over tidegate's streams and tidegate-tls: a server of one page, and a client that
//! fetches any.
//!
//! Run, with a certificate as for `tls_echo`:
//!
//!     cargo run --example https -- --listen 127.0.0.1:8443 --cert cert.pem --key key.pem
//!
//! Expect `listening on 127.0.0.1:8443`; then
//!
//!     curl --cacert cert.pem https://localhost:8443/
//!     cargo run --example https -- --fetch https://localhost:8443/ --ca cert.pem
//!
//! Both print the page. Without `--ca` the client trusts the certificates that the system trusts:
//!
//!     cargo run --example https -- --fetch https://www.rust-lang.org/
//!
//! A page that was cut on its way is an error, also one without a length: TLS tells the end of a stream
//! from a cut. Ctrl-C ends the server.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, client, server};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidegate::{ConnectOptions, ListenOptions, Result};
use tidegate_examples::{Args, CERT, KEY, LISTEN, exit_code, print_addresses};
use tidegate_streams::hyper::LoopTimer;
use tidegate_streams::{
    Connection, StreamReader, StreamWriter, block_on, open_connection, spawn, start_server, timeout,
};
use tidegate_tls::{client_config, client_config_from_pem, prelude::*, server_config_from_pem};

/// The protocol of this program, for the peer to choose (ALPN, RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";

/// The time in which a connection is made, and a part of a page comes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn page(_: Request<Incoming>, tls: String) -> hyper::Result<Response<Full<Bytes>>> {
    let page = format!(
        "<!doctype html>\n<title>tidegate</title>\n<h1>Hello, encrypted World!</h1>\n<p>{tls}\n"
    );
    let mut reply = Response::new(Full::new(page.into()));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, html);
    Ok(reply)
}

/// One connection, request after request, once its handshake is done. A mistake of a client
/// is no failure of the server.
async fn connected(reader: StreamReader, writer: StreamWriter) -> Result {
    let tls = writer.transport().tls().ok_or("no TLS")?;
    let version = tls.version.and_then(|version| version.as_str());
    let negotiated = version.unwrap_or("an unknown version").to_owned();
    let served = server::conn::http1::Builder::new()
        .timer(LoopTimer::new())
        // A client that ends its stream behind its requests gets all replies.
        .half_close(true)
        .serve_connection(
            Connection::new(reader, writer),
            service_fn(|request| page(request, negotiated.clone())),
        );
    if let Err(error) = served.await {
        log::debug!("a client: {error}");
    }
    Ok(())
}

async fn serve(args: Args) -> Result {
    let mut config = server_config_from_pem(args.required("cert")?, args.required("key")?)?;
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    let options = ListenOptions::new(args.listen("127.0.0.1:8443")).tls(Arc::new(config));
    let server = start_server(options, connected)?;
    print_addresses(server.local_addrs())?;
    server.wait_closed().await?;
    Ok(())
}

async fn fetch(url: Uri, args: Args) -> Result {
    let host = url.host().unwrap_or_default();
    if url.scheme_str() != Some("https") || host.is_empty() {
        return Err(format!("expected a URL such as https://localhost:8443/, not {url}").into());
    }
    let mut config = match args.get("ca") {
        Some(file) => client_config_from_pem(file)?,
        None => client_config()?,
    };
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    // The address of IPv6 has brackets in a URL.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let options = ConnectOptions::new((name, url.port_u16().unwrap_or(443)))
        .timeout(PATIENCE)
        .tls(Arc::new(config));
    let (reader, writer) = open_connection(options).await?;

    let (mut requests, connection) =
        client::conn::http1::handshake(Connection::new(reader, writer)).await?;
    let connection = spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let request = Request::get(path).header(HOST, authority);
    let request = request.body(Empty::<Bytes>::new())?;
    let reply = timeout(PATIENCE, requests.send_request(request)).await??;
    if !reply.status().is_success() {
        return Err(format!("{url}: {}", reply.status()).into());
    }
    let mut body = reply.into_body();
    let mut out = io::stdout().lock();
    while let Some(part) = timeout(PATIENCE, body.frame()).await? {
        if let Ok(data) = part?.into_data() {
            out.write_all(&data)?;
        }
    }
    out.flush()?;
    drop(requests);
    connection.await??;
    Ok(())
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, CERT, KEY, ("fetch", "URL"), ("ca", "FILE")])?;
    match args.get("fetch").map(str::parse::<Uri>) {
        None => block_on(serve(args))?,
        Some(url) => {
            let url = url.map_err(|error| lexopt::Error::from(format!("--fetch: {error}")))?;
            block_on(fetch(url, args))?
        }
    }
}

fn main() -> ExitCode {
    exit_code(run)
}
