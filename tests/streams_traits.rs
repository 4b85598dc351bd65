//! The traits of futures-io, tokio and hyper, on the halves and on both in one value: polled by
//! hand, so that each step and each wake can be seen.

use futures_io::AsyncBufRead;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tests::{Kind, Peer, TempDir, drive, pattern, settle, strict_loop};
use tidegate::{Closed, EventLoop, Transport};
use tidegate_streams::{Connection, StreamReader, StreamWriter, open_connection, spawn_on};

/// More than any kernel buffer here holds.
const MUCH: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    FuturesIo,
    Tokio,
    Hyper,
}

const APIS: [Api; 3] = [Api::FuturesIo, Api::Tokio, Api::Hyper];

/// What the traits are on.
enum Form {
    Halves(StreamReader, StreamWriter),
    Whole(Connection),
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct End {
    api: Api,
    form: Form,
    transport: Transport,
    wakes: Arc<Wakes>,
    event_loop: EventLoop,
    peer: Peer,
}

/// Each test's rule holds for every kind of socket, every crate's traits, and both forms.
fn everywhere(test: impl Fn(End)) {
    for kind in Kind::ALL {
        for api in APIS {
            for is_whole in [false, true] {
                println!("{kind:?}, {api:?}, both halves in one: {is_whole}");
                test(End::new(kind, api, is_whole));
            }
        }
    }
}

fn read_by<R>(api: Api, reader: &mut R, context: &mut Context<'_>, to: &mut [u8]) -> Read
where
    R: futures_io::AsyncRead + tokio::io::AsyncRead + hyper::rt::Read + Unpin,
{
    let reader = Pin::new(reader);
    match api {
        Api::FuturesIo => futures_io::AsyncRead::poll_read(reader, context, to),
        Api::Tokio => {
            let mut buffer = tokio::io::ReadBuf::new(to);
            let polled = tokio::io::AsyncRead::poll_read(reader, context, &mut buffer);
            polled.map_ok(|()| buffer.filled().len())
        }
        Api::Hyper => {
            let mut buffer = hyper::rt::ReadBuf::new(to);
            let polled = hyper::rt::Read::poll_read(reader, context, buffer.unfilled());
            polled.map_ok(|()| buffer.filled().len())
        }
    }
}

type Read = Poll<io::Result<usize>>;

enum Step<'a> {
    Write(&'a [u8]),
    Vectored(&'a [IoSlice<'a>]),
    Flush,
    Close,
}

fn write_by<W>(api: Api, writer: &mut W, context: &mut Context<'_>, step: Step<'_>) -> Read
where
    W: futures_io::AsyncWrite + tokio::io::AsyncWrite + hyper::rt::Write + Unpin,
{
    use futures_io::AsyncWrite as Futures;
    use hyper::rt::Write as Hyper;
    use tokio::io::AsyncWrite as Tokio;

    assert!(Tokio::is_write_vectored(writer) && Hyper::is_write_vectored(writer));
    let writer = Pin::new(writer);
    match (api, step) {
        (Api::FuturesIo, Step::Write(data)) => Futures::poll_write(writer, context, data),
        (Api::Tokio, Step::Write(data)) => Tokio::poll_write(writer, context, data),
        (Api::Hyper, Step::Write(data)) => Hyper::poll_write(writer, context, data),
        (Api::FuturesIo, Step::Vectored(of)) => Futures::poll_write_vectored(writer, context, of),
        (Api::Tokio, Step::Vectored(of)) => Tokio::poll_write_vectored(writer, context, of),
        (Api::Hyper, Step::Vectored(of)) => Hyper::poll_write_vectored(writer, context, of),
        (Api::FuturesIo, Step::Flush) => Futures::poll_flush(writer, context).map_ok(|()| 0),
        (Api::Tokio, Step::Flush) => Tokio::poll_flush(writer, context).map_ok(|()| 0),
        (Api::Hyper, Step::Flush) => Hyper::poll_flush(writer, context).map_ok(|()| 0),
        (Api::FuturesIo, Step::Close) => Futures::poll_close(writer, context).map_ok(|()| 0),
        (Api::Tokio, Step::Close) => Tokio::poll_shutdown(writer, context).map_ok(|()| 0),
        (Api::Hyper, Step::Close) => Hyper::poll_shutdown(writer, context).map_ok(|()| 0),
    }
}

impl End {
    fn new(kind: Kind, api: Api, is_whole: bool) -> Self {
        let mut event_loop = strict_loop();
        let dir = TempDir::new();
        let (listener, address) = kind.listen(&dir);
        let opened = Rc::new(RefCell::new(None));
        let slot = opened.clone();
        let task = spawn_on(event_loop.handle(), async move {
            slot.replace(Some(open_connection(&address).await.unwrap()));
        });
        drive(&mut event_loop, "the connection", || task.is_finished());
        let (reader, writer) = opened.take().unwrap();
        Self {
            api,
            transport: writer.transport().clone(),
            form: match is_whole {
                false => Form::Halves(reader, writer),
                true => Form::Whole(Connection::new(reader, writer)),
            },
            wakes: Arc::default(),
            event_loop,
            peer: Peer::new(listener.accept().unwrap().0),
        }
    }

