//! Streams over layers: those that a connection begins with, and those that are put on later.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Calls, Said, Seal, alert, end_of_seal, hello, sealed, unsealed};
use support::{
    Kind, Peer, Streamed, TempDir, drive, each_kind, finish, give_up, now, pattern, poll_once,
    settle, wait,
};
use tidegate::{ConnectOptions, EventLoop, ListenOptions};
use tidegate_streams::{
    Connection, ReadError, StreamOptions, StreamReader, StreamServer, open_connection, relay,
    spawn_on, start_server_on,
};

/// Sends what the layer of a peer would say first, and these bytes through it.
fn greet(peer: &mut Peer, data: &[u8]) {
    peer.send(&[hello(), sealed(data)].concat());
}

/// Runs the loop until the peer has this from the layer, and nothing else.
#[track_caller]
fn expect_said(event_loop: &mut EventLoop, peer: &mut Peer, from: usize, expected: &[Said]) {
    drive(event_loop, &format!("{expected:?} at the peer"), || {
        peer.read_available();
        peer.received().len() >= from && unsealed(&peer.received()[from..]) == expected
    });
}

fn is_cut(error: &ReadError) -> bool {
    let closed = error.as_closed().cloned().map(io::Error::from);
    closed.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

// Put on later.

/// How a reader may hold what it has read ahead.
type Hold = fn(&mut Streamed);

each_kind!(a_layer_gets_what_was_read_ahead_before_all_that_comes_later);
fn a_layer_gets_what_was_read_ahead_before_all_that_comes_later(kind: Kind) {
    let holds: [Hold; 4] = [
        |_| {},
        |s| assert_eq!(now(s.reader.peek(1)).unwrap().len(), 1),
        |s| assert_eq!(now(s.reader.peek(12)).unwrap().len(), 12),
        // Some of it is lent, and more comes behind.
        |s| {
            assert_eq!(now(s.reader.peek(4)).unwrap().len(), 4);
            s.feed(&sealed(b"and more "));
        },
    ];
    for (which, hold) in holds.into_iter().enumerate() {
        let mut s = Streamed::new(kind);
        s.feed(&[b"begin\n".to_vec(), hello(), sealed(b"ahead ")].concat());
        assert_eq!(now(s.reader.read_line()).unwrap(), "begin\n");
        hold(&mut s);
        let opening = s.reader.start_layer(Seal::server());
        assert_eq!(s.reader.buffered(), 0, "hold {which}");
        s.peer.send(&sealed(b"behind"));
        wait(&mut s.event_loop, "the layer", opening).unwrap();
        s.peer.send(&end_of_seal());
        let all = wait(&mut s.event_loop, "all of it", s.reader.read_to_end(99)).unwrap();
        let expected = if which == 3 {
            "ahead and more behind"
        } else {
            "ahead behind"
        };
        assert_eq!(all, expected, "hold {which}");
        assert!(s.reader.at_eof());
    }
}

each_kind!(what_is_written_before_a_layer_goes_past_it_and_the_rest_goes_through);
fn what_is_written_before_a_layer_goes_past_it_and_the_rest_goes_through(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.writer.write(b"plain").unwrap();
    let opening = s.reader.start_layer(Seal::server());
    // Neither the wait nor the handshake stands between the call and what it does.
    s.writer.write(b"secret").unwrap();
    drop(opening);
    s.peer.expect(&mut s.event_loop, 5);
    settle(&mut s.event_loop);
    s.peer.read_available();
    assert_eq!(s.peer.received(), b"plain");
    s.peer.send(&hello());
    let all = [Said::Hello, Said::Data(b"secret".to_vec())];
    expect_said(&mut s.event_loop, &mut s.peer, 5, &all);
}

each_kind!(a_layer_that_is_refused_leaves_what_was_read_ahead_in_the_reader);
fn a_layer_that_is_refused_leaves_what_was_read_ahead_in_the_reader(kind: Kind) {
    let calls = Calls::default();
    for peeked in [false, true] {
        let mut s = Streamed::new(kind);
        s.feed(b"some bytes");
        if peeked {
            now(s.reader.peek(4)).unwrap();
        }
        let layer = Seal::server().limit(Duration::ZERO).noted_in(&calls);
        let error = now(s.reader.start_layer(layer)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert_eq!(s.reader.buffered(), 10);
        s.feed(b", and more");
        s.writer.write_eof().unwrap();
        let layer = Seal::server().noted_in(&calls);
        now(s.reader.start_layer(layer)).unwrap_err();
        let held = wait(&mut s.event_loop, "the bytes", s.reader.read_chunk(99));
        assert_eq!(held.unwrap(), "some bytes, and more");
        settle(&mut s.event_loop);
        assert_eq!(calls.take(), ["drop", "drop"]);
    }
    let (mut reader, _feed) = StreamReader::detached(StreamOptions::new());
    let error = now(reader.start_layer(Seal::server())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
}

each_kind!(a_reader_that_was_full_reads_on_for_its_layer);
fn a_reader_that_was_full_reads_on_for_its_layer(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(4);
    let first = [b"go\n".to_vec(), hello()].concat();
    s.feed(&first);
    assert!(!s.writer.transport().is_reading(), "it is full");
    s.peer.send(&sealed(b"secret"));
    assert_eq!(now(s.reader.read_line()).unwrap(), "go\n");
    let opening = s.reader.start_layer(Seal::server());
    wait(&mut s.event_loop, "the layer", opening).unwrap();
    let read = wait(&mut s.event_loop, "a read", s.reader.read_chunk(99));
    assert_eq!(read.unwrap(), "secret");
}

each_kind!(a_layer_that_does_not_open_fails_the_wait_and_the_reads);
fn a_layer_that_does_not_open_fails_the_wait_and_the_reads(kind: Kind) {
    type Spoil = fn(&mut Peer);
    let spoils: [(Spoil, io::ErrorKind); 3] = [
        (
            |peer| peer.send(&alert("no")),
            io::ErrorKind::PermissionDenied,
        ),
        (|peer| peer.send(b"x\0\0"), io::ErrorKind::InvalidData),
        (|peer| peer.shutdown_write(), io::ErrorKind::UnexpectedEof),
    ];
    for (spoil, expected) in spoils {
        let mut s = Streamed::new(kind);
        let opening = s.reader.start_layer(Seal::server());
        spoil(&mut s.peer);
        let error = wait(&mut s.event_loop, "the failure", opening).unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
        let read = wait(&mut s.event_loop, "a read", s.reader.read_chunk(9));
        let error = io::Error::from(read.unwrap_err());
        assert_eq!(error.kind(), expected, "{error}");
    }
}

// The end.

each_kind!(a_cut_stream_is_an_error_behind_its_data_and_never_an_end_of_stream);
fn a_cut_stream_is_an_error_behind_its_data_and_never_an_end_of_stream(kind: Kind) {
    for held in [false, true] {
        let mut s = Streamed::new(kind);
        drop(s.reader.start_layer(Seal::server()));
        greet(&mut s.peer, b"a line\nthe rest");
        if held {
            wait(&mut s.event_loop, "data", s.reader.readable()).unwrap();
        }
        s.peer.shutdown_write();
        if held {
            s.lose();
        }
        let event_loop = &mut s.event_loop;
        let line = wait(event_loop, "a line", s.reader.read_line());
        assert_eq!(line.unwrap(), "a line\n");
        // A part that cannot become whole is an error, and stays.
        let error = wait(event_loop, "its end", s.reader.read_line()).unwrap_err();
        assert!(is_cut(&error), "{error:?}");
        let error = now(s.reader.read_to_end(99)).unwrap_err();
        assert!(is_cut(&error), "{error:?}");
        assert_eq!(now(s.reader.read_chunk(99)).unwrap(), "the rest");
        for _ in 0..2 {
            assert!(is_cut(&now(s.reader.read_chunk(9)).unwrap_err()));
            assert!(is_cut(&now(s.reader.read(&mut [0; 9])).unwrap_err()));
            assert!(is_cut(&now(s.reader.lines().next()).unwrap_err()));
            assert!(!s.reader.at_eof());
        }
    }
}

each_kind!(a_cut_stream_is_an_error_in_the_traits_of_other_crates_too);
fn a_cut_stream_is_an_error_in_the_traits_of_other_crates_too(kind: Kind) {
    let mut s = Streamed::new(kind);
    drop(s.reader.start_layer(Seal::server()));
    greet(&mut s.peer, b"data");
    s.peer.shutdown_write();
    s.lose();
    let mut connection = Connection::new(s.reader, s.writer);
    let read = now(async {
        let mut buffer = [0; 9];
        let mut buffer = tokio::io::ReadBuf::new(&mut buffer);
        std::future::poll_fn(|context| {
            let connection = std::pin::Pin::new(&mut connection);
            tokio::io::AsyncRead::poll_read(connection, context, &mut buffer)
        })
        .await
        .map(|()| buffer.filled().len())
    });
    assert_eq!(read.unwrap(), 4);
    for _ in 0..2 {
        let read = now(std::future::poll_fn(|context| {
            let connection = std::pin::Pin::new(&mut connection);
            futures_io::AsyncRead::poll_read(connection, context, &mut [0; 9])
        }));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

each_kind!(the_end_of_a_layers_stream_is_one_of_the_reader_and_writing_goes_on);
fn the_end_of_a_layers_stream_is_one_of_the_reader_and_writing_goes_on(kind: Kind) {
    let mut s = Streamed::new(kind);
    drop(s.reader.start_layer(Seal::server()));
    greet(&mut s.peer, b"last");
    s.peer.send(&end_of_seal());
    let read = wait(&mut s.event_loop, "the end", s.reader.read_to_end(99));
    assert_eq!(read.unwrap(), "last");
    assert!(s.reader.at_eof());
    let writer = s.writer;
    writer.write(b"reply").unwrap();
    wait(&mut s.event_loop, "the close", writer.close()).unwrap();
    let all = [Said::Hello, Said::Data(b"reply".to_vec()), Said::End];
    expect_said(&mut s.event_loop, &mut s.peer, 0, &all);
    s.peer.expect_end(&mut s.event_loop);
    assert!(s.peer.saw_eof());
}

// From the start.

/// A server that echoes lines through a layer, and the number of its handlers that have begun.
fn lines(event_loop: &EventLoop, at: &str) -> (StreamServer, Rc<RefCell<Vec<String>>>) {
    let begun: Rc<RefCell<Vec<String>>> = Rc::default();
    let noted = begun.clone();
    let options = ListenOptions::new(at).layer(Seal::server);
    let server = start_server_on(
        event_loop.handle(),
        options,
        async move |mut reader, writer| {
            let first = reader.read_line().await?;
            noted
                .borrow_mut()
                .push(String::from_utf8_lossy(&first).into());
            writer.write(&first)?;
            while let Some(line) = reader.lines().next().await? {
                writer.write(&line)?;
            }
            Ok(())
        },
    );
    (server.unwrap(), begun)
}

each_kind!(both_ends_are_streams_through_the_same_kind_of_layer);
fn both_ends_are_streams_through_the_same_kind_of_layer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (server, _) = lines(&event_loop, &kind.somewhere(&dir));
    let to = server.local_addrs()[0].clone();
    finish(&mut event_loop, "the talk", async move {
        let options = ConnectOptions::new(&to).layer(Seal::client());
        let (mut reader, writer) = open_connection(options).await.unwrap();
        for number in 0..100 {
            let line = [pattern(number, 2000), b"\n".to_vec()].concat();
            let line: Vec<u8> = line.into_iter().filter(|&byte| byte != b'\n').collect();
            let line = [line, b"\n".to_vec()].concat();
            writer.write(&line).unwrap();
            assert_eq!(reader.read_line().await.unwrap(), line);
        }
        writer.write_eof().unwrap();
        assert_eq!(reader.read_to_end(9).await.unwrap(), "");
        writer.close().await.unwrap();
        assert!(writer.closed().unwrap().is_clean());
        server.close();
        server.wait_closed().await.unwrap();
    });
}

each_kind!(a_handler_starts_when_its_layers_are_open);
fn a_handler_starts_when_its_layers_are_open(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (server, begun) = lines(&event_loop, &kind.somewhere(&dir));
    let to = &server.local_addrs()[0];
    let (mut slow, mut quick) = (Peer::connect(to), Peer::connect(to));
    let first = hello();
    slow.send(&first[..first.len() - 1]);
    drive(&mut event_loop, "both connections", || {
        server.connection_count() == 2
    });
    greet(&mut quick, b"quick\n");
    let reply = [Said::Hello, Said::Data(b"quick\n".to_vec())];
    expect_said(&mut event_loop, &mut quick, 0, &reply);
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connections, 2);
    assert_eq!(*begun.borrow(), ["quick\n"]);
    slow.send(&first[first.len() - 1..]);
    slow.send(&sealed(b"slow\n"));
    let reply = [Said::Hello, Said::Data(b"slow\n".to_vec())];
    expect_said(&mut event_loop, &mut slow, 0, &reply);
    assert_eq!(*begun.borrow(), ["quick\n", "slow\n"]);
}

each_kind!(a_connection_whose_layer_does_not_open_has_no_handler);
fn a_connection_whose_layer_does_not_open_has_no_handler(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let told = support::failures(event_loop.handle());
    let (server, begun) = lines(&event_loop, &kind.somewhere(&dir));
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.send(b"x\0\0");
    peer.expect_end(&mut event_loop);
    let mut leaves = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "the connection", || {
        server.connection_count() == 1
    });
    leaves.close();
    drive(&mut event_loop, "the end of the connections", || {
        server.connection_count() == 0
    });
    let report = wait(
        &mut event_loop,
        "the shutdown",
        server.shutdown(Duration::from_secs(5)),
    );
    let report = report.unwrap();
    assert_eq!((report.closed, report.aborted, report.unsent), (0, 0, 0));
    assert!(begun.borrow().is_empty());
    assert!(told.borrow().is_empty(), "{told:?}");
}

each_kind!(an_open_fails_with_the_error_of_its_layer);
fn an_open_fails_with_the_error_of_its_layer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let options = ConnectOptions::new(&address).layer(Seal::client());
    let task = spawn_on(event_loop.handle(), open_connection(options));
    settle(&mut event_loop);
    let mut peer = Peer::new(listener.accept().unwrap().0);
    expect_said(&mut event_loop, &mut peer, 0, &[Said::Hello]);
    assert!(!task.is_finished());
    peer.send(&alert("not you"));
    let error = wait(&mut event_loop, "the failure", task)
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("not you"), "{error}");
}

