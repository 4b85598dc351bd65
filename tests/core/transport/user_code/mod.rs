//! All methods from all places where code of the user runs, while the caller holds a borrow of its
//! own that every callback and closure wants too.

mod world;

use crate::event_loop::by_hand::ByHand;
use bytes::Bytes;
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::logs::log_to;
use support::wakers::{leave, local_waker};
use support::{Kind, Peer, adopted, drive, flood, settle};
use tidegate::{
    CloseReason, Closed, EventLoop, Handle, OnEof, OnPause, Protocol, Result, Transport,
};
use world::{Calm, LONG, WORLD, World, adopt_calm, calm, new_world, poke};

/// Pokes from every callback and when it is dropped.
struct Poking {
    buffer: Option<[u8; 64]>,
}

impl Protocol for Poking {
    fn connection_made(&mut self, _: &Transport) -> Result {
        poke("connection_made");
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        poke("data_received");
        Ok(())
    }
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        poke("eof_received");
        Ok(OnEof::Close)
    }
    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        poke("pause_writing");
        Ok(OnPause::StopReading)
    }
    fn resume_writing(&mut self, _: &Transport) -> Result {
        poke("resume_writing");
        Ok(())
    }
    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        poke(match closed.reason() {
            CloseReason::Shutdown => "connection_lost at the end of the loop",
            _ => "connection_lost",
        });
    }
    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        poke("get_buffer");
        self.buffer.as_mut().map(<[u8; 64]>::as_mut_slice)
    }
    fn buffer_updated(&mut self, _: &Transport, _: usize) -> Result {
        poke("buffer_updated");
        Ok(())
    }
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        poke("inner");
        None
    }
}

impl Drop for Poking {
    fn drop(&mut self) {
        poke("the drop of a protocol");
    }
}

/// Pokes from its name when dropped.
struct PokeOnDrop(&'static str);

impl Drop for PokeOnDrop {
    fn drop(&mut self) {
        poke(self.0);
    }
}

impl AsRef<[u8]> for PokeOnDrop {
    fn as_ref(&self) -> &[u8] {
        b"owned"
    }
}

impl From<PokeOnDrop> for Bytes {
    fn from(owner: PokeOnDrop) -> Self {
        poke("the conversion into Bytes");
        Self::from_owner(owner)
    }
}

#[derive(Debug)]
struct PokeOnDisplay;

impl fmt::Display for PokeOnDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        poke("the Display of a user's error");
        f.write_str("poked")
    }
}

impl Error for PokeOnDisplay {}

#[derive(Debug)]
struct PokeOnSource;

impl fmt::Display for PokeOnSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("poked")
    }
}

impl Error for PokeOnSource {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        poke("the source of a user's error");
        None
    }
}

