//! The end of a stream that was cut, as its peer sees it: over TCP a reset, where bytes were lost.

use crate::failures::Wrapped;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, MIB, Peer, TempDir, drive, each_kind, failures, finish, never_paused, opened, settle,
    stall, text,
};
use tidegate::{
    BoxError, CloseReason, EventLoop, ListenOptions, Result, Transport, WriteError, WriteLimits,
};
use tidegate_streams::{StreamReader, StreamWriter, spawn_on, start_server_on};

const MOMENT: Duration = Duration::from_millis(1);

#[track_caller]
fn expect_cut(event_loop: &mut EventLoop, kind: Kind, peer: &mut Peer, transport: &Transport) {
    let unsent = transport.closed().map_or(0, |closed| closed.unsent());
    assert!(unsent > 0, "{transport:?}");
    peer.expect_end(event_loop);
    match kind {
        Kind::Tcp => assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset)),
        Kind::Unix => assert!(peer.saw_eof()),
    }
    let received = peer.received();
    assert!(received == text(0, received.len()));
}

/// Ends a stream that has bytes unsent; the loop, too, in some ways.
type Cut = fn(EventLoop, StreamReader, StreamWriter);

fn run_to_the_end(event_loop: &mut EventLoop, transport: &Transport) {
    drive(event_loop, "the end", || transport.closed().is_some());
    settle(event_loop);
}

each_kind!(a_stream_that_loses_bytes_is_reset_however_it_was_left);
fn a_stream_that_loses_bytes_is_reset_however_it_was_left(kind: Kind) {
    let cuts: [Cut; 6] = [
        |mut event_loop, _reader, writer| {
            writer.abort();
            run_to_the_end(&mut event_loop, writer.transport());
        },
        |mut event_loop, _reader, writer| {
            writer.close().detach();
            writer.transport().close_within(MOMENT);
            run_to_the_end(&mut event_loop, writer.transport());
        },
        |mut event_loop, _reader, writer| {
            let transport = writer.transport().clone();
            transport.set_write_timeout(Some(MOMENT));
            drop(writer);
            run_to_the_end(&mut event_loop, &transport);
        },
        // The loop ends: with the writer there, dropped, and in a task.
        |event_loop, _reader, _writer| drop(event_loop),
        |event_loop, _reader, writer| {
            drop(writer);
            drop(event_loop);
        },
        |mut event_loop, _reader, writer| {
            drop(spawn_on(event_loop.handle(), async move {
                let _writer = writer;
                std::future::pending::<()>().await;
            }));
            settle(&mut event_loop);
            drop(event_loop);
        },
    ];
    for cut in cuts {
        let mut event_loop = EventLoop::new().unwrap();
        let (reader, writer, mut peer) = opened(&mut event_loop, kind);
        let transport = writer.transport().clone();
        stall(&mut event_loop, never_paused(&transport), MIB);
        cut(event_loop, reader, writer);
        let mut other = EventLoop::new().unwrap();
        expect_cut(&mut other, kind, &mut peer, &transport);
    }
}

