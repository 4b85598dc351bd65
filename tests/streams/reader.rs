//! The result of each way to read while the connection lives and when the peer ends its stream.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use support::wakers::{Wakes, local_waker, waker_fn};
use support::{
    Kind, Polled, Streamed, drive, each_kind, give_up, now, opened, pattern, settle, wait,
};
use tidegate::EventLoop;
use tidegate_streams::{ReadError, Separators, spawn_on};

#[track_caller]
fn assert_incomplete<T>(result: Result<T, ReadError>, partial: &[u8], expected: Option<usize>) {
    let error = result.err().unwrap();
    let incomplete = error.as_incomplete().unwrap();
    assert_eq!(incomplete.partial, partial);
    assert_eq!(incomplete.expected, expected);
}

each_kind!(a_read_waits_for_a_byte_and_brings_what_is_there_and_fits);
fn a_read_waits_for_a_byte_and_brings_what_is_there_and_fits(kind: Kind) {
    let mut s = Streamed::new(kind);
    let mut buffer = [0; 4];
    give_up(s.reader.read(&mut buffer));
    s.peer.send(b"tide");
    let read = wait(&mut s.event_loop, "bytes", s.reader.read(&mut buffer));
    assert_eq!(&buffer[..read.unwrap()], b"tide");
    s.feed(b"gate");
    s.feed(b"s");
    assert_eq!(now(s.reader.read(&mut buffer)).unwrap(), 4);
    assert_eq!(&buffer, b"gate");
    assert_eq!(now(s.reader.read(&mut buffer)).unwrap(), 1);
    give_up(s.reader.read(&mut buffer));
}

each_kind!(a_read_that_waits_is_woken_by_the_bytes_it_waits_for);
fn a_read_that_waits_is_woken_by_the_bytes_it_waits_for(kind: Kind) {
    let mut s = Streamed::new(kind);
    let transport = s.writer.transport().clone();
    let mut reading = Polled::new(s.reader.read_line());
    assert!(reading.poll().is_pending() && !reading.is_woken());
    s.peer.send(b"\n");
    drive(&mut s.event_loop, "the byte", || {
        transport.stats().received == 1
    });
    assert!(reading.is_woken());
    assert!(reading.poll().is_ready());
}

each_kind!(data_runs_a_reading_task_before_ready_callbacks_whichever_task_it_is);
fn data_runs_a_reading_task_before_ready_callbacks_whichever_task_it_is(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let order: Rc<RefCell<Vec<&str>>> = Rc::default();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (mut reader, writer, peer) = opened(&mut event_loop, kind);
        let order = order.clone();
        let task = spawn_on(&handle, async move {
            let _writer = writer;
            while !reader.read_chunk(10).await.unwrap().is_empty() {
                order.borrow_mut().push("task");
            }
        });
        peers.push((peer, task));
    }
    settle(&mut event_loop);
    for (peer, _) in &mut peers {
        peer.send(b"data");
        let order_of_callback = order.clone();
        handle.call_soon(move |_| order_of_callback.borrow_mut().push("callback"));
        drive(&mut event_loop, "both", || order.borrow().len() == 2);
        assert_eq!(order.take(), ["task", "callback"]);
    }
}

each_kind!(data_does_not_run_a_task_that_waits_for_something_else);
fn data_does_not_run_a_task_that_waits_for_something_else(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    let polls = Rc::new(Cell::new(0));
    let counts = polls.clone();
    let task = spawn_on(event_loop.handle(), async move {
        assert_eq!(&reader.read_chunk(10).await.unwrap()[..], b"one");
        poll_fn(|_| {
            counts.set(counts.get() + 1);
            Poll::<()>::Pending
        })
        .await;
    });
    settle(&mut event_loop);
    peer.send(b"one");
    drive(&mut event_loop, "the first bytes", || polls.get() == 1);
    peer.send(b"two");
    drive(&mut event_loop, "more", || {
        writer.transport().stats().received == 6
    });
    settle(&mut event_loop);
    assert_eq!(polls.get(), 1);
    assert!(!task.is_finished());
}

type Reading = Pin<Box<dyn Future<Output = [u8; 2]>>>;

thread_local! {
    /// The read that [`poll_reading`] polls.
    static READING: RefCell<Option<Reading>> = const { RefCell::new(None) };
}

fn poll_reading(waker: &Waker) -> Poll<[u8; 2]> {
    READING.with_borrow_mut(|reading| {
        let reading = reading.as_mut().unwrap();
        reading.as_mut().poll(&mut Context::from_waker(waker))
    })
}

