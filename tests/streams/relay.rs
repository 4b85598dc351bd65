//! Two streams that a relay ties together, in whatever state they are.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, Peer, TempDir, drive, each_kind, finish, opened, pattern, settle, stall, wait,
};
use tidegate::{CloseReason, EventLoop, WriteLimits};
use tidegate_streams::{
    Connection, JoinHandle, RelayReport, StreamOptions, StreamReader, StreamWriter, relay,
    spawn_on, start_server_on,
};

/// Two opened connections of one loop, and their peers.
struct Two {
    event_loop: EventLoop,
    front: (StreamReader, StreamWriter),
    back: (StreamReader, StreamWriter),
    front_peer: Peer,
    back_peer: Peer,
}

/// Both while they are tied.
struct Tied {
    event_loop: EventLoop,
    task: JoinHandle<io::Result<RelayReport>>,
    front_peer: Peer,
    back_peer: Peer,
}

impl Two {
    fn new(kind: Kind) -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let (reader, writer, front_peer) = opened(&mut event_loop, kind);
        let front = (reader, writer);
        let (reader, writer, back_peer) = opened(&mut event_loop, kind);
        Self {
            event_loop,
            front,
            back: (reader, writer),
            front_peer,
            back_peer,
        }
    }

    /// Both peers send, and the readers have it.
    fn read_ahead(&mut self, front: &[u8], back: &[u8]) {
        self.front_peer.send(front);
        self.back_peer.send(back);
        let (front_reader, back_reader) = (&self.front.0, &self.back.0);
        drive(&mut self.event_loop, "what is read ahead", || {
            front_reader.buffered() == front.len() && back_reader.buffered() == back.len()
        });
    }

    fn tie(self) -> Tied {
        let front = Connection::new(self.front.0, self.front.1);
        let back = Connection::new(self.back.0, self.back.1);
        Tied {
            task: spawn_on(self.event_loop.handle(), relay(front, back)),
            event_loop: self.event_loop,
            front_peer: self.front_peer,
            back_peer: self.back_peer,
        }
    }
}

impl Tied {
    fn report(&mut self) -> RelayReport {
        wait(&mut self.event_loop, "the report", &mut self.task)
            .unwrap()
            .unwrap()
    }
}

each_kind!(what_was_read_ahead_goes_first_and_is_counted);
fn what_was_read_ahead_goes_first_and_is_counted(kind: Kind) {
    let mut two = Two::new(kind);
    two.read_ahead(b"line\nahead ", b"greeting ");
    // Of what was read ahead a part is taken, and a part was only looked at.
    let line = wait(&mut two.event_loop, "a line", two.front.0.read_line());
    assert_eq!(&line.unwrap()[..], b"line\n");
    let peeked = wait(&mut two.event_loop, "a peek", two.back.0.peek(3));
    assert_eq!(peeked.unwrap(), b"gre");
    let mut tied = two.tie();
    tied.front_peer.send(b"and the rest");
    tied.back_peer.send(b"and more");
    tied.back_peer.expect(&mut tied.event_loop, 18);
    tied.front_peer.expect(&mut tied.event_loop, 17);
    assert_eq!(tied.back_peer.received(), b"ahead and the rest");
    assert_eq!(tied.front_peer.received(), b"greeting and more");
    tied.front_peer.shutdown_write();
    tied.back_peer.shutdown_write();
    let report = tied.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.to_back.sent, report.to_back.lost), (18, 0));
    assert_eq!((report.to_front.sent, report.to_front.lost), (17, 0));
}

each_kind!(an_end_of_stream_is_carried_over_also_when_it_came_before_the_relay);
fn an_end_of_stream_is_carried_over_also_when_it_came_before_the_relay(kind: Kind) {
    for before in [false, true] {
        let mut two = Two::new(kind);
        two.read_ahead(b"question", b"");
        let end = |peer: &Peer, event_loop: &mut EventLoop| {
            peer.shutdown_write();
            settle(event_loop);
        };
        if before {
            end(&two.front_peer, &mut two.event_loop);
        }
        let mut tied = two.tie();
        if !before {
            settle(&mut tied.event_loop);
            end(&tied.front_peer, &mut tied.event_loop);
        }
        tied.back_peer.expect_end(&mut tied.event_loop);
        assert!(tied.back_peer.saw_eof());
        assert_eq!(tied.back_peer.received(), b"question");
        // The other direction goes on.
        tied.back_peer.send(b"reply");
        tied.front_peer.expect(&mut tied.event_loop, 5);
        tied.back_peer.shutdown_write();
        tied.front_peer.expect_end(&mut tied.event_loop);
        let report = tied.report();
        assert!(report.is_clean(), "{before}: {report:?}");
        assert_eq!((report.to_back.sent, report.to_front.sent), (8, 5));
    }
}

