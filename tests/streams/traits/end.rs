//! Our end of a connection, polled by hand through the traits of one of the three crates.

use futures_io::AsyncBufRead;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use support::wakers::Wakes;
use support::{Kind, Peer, TempDir, drive, settle, strict_loop};
use tidegate::{EventLoop, Transport};
use tidegate_streams::{Connection, StreamReader, StreamWriter, open_connection, spawn_on};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    FuturesIo,
    Tokio,
    Hyper,
}

const APIS: [Api; 3] = [Api::FuturesIo, Api::Tokio, Api::Hyper];

/// The types that have the traits.
pub(super) enum Form {
    Halves(StreamReader, StreamWriter),
    Whole(Connection),
}

pub(super) struct End {
    pub(super) api: Api,
    pub(super) form: Form,
    pub(super) transport: Transport,
    pub(super) wakes: Wakes,
    pub(super) event_loop: EventLoop,
    pub(super) peer: Peer,
}

/// Each test's rule holds for every crate's traits and both forms.
pub(super) fn everywhere(kind: Kind, test: impl Fn(End)) {
    for api in APIS {
        for is_whole in [false, true] {
            println!("{api:?}, both halves in one: {is_whole}");
            test(End::new(kind, api, is_whole));
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

pub(super) type Read = Poll<io::Result<usize>>;

pub(super) enum Step<'a> {
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
    pub(super) fn new(kind: Kind, api: Api, is_whole: bool) -> Self {
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
            wakes: Wakes::new(),
            event_loop,
            peer: Peer::new(listener.accept().unwrap().0),
        }
    }

    pub(super) fn read(&mut self, to: &mut [u8]) -> Read {
        let waker = self.wakes.waker();
        let context = &mut Context::from_waker(&waker);
        match &mut self.form {
            Form::Halves(reader, _) => read_by(self.api, reader, context, to),
            Form::Whole(both) => read_by(self.api, both, context, to),
        }
    }

    pub(super) fn step(&mut self, step: Step<'_>) -> Read {
        let waker = self.wakes.waker();
        let context = &mut Context::from_waker(&waker);
        match &mut self.form {
            Form::Halves(_, writer) => write_by(self.api, writer, context, step),
            Form::Whole(both) => write_by(self.api, both, context, step),
        }
    }

    pub(super) fn fill_buf(&mut self) -> Poll<io::Result<Vec<u8>>> {
        let waker = self.wakes.waker();
        let context = &mut Context::from_waker(&waker);
        let lent = match &mut self.form {
            Form::Halves(reader, _) => Pin::new(reader).poll_fill_buf(context),
            Form::Whole(both) => Pin::new(both).poll_fill_buf(context),
        };
        lent.map_ok(<[u8]>::to_vec)
    }

    pub(super) fn consume(&mut self, len: usize) {
        match &mut self.form {
            Form::Halves(reader, _) => Pin::new(reader).consume(len),
            Form::Whole(both) => Pin::new(both).consume(len),
        }
    }

    pub(super) fn take_wakes(&self) -> usize {
        self.wakes.take()
    }

    /// Runs the loop until what waited is woken.
    #[track_caller]
    pub(super) fn woken(&mut self, what: &str) {
        let wakes = self.wakes.clone();
        drive(&mut self.event_loop, what, || wakes.take() > 0);
    }

    /// The same while the peer reads.
    #[track_caller]
    pub(super) fn woken_by_reading(&mut self, what: &str) {
        let (wakes, peer) = (self.wakes.clone(), &mut self.peer);
        drive(&mut self.event_loop, what, || {
            peer.read_available();
            wakes.take() > 0
        });
    }

    /// Reads `len` bytes, in any pieces.
    #[track_caller]
    pub(super) fn read_all(&mut self, len: usize) -> Vec<u8> {
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
    pub(super) fn settle(&mut self) {
        settle(&mut self.event_loop);
    }
}
