//! Streams over TLS: from the start, from some point on, and under hyper.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use support::{
    Authority, BOUND, Kind, Peer, Streamed, TempDir, TlsPeer, each_kind, echo_stream, finish, now,
    pattern, settle, wait,
};
use tidegate::{Address, BoxError, CloseReason, ConnectOptions, EventLoop, ListenOptions};
use tidegate_streams::hyper::LoopExecutor;
use tidegate_streams::{
    Connection, StreamServer, block_on, open_connection, spawn_on, start_server, timeout,
};
use tidegate_tls::rustls::version::{TLS12, TLS13};
use tidegate_tls::rustls::{ClientConfig, ProtocolVersion, ServerConfig};
use tidegate_tls::{Tls, prelude::*};

const STARTTLS: &[u8] = b"STARTTLS\r\n";

/// Runs async code on a loop of its own, for a bounded time.
#[track_caller]
fn run<F: Future<Output = Result<(), BoxError>> + 'static>(future: F) {
    let ended = block_on(async { timeout(2 * BOUND, future).await });
    match ended.unwrap() {
        Ok(result) => result.unwrap(),
        Err(_) => panic!("waited in vain for the end of the test"),
    }
}

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let authority = Authority::new();
    (Arc::new(authority.server()), Arc::new(authority.client()))
}

fn is_cut(error: impl Into<io::Error>) -> bool {
    error.into().kind() == io::ErrorKind::UnexpectedEof
}

// From the start.

each_kind!(both_ends_are_streams_over_tls);
fn both_ends_are_streams_over_tls(kind: Kind) {
    run(async move {
        let dir = TempDir::new();
        let (served, trusting) = configs();
        let options = ListenOptions::new(kind.somewhere(&dir)).tls(served);
        let server = start_server(options, echo_stream)?;
        let to = ConnectOptions::new(&server.local_addrs()[0]).tls_as(trusting, "localhost");
        let (mut reader, writer) = open_connection(to).await?;
        let info = writer.transport().tls().ok_or("no TLS")?;
        assert_eq!(info.version, Some(ProtocolVersion::TLSv1_3));
        // More than all buffers on the way, both ways at once.
        let data = pattern(0, 8 << 20);
        let sent = data.clone();
        let writing = tidegate_streams::spawn(async move {
            for piece in sent.chunks(100_000) {
                writer.write(piece)?;
                writer.drain().await?;
            }
            writer.write_eof()?;
            Ok::<_, BoxError>(writer)
        });
        assert!(reader.read_to_end(data.len()).await? == data);
        assert!(reader.at_eof());
        let writer = writing.await??;
        writer.close().await?;
        assert!(writer.closed().ok_or("not told")?.is_clean());
        server.close();
        Ok(server.wait_closed().await?)
    });
}

#[test]
fn a_name_is_checked_before_the_halves_are_given_out() {
    run(async {
        let (served, trusting) = configs();
        let server = start_server(ListenOptions::new("127.0.0.1:0").tls(served), echo_stream)?;
        let port = server.local_addrs()[0].as_inet().ok_or("no port")?.port();
        let to = ConnectOptions::new(("localhost", port)).tls(trusting.clone());
        drop(open_connection(to).await?);
        let to = ConnectOptions::new(("127.0.0.1", port)).tls(trusting);
        let error = open_connection(to).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        Ok(())
    });
}

// The end.

/// The reader and writer of an accepted connection over TLS, and the peer.
fn accepted(kind: Kind, layer: impl FnOnce(Tls) -> Tls) -> (Streamed, TlsPeer) {
    let (served, trusting) = configs();
    let mut s = Streamed::new(kind);
    let spare = Peer::new(kind.pair(|_| {}).0);
    let opening = s.reader.start_layer(layer(Tls::server(served)));
    let mut client = TlsPeer::client(std::mem::replace(&mut s.peer, spare), &trusting);
    client.shake_hands(&mut s.event_loop);
    wait(&mut s.event_loop, "the handshake", opening).unwrap();
    (s, client)
}

each_kind!(a_stream_without_a_close_notify_fails_behind_its_data);
fn a_stream_without_a_close_notify_fails_behind_its_data(kind: Kind) {
    let (mut s, mut client) = accepted(kind, |tls| tls);
    client.send(b"half of a");
    client.wire().shutdown_write();
    let read = wait(&mut s.event_loop, "the data", s.reader.read_chunk(99));
    assert_eq!(read.unwrap(), "half of a");
    let read = wait(&mut s.event_loop, "the end", s.reader.read_chunk(99));
    let error = read.unwrap_err();
    let reason = error.as_closed().unwrap().reason().clone();
    assert!(matches!(reason, CloseReason::Io(_)), "{reason:?}");
    assert!(is_cut(error));
    assert!(!s.reader.at_eof());
    assert!(is_cut(s.writer.write(b"too late").unwrap_err()));
}