#[test]
fn a_reset_of_one_side_resets_the_other() {
    for before in [false, true] {
        let mut two = Two::new(Kind::Tcp);
        if before {
            two.front_peer.reset();
            settle(&mut two.event_loop);
        }
        let mut tied = two.tie();
        if !before {
            settle(&mut tied.event_loop);
            tied.front_peer.reset();
        }
        tied.back_peer.expect_end(&mut tied.event_loop);
        assert_eq!(
            tied.back_peer.saw_error(),
            Some(io::ErrorKind::ConnectionReset),
            "{before}"
        );
        let report = tied.report();
        assert!(report.front.is_reset(), "{report:?}");
        assert_eq!(*report.back.unwrap().reason(), CloseReason::LocalAbort);
    }
}

each_kind!(what_a_side_sent_before_it_ended_still_goes_to_the_other);
fn what_a_side_sent_before_it_ended_still_goes_to_the_other(kind: Kind) {
    let mut two = Two::new(kind);
    two.read_ahead(b"last words", b"");
    two.front.1.abort();
    let reader = &two.front.0;
    drive(&mut two.event_loop, "the end", || reader.closed().is_some());
    let mut tied = two.tie();
    tied.back_peer.expect_end(&mut tied.event_loop);
    assert_eq!(tied.back_peer.received(), b"last words");
    let report = tied.report();
    assert_eq!(*report.front.reason(), CloseReason::LocalAbort);
    assert_eq!((report.to_back.sent, report.to_back.lost), (10, 0));
}

each_kind!(what_was_read_ahead_for_a_side_that_has_ended_counts_as_lost);
fn what_was_read_ahead_for_a_side_that_has_ended_counts_as_lost(kind: Kind) {
    let mut two = Two::new(kind);
    two.read_ahead(b"nobody gets this", b"");
    two.back.1.abort();
    let reader = &two.back.0;
    drive(&mut two.event_loop, "the end", || reader.closed().is_some());
    let mut tied = two.tie();
    tied.front_peer.expect_end(&mut tied.event_loop);
    let report = tied.report();
    assert_eq!((report.to_back.sent, report.to_back.lost), (0, 16));
}

each_kind!(what_was_read_ahead_waits_for_room_below_the_cap_in_both_directions);
fn what_was_read_ahead_waits_for_room_below_the_cap_in_both_directions(kind: Kind) {
    const LEN: usize = 100_000;
    let mut two = Two::new(kind);
    let (up, down) = (pattern(0, LEN), pattern(1 << 40, LEN));
    two.read_ahead(&up, &down);
    // Both write buffers are at their cap.
    let mut stalled = Vec::new();
    for writer in [&two.front.1, &two.back.1] {
        stall(&mut two.event_loop, writer.transport(), 1);
        let full = writer.transport().write_buffer_size();
        let limits = WriteLimits::new().with_high(full).with_cap(full);
        writer.transport().set_write_limits(limits).unwrap();
        stalled.push(writer.transport().written() as usize);
    }
    let mut tied = two.tie();
    settle(&mut tied.event_loop);
    // More comes meanwhile, and the end of one stream.
    tied.front_peer.send(b"more");
    tied.front_peer.shutdown_write();
    tied.front_peer
        .expect(&mut tied.event_loop, stalled[0] + LEN);
    tied.back_peer.shutdown_write();
    tied.back_peer.expect_end(&mut tied.event_loop);
    tied.front_peer.expect_end(&mut tied.event_loop);
    assert!(tied.front_peer.received()[stalled[0]..] == down);
    assert!(tied.back_peer.received()[stalled[1]..] == [&up[..], b"more"].concat());
    let report = tied.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.to_back.sent as usize, LEN + 4);
    assert_eq!(report.to_front.sent as usize, LEN);
}

