//! Dropping the loop: no value of the user outlives it.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, Log, MIB, Peer, Recorder, adopted, each_kind, stall};
use tidegate::{EventLoop, Handle, ListenOptions, Transport};

/// Everything that keeps user values, each value keeping a clone of `alive` and a handle to what
/// keeps it, as circular as it can be. `called` must stay untouched.
fn tie_knots(handle: &Handle, alive: &Rc<()>, called: &Rc<Cell<u32>>, kind: Kind) -> Vec<Peer> {
    let knot = || {
        let (handle, alive, called) = (handle.clone(), alive.clone(), called.clone());
        move || {
            let _kept = (&handle, &alive);
            called.set(called.get() + 1);
        }
    };
    // Closures of the loop.
    let call = knot();
    handle.call_soon(move |_| call());
    let call = knot();
    handle.call_later(BOUND, move |_| call());
    let call = knot();
    handle.call_later(Duration::MAX, move |_| call());
    let call = knot();
    handle.call_at(Instant::now(), move |_| call());
    let call = knot();
    let own = Rc::new(RefCell::new(None));
    let itself = own.clone();
    let callback = handle.callback(move |_| {
        let _kept = &itself;
        call();
    });
    callback.schedule();
    own.replace(Some(callback));
    let call = knot();
    handle.set_error_handler(move |_, _| call());

    // Completions, one of which keeps its own completer.
    let call = knot();
    let (completer, completion) = handle.completion::<()>();
    completion.then(move |_, _| {
        drop(completer);
        call();
    });
    let call = knot();
    let (completer, completion) = handle.completion();
    completion.then(move |_, _: std::io::Result<Rc<()>>| call());
    completer.complete(Ok(alive.clone()));

    // Protocols that keep their transport, and what goes with one.
    let mut peers = Vec::new();
    for _ in 0..2 {
        let keeping = |log: &Log| {
            let own: Rc<RefCell<Option<Transport>>> = Rc::default();
            let (kept, alive) = (own.clone(), alive.clone());
            let protocol = Recorder::new(log).on_lost(move |_, _| {
                let _kept = (&kept, &alive);
            });
            (own, protocol)
        };
        let (own, protocol) = keeping(&Log::new());
        let (transport, peer) = adopted(handle, kind, protocol);
        own.replace(Some(transport.clone()));
        let call = knot();
        transport.call_soon(move |_: &mut Recorder, _| {
            call();
            Ok(())
        });
        let (call, kept) = (knot(), transport.clone());
        transport.call_later(BOUND, move |_: &mut Recorder, _| {
            let _kept = &kept;
            call();
            Ok(())
        });
        let call = knot();
        let (completer, completion) = handle.completion::<()>();
        completion.then_on(&transport, move |_: &mut Recorder, _, _| {
            drop(completer);
            call();
            Ok(())
        });
        if !peers.is_empty() {
            // A protocol that never gets its place.
            let (own, protocol) = keeping(&Log::new().switched_in());
            transport.set_protocol(protocol, b"unread").unwrap();
            own.replace(Some(transport));
        }
        peers.push(peer);
    }

    // Servers that their own factories keep; one of them has not begun to listen.
    for start in [true, false] {
        let own = Rc::new(RefCell::new(None));
        let (itself, call) = (own.clone(), knot());
        let options = ListenOptions::new("127.0.0.1:0").start_serving(start);
        let server = handle.create_server(options, move || {
            let _kept = &itself;
            call();
            Recorder::new(&Log::new())
        });
        let server = server.unwrap();
        let call = knot();
        server.shutdown(BOUND).then(move |_, _| call());
        let server = handle
            .create_server(ListenOptions::new("127.0.0.1:0").start_serving(start), {
                let (itself, call) = (own.clone(), knot());
                move || {
                    let _kept = &itself;
                    call();
                    Recorder::new(&Log::new())
                }
            })
            .unwrap();
        let call = knot();
        server.wait_closed().then(move |_, _| call());
        own.replace(Some(server));
    }
    peers
}
each_kind!(no_value_of_the_user_outlives_the_loop_and_no_closure_is_called);
fn no_value_of_the_user_outlives_the_loop_and_no_closure_is_called(kind: Kind) {
    let event_loop = EventLoop::new().unwrap();
    let (alive, called) = (Rc::new(()), Rc::new(Cell::new(0)));
    let handle = event_loop.handle().clone();
    let peers = tie_knots(&handle, &alive, &called, kind);
    assert!(Rc::strong_count(&alive) > 15);
    drop(event_loop);
    assert_eq!(called.get(), 0);
    assert_eq!(Rc::strong_count(&alive), 1, "user values were kept");
    assert_eq!(Rc::strong_count(&called), 1, "closures were kept");
    drop((peers, handle));
}
#[test]
fn bytes_that_were_not_sent_are_let_go() {
    struct Owner(Arc<[u8]>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&Log::new()));
    stall(&mut event_loop, &transport, MIB);
    let alive: Arc<[u8]> = Arc::from([1; 100_000]);
    for _ in 0..3 {
        let bytes = Bytes::from_owner(Owner(alive.clone()));
        transport.write_owned(bytes).unwrap();
    }
    assert_eq!(Arc::strong_count(&alive), 4);
    drop(event_loop);
    assert_eq!(Arc::strong_count(&alive), 1);
}
