//! HTTP/1 by hyper, over tidegate's streams: a page, an echo, and a long reply that is made while it is
//! sent.
//!
//! Run:
//!
//!     cargo run --example http_hyper -- --listen 127.0.0.1:8080
//!
//! Expect `listening on 127.0.0.1:8080`; then
//!
//!     curl http://127.0.0.1:8080/
//!     curl --data-binary @Cargo.toml http://127.0.0.1:8080/echo
//!     curl http://127.0.0.1:8080/count/1000000
//!
//! and with a Unix socket, `curl --unix-socket /path http://localhost/`. Ctrl-C ends it.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};
use tidegate::Result;
use tidegate_examples::{exit_code, listen_from_args, print_addresses};
use tidegate_streams::hyper::LoopTimer;
use tidegate_streams::{Connection, StreamReader, StreamWriter, block_on, start_server};

const PAGE: &str = "<!doctype html>
<title>tidegate</title>
<h1>Hello World!</h1>
<p>POST something to <code>/echo</code>, or <a href=\"/count/1000\">count to 1000</a>.
";

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// The numbers from 1 on, a line each. They are made when hyper has room to send them: `poll_write`
/// of our streams waits while the transport is paused, so that a slow client costs no memory.
struct Count {
    next: u64,
    last: u64,
}

impl Body for Count {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let mut lines = String::new();
        while self.next <= self.last && lines.len() < 16 * 1024 {
            // A String takes everything.
            let _ = writeln!(lines, "{}", self.next);
            self.next += 1;
        }
        let frame = Some(lines).filter(|lines| !lines.is_empty());
        Poll::Ready(frame.map(|lines| Ok(Frame::data(lines.into()))))
    }
}

fn whole(text: &'static str) -> BoxBody<Bytes, hyper::Error> {
    Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed()
}

fn failure(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(whole(text));
    *answer.status_mut() = status;
    answer
}

async fn serve(request: Request<Incoming>) -> hyper::Result<Answer> {
    let path = request.uri().path();
    if path == "/echo" {
        if request.method() != Method::POST {
            let mut answer = failure(StatusCode::METHOD_NOT_ALLOWED, "POST to it\n");
            let post = HeaderValue::from_static("POST");
            answer.headers_mut().insert(ALLOW, post);
            return Ok(answer);
        }
        // Sent back while it arrives.
        return Ok(Response::new(request.into_body().boxed()));
    }
    if path == "/" {
        let mut answer = Response::new(whole(PAGE));
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, html);
        return Ok(answer);
    }
    match path.strip_prefix("/count/").map(str::parse) {
        Some(Ok(last)) => {
            let count = Count { next: 1, last };
            let body = count.map_err(|never| match never {}).boxed();
            Ok(Response::new(body))
        }
        Some(Err(_)) => Ok(failure(StatusCode::BAD_REQUEST, "count to what?\n")),
        None => Ok(failure(StatusCode::NOT_FOUND, "not here\n")),
    }
}

/// Serves one connection, request after request. A mistake of a client is no failure of the server.
async fn connected(reader: StreamReader, writer: StreamWriter) -> Result {
    let served = http1::Builder::new()
        // A client that is slow with its request is not waited for longer than hyper wants to.
        .timer(LoopTimer::new())
        // A client that ends its stream behind its requests gets all replies.
        .half_close(true)
        .serve_connection(Connection::new(reader, writer), service_fn(serve));
    if let Err(error) = served.await {
        log::debug!("a client: {error}");
    }
    Ok(())
}

async fn run() -> Result {
    let server = start_server(listen_from_args("127.0.0.1:8080")?, connected)?;
    print_addresses(server.local_addrs())?;
    server.wait_closed().await?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(|| block_on(run())?)
}
