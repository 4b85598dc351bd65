//! For the tests of the streams: halves with a plain peer, and futures that are waited for with a
//! bound while the loop is driven by hand.

use crate::{Kind, Peer, TempDir, drive};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tidegate::{ConnectOptions, EventLoop};
use tidegate_streams::{StreamReader, StreamWriter, open_connection, spawn_on};

/// Runs a future as a task until it ends; fails, and says `what` it waited for, when it never does.
#[track_caller]
pub fn finish<F>(event_loop: &mut EventLoop, what: &str, future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    let answer = Rc::new(Cell::new(None));
    let slot = answer.clone();
    let task = spawn_on(event_loop.handle(), async move {
        slot.set(Some(future.await));
    });
    drive(event_loop, what, || task.is_finished());
    match answer.take() {
        Some(answer) => answer,
        None => panic!("the task for {what} panicked"),
    }
}

/// Opens a connection to a plain peer.
#[track_caller]
pub fn opened(event_loop: &mut EventLoop, kind: Kind) -> (StreamReader, StreamWriter, Peer) {
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let options = ConnectOptions::new(&address);
    let halves: io::Result<_> = finish(event_loop, "a connection", open_connection(options));
    match (halves, listener.accept()) {
        (Ok((reader, writer)), Ok((peer, _))) => (reader, writer, Peer::new(peer)),
        (Err(error), _) | (_, Err(error)) => panic!("{error}"),
    }
}

/// Polls once, as a task would that is woken by nobody.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