each_kind!(bytes_that_are_unsent_at_the_end_count_as_lost);
fn bytes_that_are_unsent_at_the_end_count_as_lost(kind: Kind) {
    let mut two = Two::new(kind);
    let len = 100_000;
    two.read_ahead(&pattern(0, len), b"");
    // The back takes nothing, so all of it is unsent when that is aborted.
    stall(&mut two.event_loop, two.back.1.transport(), 1);
    let before = two.back.1.transport().write_buffer_size() as u64;
    let transport = two.back.1.transport().clone();
    let mut tied = two.tie();
    settle(&mut tied.event_loop);
    transport.abort();
    let report = tied.report();
    let closed = report.back.as_ref().unwrap();
    assert_eq!(closed.unsent(), before + len as u64);
    let to_back = report.to_back;
    assert_eq!((to_back.sent, to_back.lost), (0, len as u64), "{report:?}");
}

each_kind!(a_relay_that_is_dropped_closes_both_connections_after_their_bytes);
fn a_relay_that_is_dropped_closes_both_connections_after_their_bytes(kind: Kind) {
    let mut two = Two::new(kind);
    two.read_ahead(b"up", b"down");
    let mut tied = two.tie();
    settle(&mut tied.event_loop);
    tied.task.abort();
    tied.front_peer.expect_end(&mut tied.event_loop);
    tied.back_peer.expect_end(&mut tied.event_loop);
    assert!(tied.front_peer.saw_eof() && tied.back_peer.saw_eof());
    assert_eq!(tied.front_peer.received(), b"down");
    assert_eq!(tied.back_peer.received(), b"up");
    let handle = tied.event_loop.handle().clone();
    drive(&mut tied.event_loop, "both to end", || {
        handle.stats().connections == 0
    });
}

each_kind!(a_relay_needs_two_whole_connections);
fn a_relay_needs_two_whole_connections(kind: Kind) {
    type Mix = fn(Two) -> (Connection, Connection);
    let mixes: [Mix; 2] = [
        |two| {
            let front = Connection::new(two.front.0, two.back.1);
            (front, Connection::new(two.back.0, two.front.1))
        },
        |two| {
            let (reader, _feed) = StreamReader::detached(StreamOptions::new());
            let front = Connection::new(reader, two.front.1);
            (front, Connection::new(two.back.0, two.back.1))
        },
    ];
    for mix in mixes {
        let two = Two::new(kind);
        let (front, back) = mix(two);
        let result = support::now(relay(front, back));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}

each_kind!(a_server_counts_the_connections_that_its_handlers_relay);
fn a_server_counts_the_connections_that_its_handlers_relay(kind: Kind) {
    for in_time in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (reader, writer, mut back_peer) = opened(&mut event_loop, kind);
        let back = Rc::new(RefCell::new(Some(Connection::new(reader, writer))));
        let serve = async move |reader: StreamReader, writer: StreamWriter| {
            let back = back.take().expect("one connection");
            relay(Connection::new(reader, writer), back).await?;
            Ok(())
        };
        let server = start_server_on(event_loop.handle(), kind.somewhere(&dir), serve).unwrap();
        let mut front_peer = Peer::connect(&server.local_addrs()[0]);
        front_peer.send(b"hello");
        back_peer.expect(&mut event_loop, 5);
        let grace = Duration::from_millis(if in_time { 60_000 } else { 1 });
        let shutdown = server.shutdown(grace);
        if in_time {
            front_peer.shutdown_write();
            back_peer.shutdown_write();
        }
        let report = finish(&mut event_loop, "the shutdown", shutdown).unwrap();
        let expected = if in_time { (1, 0) } else { (0, 1) };
        assert_eq!((report.closed, report.aborted), expected, "{report:?}");
    }
}

#[test]
fn a_relay_does_nothing_before_it_is_polled() {
    let mut two = Two::new(Kind::Tcp);
    two.read_ahead(b"up", b"");
    let front = Connection::new(two.front.0, two.front.1);
    let back = Connection::new(two.back.0, two.back.1);
    let tied = relay(front, back);
    settle(&mut two.event_loop);
    two.back_peer.read_available();
    assert_eq!(two.back_peer.received(), b"");
    spawn_on(two.event_loop.handle(), tied);
    two.back_peer.expect(&mut two.event_loop, 2);
}
