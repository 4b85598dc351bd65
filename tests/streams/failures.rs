//! The names of handlers and tasks that fail or are slow, and which of their errors are no
//! failures.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::logs::{Line, keep_log, logged};
use support::{Kind, Peer, TempDir, drive, each_kind, failures, settle};
use tidegate::{EventLoop, Result};
use tidegate_streams::{
    StreamReader, StreamServer, StreamWriter, spawn_named, spawn_named_on, spawn_on,
    start_server_on,
};

/// An error of a library between a handler and its stream.
#[derive(Debug)]
pub(crate) struct Wrapped(pub(crate) io::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrapped: {}", self.0)
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The ways in which a handler meets the end of its connection.
#[derive(Debug, Clone, Copy)]
enum Meets {
    Read,
    ReadAsIo,
    ReadWrapped,
    Write,
    WriteAsIo,
    Drain,
    Flush,
}

impl Meets {
    const ALL: [Self; 7] = [
        Self::Read,
        Self::ReadAsIo,
        Self::ReadWrapped,
        Self::Write,
        Self::WriteAsIo,
        Self::Drain,
        Self::Flush,
    ];

    /// Waits for the end, and fails with it.
    async fn meet(self, mut reader: StreamReader, writer: StreamWriter) -> Result {
        match (self, reader.read_line().await) {
            (Self::Read, line) => drop(line?),
            (Self::ReadAsIo, line) => drop(line.map_err(io::Error::from)?),
            (Self::ReadWrapped, line) => drop(line.map_err(|error| Wrapped(error.into()))?),
            (Self::Write, _) => drop(writer.write(b"x")?),
            (Self::WriteAsIo, _) => drop(writer.write(b"x").map_err(io::Error::from)?),
            (Self::Drain, _) => writer.drain().await?,
            (Self::Flush, _) => {
                // Refused: a flush of nothing succeeds.
                let _ = writer.write(b"x");
                writer.drain().await?;
                writer.flush().await?;
            }
        }
        Ok(())
    }
}

/// A server of one handler for each way, and idle peers.
fn serve(event_loop: &mut EventLoop, kind: Kind, dir: &TempDir) -> (StreamServer, Vec<Peer>) {
    let next = Cell::new(0);
    let server = start_server_on(
        event_loop.handle(),
        kind.somewhere(dir),
        async move |reader, writer| {
            let meets = Meets::ALL[next.replace(next.get() + 1)];
            meets.meet(reader, writer).await?;
            panic!("{meets:?}: no error");
        },
    )
    .unwrap();
    let peers: Vec<_> = (Meets::ALL.iter())
        .map(|_| Peer::connect(&server.local_addrs()[0]))
        .collect();
    drive(event_loop, "the server to accept", || {
        server.connection_count() == peers.len()
    });
    settle(event_loop);
    (server, peers)
}

/// Nothing was reported, and each end was logged at debug, with its peer.
fn assert_no_failure(told: &[tidegate::Failure], lines: &[Line]) {
    assert!(told.is_empty(), "{told:?}");
    let loud = lines.iter().filter(|line| line.level < log::Level::Debug);
    assert_eq!(loud.count(), 0, "{lines:?}");
    let ends = lines
        .iter()
        .filter(|line| line.text.starts_with("the handler of #") && line.text.contains(" (peer "));
    assert_eq!(ends.count(), Meets::ALL.len(), "{lines:?}");
}

each_kind!(an_orderly_end_of_idle_connections_is_no_failure_of_their_handlers);
fn an_orderly_end_of_idle_connections_is_no_failure_of_their_handlers(kind: Kind) {
    keep_log(log::LevelFilter::Debug);
    type End = fn(&StreamServer);
    let ends: [End; 2] = [StreamServer::close_clients, StreamServer::abort_clients];
    for end in ends {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let dir = TempDir::new();
        let (server, _peers) = serve(&mut event_loop, kind, &dir);
        logged();
        end(&server);
        drive(&mut event_loop, "the end", || {
            server.connection_count() == 0
        });
        settle(&mut event_loop);
        assert_no_failure(&told.borrow(), &logged());
    }
}

#[test]
fn a_reset_by_the_peer_is_no_failure_of_its_handler() {
    keep_log(log::LevelFilter::Debug);
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let (server, mut peers) = serve(&mut event_loop, Kind::Tcp, &dir);
    logged();
    peers.iter_mut().for_each(Peer::reset);
    drive(&mut event_loop, "the end", || {
        server.connection_count() == 0
    });
    settle(&mut event_loop);
    assert_no_failure(&told.borrow(), &logged());
}

each_kind!(a_write_after_the_close_of_the_connection_is_no_failure_of_its_handler);
fn a_write_after_the_close_of_the_connection_is_no_failure_of_its_handler(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let serve = async |_: StreamReader, writer: StreamWriter| {
        writer.transport().close();
        writer.write(b"late")?;
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.expect_end(&mut event_loop);
    settle(&mut event_loop);
    assert!(told.borrow().is_empty(), "{told:?}");
}

each_kind!(the_end_of_another_connection_is_a_failure_of_a_handler_also_when_it_is_the_same_end);
fn the_end_of_another_connection_is_a_failure_of_a_handler_also_when_it_is_the_same_end(
    kind: Kind,
) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let other: Rc<RefCell<Option<StreamReader>>> = Rc::default();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        let Some(mut other) = other.take() else {
            // The first one gives its reader to the second.
            other.replace(Some(reader));
            writer.drain().await?;
            std::future::pending::<()>().await;
            return Ok(());
        };
        reader.read_line().await.unwrap_err();
        other.read_line().await?;
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let _first = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "the first", || {
        server.connection_count() == 1
    });
    let _second = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "the second", || {
        server.connection_count() == 2
    });
    settle(&mut event_loop);
    server.close_clients();
    drive(&mut event_loop, "the failure", || !told.borrow().is_empty());
    assert_eq!(told.borrow().len(), 1);
    let text = told.borrow()[0].to_string();
    assert!(text.contains("connection closed: closed here"), "{text}");
}