each_kind!(a_cut_is_an_end_of_stream_where_the_layer_was_told_so);
fn a_cut_is_an_end_of_stream_where_the_layer_was_told_so(kind: Kind) {
    let (mut s, mut client) = accepted(kind, |tls| tls.truncation_is_end(true));
    client.send(b"all of it");
    client.wire().shutdown_write();
    let read = wait(&mut s.event_loop, "all", s.reader.read_to_end(99));
    assert_eq!(read.unwrap(), "all of it");
    assert!(s.reader.at_eof());
}

each_kind!(a_close_notify_ends_the_stream_and_replies_still_go);
fn a_close_notify_ends_the_stream_and_replies_still_go(kind: Kind) {
    let (mut s, mut client) = accepted(kind, |tls| tls);
    client.send(b"question");
    client.close_notify();
    let read = wait(&mut s.event_loop, "all", s.reader.read_to_end(99));
    assert_eq!(read.unwrap(), "question");
    let reply = pattern(0, 200_000);
    s.writer.write(&reply).unwrap();
    let closing = s.writer.close();
    client.until(&mut s.event_loop, "the reply and the end", |client| {
        client.has_close_notify()
    });
    assert!(client.received() == reply);
    wait(&mut s.event_loop, "the close", closing).unwrap();
}

// From some point on.

each_kind!(a_handshake_in_the_segment_of_the_command_is_not_lost);
fn a_handshake_in_the_segment_of_the_command_is_not_lost(kind: Kind) {
    let (served, trusting) = configs();
    let mut s = Streamed::new(kind);
    let spare = Peer::new(kind.pair(|_| {}).0);
    let mut client = TlsPeer::client(std::mem::replace(&mut s.peer, spare), &trusting);
    // Before the loop runs, so that both come with one read.
    client.wire().send(STARTTLS);
    client.step();
    let line = wait(&mut s.event_loop, "the command", s.reader.read_line());
    assert_eq!(line.unwrap(), STARTTLS);
    assert!(s.reader.buffered() > 100, "the handshake was read ahead");
    let opening = s.reader.start_tls_server(served);
    s.writer.write(b"250 encrypted\r\n").unwrap();
    client.shake_hands(&mut s.event_loop);
    wait(&mut s.event_loop, "the handshake", opening).unwrap();
    client.expect(&mut s.event_loop, 15);
    assert_eq!(client.received(), b"250 encrypted\r\n");
}

each_kind!(both_ends_turn_to_tls_in_the_middle_of_a_talk);
fn both_ends_turn_to_tls_in_the_middle_of_a_talk(kind: Kind) {
    run(async move {
        let dir = TempDir::new();
        let (served, trusting) = configs();
        let server = start_server(kind.somewhere(&dir), async move |mut reader, writer| {
            writer.write(b"220 ready\r\n")?;
            assert_eq!(reader.read_line().await?, STARTTLS);
            writer.write(b"220 go ahead\r\n")?;
            reader.start_tls_server(served.clone()).await?;
            assert!(writer.transport().tls().is_some());
            echo_stream(reader, writer).await
        })?;
        let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
        assert_eq!(reader.read_line().await?, "220 ready\r\n");
        writer.write(STARTTLS)?;
        assert_eq!(reader.read_line().await?, "220 go ahead\r\n");
        assert!(writer.transport().tls().is_none());
        reader.start_tls_client(trusting, "localhost").await?;
        writer.write(b"MAIL FROM\r\n")?;
        assert_eq!(reader.read_line().await?, "MAIL FROM\r\n");
        Ok(writer.close().await?)
    });
}

each_kind!(plain_words_behind_the_command_are_no_commands_but_a_bad_handshake);
fn plain_words_behind_the_command_are_no_commands_but_a_bad_handshake(kind: Kind) {
    let (served, _) = configs();
    let mut s = Streamed::new(kind);
    s.feed(&[STARTTLS, b"RCPT TO:<someone@example.test>\r\n"].concat());
    assert_eq!(now(s.reader.read_line()).unwrap(), STARTTLS);
    let opening = s.reader.start_tls_server(served);
    let error = wait(&mut s.event_loop, "the failure", opening).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    let read = wait(&mut s.event_loop, "a read", s.reader.read_line());
    assert_eq!(
        io::Error::from(read.unwrap_err()).kind(),
        io::ErrorKind::InvalidData
    );
    // A fatal alert (RFC 8446, section 6), and the end.
    s.peer.expect_end(&mut s.event_loop);
    assert_eq!(s.peer.received()[0], 21, "{:?}", s.peer.received());
}

#[test]
fn tls_that_cannot_begin_leaves_the_stream_as_it_was() {
    let (served, trusting) = configs();
    let mut s = Streamed::new(Kind::Tcp);
    s.feed(b"plain");
    let mut early = (*served).clone();
    early.max_early_data_size = 1024;
    let error = now(s.reader.start_tls_server(early.into())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    let error = now(s.reader.start_tls_client(trusting, "no name!")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("no name!"), "{error}");
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "plain");
    s.writer.write(b"reply").unwrap();
    s.peer.expect(&mut s.event_loop, 5);
    assert_eq!(s.peer.received(), b"reply");
}