each_kind!(a_waker_that_a_read_leaves_while_it_is_woken_is_woken_next);
fn a_waker_that_a_read_leaves_while_it_is_woken_is_woken_next(kind: Kind) {
    let Streamed {
        mut reader,
        writer,
        mut peer,
        mut event_loop,
    } = Streamed::new(kind);
    let transport = writer.transport().clone();
    READING.set(Some(Box::pin(async move {
        let mut buffer = [0; 2];
        reader.read_exact(&mut buffer).await.unwrap();
        buffer
    })));
    // It polls the read where it is woken, and leaves another waker with it.
    let later = Wakes::new();
    let left = later.waker();
    let first = local_waker(move || assert!(poll_reading(&left).is_pending()));
    assert!(poll_reading(&first).is_pending());
    peer.send(b"a");
    drive(&mut event_loop, "the first byte", || {
        transport.stats().received == 1
    });
    assert_eq!(later.count(), 0, "one byte is not enough");
    peer.send(b"b");
    drive(&mut event_loop, "the second byte", || later.count() > 0);
    assert_eq!(poll_reading(Waker::noop()), Poll::Ready(*b"ab"));
    READING.take();
    drop(writer);
}

/// Polls a future with a waker of its own, as those do that poll many.
async fn wrapped<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let wrapped = context.waker().clone();
        let waker = waker_fn(move || wrapped.wake_by_ref());
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

each_kind!(a_reader_that_goes_from_task_to_task_wakes_who_reads_whatever_the_waker_is);
fn a_reader_that_goes_from_task_to_task_wakes_who_reads_whatever_the_waker_is(kind: Kind) {
    let Streamed {
        mut reader,
        writer,
        mut peer,
        mut event_loop,
    } = Streamed::new(kind);
    for round in 0..8 {
        let task = spawn_on(event_loop.handle(), async move {
            for waits in 0..4 {
                let read = reader.read_chunk(9);
                let chunk = match (round + waits) % 3 {
                    0 => wrapped(read).await,
                    _ => read.await,
                };
                assert_eq!(chunk.unwrap().len(), 1);
            }
            reader
        });
        for _ in 0..4 {
            settle(&mut event_loop);
            assert!(!task.is_finished());
            peer.send(b"a");
        }
        drive(&mut event_loop, "the last byte", || task.is_finished());
        reader = now(task).unwrap();
    }
    drop((reader, writer));
}

#[test]
fn the_result_of_a_task_that_read_is_dropped_with_it_though_its_reader_lives() {
    let Streamed {
        mut reader,
        writer,
        mut peer,
        mut event_loop,
    } = Streamed::new(Kind::Unix);
    let (value, shelf) = (Rc::new(()), Rc::new(Cell::new(None)));
    let (held, keeps) = (value.clone(), shelf.clone());
    drop(spawn_on(event_loop.handle(), async move {
        reader.read_chunk(9).await.unwrap();
        keeps.set(Some(reader));
        held
    }));
    settle(&mut event_loop);
    peer.send(b"a");
    drive(&mut event_loop, "the end of the task", || {
        Rc::strong_count(&value) == 1
    });
    assert!(shelf.take().is_some());
    drop(writer);
}

#[test]
fn a_read_of_nothing_answers_at_once() {
    let mut s = Streamed::new(Kind::Unix);
    for ended in [false, true] {
        if ended {
            s.writer.abort();
            s.lose();
        }
        assert_eq!(now(s.reader.read(&mut [])).unwrap(), 0);
        assert!(now(s.reader.read_chunk(0)).unwrap().is_empty());
        now(s.reader.read_exact(&mut [])).unwrap();
    }
}

each_kind!(at_the_end_of_the_stream_reads_bring_nothing_as_often_as_they_are_called);
fn at_the_end_of_the_stream_reads_bring_nothing_as_often_as_they_are_called(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"last");
    s.end();
    assert_eq!(now(s.reader.read(&mut [0; 9])).unwrap(), 4);
    for _ in 0..3 {
        assert_eq!(now(s.reader.read(&mut [0; 9])).unwrap(), 0);
        assert!(now(s.reader.read_chunk(9)).unwrap().is_empty());
        assert!(now(s.reader.read_line()).unwrap().is_empty());
        assert!(now(s.reader.read_to_end(9)).unwrap().is_empty());
        assert_incomplete(now(s.reader.read_exact(&mut [0; 9])), b"", Some(9));
        assert_incomplete(now(s.reader.read_until(b"\n")), b"", None);
    }
}