each_kind!(a_failure_of_a_handler_is_called_one_and_names_its_peer);
fn a_failure_of_a_handler_is_called_one_and_names_its_peer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let ids: Rc<RefCell<Vec<_>>> = Rc::default();
    let seen = ids.clone();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        let (id, peer) = (writer.transport().id(), writer.transport().peer_addr());
        seen.borrow_mut().push((id, peer.clone()));
        match &reader.read_line().await?[..] {
            b"panic\n" => panic!("on purpose"),
            _ => Err("on purpose".into()),
        }
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    for (line, word) in [("fail\n", "failed"), ("panic\n", "panicked")] {
        let mut peer = Peer::connect(&server.local_addrs()[0]);
        peer.send(line.as_bytes());
        peer.expect_end(&mut event_loop);
        settle(&mut event_loop);
        let failure = told.borrow_mut().remove(0);
        let (id, address) = ids.borrow_mut().remove(0);
        assert_eq!(failure.transport(), Some(id));
        assert_eq!(failure.peer(), Some(&address));
        let text = format!("a stream handler on {id} (peer {address}) {word}: on purpose");
        assert_eq!(failure.to_string(), text);
    }
}

#[test]
fn a_panic_of_a_task_that_nobody_joins_is_reported_with_the_name_of_the_task() {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    spawn_on(&handle, async { panic!("on purpose") });
    spawn_named_on(&handle, "outer", async {
        spawn_named(String::from("inner"), async { panic!("on purpose") });
    });
    // Its handle is dropped when it has ended.
    let late = spawn_named_on(&handle, "late", async { panic!("on purpose") });
    settle(&mut event_loop);
    assert!(late.is_finished());
    drop(late);
    settle(&mut event_loop);
    let texts: Vec<_> = told.borrow().iter().map(ToString::to_string).collect();
    let expected = [
        "a task panicked: on purpose",
        "a task named inner panicked: on purpose",
        "a task named late panicked: on purpose",
    ];
    assert_eq!(texts, expected);
    let names: Vec<_> = told
        .borrow()
        .iter()
        .map(|failure| failure.name().map(str::to_owned))
        .collect();
    assert_eq!(names, [None, Some("inner".into()), Some("late".into())]);
}

#[test]
fn a_panic_in_the_drop_of_what_a_task_returned_is_reported_with_the_name_of_the_task() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    spawn_named_on(&handle, "detached", async { Bomb });
    let joined = spawn_named_on(&handle, "joined", async { Bomb });
    settle(&mut event_loop);
    drop(joined);
    settle(&mut event_loop);
    let names: Vec<_> = told
        .borrow()
        .iter()
        .map(|failure| failure.name().map(str::to_owned))
        .collect();
    assert_eq!(names, [Some("detached".into()), Some("joined".into())]);
}

#[test]
fn a_name_needs_a_loop_as_the_task_does() {
    let mut task = std::pin::pin!(spawn_named("nobody", async {}));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = task.as_mut().poll(&mut context) else {
        panic!("it was spawned");
    };
    assert!(error.is_no_loop());
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() <= time {
        std::hint::spin_loop();
    }
}

fn slow_lines() -> Vec<String> {
    let lines = logged().into_iter();
    let slow = lines.filter(|line| line.target == "tidegate::slow");
    slow.map(|line| line.text).collect()
}

#[test]
fn a_slow_task_is_logged_by_its_name_and_the_rest_of_the_tick_is_not() {
    keep_log(log::LevelFilter::Warn);
    let limit = Duration::from_millis(20);
    let builder = EventLoop::builder().slow_callback(limit);
    let mut event_loop = builder.build().unwrap();
    let handle = event_loop.handle().clone();
    spawn_named_on(&handle, "sums", async move { spin(limit) });
    spawn_on(&handle, async move { spin(limit) });
    spawn_named_on(&handle, "quick", async {});
    settle(&mut event_loop);
    let lines = slow_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("a task named sums took "), "{lines:?}");
    // One without a name is known by where it was written.
    let place = "a task (streams::failures::a_slow_task_";
    assert!(lines[1].starts_with(place), "{lines:?}");
}

each_kind!(a_slow_handler_is_logged_as_one_with_its_peer);
fn a_slow_handler_is_logged_as_one_with_its_peer(kind: Kind) {
    keep_log(log::LevelFilter::Warn);
    let limit = Duration::from_millis(20);
    let builder = EventLoop::builder().slow_callback(limit);
    let mut event_loop = builder.build().unwrap();
    let dir = TempDir::new();
    let of: Rc<RefCell<String>> = Rc::default();
    let seen = of.clone();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        let (id, peer) = (writer.transport().id(), writer.transport().peer_addr());
        seen.replace(format!("a stream handler on {id} (peer {peer}) took "));
        // Runs within `data_received`.
        reader.read_line().await?;
        spin(limit);
        writer.write_all(b"done\n").await?;
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "the handler", || !of.borrow().is_empty());
    settle(&mut event_loop);
    peer.send(b"go\n");
    peer.expect_end(&mut event_loop);
    let lines = slow_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&*of.borrow()), "{lines:?}");
}
