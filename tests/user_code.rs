//! All methods from all places where code of the user runs, while the caller holds a borrow of its
//! own that every callback and closure wants too.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::IoSlice;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};
use tests::{Kind, Peer, adopted, drive, flood, settle};
use tidegate::{
    CloseReason, Closed, EventLoop, Handle, OnEof, OnPause, Protocol, Result, Server, Transport,
    WriteLimits,
};

const LONG: Duration = Duration::from_secs(3600);

thread_local! {
    /// What user code reaches that is handed nothing: a logger, a `Display`, a `Drop`.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

struct World {
    handle: Handle,
    open: Transport,
    paused: Transport,
    ended: Transport,
    own: RefCell<()>,
    busy: Cell<bool>,
    ending: Cell<bool>,
    gone: Cell<bool>,
    places: RefCell<BTreeSet<&'static str>>,
    panics: RefCell<Vec<String>>,
    failures: RefCell<Vec<String>>,
    peers: RefCell<Vec<UnixStream>>,
    servers: RefCell<Vec<Server>>,
}

fn world() -> Option<Rc<World>> {
    WORLD.with_borrow(Clone::clone)
}

/// What every callback and closure does: it panics when it is called before a method has returned.
fn enter() {
    if let Some(world) = world()
        && !world.gone.get()
    {
        drop(world.own.borrow_mut());
    }
}

/// Calls everything, from here.
fn poke(place: &'static str) {
    let Some(world) = world() else { return };
    if world.busy.replace(true) {
        return;
    }
    let calls = AssertUnwindSafe(|| {
        let _own = world.own.borrow_mut();
        everything(&world);
    });
    if let Err(payload) = catch_unwind(calls) {
        let message = payload.downcast_ref::<String>().cloned();
        let panic = format!("from {place}: {message:?}");
        world.panics.borrow_mut().push(panic);
    }
    world.busy.set(false);
    world.places.borrow_mut().insert(place);
}

/// Owned by closures and buffers: dropping them is user code too.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        enter();
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        b"held"
    }
}

struct EmptyHeld(Held);

impl AsRef<[u8]> for EmptyHeld {
    fn as_ref(&self) -> &[u8] {
        b""
    }
}

/// Enters in every callback.
struct Calm(Held);

impl Protocol for Calm {
    fn connection_made(&mut self, _: &Transport) -> Result {
        enter();
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        enter();
        Ok(())
    }
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        enter();
        Ok(OnEof::Close)
    }
    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        enter();
        Ok(OnPause::StopReading)
    }
    fn resume_writing(&mut self, _: &Transport) -> Result {
        enter();
        Ok(())
    }
    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        enter();
    }
    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        enter();
        None
    }
}

fn calm() -> Calm {
    Calm(Held)
}

/// A closure for the protocol of a connection.
fn on_calm() -> impl FnOnce(&mut Calm, &Transport) -> Result {
    let held = Held;
    move |_, _| {
        enter();
        drop(held);
        Ok(())
    }
}

fn on_handle() -> impl FnOnce(&Handle) {
    let held = Held;
    move |_| {
        enter();
        drop(held);
    }
}

/// Every method of a transport that does not end it. The answers depend on its state.
fn ask(transport: &Transport) {
    let _ = transport.write(b"bytes");
    let _ = transport.write_owned(Bytes::from_owner(Held));
    let _ = transport.write_owned(Bytes::from_owner(EmptyHeld(Held)));
    let _ = transport.write_owned(Bytes::from_owner([7; 100_000]));
    let _ = transport.write_vectored(&[IoSlice::new(b"by"), IoSlice::new(b"tes")]);
    let _ = write!(transport, "{}", 1);
    let _ = (transport.flow(), transport.written(), transport.sent());
    let _ = (transport.write_buffer_size(), transport.stats());
    transport.drain().detach();
    transport.drain().then(|_, _| enter());
    transport.flush().then_on(transport, |_: &mut Calm, _, _| {
        enter();
        Ok(())
    });
    drop(transport.flush().within(LONG));
    transport.wait_closed().then(|_, _| enter());
    let _ = (transport.is_closing(), transport.closed());
    let _ = (transport.is_reading(), transport.is_accepted());
    transport.pause_reading();
    transport.resume_reading();
    let _ = transport.set_write_limits(WriteLimits::new().with_high(1));
    let _ = transport.set_write_limits(WriteLimits::new());
    let _ = transport.set_write_limits(WriteLimits::new().with_cap(0));
    let _ = transport.write_limits();
    let _ = transport.set_unsent_low_water(None);
    let _ = transport.set_nodelay(true);
    let _ = transport.with_protocol(|_: &mut Calm, _| ());
    let _ = transport.set_protocol(calm(), b"unread");
    let _ = transport.set_protocol(calm(), b"more");
    let _ = transport.with_protocol(|_: &mut Calm, _| ());
    transport.call_soon(on_calm());
    transport.call_soon(on_calm()).cancel();
    transport.call_later(Duration::ZERO, on_calm());
    transport.call_later(LONG, on_calm()).cancel();
    let _ = (transport.peer_addr(), transport.local_addr());
    let _ = transport.handle().transport(transport.id());
    let _ = format!("{transport:?}");
}

