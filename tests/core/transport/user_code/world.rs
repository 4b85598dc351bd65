//! The calls of all user code: every method of a few connections, of the loop, and of the objects that it makes.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{flood, settle};
use tidegate::{
    CloseReason, Closed, EventLoop, Handle, OnEof, OnPause, Protocol, Result, Server, Transport,
    WriteLimits,
};

pub(super) const LONG: Duration = Duration::from_secs(3600);

thread_local! {
    /// The world for user code that is handed nothing: a logger, a `Display`, a `Drop`.
    pub(super) static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

pub(super) struct World {
    handle: Handle,
    open: Transport,
    paused: Transport,
    ended: Transport,
    own: RefCell<()>,
    busy: Cell<bool>,
    pub(super) ending: Cell<bool>,
    pub(super) gone: Cell<bool>,
    pub(super) places: RefCell<BTreeSet<&'static str>>,
    pub(super) panics: RefCell<Vec<String>>,
    pub(super) failures: RefCell<Vec<String>>,
    pub(super) peers: RefCell<Vec<UnixStream>>,
    servers: RefCell<Vec<Server>>,
}

fn world() -> Option<Rc<World>> {
    WORLD.with_borrow(Clone::clone)
}

/// Enters a callback or closure: panics when it is called before a method has returned.
fn enter() {
    if let Some(world) = world()
        && !world.gone.get()
    {
        drop(world.own.borrow_mut());
    }
}

/// Calls everything, from here.
pub(super) fn poke(place: &'static str) {
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
pub(super) struct Calm(Held);

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

pub(super) fn calm() -> Calm {
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

/// Calls every method of a transport that does not end it. The results depend on its state.
fn ask(transport: &Transport) {
    let _ = transport.write(b"bytes");
    let _ = transport.write_owned(Bytes::from_owner(Held));
    let _ = transport.write_owned(Bytes::from_owner(EmptyHeld(Held)));
    let _ = transport.write_owned(Bytes::from_owner([7; 100_000]));
    let _ = transport.write_vectored(&[IoSlice::new(b"by"), IoSlice::new(b"tes")]);
    let _ = write!(transport, "{}", 1);
    let _ = (transport.flow(), transport.written(), transport.sent());
    let _ = (transport.write_buffer_size(), transport.stats());
    let _ = transport.refused_write();
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
    let ends: [fn(&Transport); 7] = [
        Transport::close,
        Transport::abort,
        Transport::reset,
        |transport| transport.close_within(LONG),
        |transport| transport.close_within(Duration::ZERO),
        |transport| drop(transport.write_eof()),
        |transport| transport.fail("poked"),
    ];
    for end in ends {
        let (ours, theirs) = UnixStream::pair().unwrap();
        world.peers.borrow_mut().push(theirs);
        if world.ending.get() {
            // The arguments of a refused call are dropped there and then.
            assert!(handle.adopt(ours, support::Recorder::default()).is_err());
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
    let _ = (handle.now(), handle.stats(), Handle::current());
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
        server.pause_accepting();
        let _ = (server.is_accepting(), server.refused_count());
        server.resume_accepting();
        server.finish_accepting().then(|_, _| enter());
        server.close_clients();
        server.abort_clients();
        server.wait_closed().then(|_, _| enter());
        server.shutdown(LONG).detach();
        server.close();
        let _ = format!("{server:?} {handle:?}");
    }
}

pub(super) fn adopt_calm(handle: &Handle) -> (Transport, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (handle.adopt(ours, calm()).unwrap(), theirs)
}

pub(super) fn new_world(event_loop: &mut EventLoop) -> Rc<World> {
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
