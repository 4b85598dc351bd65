//! Servers whose connections have a task each.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use support::{
    BOUND, Dropped, Kind, Peer, TempDir, assert_refused, drive, each_kind, failures, finish,
    poll_once, settle,
};
use tidegate::{EventLoop, ListenOptions, Result, WriteLimits};
use tidegate_streams::{
    StreamReader, StreamServer, StreamWriter, spawn, start_server, start_server_on,
};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result {
    loop {
        let chunk = reader.read_chunk(64 * 1024).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        writer.write_all(&chunk).await?;
    }
}

/// Connects peers and waits until the server has them.
fn connect<const N: usize>(event_loop: &mut EventLoop, server: &StreamServer) -> [Peer; N] {
    let before = server.connection_count();
    let peers = std::array::from_fn(|_| Peer::connect(&server.local_addrs()[0]));
    drive(event_loop, "the server to accept", || {
        server.connection_count() == before + N
    });
    settle(event_loop);
    peers
}

each_kind!(a_handler_is_an_async_fn_an_async_closure_or_what_makes_futures);
fn a_handler_is_an_async_fn_an_async_closure_or_what_makes_futures(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dirs = [TempDir::new(), TempDir::new(), TempDir::new()];
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let servers = [
        start_server_on(&handle, kind.somewhere(&dirs[0]), echo),
        start_server_on(
            &handle,
            kind.somewhere(&dirs[1]),
            async move |reader, writer| {
                counted.set(counted.get() + 1);
                echo(reader, writer).await
            },
        ),
        start_server_on(&handle, kind.somewhere(&dirs[2]), |reader, writer| {
            echo(reader, writer)
        }),
    ];
    for server in servers {
        let server = server.unwrap();
        let [mut one, mut two] = connect::<2>(&mut event_loop, &server);
        one.send(b"first");
        two.send(b"second");
        one.expect(&mut event_loop, 5);
        two.expect(&mut event_loop, 6);
        assert_eq!(
            (one.received(), two.received()),
            (&b"first"[..], &b"second"[..])
        );
        one.shutdown_write();
        one.expect_end(&mut event_loop);
        assert!(one.saw_eof());
        drive(&mut event_loop, "one to end", || {
            server.connection_count() == 1
        });
    }
    assert_eq!(calls.get(), 2, "{kind:?}");
}

#[test]
fn a_server_cannot_be_started_where_no_loop_runs() {
    let error = start_server("127.0.0.1:0", echo).unwrap_err();
    assert!(error.to_string().contains("no event loop"), "{error}");
}

#[test]
fn an_address_in_use_is_an_error_of_the_start() {
    let event_loop = EventLoop::new().unwrap();
    let first = start_server_on(event_loop.handle(), "127.0.0.1:0", echo).unwrap();
    let taken = &first.local_addrs()[0];
    let error = start_server_on(event_loop.handle(), taken, echo).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

each_kind!(a_handler_that_fails_or_panics_ends_its_own_connection_alone_and_gracefully);
fn a_handler_that_fails_or_panics_ends_its_own_connection_alone_and_gracefully(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let ids = Rc::new(RefCell::new(Vec::new()));
    let seen = ids.clone();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        seen.borrow_mut().push(writer.transport().id());
        let line = reader.read_line().await?;
        writer.transport().set_write_limits(support::no_limits())?;
        // More than the kernel takes: it is sent after the handler has ended.
        writer.write(&vec![b'.'; 8 << 20])?;
        match &line[..] {
            b"fail\n" => Err("it failed on purpose".into()),
            b"panic\n" => panic!("it panicked on purpose"),
            _ => Ok(()),
        }
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let [mut fails, mut panics, mut lives] = connect::<3>(&mut event_loop, &server);
    fails.send(b"fail\n");
    panics.send(b"panic\n");
    for peer in [&mut fails, &mut panics] {
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof(), "{kind:?}: gracefully");
        assert_eq!(peer.received().len(), 8 << 20, "{kind:?}");
    }
    drive(&mut event_loop, "both to end", || {
        server.connection_count() == 1
    });
    lives.send(b"live\n");
    lives.expect_end(&mut event_loop);
    assert_eq!(lives.received().len(), 8 << 20, "{kind:?}");
    let told = told.borrow();
    let told: Vec<_> = told
        .iter()
        .map(|failure| (failure.transport(), failure.to_string()))
        .collect();
    assert_eq!(told.len(), 2, "{kind:?}: {told:?}");
    for (n, word) in ["failed on purpose", "panicked on purpose"]
        .iter()
        .enumerate()
    {
        let one = told.iter().find(|(_, text)| text.contains(word));
        let (id, text) = one.unwrap_or_else(|| panic!("no {word} in {told:?}"));
        assert_eq!(*id, Some(ids.borrow()[n]), "{kind:?}: {text}");
        assert!(text.contains("handler"), "{text}");
    }
}