fn everything(world: &Rc<World>) {
    let handle = &world.handle;
    for transport in [&world.open, &world.paused, &world.ended] {
        ask(transport);
    }
    let ends: [fn(&Transport); 6] = [
        Transport::close,
        Transport::abort,
        Transport::reset,
        |transport| transport.close_within(LONG),
        |transport| transport.close_within(Duration::ZERO),
        |transport| drop(transport.write_eof()),
    ];
    for end in ends {
        let (ours, theirs) = UnixStream::pair().unwrap();
        world.peers.borrow_mut().push(theirs);
        if world.ending.get() {
            // What a refused call was given is dropped there and then.
            assert!(handle.adopt(ours, tests::Recorder::default()).is_err());
            continue;
        }
        let fresh = handle.adopt(ours, calm()).unwrap();
        ask(&fresh);
        end(&fresh);
        ask(&fresh);
        end(&fresh);
    }
    handle.call_soon(on_handle());
    handle.call_soon(on_handle()).cancel();
    handle.call_later(Duration::ZERO, on_handle());
    handle.call_later(LONG, on_handle()).cancel();
    handle.call_at(Instant::now(), on_handle());
    handle.callback(|_| enter()).schedule();
    let _ = handle.remote().call_soon_threadsafe(|_| enter());
    handle.remote().stop();
    handle.stop();
    let _ = (handle.now(), handle.snapshot(), Handle::current());
    let (completer, completion) = handle.completion::<u32>();
    completion.then(|_, _| enter());
    let _ = completer.is_cancelled();
    completer.complete(Ok(1));
    let (completer, completion) = handle.completion::<u32>();
    drop(completion.within(LONG));
    drop(completer);
    let failed = world.clone();
    handle.set_error_handler(move |_, failure| {
        enter();
        // Connects to what was closed fail too.
        if let CloseReason::Panic(message) = failure.reason()
            && !message.contains("without a message")
        {
            failed.failures.borrow_mut().push(failure.to_string());
        }
    });
    let factory = || {
        enter();
        calm()
    };
    if let Ok(server) = handle.create_server("127.0.0.1:0", factory) {
        let connecting = handle.create_connection(&server.local_addrs()[0], calm());
        connecting.detach();
        drop(handle.create_connection(&server.local_addrs()[0], calm()));
        world.servers.borrow_mut().push(server);
    }
    for server in &*world.servers.borrow() {
        let _ = server.start_serving();
        let _ = (server.is_serving(), server.connection_count());
        server.close_clients();
        server.abort_clients();
        server.wait_closed().then(|_, _| enter());
        server.shutdown(LONG).detach();
        server.close();
        let _ = format!("{server:?} {handle:?}");
    }
}

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

struct PokingWaker(#[expect(dead_code, reason = "held to be dropped")] PokeOnDrop);

impl Wake for PokingWaker {
    fn wake(self: Arc<Self>) {
        poke("a waker");
    }
}

struct PokingLogger;

impl log::Log for PokingLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        poke("a logger");
        let _ = record.args().to_string();
    }
    fn flush(&self) {}
}

fn adopt_calm(handle: &Handle) -> (Transport, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (handle.adopt(ours, calm()).unwrap(), theirs)
}

fn new_world(event_loop: &mut EventLoop) -> Rc<World> {
    let handle = event_loop.handle().clone();
    let ((open, p1), (paused, p2), (ended, p3)) = (
        adopt_calm(&handle),
        adopt_calm(&handle),
        adopt_calm(&handle),
    );
    settle(event_loop);
    flood(&paused);
    ended.abort();
    settle(event_loop);
    Rc::new(World {
        handle,
        open,
        paused,
        ended,
        own: RefCell::new(()),
        busy: Cell::new(false),
        ending: Cell::new(false),
        gone: Cell::new(false),
        places: RefCell::default(),
        panics: RefCell::default(),
        failures: RefCell::default(),
        peers: RefCell::new(vec![p1, p2, p3]),
        servers: RefCell::default(),
    })
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
            assert!(transport.with_protocol(|_: &mut Calm, _| ()).is_none());
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
    let waker = Waker::from(Arc::new(PokingWaker(PokeOnDrop("the drop of a waker"))));
    let polled = Pin::new(&mut completion).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    completer.complete(Ok(()));
    let payload = || panic_any(PokeOnDrop("the drop of a panic's payload"));
    handle.call_soon(move |_| payload());

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
            "an error handler",
            "the drop of an error handler",
        ],
    );
}

#[test]
fn every_method_may_be_called_from_all_user_code_and_none_calls_back_before_it_returns() {
    log::set_logger(&PokingLogger).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let mut event_loop = EventLoop::new().unwrap();
    let world = new_world(&mut event_loop);
    WORLD.set(Some(world.clone()));

    // First, as the pokes set an error handler and nothing is logged then.
    event_loop.handle().call_soon({
        let (ours, theirs) = UnixStream::pair().unwrap();
        world.peers.borrow_mut().push(theirs);
        move |handle| {
            let failing = tests::Recorder::default().on_made(|_| Err(PokeOnDisplay.into()));
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
    // What is handed over now is dropped at once.
    world.gone.set(true);
    poke("after the end of the loop");
    assert_eq!(*world.panics.borrow(), Vec::<String>::new());
    assert_eq!(*world.failures.borrow(), Vec::<String>::new());
    drop(theirs);
    WORLD.take();
}

#[test]
fn what_a_call_is_given_and_refuses_is_dropped_after_it_has_returned() {
    struct Wants(Rc<RefCell<u32>>);
    impl Drop for Wants {
        fn drop(&mut self) {
            *self.0.borrow_mut() += 1;
        }
    }
    impl Protocol for Wants {
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
            Ok(())
        }
    }
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