/// Runs the loop until there was a poke from each of these places.
#[track_caller]
fn drive_to(event_loop: &mut EventLoop, world: &World, places: &[&'static str]) {
    for place in places {
        drive(event_loop, place, || world.places.borrow().contains(place));
    }
    assert_eq!(*world.panics.borrow(), Vec::<String>::new());
    assert_eq!(*world.failures.borrow(), Vec::<String>::new());
}

fn poke_from_callbacks(event_loop: &mut EventLoop, world: &World) {
    let handle = event_loop.handle().clone();
    for kind in Kind::ALL {
        for buffer in [None, Some([0; 64])] {
            println!("{kind:?}, own buffer: {}", buffer.is_some());
            world.places.borrow_mut().clear();
            let (transport, mut peer) = adopted(&handle, kind, Poking { buffer });
            drive_to(event_loop, world, &["connection_made"]);
            flood(&transport);
            drive_to(event_loop, world, &["pause_writing"]);
            drive(event_loop, "the fall of the buffer", || {
                peer.read_available();
                world.places.borrow().contains("resume_writing")
            });
            peer.send(b"input");
            let read = match buffer {
                None => ["get_buffer", "data_received"],
                Some(_) => ["get_buffer", "buffer_updated"],
            };
            drive_to(event_loop, world, &read);
            assert!(transport.with_protocol(|_: &mut Calm, _| ()).is_err());
            peer.close();
            let end = ["eof_received", "connection_lost", "the drop of a protocol"];
            drive_to(event_loop, world, &end);
            drive_to(event_loop, world, &["inner"]);
        }
    }
}

fn poke_from_closures(event_loop: &mut EventLoop, world: &World) {
    let handle = event_loop.handle().clone();
    handle.call_soon(|_| poke("call_soon"));
    handle.call_later(Duration::ZERO, |_| poke("call_later"));
    handle.call_at(Instant::now(), |_| poke("call_at"));
    handle.callback(|_| poke("a callback")).schedule();
    let remote = |_: &Handle| poke("call_soon_threadsafe");
    handle.remote().call_soon_threadsafe(remote).unwrap();
    let (completer, completion) = handle.completion::<()>();
    completion.then(|_, _| poke("then"));
    completer.complete(Ok(()));
    drive_to(
        event_loop,
        world,
        &[
            "call_soon",
            "call_later",
            "call_at",
            "a callback",
            "call_soon_threadsafe",
            "then",
        ],
    );
    let (transport, _peer) = adopt_calm(&handle);
    transport.call_soon(|_: &mut Calm, _| {
        poke("call_soon of a transport");
        Ok(())
    });
    transport.call_later(Duration::ZERO, |_: &mut Calm, _| {
        poke("call_later of a transport");
        Ok(())
    });
    transport.flush().then_on(&transport, |_: &mut Calm, _, _| {
        poke("then_on");
        Ok(())
    });
    transport
        .with_protocol(|_: &mut Calm, _| poke("with_protocol"))
        .unwrap();
    write!(transport, "{PokeOnDisplay}").unwrap();
    transport
        .write_owned(PokeOnDrop("the drop of an owner of Bytes"))
        .unwrap();
    drive_to(
        event_loop,
        world,
        &[
            "call_soon of a transport",
            "call_later of a transport",
            "then_on",
            "with_protocol",
            "the conversion into Bytes",
            "the drop of an owner of Bytes",
        ],
    );
    let held = PokeOnDrop("the drop of a factory");
    let factory = move || {
        let _ = &held;
        poke("a factory");
        calm()
    };
    let server = handle.create_server("127.0.0.1:0", factory).unwrap();
    let _peer = Peer::connect(&server.local_addrs()[0]);
    drive_to(event_loop, world, &["a factory"]);
    server.close();
    drive_to(event_loop, world, &["the drop of a factory"]);
}

fn poke_from_the_rest(event_loop: &mut EventLoop, world: &World) {
    let handle = event_loop.handle().clone();
    let held = PokeOnDrop("the drop of a cancelled closure");
    handle.call_soon(move |_| drop(held)).cancel();
    let (completer, completion) = handle.completion();
    drop(completion);
    completer.complete(Ok(PokeOnDrop("the drop of an answer")));

    let (completer, mut completion) = handle.completion::<()>();
    let held = PokeOnDrop("the drop of a waker");
    let waker = local_waker(move || {
        let _ = &held;
        poke("a waker");
    });
    leave(&mut completion, &waker);
    drop(waker);
    completer.complete(Ok(()));
    let payload = || panic_any(PokeOnDrop("the drop of a panic's payload"));
    handle.call_soon(move |_| payload());

    let (transport, _peer) = adopt_calm(&handle);
    transport.call_soon(|_: &mut Calm, _| Err(PokeOnSource.into()));

    let held = PokeOnDrop("the drop of an error handler");
    handle.set_error_handler(move |_, _| {
        let _ = &held;
        poke("an error handler");
    });
    drive_to(
        event_loop,
        world,
        &[
            "the drop of a cancelled closure",
            "the drop of an answer",
            "a waker",
            "the drop of a waker",
            "the drop of a panic's payload",
            "the source of a user's error",
            "an error handler",
            "the drop of an error handler",
        ],
    );
}

#[test]
fn every_method_may_be_called_from_all_user_code_and_none_calls_back_within() {
    log_to(log::LevelFilter::Error, |record| {
        poke("a logger");
        let _ = record.args().to_string();
    });
    let mut event_loop = EventLoop::new().unwrap();
    let world = new_world(&mut event_loop);
    WORLD.set(Some(world.clone()));

    // First, as the pokes set an error handler and nothing is logged then.
    event_loop.handle().call_soon({
        let (ours, theirs) = UnixStream::pair().unwrap();
        world.peers.borrow_mut().push(theirs);
        move |handle| {
            let failing = support::Recorder::default().on_made(|_| Err(PokeOnDisplay.into()));
            handle.adopt(ours, failing).unwrap();
        }
    });
    let logged = ["a logger"];
    drive_to(&mut event_loop, &world, &logged);

    poke_from_callbacks(&mut event_loop, &world);
    poke_from_closures(&mut event_loop, &world);
    poke_from_the_rest(&mut event_loop, &world);

    let (ours, theirs) = UnixStream::pair().unwrap();
    event_loop
        .handle()
        .adopt(ours, Poking { buffer: None })
        .unwrap();
    settle(&mut event_loop);
    let handle = event_loop.handle().clone();
    handle.call_later(LONG, {
        let held = PokeOnDrop("the drop of a closure at the end of the loop");
        move |_| drop(held)
    });
    world.ending.set(true);
    drop(event_loop);
    for place in [
        "connection_lost at the end of the loop",
        "the drop of a closure at the end of the loop",
    ] {
        assert!(world.places.borrow().contains(place), "{place}");
    }
    // A value that is handed over now is dropped at once.
    world.gone.set(true);
    poke("after the end of the loop");
    assert_eq!(*world.panics.borrow(), Vec::<String>::new());
    assert_eq!(*world.failures.borrow(), Vec::<String>::new());
    drop(theirs);
    WORLD.take();
}

/// Wants a borrow when it is dropped.
struct Wants(Rc<RefCell<u32>>);

impl Drop for Wants {
    fn drop(&mut self) {
        *self.0.borrow_mut() += 1;
    }
}

impl Protocol for Wants {}

#[test]
fn a_protocol_whose_stream_the_driver_refuses_is_dropped_after_the_call() {
    // A stream of the system in a world that has others.
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let drops = Rc::new(RefCell::new(0));
    {
        let _own = drops.borrow_mut();
        let (stream, _peer) = UnixStream::pair().unwrap();
        let adopting = event_loop.handle().adopt(stream, Wants(drops.clone()));
        assert!(adopting.is_err());
    }
    world.run(&mut event_loop);
    assert_eq!(*drops.borrow(), 1);
    assert_eq!(event_loop.handle().stats().connections, 0);
}

#[test]
fn what_a_call_is_given_and_refuses_is_dropped_after_it_has_returned() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let drops = Rc::new(RefCell::new(0));
    {
        let _own = drops.borrow_mut();
        let unconnected = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let stream = std::net::TcpStream::from(unconnected.unwrap());
        assert!(handle.adopt(stream, Wants(drops.clone())).is_err());
        let held = Wants(drops.clone());
        let listening = handle.create_server("no address", move || {
            let _ = &held;
            calm()
        });
        assert!(listening.is_err());
    }
    settle(&mut event_loop);
    assert_eq!(*drops.borrow(), 2);
}