each_kind!(the_connection_lives_as_long_as_the_writer_wherever_the_handler_gave_it);
fn the_connection_lives_as_long_as_the_writer_wherever_the_handler_gave_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keeps = kept.clone();
    let server = start_server_on(
        event_loop.handle(),
        kind.somewhere(&dir),
        async move |_, writer| {
            keeps.borrow_mut().push(writer);
            Ok(())
        },
    )
    .unwrap();
    let [mut peer] = connect::<1>(&mut event_loop, &server);
    assert_eq!((server.connection_count(), kept.borrow().len()), (1, 1));
    kept.borrow()[0].write(b"later").unwrap();
    peer.expect(&mut event_loop, 5);
    kept.take();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof(), "{kind:?}");
}

each_kind!(the_server_has_the_methods_of_the_core_s_one);
fn the_server_has_the_methods_of_the_core_s_one(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir).as_str()).start_serving(false);
    let server = start_server_on(event_loop.handle(), options, echo).unwrap();
    let address = server.local_addrs()[0].clone();
    assert!(!server.is_serving());
    server.start_serving().unwrap();
    assert!(server.is_serving());
    let [mut one, mut two] = connect::<2>(&mut event_loop, &server);
    assert_eq!(server.clone().connection_count(), 2);
    server.close();
    assert!(!server.is_serving());
    assert_refused(&address);
    // Connections and handlers stay.
    one.send(b"still");
    one.expect(&mut event_loop, 5);
    let mut closed = Box::pin(server.wait_closed());
    assert!(poll_once(closed.as_mut()).is_pending());
    server.close_clients();
    for peer in [&mut one, &mut two] {
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof());
    }
    finish(&mut event_loop, "wait_closed", closed).unwrap();
    assert_eq!(server.connection_count(), 0);
    assert!(server.start_serving().is_err());
    assert!(server.handle() == event_loop.handle());
    assert!(format!("{server:?}").contains("StreamServer"));
}

each_kind!(aborted_clients_end_at_once_and_their_handlers_see_it);
fn aborted_clients_end_at_once_and_their_handlers_see_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let told: Rc<RefCell<Vec<String>>> = Rc::default();
    let seen = told.clone();
    let serve = async move |reader: StreamReader, writer: StreamWriter| {
        let ended = echo(reader, writer).await;
        seen.borrow_mut().push(ended.unwrap_err().to_string());
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let [mut peer] = connect::<1>(&mut event_loop, &server);
    server.abort_clients();
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "the handler", || told.borrow().len() == 1);
    let told = &told.borrow()[0];
    assert!(told.contains("aborted"), "{kind:?}: {told}");
}

each_kind!(a_shutdown_waits_for_handlers_that_end_in_time_and_for_what_they_wrote);
fn a_shutdown_waits_for_handlers_that_end_in_time_and_for_what_they_wrote(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let server = start_server_on(
        event_loop.handle(),
        kind.somewhere(&dir),
        async |mut reader: StreamReader, writer: StreamWriter| {
            let line = reader.read_line().await?;
            writer.transport().set_write_limits(support::no_limits())?;
            writer.write(&line)?;
            writer.write(&vec![b'.'; 8 << 20])?;
            Ok(())
        },
    )
    .unwrap();
    let address = server.local_addrs()[0].clone();
    let [mut one, mut two] = connect::<2>(&mut event_loop, &server);
    let mut shutdown = Box::pin(server.shutdown(BOUND));
    settle(&mut event_loop);
    assert!(poll_once(shutdown.as_mut()).is_pending());
    assert_refused(&address);
    assert!(!server.is_serving());
    for peer in [&mut one, &mut two] {
        // They are not told: the connections work as before.
        peer.send(b"go on\n");
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof());
        assert_eq!(peer.received().len(), 6 + (8 << 20), "{kind:?}");
        peer.close();
    }
    let report = finish(&mut event_loop, "shutdown", shutdown).unwrap();
    assert_eq!(
        (report.closed, report.aborted, report.unsent),
        (2, 0, 0),
        "{kind:?}"
    );
    let again = finish(&mut event_loop, "a second shutdown", server.shutdown(BOUND)).unwrap();
    assert_eq!(again, report);
}