#[test]
fn dropping_the_wait_for_tls_does_not_end_tls() {
    let (served, trusting) = configs();
    let mut s = Streamed::new(Kind::Tcp);
    drop(s.reader.start_tls_server(served));
    s.writer.write(b"hello").unwrap();
    settle(&mut s.event_loop);
    let mut client = TlsPeer::client(s.peer, &trusting);
    client.expect(&mut s.event_loop, 5);
    assert_eq!(client.received(), b"hello");
}

// hyper.

/// Sends back what it gets, and says in a header which version of TLS it came through.
async fn http_echo(
    request: Request<Incoming>,
    version: Option<ProtocolVersion>,
) -> hyper::Result<Response<Incoming>> {
    let reply = Response::builder().header("tls", format!("{version:?}"));
    Ok(reply.body(request.into_body()).unwrap())
}

fn http_server(at: &str, config: Arc<ServerConfig>) -> StreamServer {
    let options = ListenOptions::new(at).tls(config);
    let started = start_server(options, async |reader, writer| {
        let info = writer.transport().tls().ok_or("no TLS")?;
        // Clients may come and go as they like.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(
                Connection::new(reader, writer),
                service_fn(|request| http_echo(request, info.version)),
            )
            .await;
        Ok(())
    });
    started.unwrap()
}

async fn http_client<B>(to: &Address, config: &Arc<ClientConfig>) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
{
    let options = ConnectOptions::new(to).tls_as(config.clone(), "localhost");
    let (reader, writer) = open_connection(options).await.unwrap();
    let made = hyper::client::conn::http1::handshake(Connection::new(reader, writer)).await;
    let (sender, connection) = made.unwrap();
    LoopExecutor::new().execute(async { connection.await.unwrap() });
    sender
}

each_kind!(hyper_serves_many_requests_on_one_connection_over_tls);
fn hyper_serves_many_requests_on_one_connection_over_tls(kind: Kind) {
    run(async move {
        let dir = TempDir::new();
        let authority = Authority::new();
        let server = http_server(&kind.somewhere(&dir), Arc::new(authority.server()));
        for (version, word) in [(&TLS12, "Some(TLSv1_2)"), (&TLS13, "Some(TLSv1_3)")] {
            let config = Arc::new(authority.client_of(&[version]));
            let mut sender = http_client(&server.local_addrs()[0], &config).await;
            for number in 0..200 {
                // From none to more than all buffers on the way.
                let len = if number % 20 == 19 {
                    number * 5000
                } else {
                    number
                };
                let body = Bytes::from(pattern(number as u64, len));
                sender.ready().await?;
                let request = Request::post("/").header("host", "localhost");
                let request = request.body(Full::new(body.clone()))?;
                let reply = sender.send_request(request).await?;
                assert_eq!(reply.headers()["tls"], word);
                let came = reply.into_body().collect().await?.to_bytes();
                assert!(came == body, "{} of {len} bytes, or others", came.len());
                assert_eq!(server.connection_count(), 1);
            }
            drop(sender);
            while server.connection_count() > 0 {
                tidegate_streams::yield_now().await;
            }
        }
        server.close();
        Ok(server.wait_closed().await?)
    });
}

each_kind!(a_body_that_ends_with_its_connection_is_whole_only_with_a_close_notify);
fn a_body_that_ends_with_its_connection_is_whole_only_with_a_close_notify(kind: Kind) {
    for notifies in [true, false] {
        run(async move {
            let dir = TempDir::new();
            let (served, trusting) = configs();
            let options = ListenOptions::new(kind.somewhere(&dir)).tls(served);
            let server = start_server(options, async move |mut reader, writer| {
                while reader.read_line().await? != "\r\n" {}
                writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf of a body")?;
                writer.flush().await?;
                match notifies {
                    true => writer.close().await?,
                    // No close_notify goes before it.
                    false => writer.transport().abort(),
                }
                Ok(())
            })?;
            let mut sender = {
                let to = &server.local_addrs()[0];
                let options = ConnectOptions::new(to).tls_as(trusting, "localhost");
                let (reader, writer) = open_connection(options).await?;
                let connection = Connection::new(reader, writer);
                let made = hyper::client::conn::http1::handshake(connection).await?;
                let handle = server.handle().clone();
                drop(spawn_on(&handle, async { drop(made.1.await) }));
                made.0
            };
            let request = Request::get("/").header("host", "localhost");
            let request = request.body(Full::<Bytes>::default())?;
            let body = sender.send_request(request).await?.into_body();
            let whole = body.collect().await;
            assert_eq!(whole.is_ok(), notifies, "{whole:?}");
            Ok(())
        });
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_a_timeout_of_the_open() {
    let mut event_loop = EventLoop::new().unwrap();
    let (_, trusting) = configs();
    let dir = TempDir::new();
    let (_listener, address) = Kind::Tcp.listen(&dir);
    let name = "localhost".try_into().unwrap();
    let layer = Tls::client(trusting, name).handshake_timeout(Duration::from_millis(20));
    let options = ConnectOptions::new(&address).layer(layer);
    let opened = finish(&mut event_loop, "the timeout", async move {
        open_connection(options).await.map(drop)
    });
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connections, 0);
}
