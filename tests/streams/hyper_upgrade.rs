//! hyper gives a connection back after an upgrade, with what the client sent behind its request.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use std::convert::Infallible;
use support::{Kind, TempDir, each_kind, tasks::run};
use tidegate_streams::{Connection, open_connection, start_server};

async fn switch(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let reply = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "lines");
    Ok(reply.body(Empty::new()).unwrap())
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\nfirst ";

each_kind!(a_connection_comes_back_after_an_upgrade_with_what_hyper_read_ahead);
fn a_connection_comes_back_after_an_upgrade_with_what_hyper_read_ahead(kind: Kind) {
    run("the upgrade", async move {
        let dir = TempDir::new();
        let serve = async |reader, writer| {
            let http = hyper::server::conn::http1::Builder::new();
            let connection = Connection::new(reader, writer);
            let serving = http.serve_connection(connection, service_fn(switch));
            let parts = serving.without_shutdown().await?;
            let (mut reader, writer) = parts.io.split();
            let rest = reader.read_line().await?;
            writer.write(&parts.read_buf)?;
            writer.write(&rest)?;
            writer.drain().await?;
            Ok(())
        };
        let server = start_server(kind.somewhere(&dir), serve).unwrap();
        let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await.unwrap();
        writer.write(REQUEST).unwrap();
        let head = reader.read_until(b"\r\n\r\n").await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
        writer.write(b"line\n").unwrap();
        let line = reader.read_line().await.unwrap();
        assert_eq!(&line[..], b"first line\n");
        assert!(reader.read_line().await.unwrap().is_empty());
    });
}