each_kind!(a_shutdown_cuts_handlers_that_do_not_end_and_counts_them);
fn a_shutdown_cuts_handlers_that_do_not_end_and_counts_them(kind: Kind) {
    for grace in [Duration::ZERO, Duration::from_millis(30)] {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let dir = TempDir::new();
        let (dropped, drops) = Dropped::new();
        let dropped = RefCell::new(Some(dropped));
        let server = start_server_on(
            event_loop.handle(),
            kind.somewhere(&dir),
            async move |mut reader: StreamReader, _writer| {
                if &reader.read_line().await?[..] == b"wait\n" {
                    let _held = dropped.take();
                    pending::<()>().await;
                }
                Ok(())
            },
        )
        .unwrap();
        let [mut waits, mut ends, mut idle] = connect::<3>(&mut event_loop, &server);
        waits.send(b"wait\n");
        settle(&mut event_loop);
        let shutdown = server.shutdown(grace);
        // Without a grace it may be cut before it has read this.
        let in_time = usize::from(grace > Duration::ZERO);
        if in_time == 1 {
            ends.send(b"end\n");
        }
        let start = std::time::Instant::now();
        let report = finish(&mut event_loop, "shutdown", shutdown).unwrap();
        assert!(start.elapsed() >= grace, "{kind:?}: not before its time");
        assert_eq!(report.closed, in_time, "{kind:?}, {grace:?}: {report:?}");
        assert_eq!(
            report.aborted,
            3 - in_time,
            "{kind:?}, {grace:?}: {report:?}"
        );
        assert_eq!(server.connection_count(), 0);
        for peer in [&mut waits, &mut ends, &mut idle] {
            peer.expect_end(&mut event_loop);
        }
        // Values of the handlers are gone with them; being cut is no failure of theirs.
        assert!(drops.try_recv().is_ok(), "{kind:?}");
        assert!(told.borrow().is_empty(), "{:?}", told.borrow());
    }
}

each_kind!(a_shutdown_is_not_held_by_peers_that_do_not_read_and_counts_their_bytes);
fn a_shutdown_is_not_held_by_peers_that_do_not_read_and_counts_their_bytes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let transports = Rc::new(RefCell::new(Vec::new()));
    let seen = transports.clone();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        seen.borrow_mut().push(writer.transport().clone());
        let waits = &reader.read_line().await?[..] == b"wait\n";
        if waits {
            writer.write_all(&vec![b'.'; 32 << 20]).await?;
        } else {
            writer.write(&vec![b'.'; 32 << 20])?;
        }
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let [mut waits, mut leaves] = connect::<2>(&mut event_loop, &server);
    waits.send(b"wait\n");
    leaves.send(b"leave\n");
    settle(&mut event_loop);
    let shutdown = server.shutdown(Duration::from_millis(30));
    let report = finish(&mut event_loop, "shutdown", shutdown).unwrap();
    assert_eq!((report.closed, report.aborted), (0, 2), "{kind:?}");
    let lost: u64 = transports
        .borrow()
        .iter()
        .map(|one| one.written() - one.sent())
        .sum();
    assert!(lost > 0);
    assert_eq!(report.unsent, lost, "{kind:?}");
}

each_kind!(of_two_shutdowns_the_shorter_grace_holds_for_both);
fn of_two_shutdowns_the_shorter_grace_holds_for_both(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let server = start_server_on(
        event_loop.handle(),
        kind.somewhere(&dir),
        async |_reader, _writer| {
            pending::<()>().await;
            Ok(())
        },
    )
    .unwrap();
    let _peers = connect::<2>(&mut event_loop, &server);
    let patient = server.shutdown(Duration::MAX);
    let hasty = server.shutdown(Duration::from_millis(1));
    // Nobody waits for this one; it is done all the same.
    drop(server.shutdown(BOUND));
    let first = finish(&mut event_loop, "the patient one", patient).unwrap();
    let second = finish(&mut event_loop, "the hasty one", hasty).unwrap();
    assert_eq!((first.closed, first.aborted), (0, 2), "{kind:?}");
    assert_eq!(first, second);
}