each_kind!(a_shutdown_of_stream_handlers_resets_what_loses_bytes_and_nothing_else);
fn a_shutdown_of_stream_handlers_resets_what_loses_bytes_and_nothing_else(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let transports = Rc::new(RefCell::new(Vec::new()));
    let seen = transports.clone();
    let serve = async move |mut reader: StreamReader, writer: StreamWriter| {
        let asks = &reader.read_line().await?[..] == b"much\n";
        seen.borrow_mut().push(writer.transport().clone());
        let len = if asks { 32 * MIB } else { 10 };
        writer.write_all(&text(0, len)).await?;
        reader.read_line().await?;
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
    let address = server.local_addrs()[0].clone();
    let (mut slow, mut idle) = (Peer::connect(&address), Peer::connect(&address));
    slow.send(b"much\n");
    settle(&mut event_loop);
    idle.send(b"little\n");
    settle(&mut event_loop);
    finish(&mut event_loop, "shutdown", server.shutdown(MOMENT)).unwrap();
    let slowly = transports.borrow()[0].clone();
    expect_cut(&mut event_loop, kind, &mut slow, &slowly);
    idle.expect_end(&mut event_loop);
    assert!(idle.saw_eof());
    assert_eq!(idle.received(), text(0, 10));
}

/// The forms in which a handler passes a refused write on.
const FORMS: [fn(WriteError) -> BoxError; 3] = [
    |refusal| refusal.into(),
    |refusal| io::Error::from(refusal).into(),
    |refusal| Wrapped(refusal.into()).into(),
];

/// Writes until the cap refuses more.
fn write_to_the_cap(writer: &StreamWriter) -> WriteError {
    loop {
        let written = writer.transport().written();
        if let Err(refusal) = writer.write(&text(written, 100_000)) {
            assert!(
                matches!(refusal, WriteError::BufferFull { .. }),
                "{refusal}"
            );
            return refusal;
        }
    }
}

/// Connects to a server of this handler, with a cap of a mebibyte.
fn serve<F>(event_loop: &mut EventLoop, kind: Kind, handler: F) -> Peer
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + 'static,
{
    let dir = TempDir::new();
    let limits = WriteLimits::new().with_cap(MIB);
    let at = ListenOptions::new(kind.somewhere(&dir)).write_limits(limits);
    let server = start_server_on(event_loop.handle(), at, handler).unwrap();
    Peer::connect(&server.local_addrs()[0])
}

/// The peer got a part, and an end that says so where the kind of socket has one.
#[track_caller]
fn expect_reset(event_loop: &mut EventLoop, kind: Kind, peer: &mut Peer) {
    peer.expect_end(event_loop);
    let error = (kind == Kind::Tcp).then_some(ErrorKind::ConnectionReset);
    assert_eq!(peer.saw_error(), error);
    let received = peer.received();
    assert!(received == text(0, received.len()));
}

each_kind!(a_handler_that_fails_for_a_refused_write_ends_as_a_failed_callback_does);
fn a_handler_that_fails_for_a_refused_write_ends_as_a_failed_callback_does(kind: Kind) {
    for form in FORMS {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let seen: Rc<RefCell<Option<Transport>>> = Rc::default();
        let slot = seen.clone();
        let mut peer = serve(&mut event_loop, kind, async move |_, writer| {
            slot.replace(Some(writer.transport().clone()));
            Err(form(write_to_the_cap(&writer)))
        });
        drive(&mut event_loop, "the failure", || !told.borrow().is_empty());
        let transport = seen.take().unwrap();
        run_to_the_end(&mut event_loop, &transport);
        expect_cut(&mut event_loop, kind, &mut peer, &transport);
        let closed = transport.closed().unwrap();
        assert!(
            matches!(closed.reason(), CloseReason::Callback(_)),
            "{closed}"
        );
        assert!(closed.to_string().contains("at its cap"), "{closed}");
        assert_eq!(told.borrow().len(), 1, "{told:?}");
        let text = told.borrow()[0].to_string();
        assert!(text.starts_with("a stream handler on #"), "{text}");
    }
}

each_kind!(a_handler_that_fails_for_a_refused_write_is_a_cut_though_all_that_was_taken_was_sent);
fn a_handler_that_fails_for_a_refused_write_is_a_cut_though_all_that_was_taken_was_sent(
    kind: Kind,
) {
    // The handler fails by the error, by another one, and by a panic.
    for way in 0..3 {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let mut peer = serve(&mut event_loop, kind, async move |_, writer| {
            let refusal = write_to_the_cap(&writer);
            writer.flush().await?;
            match way {
                0 => Err(refusal.into()),
                1 => Err("no room".into()),
                _ => panic!("no room"),
            }
        });
        expect_reset(&mut event_loop, kind, &mut peer);
        assert!(peer.received().len() > MIB);
        drive(&mut event_loop, "the failure", || !told.borrow().is_empty());
    }
}

each_kind!(a_handler_that_has_given_its_writer_away_ends_the_connection_by_a_refused_write);
fn a_handler_that_has_given_its_writer_away_ends_the_connection_by_a_refused_write(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let kept: Rc<RefCell<Option<StreamWriter>>> = Rc::default();
    let keeper = kept.clone();
    let mut peer = serve(&mut event_loop, kind, async move |_, writer| {
        let refusal = write_to_the_cap(&writer);
        keeper.replace(Some(writer));
        Err(refusal.into())
    });
    expect_reset(&mut event_loop, kind, &mut peer);
    drive(&mut event_loop, "the failure", || !told.borrow().is_empty());
    let closed = kept.borrow().as_ref().unwrap().closed().unwrap();
    assert!(closed.to_string().contains("at its cap"), "{closed}");
}

each_kind!(a_task_that_fails_for_a_refused_write_ends_its_connection_as_a_failed_callback_does);
fn a_task_that_fails_for_a_refused_write_ends_its_connection_as_a_failed_callback_does(kind: Kind) {
    // With bytes unsent, and when all that were taken are sent.
    for flushes in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
        let transport = writer.transport().clone();
        let limits = WriteLimits::new().with_cap(MIB);
        transport.set_write_limits(limits).unwrap();
        let task = spawn_on(event_loop.handle(), async move {
            let refusal = write_to_the_cap(&writer);
            if flushes {
                writer.flush().await?;
            }
            Err::<(), BoxError>(refusal.into())
        });
        expect_reset(&mut event_loop, kind, &mut peer);
        assert!(task.is_finished());
        let closed = transport.closed().unwrap();
        assert_eq!(closed.unsent() == 0, flushes, "{closed}");
        assert!(closed.to_string().contains("at its cap"), "{closed}");
    }
}