each_kind!(an_open_that_is_dropped_while_its_layer_opens_leaves_nothing_behind);
fn an_open_that_is_dropped_while_its_layer_opens_leaves_nothing_behind(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let calls = Calls::default();
    let layer = Seal::client().noted_in(&calls);
    let options = ConnectOptions::new(&address).layer(layer);
    let (opening,) = finish(&mut event_loop, "its first poll", async move {
        let mut opening = Box::pin(open_connection(options));
        assert!(poll_once(opening.as_mut()).is_pending());
        (opening,)
    });
    let mut peer = Peer::new(listener.accept().unwrap().0);
    expect_said(&mut event_loop, &mut peer, 0, &[Said::Hello]);
    drop(opening);
    peer.expect_end(&mut event_loop);
    drop(peer);
    settle(&mut event_loop);
    let left = event_loop.handle().stats();
    let counts = (
        left.connections,
        left.lingering,
        left.connecting,
        left.timers,
    );
    assert_eq!(counts, (0, 0, 0, 0));
    assert_eq!(*calls.borrow(), ["start", "drop"]);
}

// With what else streams do.

each_kind!(a_relay_passes_plain_bytes_from_one_layer_to_another);
fn a_relay_passes_plain_bytes_from_one_layer_to_another(kind: Kind) {
    let (mut front, mut back) = (Streamed::new(kind), Streamed::new(kind));
    // One loop for both.
    let (reader, writer, peer) = support::opened(&mut front.event_loop, kind);
    (back.reader, back.writer, back.peer) = (reader, writer, peer);
    drop(front.reader.start_layer(Seal::server()));
    let opening = back.reader.start_layer(Seal::client());
    greet(&mut front.peer, b"ahead ");
    greet(&mut back.peer, b"greeting ");
    let event_loop = &mut front.event_loop;
    wait(event_loop, "the layer", opening).unwrap();
    wait(event_loop, "the bytes", front.reader.readable()).unwrap();
    let one = Connection::new(front.reader, front.writer);
    let two = Connection::new(back.reader, back.writer);
    let task = spawn_on(event_loop.handle(), relay(one, two));
    front
        .peer
        .send(&[sealed(b"and behind"), end_of_seal()].concat());
    let said = [
        Said::Hello,
        Said::Data(b"ahead and behind".to_vec()),
        Said::End,
    ];
    expect_said(event_loop, &mut back.peer, 0, &said);
    back.peer.send(&end_of_seal());
    let said = [Said::Hello, Said::Data(b"greeting ".to_vec()), Said::End];
    expect_said(event_loop, &mut front.peer, 0, &said);
    let report = wait(event_loop, "the report", task).unwrap().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.to_back.sent, report.to_front.sent), (16, 9));
}

each_kind!(a_read_that_waits_for_a_layer_is_cancel_safe);
fn a_read_that_waits_for_a_layer_is_cancel_safe(kind: Kind) {
    let mut s = Streamed::new(kind);
    drop(s.reader.start_layer(Seal::server()));
    give_up(s.reader.read_chunk(9));
    greet(&mut s.peer, b"kept");
    drive(&mut s.event_loop, "the bytes", || s.reader.buffered() == 4);
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "kept");
}