each_kind!(clients_that_connect_during_a_shutdown_are_refused_and_those_of_the_backlog_are_served);
fn clients_that_connect_during_a_shutdown_are_refused_and_those_of_the_backlog_are_served(
    kind: Kind,
) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), echo).unwrap();
    let address = server.local_addrs()[0].clone();
    let [mut accepted] = connect::<1>(&mut event_loop, &server);
    // In the backlog: the server has not heard of it.
    let mut waiting = Peer::connect(&address);
    let shutdown = server.shutdown(BOUND);
    assert_refused(&address);
    waiting.send(b"still");
    waiting.expect(&mut event_loop, 5);
    for peer in [&mut waiting, &mut accepted] {
        peer.shutdown_write();
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof(), "{kind:?}");
    }
    let report = finish(&mut event_loop, "shutdown", shutdown).unwrap();
    assert_eq!((report.closed, report.aborted), (2, 0), "{kind:?}");
    assert_eq!(report.from_backlog, 1, "{kind:?}");
}

each_kind!(a_handler_may_shut_its_own_server_down_and_start_tasks_that_outlive_it);
fn a_handler_may_shut_its_own_server_down_and_start_tasks_that_outlive_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let slot: Rc<RefCell<Option<StreamServer>>> = Rc::default();
    let own = slot.clone();
    let reports: Rc<RefCell<Vec<_>>> = Rc::default();
    let told = reports.clone();
    let serve = async move |_reader, writer: StreamWriter| {
        let server = own.take().ok_or("called twice")?;
        let shutdown = server.shutdown(BOUND);
        let told = told.clone();
        drop(spawn(async move {
            let report = shutdown.await;
            told.borrow_mut().push(report);
        }));
        writer.write(b"bye")?;
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    slot.replace(Some(server.clone()));
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"bye", "{kind:?}");
    drop(peer);
    drive(&mut event_loop, "the report", || {
        reports.borrow().len() == 1
    });
    let report = reports.take().remove(0).unwrap();
    assert_eq!((report.closed, report.aborted), (1, 0), "{kind:?}");
}

each_kind!(the_limits_of_the_options_hold_for_accepted_connections);
fn the_limits_of_the_options_hold_for_accepted_connections(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let limits = WriteLimits::new().with_high(1000).with_low(10);
    let options = ListenOptions::new(kind.somewhere(&dir).as_str()).write_limits(limits);
    let found = Rc::new(Cell::new(None));
    let seen = found.clone();
    let server = start_server_on(
        event_loop.handle(),
        options,
        async move |_reader, writer: StreamWriter| {
            let limits = writer.transport().write_limits();
            seen.set(Some((limits.high(), limits.low())));
            Ok(())
        },
    )
    .unwrap();
    let _peer = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "the handler", || found.get().is_some());
    assert_eq!(found.get(), Some((1000, 10)), "{kind:?}");
}

each_kind!(everything_of_a_server_is_dropped_with_its_loop);
fn everything_of_a_server_is_dropped_with_its_loop(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (held_by_handler, handler_drops) = Dropped::new();
    let (in_task, task_drops) = Dropped::new();
    let in_task = RefCell::new(Some(in_task));
    let server = start_server_on(
        event_loop.handle(),
        kind.somewhere(&dir),
        async move |_reader, writer: StreamWriter| {
            let _part_of_the_handler = &held_by_handler;
            let _held = in_task.take();
            writer.flush().await?;
            pending::<()>().await;
            Ok(())
        },
    )
    .unwrap();
    let [_peer] = connect::<1>(&mut event_loop, &server);
    let mut shutdown = Box::pin(server.shutdown(BOUND));
    settle(&mut event_loop);
    drop(event_loop);
    assert!(task_drops.try_recv().is_ok(), "{kind:?}: the task");
    assert!(handler_drops.try_recv().is_ok(), "{kind:?}: the handler");
    let Poll::Ready(answer) = poll_once(shutdown.as_mut()) else {
        panic!("it waits for ever");
    };
    answer.unwrap_err();
    assert!(matches!(
        poll_once(Box::pin(server.shutdown(BOUND)).as_mut()),
        Poll::Ready(Err(_))
    ));
    assert_eq!(server.connection_count(), 0);
}