each_kind!(a_read_that_waits_is_woken_by_the_end_of_the_stream);
fn a_read_that_waits_is_woken_by_the_end_of_the_stream(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.peer.shutdown_write();
    let mut buffer = [0; 9];
    let read = wait(&mut s.event_loop, "the end", s.reader.read(&mut buffer));
    assert_eq!(read.unwrap(), 0);
}

each_kind!(a_chunk_has_at_most_the_bytes_asked_for_and_may_be_longer_than_the_limit);
fn a_chunk_has_at_most_the_bytes_asked_for_and_may_be_longer_than_the_limit(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(10);
    give_up(s.reader.read_chunk(100));
    s.feed(&pattern(0, 50));
    assert_eq!(now(s.reader.read_chunk(20)).unwrap(), pattern(0, 20));
    assert_eq!(
        now(s.reader.read_chunk(usize::MAX)).unwrap(),
        pattern(20, 30)
    );
}

each_kind!(a_chunk_stays_as_it_was_when_more_arrives);
fn a_chunk_stays_as_it_was_when_more_arrives(kind: Kind) {
    let mut s = Streamed::new(kind);
    let mut chunks = Vec::new();
    for i in 0..200 {
        s.feed(&pattern(i * 1000, 1000));
        chunks.push(now(s.reader.read_chunk(600)).unwrap());
        chunks.push(now(s.reader.read_chunk(400)).unwrap());
    }
    assert_eq!(chunks.concat(), pattern(0, 200_000));
}

each_kind!(read_exact_waits_for_all_and_leaves_the_rest);
fn read_exact_waits_for_all_and_leaves_the_rest(kind: Kind) {
    let mut s = Streamed::new(kind);
    let mut buffer = [0; 6];
    s.feed(b"abc");
    give_up(s.reader.read_exact(&mut buffer));
    s.feed(b"defgh");
    now(s.reader.read_exact(&mut buffer)).unwrap();
    assert_eq!(&buffer, b"abcdef");
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "gh");
}

each_kind!(read_exact_at_eof_tells_what_was_there_and_how_much_was_asked_for);
fn read_exact_at_eof_tells_what_was_there_and_how_much_was_asked_for(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"abc");
    s.end();
    let mut buffer = [7; 4];
    let result = now(s.reader.read_exact(&mut buffer));
    let text = result.as_ref().unwrap_err().to_string();
    assert_eq!(text, "the stream ended after 3 bytes of 4");
    assert_incomplete(result, b"abc", Some(4));
    assert_eq!(buffer, [7; 4], "it was written to");
    assert!(s.reader.at_eof());
}

each_kind!(read_until_brings_the_separator_too_and_leaves_the_rest);
fn read_until_brings_the_separator_too_and_leaves_the_rest(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"one, two, three");
    assert_eq!(now(s.reader.read_until(b", ")).unwrap(), "one, ");
    assert_eq!(now(s.reader.read_until(", ")).unwrap(), "two, ");
    give_up(s.reader.read_until(b", ".as_slice()));
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "three");
}

each_kind!(a_separator_that_arrives_in_pieces_is_found);
fn a_separator_that_arrives_in_pieces_is_found(kind: Kind) {
    let mut s = Streamed::new(kind);
    let separator = b"--end--";
    for cut in 1..separator.len() {
        s.feed(b"--en-");
        let mut reading = Polled::new(s.reader.read_until(separator));
        assert!(reading.poll().is_pending());
        s.peer.send(&separator[..cut]);
        drive(&mut s.event_loop, "the first part", || reading.is_woken());
        assert!(reading.poll().is_pending());
        s.peer.send(&separator[cut..]);
        drive(&mut s.event_loop, "the second part", || reading.is_woken());
        assert_eq!(reading.value().unwrap(), "--en---end--", "cut at {cut}");
    }
}