each_kind!(a_writer_that_dealt_with_a_refused_write_ends_in_order);
fn a_writer_that_dealt_with_a_refused_write_ends_in_order(kind: Kind) {
    // By a close, and by a later write that is taken.
    for closes in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let transport: Rc<RefCell<Option<Transport>>> = Rc::default();
        let seen = transport.clone();
        let mut peer = serve(&mut event_loop, kind, async move |_, writer| {
            seen.replace(Some(writer.transport().clone()));
            let _ = write_to_the_cap(&writer);
            if closes {
                writer.close().await?;
            } else {
                writer
                    .write_all(&text(writer.transport().written(), 10))
                    .await?;
            }
            Ok(())
        });
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof(), "{:?}", peer.saw_error());
        let transport = transport.take().unwrap();
        peer.expect_text(&mut event_loop, &transport);
        run_to_the_end(&mut event_loop, &transport);
        assert!(transport.closed().unwrap().is_clean());
    }
}

each_kind!(a_handler_that_fails_for_a_refused_write_to_another_connection_ends_its_own_in_order);
fn a_handler_that_fails_for_a_refused_write_to_another_connection_ends_its_own_in_order(
    kind: Kind,
) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, other, _other_peer) = opened(&mut event_loop, kind);
    let limits = WriteLimits::new().with_cap(MIB);
    other.transport().set_write_limits(limits).unwrap();
    let transport = other.transport().clone();
    let own: Rc<RefCell<Option<Transport>>> = Rc::default();
    let seen = own.clone();
    let mut peer = serve(&mut event_loop, kind, async move |_, writer| {
        seen.replace(Some(writer.transport().clone()));
        writer.write(&text(0, 1000))?;
        Err(write_to_the_cap(&other).into())
    });
    peer.expect_end(&mut event_loop);
    let own = own.take().unwrap();
    run_to_the_end(&mut event_loop, &own);
    assert!(own.closed().unwrap().is_clean(), "{own:?}");
    assert!(peer.saw_eof(), "{:?}", peer.saw_error());
    assert_eq!(peer.received(), text(0, 1000));
    assert_eq!(transport.closed(), None);
}
