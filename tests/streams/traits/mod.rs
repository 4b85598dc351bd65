//! The traits of futures-io, tokio and hyper, on the halves and on both in one value: polled by
//! hand, so that each step and each wake can be seen.

mod end;

use end::{Api, End, Form, Read, Step, everywhere};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use support::{Kind, drive, each_kind, pattern, settle};
use tidegate::Closed;

/// More than any kernel buffer here holds.
const MUCH: usize = 16 << 20;

#[track_caller]
fn ready(polled: Read) -> usize {
    match polled {
        Poll::Ready(Ok(len)) => len,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn ended(polled: Poll<io::Result<impl std::fmt::Debug>>) -> Closed {
    match polled {
        Poll::Ready(Err(error)) => Closed::of(&error).unwrap(),
        other => panic!("{other:?}"),
    }
}

each_kind!(a_read_takes_what_is_there_and_fits_and_waits_only_when_there_is_nothing);
fn a_read_takes_what_is_there_and_fits_and_waits_only_when_there_is_nothing(kind: Kind) {
    everywhere(kind, |mut end| {
        let mut buffer = [0; 100];
        assert!(end.read(&mut buffer).is_pending());
        assert_eq!(ready(end.read(&mut [])), 0);
        end.peer.send(b"0123456789");
        end.woken("the first bytes");
        assert_eq!(ready(end.read(&mut buffer[..4])), 4);
        assert_eq!(ready(end.read(&mut buffer[4..])), 6);
        assert_eq!(&buffer[..10], b"0123456789");
        assert!(end.read(&mut buffer).is_pending());
        end.peer.shutdown_write();
        end.woken("the end");
        assert_eq!(ready(end.read(&mut buffer)), 0);
        assert_eq!(ready(end.read(&mut buffer)), 0);
        assert!(end.transport.closed().is_none());
    });
}

each_kind!(a_read_leaves_what_its_buffer_holds_already);
fn a_read_leaves_what_its_buffer_holds_already(kind: Kind) {
    everywhere(kind, |mut end| {
        end.peer.send(b"67");
        end.settle();
        let waker = Waker::noop();
        let context = &mut Context::from_waker(waker);
        let mut bytes = *b"12345...";
        let Form::Whole(both) = &mut end.form else {
            return;
        };
        let both = Pin::new(both);
        match end.api {
            Api::FuturesIo => return,
            Api::Tokio => {
                let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
                buffer.set_filled(5);
                assert!(tokio::io::AsyncRead::poll_read(both, context, &mut buffer).is_ready());
                assert_eq!(buffer.filled().len(), 7);
            }
            Api::Hyper => {
                let mut buffer = hyper::rt::ReadBuf::new(&mut bytes);
                buffer.unfilled().put_slice(b"12345");
                let polled = hyper::rt::Read::poll_read(both, context, buffer.unfilled());
                assert!(polled.is_ready());
                assert_eq!(buffer.filled().len(), 7);
            }
        }
        assert_eq!(&bytes[..7], b"1234567");
    });
}

each_kind!(bytes_that_came_before_an_error_are_read_before_it);
fn bytes_that_came_before_an_error_are_read_before_it(kind: Kind) {
    everywhere(kind, |mut end| {
        end.peer.send(b"last words");
        end.settle();
        end.transport.abort();
        end.settle();
        assert_eq!(end.read_all(10), b"last words");
        let closed = ended(end.read(&mut [0; 10]));
        assert_eq!(
            closed.to_string(),
            end.transport.closed().unwrap().to_string()
        );
        ended(end.fill_buf());
        ended(end.read(&mut [0; 10]));
    });
}

each_kind!(a_read_that_waits_fails_when_the_connection_is_reset);
fn a_read_that_waits_fails_when_the_connection_is_reset(kind: Kind) {
    everywhere(kind, |mut end| {
        if end.transport.peer_addr().as_inet().is_none() {
            return;
        }
        assert!(end.read(&mut [0; 10]).is_pending());
        end.peer.reset();
        end.woken("the reset");
        assert!(ended(end.read(&mut [0; 10])).is_reset());
    });
}

each_kind!(lent_bytes_stay_until_they_are_consumed);
fn lent_bytes_stay_until_they_are_consumed(kind: Kind) {
    everywhere(kind, |mut end| {
        assert!(end.fill_buf().is_pending());
        end.peer.send(b"0123456789");
        end.woken("bytes");
        let lent = |end: &mut End| match end.fill_buf() {
            Poll::Ready(Ok(lent)) => lent,
            other => panic!("{other:?}"),
        };
        assert_eq!(lent(&mut end), b"0123456789");
        end.consume(0);
        assert_eq!(lent(&mut end), b"0123456789");
        end.consume(3);
        // Bytes that come meanwhile are behind them, however they are read.
        end.peer.send(b"abcdefghij");
        end.settle();
        assert_eq!(lent(&mut end), b"3456789");
        assert_eq!(end.read_all(2), b"34");
        assert_eq!(lent(&mut end), b"56789");
        assert_eq!(end.read_all(7), b"56789ab");
        assert_eq!(lent(&mut end), b"cdefghij");
        end.consume(8);
        assert!(end.fill_buf().is_pending());
        end.peer.shutdown_write();
        end.woken("the end");
        assert_eq!(lent(&mut end), b"");
    });
}

each_kind!(lent_bytes_count_against_the_limit_of_the_reader);
fn lent_bytes_count_against_the_limit_of_the_reader(kind: Kind) {
    everywhere(kind, |mut end| {
        let data = pattern(0, 2 << 20);
        let mut sent = 0;
        let transport = end.transport.clone();
        // Lends all, consumes nothing: no more may be taken in than without lending.
        drive(&mut end.event_loop, "the reader to be full", || {
            sent += end.peer.write(&data[sent..]);
            !transport.is_reading()
        });
        let Poll::Ready(Ok(lent)) = end.fill_buf() else {
            panic!("nothing is lent")
        };
        end.settle();
        assert!(!end.transport.is_reading());
        assert!(lent.len() > 128 << 10, "{}", lent.len());
        end.consume(lent.len() - (64 << 10) - 1);
        assert!(!end.transport.is_reading());
        end.consume(1);
        assert!(end.transport.is_reading());
    });
}

each_kind!(what_arrives_beside_lent_bytes_is_kept_within_the_same_limit);
fn what_arrives_beside_lent_bytes_is_kept_within_the_same_limit(kind: Kind) {
    everywhere(kind, |mut end| {
        let (transport, data) = (end.transport.clone(), pattern(0, 128 << 10));
        let mut sent = 0;
        drive(&mut end.event_loop, "twice the limit", || {
            sent += end.peer.write(&data[sent..]);
            sent == data.len()
        });
        end.settle();
        assert!(transport.is_reading(), "no more than twice the limit");
        let Poll::Ready(Ok(lent)) = end.fill_buf() else {
            panic!("nothing is lent")
        };
        assert!(lent == data);
        end.peer.send(b"x");
        end.settle();
        assert!(!transport.is_reading());
        assert!(end.read_all(data.len()) == data);
        assert_eq!(end.read_all(1), b"x");
        assert!(transport.is_reading());
    });
}

each_kind!(a_write_takes_all_unless_the_transport_is_paused_and_then_waits_for_room);
fn a_write_takes_all_unless_the_transport_is_paused_and_then_waits_for_room(kind: Kind) {
    everywhere(kind, |mut end| {
        let data = pattern(0, MUCH);
        assert_eq!(ready(end.step(Step::Write(&[]))), 0);
        assert_eq!(ready(end.step(Step::Write(&data))), MUCH);
        assert!(end.transport.flow().is_paused());
        let more = pattern(MUCH as u64, 3000);
        let slices = [&more[..1000], &[], &more[1000..]].map(IoSlice::new);
        for _ in 0..3 {
            assert!(end.step(Step::Vectored(&slices)).is_pending());
        }
        assert_eq!(end.transport.written(), MUCH as u64);
        end.woken_by_reading("room");
        assert!(!end.transport.flow().is_paused());
        assert_eq!(ready(end.step(Step::Vectored(&slices))), 3000);
        end.peer.expect(&mut end.event_loop, MUCH + 3000);
        assert!(end.peer.received() == pattern(0, MUCH + 3000));
    });
}

each_kind!(room_that_another_has_filled_again_is_waited_for_again);
fn room_that_another_has_filled_again_is_waited_for_again(kind: Kind) {
    everywhere(kind, |mut end| {
        let data = vec![7; MUCH];
        assert_eq!(ready(end.step(Step::Write(&data))), MUCH);
        assert!(end.step(Step::Write(b"x")).is_pending());
        end.woken_by_reading("room");
        end.transport.write(&data).unwrap();
        assert!(end.step(Step::Write(b"x")).is_pending());
        end.woken_by_reading("room again");
        assert_eq!(ready(end.step(Step::Write(b"x"))), 1);
    });
}

each_kind!(a_flush_ends_when_the_kernel_has_everything_that_was_written_before);
fn a_flush_ends_when_the_kernel_has_everything_that_was_written_before(kind: Kind) {
    everywhere(kind, |mut end| {
        assert_eq!(ready(end.step(Step::Flush)), 0);
        let data = vec![7; MUCH];
        assert_eq!(ready(end.step(Step::Write(&data))), MUCH);
        assert!(end.step(Step::Flush).is_pending());
        // As when the future that polled was dropped, and another one writes and flushes.
        end.transport.write(&data).unwrap();
        let mut polls = 0;
        loop {
            end.woken_by_reading("the flush");
            polls += 1;
            match end.step(Step::Flush) {
                Poll::Ready(done) => break assert!(done.is_ok()),
                Poll::Pending => assert!(polls < 3),
            }
        }
        assert_eq!(end.transport.write_buffer_size(), 0);
        assert_eq!(end.transport.sent(), 2 * MUCH as u64);
    });
}

each_kind!(a_close_flushes_and_ends_our_side_and_reading_goes_on);
fn a_close_flushes_and_ends_our_side_and_reading_goes_on(kind: Kind) {
    everywhere(kind, |mut end| {
        let data = pattern(0, MUCH);
        assert_eq!(ready(end.step(Step::Write(&data))), MUCH);
        assert!(end.step(Step::Close).is_pending());
        end.woken_by_reading("the flush");
        assert_eq!(ready(end.step(Step::Close)), 0);
        end.peer.expect_end(&mut end.event_loop);
        assert!(end.peer.received() == data && end.peer.saw_eof());
        assert_eq!(ready(end.step(Step::Close)), 0);
        let Poll::Ready(Err(error)) = end.step(Step::Write(b"x")) else {
            panic!("written after the end")
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        end.peer.send(b"still heard");
        assert_eq!(end.read_all(11), b"still heard");
        // Both have ended: so has the connection, and all is well.
        end.peer.shutdown_write();
        end.settle();
        assert!(end.transport.closed().unwrap().is_clean());
        assert_eq!(ready(end.read(&mut [0; 10])), 0);
        assert_eq!(ready(end.step(Step::Flush)), 0);
        assert_eq!(ready(end.step(Step::Close)), 0);
    });
}

each_kind!(writes_that_wait_fail_with_the_end_of_the_connection_and_so_do_later_ones);
fn writes_that_wait_fail_with_the_end_of_the_connection_and_so_do_later_ones(kind: Kind) {
    everywhere(kind, |mut end| {
        let data = vec![7; MUCH];
        assert_eq!(ready(end.step(Step::Write(&data))), MUCH);
        assert!(end.step(Step::Write(b"x")).is_pending());
        assert!(end.step(Step::Flush).is_pending());
        assert!(end.step(Step::Close).is_pending());
        end.transport.abort();
        end.woken("the abort");
        for _ in 0..2 {
            let unsent = ended(end.step(Step::Write(b"x"))).unsent();
            assert!(unsent > 0);
            assert_eq!(ended(end.step(Step::Vectored(&[]))).unsent(), unsent);
            assert_eq!(ended(end.step(Step::Flush)).unsent(), unsent);
            assert_eq!(ended(end.step(Step::Close)).unsent(), unsent);
            end.settle();
        }
    });
}

each_kind!(a_close_after_an_abort_fails_even_if_all_was_sent);
fn a_close_after_an_abort_fails_even_if_all_was_sent(kind: Kind) {
    everywhere(kind, |mut end| {
        assert_eq!(ready(end.step(Step::Write(b"x"))), 1);
        end.peer.expect(&mut end.event_loop, 1);
        end.transport.abort();
        for _ in 0..2 {
            ended(end.step(Step::Close));
            end.settle();
        }
    });
}

each_kind!(dropping_what_waits_leaves_nothing_behind_and_closes);
fn dropping_what_waits_leaves_nothing_behind_and_closes(kind: Kind) {
    everywhere(kind, |mut end| {
        let data = vec![7; MUCH];
        assert_eq!(ready(end.step(Step::Write(&data))), MUCH);
        assert!(end.step(Step::Write(b"x")).is_pending());
        assert!(end.step(Step::Flush).is_pending());
        assert!(end.read(&mut [0; 10]).is_pending());
        drop(end.form);
        end.peer.expect_end(&mut end.event_loop);
        assert_eq!(end.peer.received().len(), MUCH);
        settle(&mut end.event_loop);
        assert!(end.transport.closed().unwrap().is_clean());
        assert_eq!(end.wakes.kept(), 0);
    });
}

each_kind!(a_writer_that_always_finds_room_lets_the_loop_go_on_now_and_then);
fn a_writer_that_always_finds_room_lets_the_loop_go_on_now_and_then(kind: Kind) {
    everywhere(kind, |mut end| {
        let mut given_way = 0;
        for written in 0..1000 {
            while end.step(Step::Write(b".")).is_pending() {
                assert!(!end.transport.flow().is_paused());
                assert_eq!(end.take_wakes(), 1, "it must be polled again");
                given_way += 1;
            }
            assert_eq!(end.transport.written(), written + 1);
        }
        assert!((10..100).contains(&given_way), "{given_way}");
        end.peer.expect(&mut end.event_loop, 1000);
    });
}
