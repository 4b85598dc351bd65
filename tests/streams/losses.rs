//! The end of a stream that was cut, as its peer sees it: over TCP a reset, where bytes were lost.

use std::io::ErrorKind;
use std::time::Duration;
use support::{
    Kind, MIB, Peer, TempDir, drive, each_kind, finish, never_paused, opened, settle, stall, text,
};
use tidegate::{EventLoop, Transport};
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
    let transports = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
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
