//! Opening connections: where to, how it fails, and what a future that is dropped leaves behind, by
//! the loop's own count.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use support::{
    BOUND, Gate, Host, Kind, Peer, TempDir, drive, each_kind, finish, knows, opened, poll_once,
    settle, v4,
};
use tidegate::{BoxError, CloseReason, ConnectOptions, EventLoop, Handle, WriteLimits};
use tidegate_streams::{
    NoEventLoop, StreamOptions, block_on, open_connection, open_connection_with, spawn_on,
    start_server, start_server_with, timeout,
};

/// Returns the numbers that must be as before when nothing is left behind: sockets, connects, waiters, jobs.
fn held(handle: &Handle) -> [usize; 4] {
    let now = handle.stats();
    [
        now.connections + now.lingering,
        now.connecting,
        now.completions,
        now.jobs,
    ]
}

fn failed(event_loop: &mut EventLoop, to: impl Into<ConnectOptions> + 'static) -> io::Error {
    finish(event_loop, "the failure", open_connection(to)).unwrap_err()
}

each_kind!(both_ends_are_streams_of_the_same_loop);
fn both_ends_are_streams_of_the_same_loop(kind: Kind) {
    let dir = TempDir::new();
    let at = kind.somewhere(&dir);
    let talk = async move {
        let server = start_server(at, async |mut reader, writer| {
            while let Some(line) = reader.lines().next().await? {
                writer.write_all(&line).await?;
            }
            Ok(())
        })?;
        let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
        for n in 0..100 {
            let line = format!("line {n}\n");
            writer.write(line.as_bytes())?;
            assert_eq!(reader.read_line().await?, line.as_bytes());
        }
        writer.write_eof()?;
        assert_eq!(reader.read_chunk(1).await?, b"".as_slice());
        writer.close().await?;
        assert!(writer.closed().ok_or("not told")?.is_clean());
        Ok::<_, BoxError>(())
    };
    let talk = block_on(async move { timeout(BOUND, talk).await });
    talk.unwrap().expect("it ends").unwrap();
}

#[test]
fn a_name_and_a_port_are_resolved_and_every_address_is_tried() {
    let (refusing, good) = (Host::refusing(v4(2)), Host::good(v4(3)));
    let addresses = vec![refusing.addr(), good.addr()];
    let builder = EventLoop::builder().resolver(knows([("service.test", addresses)]));
    let mut event_loop = builder.build().unwrap();
    for to in [
        ConnectOptions::new(("service.test", 1)),
        ConnectOptions::new("service.test:1"),
    ] {
        let halves = finish(&mut event_loop, "a connection", open_connection(to));
        let (_reader, writer) = halves.unwrap();
        assert_eq!(*writer.transport().peer_addr(), good.address());
        let (mut peer, _) = good.accepted();
        writer.write(b"hello").unwrap();
        peer.expect(&mut event_loop, 5);
    }
    let error = failed(&mut event_loop, "unknown.test:1");
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("unknown.test"), "{error}");
}

each_kind!(a_failed_connect_says_where_and_why);
fn a_failed_connect_says_where_and_why(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (listener, address) = kind.listen(&TempDir::new());
    drop(listener);
    let before = held(event_loop.handle());
    let error = failed(&mut event_loop, address.clone());
    let expected = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    assert!(expected.contains(&error.kind()), "{error:?}");
    let place = address.to_string();
    assert!(error.to_string().contains(&place), "{error} names {place}");
    settle(&mut event_loop);
    assert_eq!(held(event_loop.handle()), before, "{kind:?}");
    let mut event_loop = EventLoop::new().unwrap();
    let error = failed(&mut event_loop, "no port here");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
}

#[test]
fn an_unanswered_connect_ends_with_the_timeout_of_the_options_or_the_caller() {
    let host = Host::hanging(v4(1));
    let mut event_loop = EventLoop::new().unwrap();
    let before = held(event_loop.handle());
    let limit = Duration::from_millis(20);
    let options = ConnectOptions::new(host.address()).timeout(limit);
    let error = failed(&mut event_loop, options);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    settle(&mut event_loop);
    assert_eq!(held(event_loop.handle()), before);
    let to = host.address();
    finish(&mut event_loop, "the caller's timeout", async move {
        let opening = open_connection(&to);
        assert!(timeout(limit, opening).await.is_err());
    });
    settle(&mut event_loop);
    assert_eq!(held(event_loop.handle()), before);
}