each_kind!(of_several_separators_the_one_that_ends_first_counts_in_whatever_order);
fn of_several_separators_the_one_that_ends_first_counts_in_whatever_order(kind: Kind) {
    let cases: [(&[&[u8]], &str, &str); 5] = [
        (&[b"\r\n", b"\n"], "a\nb\r\n", "a\n"),
        (&[b"\r\n", b"\n"], "a\r\nb\n", "a\r\n"),
        (&[b"bcd", b"c"], "abcd", "abc"),
        (&[b"abcdef", b"cd", b"de"], "abcdef", "abcd"),
        (&[b"long one", b"x"], "a long one x", "a long one"),
    ];
    let mut s = Streamed::new(kind);
    for (separators, data, found) in cases {
        let mut separators = separators.to_vec();
        for _ in 0..separators.len() {
            separators.rotate_left(1);
            s.feed(data.as_bytes());
            let read = now(s.reader.read_until(separators.as_slice())).unwrap();
            assert_eq!(read, found, "{separators:?}");
            now(s.reader.read_exact(&mut vec![0; data.len() - found.len()])).unwrap();
        }
    }
    let array: [&[u8]; 2] = [b"\r\n", b"\n"];
    s.feed(b"from an array\r\n");
    assert_eq!(
        now(s.reader.read_until(&array)).unwrap(),
        "from an array\r\n"
    );
}

#[test]
fn no_separator_or_an_empty_one_is_refused_and_loses_nothing() {
    let mut s = Streamed::new(Kind::Unix);
    s.feed(b"abc");
    let none: &[&[u8]] = &[];
    let empty: &[&[u8]] = &[b"b", b""];
    for separators in [none.into(), empty.into(), Separators::from("")] {
        let error = now(s.reader.read_until(separators)).unwrap_err();
        assert!(matches!(error, ReadError::NoSeparator), "{error:?}");
        assert_eq!(error.to_string(), "a separator needs at least one byte");
    }
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "abc");
}

each_kind!(read_until_at_eof_tells_what_was_there_with_a_part_of_the_separator);
fn read_until_at_eof_tells_what_was_there_with_a_part_of_the_separator(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"one--two-");
    s.end();
    assert_eq!(now(s.reader.read_until(b"--")).unwrap(), "one--");
    assert!(!s.reader.at_eof());
    let result = now(s.reader.read_until(b"--"));
    let text = result.as_ref().unwrap_err().to_string();
    assert_eq!(text, "the stream ended after 4 bytes without a separator");
    assert_incomplete(result, b"two-", None);
    assert!(s.reader.at_eof());
}

each_kind!(the_last_line_may_have_no_end_and_after_it_lines_are_empty);
fn the_last_line_may_have_no_end_and_after_it_lines_are_empty(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"\na\r\nb");
    assert_eq!(now(s.reader.read_line()).unwrap(), "\n");
    assert_eq!(now(s.reader.read_line()).unwrap(), "a\r\n");
    give_up(s.reader.read_line());
    s.end();
    assert_eq!(now(s.reader.read_line()).unwrap(), "b");
    assert_eq!(now(s.reader.read_line()).unwrap(), "");
}

each_kind!(the_lines_of_a_reader_are_its_lines_up_to_the_end_of_the_stream);
fn the_lines_of_a_reader_are_its_lines_up_to_the_end_of_the_stream(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.peer.send(b"one\n\nthree");
    s.peer.shutdown_write();
    let (reader, all) = (&mut s.reader, &mut Vec::new());
    let lines = async {
        let mut lines = reader.lines();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        assert!(lines.next().await.unwrap().is_none());
    };
    wait(&mut s.event_loop, "all lines", lines);
    assert_eq!(all, &["one\n", "\n", "three"]);
}

each_kind!(read_to_end_waits_for_the_end_of_the_stream);
fn read_to_end_waits_for_the_end_of_the_stream(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(1);
    s.feed(&pattern(0, 1000));
    give_up(s.reader.read_to_end(2000));
    s.feed(&pattern(1000, 1000));
    give_up(s.reader.read_to_end(2000));
    s.end();
    assert_eq!(now(s.reader.read_to_end(2000)).unwrap(), pattern(0, 2000));
    assert!(s.reader.at_eof());
}

each_kind!(a_reader_is_at_its_end_when_the_stream_has_ended_and_all_was_read);
fn a_reader_is_at_its_end_when_the_stream_has_ended_and_all_was_read(kind: Kind) {
    let mut s = Streamed::new(kind);
    assert!(!s.reader.at_eof());
    s.feed(b"ab");
    s.end();
    assert!(!s.reader.at_eof());
    assert_eq!(now(s.reader.read_chunk(1)).unwrap(), "a");
    assert!(!s.reader.at_eof());
    assert_eq!(now(s.reader.read_chunk(1)).unwrap(), "b");
    assert!(s.reader.at_eof());
}
