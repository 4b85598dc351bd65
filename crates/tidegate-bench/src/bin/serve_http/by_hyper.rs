//! hyper, HTTP/1 alone.

use crate::reply::PAGE;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use tidegate_bench::tokio_server;

async fn page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if (request.method(), request.uri().path()) != (&Method::GET, "/") {
        let mut reply = Response::new(Full::default());
        *reply.status_mut() = StatusCode::NOT_FOUND;
        return Ok(reply);
    }
    let mut reply = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    let text = HeaderValue::from_static("text/plain");
    reply.headers_mut().insert(CONTENT_TYPE, text);
    Ok(reply)
}

pub(crate) async fn run(listen: SocketAddr, pipeline_flush: bool) -> io::Result<()> {
    let mut http = http1::Builder::new();
    http.pipeline_flush(pipeline_flush);
    tokio_server::accept(listen, async move |stream| {
        let served = http.serve_connection(TokioIo::new(stream), service_fn(page));
        served.await.map_err(io::Error::other)
    })
    .await
}