    fn read(&mut self, to: &mut [u8]) -> Read {
        let waker = Waker::from(self.wakes.clone());
        let context = &mut Context::from_waker(&waker);
        match &mut self.form {
            Form::Halves(reader, _) => read_by(self.api, reader, context, to),
            Form::Whole(both) => read_by(self.api, both, context, to),
        }
    }

    fn step(&mut self, step: Step<'_>) -> Read {
        let waker = Waker::from(self.wakes.clone());
        let context = &mut Context::from_waker(&waker);
        match &mut self.form {
            Form::Halves(_, writer) => write_by(self.api, writer, context, step),
            Form::Whole(both) => write_by(self.api, both, context, step),
        }
    }

    fn fill_buf(&mut self) -> Poll<io::Result<Vec<u8>>> {
        let waker = Waker::from(self.wakes.clone());
        let context = &mut Context::from_waker(&waker);
        let lent = match &mut self.form {
            Form::Halves(reader, _) => Pin::new(reader).poll_fill_buf(context),
            Form::Whole(both) => Pin::new(both).poll_fill_buf(context),
        };
        lent.map_ok(<[u8]>::to_vec)
    }

    fn consume(&mut self, len: usize) {
        match &mut self.form {
            Form::Halves(reader, _) => Pin::new(reader).consume(len),
            Form::Whole(both) => Pin::new(both).consume(len),
        }
    }

    fn take_wakes(&self) -> u32 {
        self.wakes.0.swap(0, Ordering::Relaxed)
    }

    /// Runs the loop until what waited is woken.
    #[track_caller]
    fn woken(&mut self, what: &str) {
        let wakes = self.wakes.clone();
        drive(&mut self.event_loop, what, || {
            wakes.0.swap(0, Ordering::Relaxed) > 0
        });
    }

    /// The same while the peer reads.
    #[track_caller]
    fn woken_by_reading(&mut self, what: &str) {
        let (wakes, peer) = (self.wakes.clone(), &mut self.peer);
        drive(&mut self.event_loop, what, || {
            peer.read_available();
            wakes.0.swap(0, Ordering::Relaxed) > 0
        });
    }

    /// Reads so much, in whatever pieces.
    #[track_caller]
    fn read_all(&mut self, len: usize) -> Vec<u8> {
        let mut all = vec![0; len];
        let mut done = 0;
        while done < len {
            match self.read(&mut all[done..]) {
                Poll::Ready(Ok(0)) => panic!("the end after {done} bytes"),
                Poll::Ready(Ok(more)) => done += more,
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => self.woken("more bytes"),
            }
        }
        all
    }

    /// Takes in all that the peer has sent, without a poll.
    fn settle(&mut self) {
        settle(&mut self.event_loop);
    }
}

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

#[test]
fn a_read_takes_what_is_there_and_fits_and_waits_only_when_there_is_nothing() {
    everywhere(|mut end| {
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

#[test]
fn a_read_leaves_what_its_buffer_holds_already() {
    everywhere(|mut end| {
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

#[test]
fn bytes_that_came_before_an_error_are_read_before_it() {
    everywhere(|mut end| {
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

#[test]
fn a_read_that_waits_fails_when_the_connection_is_reset() {
    everywhere(|mut end| {
        if end.transport.peer_addr().as_inet().is_none() {
            return;
        }
        assert!(end.read(&mut [0; 10]).is_pending());
        end.peer.reset();
        end.woken("the reset");
        assert!(ended(end.read(&mut [0; 10])).is_reset());
    });
}

#[test]
fn lent_bytes_stay_until_they_are_consumed() {
    everywhere(|mut end| {
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
        // What comes meanwhile is behind them, however it is read.
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

#[test]
fn lent_bytes_count_against_the_limit_of_the_reader() {
    everywhere(|mut end| {
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

#[test]
fn a_write_takes_all_unless_the_transport_is_paused_and_then_waits_for_room() {
    everywhere(|mut end| {
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

#[test]
fn room_that_another_has_filled_again_is_waited_for_again() {
    everywhere(|mut end| {
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

#[test]
fn a_flush_ends_when_the_kernel_has_everything_that_was_written_before() {
    everywhere(|mut end| {
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

#[test]
fn a_close_flushes_and_ends_our_side_and_reading_goes_on() {
    everywhere(|mut end| {
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

#[test]
fn writes_that_wait_fail_with_the_end_of_the_connection_and_so_do_later_ones() {
    everywhere(|mut end| {
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

#[test]
fn a_close_after_an_abort_fails_even_if_all_was_sent() {
    everywhere(|mut end| {
        assert_eq!(ready(end.step(Step::Write(b"x"))), 1);
        end.peer.expect(&mut end.event_loop, 1);
        end.transport.abort();
        for _ in 0..2 {
            ended(end.step(Step::Close));
            end.settle();
        }
    });
}

#[test]
fn dropping_what_waits_leaves_nothing_behind_and_closes() {
    everywhere(|mut end| {
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
        assert_eq!(Arc::strong_count(&end.wakes), 1);
    });
}

#[test]
fn a_writer_that_always_finds_room_lets_the_loop_go_on_now_and_then() {
    everywhere(|mut end| {
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