each_kind!(a_future_that_is_dropped_leaves_no_connect_behind_wherever_it_stands);
fn a_future_that_is_dropped_leaves_no_connect_behind_wherever_it_stands(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let before = held(event_loop.handle());
    // Dropped before its first poll, and after a number of ticks; at last it is there.
    for ticks in 0..6 {
        let to = address.clone();
        let task = spawn_on(event_loop.handle(), async move {
            open_connection(&to).await.map(drop)
        });
        for _ in 0..ticks {
            event_loop.run_once(Some(Duration::from_millis(1))).unwrap();
        }
        task.abort();
        drive(&mut event_loop, "the abort", || task.is_finished());
        drop(task);
        listener.set_nonblocking(true).unwrap();
        while let Ok((peer, _)) = listener.accept() {
            let mut peer = Peer::new(peer);
            peer.expect_end(&mut event_loop);
        }
        settle(&mut event_loop);
        assert_eq!(held(event_loop.handle()), before, "{kind:?}, {ticks} ticks");
    }
}

each_kind!(a_connection_that_came_and_was_not_taken_is_closed);
fn a_connection_that_came_and_was_not_taken_is_closed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let before = held(event_loop.handle());
    let (opened,) = finish(&mut event_loop, "its first poll", async move {
        let mut opening = Box::pin(open_connection(address));
        assert!(poll_once(opening.as_mut()).is_pending());
        (opening,)
    });
    let (peer, _) = listener.accept().unwrap();
    let mut peer = Peer::new(peer);
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the connection", || {
        handle.stats().connections == 1 && handle.stats().connecting == 0
    });
    settle(&mut event_loop);
    drop(opened);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof(), "{kind:?}");
    peer.close();
    settle(&mut event_loop);
    assert_eq!(held(event_loop.handle()), before, "{kind:?}");
}

#[test]
fn a_name_that_is_still_looked_up_may_be_given_up() {
    let gate = Gate::new();
    let host = Host::good(v4(1));
    let resolver = gate.before(knows([("slow.test", vec![host.addr()])]));
    let mut event_loop = EventLoop::builder().resolver(resolver).build().unwrap();
    let before = held(event_loop.handle());
    let task = spawn_on(event_loop.handle(), async {
        open_connection("slow.test:1").await.map(drop)
    });
    event_loop.run_once(Some(Duration::from_millis(1))).unwrap();
    gate.wait_for(1);
    task.abort();
    drive(&mut event_loop, "the abort", || task.is_finished());
    gate.open();
    settle(&mut event_loop);
    assert_eq!(held(event_loop.handle()), before);
    assert_eq!(host.waiting_for_it(), 0);
}

#[test]
fn without_a_running_loop_it_fails_and_does_not_wait() {
    let answer = poll_once(pin!(open_connection("127.0.0.1:1")));
    let Poll::Ready(Err(error)) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<NoEventLoop>)
    );
}

each_kind!(the_options_limits_hold_and_the_addresses_are_those_of_the_socket);
fn the_options_limits_hold_and_the_addresses_are_those_of_the_socket(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let limits = WriteLimits::new().with_high(1000).with_low(10);
    let options = ConnectOptions::new(&address).write_limits(limits);
    let (reader, writer) =
        finish(&mut event_loop, "a connection", open_connection(options)).unwrap();
    let found = writer.transport().write_limits();
    assert_eq!((found.high(), found.low()), (1000, 10), "{kind:?}");
    assert_eq!(*writer.transport().peer_addr(), address);
    assert_eq!(reader.transport().unwrap().id(), writer.transport().id());
}

each_kind!(what_arrives_or_ends_before_anybody_asks_is_kept);
fn what_arrives_or_ends_before_anybody_asks_is_kept(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    peer.send(b"early");
    peer.shutdown_write();
    settle(&mut event_loop);
    writer.abort();
    settle(&mut event_loop);
    let closed = reader.closed().unwrap();
    assert!(
        matches!(closed.reason(), CloseReason::LocalAbort),
        "{closed}"
    );
    finish(&mut event_loop, "the reader", async move {
        assert_eq!(reader.read_to_end(100).await.unwrap(), b"early".as_slice());
        assert!(reader.at_eof());
    });
}

#[test]
fn the_readers_limit_is_an_option_of_opening_and_of_serving() {
    let read = block_on(async {
        let (ours, theirs) = (
            StreamOptions::new().limit(7),
            StreamOptions::new().limit(11),
        );
        let server = start_server_with("127.0.0.1:0", theirs, async |reader, writer| {
            writer.write(format!("{}\n", reader.limit()).as_bytes())?;
            Ok(())
        })?;
        let (mut reader, _writer) = open_connection_with(&server.local_addrs()[0], ours).await?;
        assert_eq!(reader.limit(), 7);
        assert_eq!(
            StreamOptions::default().limit(0),
            StreamOptions::new().limit(1)
        );
        let line = timeout(BOUND, reader.read_line()).await?;
        Ok::<_, BoxError>(line?)
    });
    assert_eq!(&read.unwrap().unwrap()[..], b"11\n");
}
