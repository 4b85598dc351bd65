//! Code of a layer's drop is code of the user: it may call the loop, its own transport and others.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use support::seal::Seal;
use support::{
    Hooked, Kind, Log, Peer, Recorder, Scene, Served, TempDir, drive, each_kind, failures, settle,
};
use tidegate::{
    ConnectOptions, EventLoop, Failure, Handle, Layer, LayerIo, ListenOptions, Result, Transport,
    TransportId,
};

/// The state of a layer when it is dropped.
#[derive(Debug, Clone, Copy)]
enum State {
    Refused,
    Opening,
    Open,
    Left,
}

/// Calls whatever there is when it is dropped.
struct Parting {
    state: State,
    part: Rc<dyn Fn()>,
}

impl Layer for Parting {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        match self.state {
            State::Open => io.open(),
            State::Left => io.leave(),
            State::Opening | State::Refused => {}
        }
        Ok(())
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, mut above, _) = io.parts();
        above.deliver(input);
        let len = input.len();
        io.consume(len);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }

    fn open_limit(&self) -> Duration {
        match self.state {
            State::Refused => Duration::ZERO,
            _ => Duration::MAX,
        }
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        (self.part)();
    }
}

/// A loop with another connection, and what the drops of layers have done.
struct Parted {
    event_loop: EventLoop,
    failures: Rc<RefCell<Vec<Failure>>>,
    other: Transport,
    other_peer: Peer,
    /// The connection of the layer, by its id: found as long as it is there.
    own: Rc<Cell<Option<TransportId>>>,
    /// The same, for a layer that keeps its transport.
    kept: Rc<RefCell<Option<Transport>>>,
    drops: Rc<Cell<u32>>,
    soon: Rc<Cell<u32>>,
}

const WORD: &[u8] = b"dropped";

impl Parted {
    fn new(kind: Kind) -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let recorder = Recorder::new(&Log::new());
        let (other, other_peer) = Scene::of(kind).on(&mut event_loop, recorder);
        Self {
            event_loop,
            failures,
            other,
            other_peer,
            own: Rc::default(),
            kept: Rc::default(),
            drops: Rc::default(),
            soon: Rc::default(),
        }
    }

    /// Returns what the drop of a layer of this scene calls.
    fn part(&self) -> Rc<dyn Fn()> {
        let (handle, other) = (self.event_loop.handle().clone(), self.other.clone());
        let (own, kept) = (self.own.clone(), self.kept.clone());
        let (drops, soon) = (self.drops.clone(), self.soon.clone());
        Rc::new(move || {
            drops.set(drops.get() + 1);
            call_the_loop(&handle, &soon);
            call_another(&other);
            let by_id = own.get().and_then(|id| handle.transport(id));
            for own in by_id.into_iter().chain(kept.take()) {
                call_its_own(&own);
            }
        })
    }

    fn layer(&self, state: State) -> Parting {
        let part = self.part();
        Parting { state, part }
    }

    /// Makes a connection that has this layer.
    fn connection(&mut self, kind: Kind, state: State) -> (Log, Transport, Peer) {
        let log = Log::new();
        let (transport, peer) = Scene::of(kind).on(&mut self.event_loop, Recorder::new(&log));
        self.own.set(Some(transport.id()));
        transport.push_layer(self.layer(state), b"").then(|_, _| {});
        settle(&mut self.event_loop);
        (log, transport, peer)
    }

    /// The layer was dropped once, in peace, and all that it asked for has been done.
    #[track_caller]
    fn assert_parted(mut self, what: &str) {
        let (drops, soon) = (&self.drops, &self.soon);
        drive(&mut self.event_loop, what, || {
            (drops.get(), soon.get()) == (1, 1)
        });
        self.other_peer.expect(&mut self.event_loop, WORD.len());
        settle(&mut self.event_loop);
        assert_eq!(self.other_peer.received(), WORD, "{what}");
        assert!(self.failures.borrow().is_empty(), "{:?}", self.failures);
        let stats = self.event_loop.handle().stats();
        let left = (stats.connections, stats.connecting, stats.timers);
        assert_eq!(left, (1, 0, 0), "{what}");
        assert_eq!((self.drops.get(), self.soon.get()), (1, 1), "{what}");
    }
}

fn call_the_loop(handle: &Handle, soon: &Rc<Cell<u32>>) {
    let soon = soon.clone();
    handle.call_soon(move |_| soon.set(soon.get() + 1));
    handle.call_later(Duration::ZERO, |_| {});
    drop(handle.completion::<()>());
    let _ = handle.stats();
}

fn call_another(other: &Transport) {
    // Refused when the loop is gone.
    let _ = other.write(WORD);
    let passing = Hooked::new(|_, _| Ok(()));
    other.push_layer(passing, b"").then(|_, _| {});
    // Refused, and left to the loop.
    other
        .push_layer(Seal::client().limit(Duration::ZERO), b"")
        .then(|_, _| {});
    other.with_layer(|_: &mut Hooked, _| ());
    let _ = other.with_protocol(|_: &mut Recorder, _| ());
}

fn call_its_own(own: &Transport) {
    let _ = own.write(b"own");
    own.push_layer(Seal::client(), b"").then(|_, _| {});
    own.with_layer(|_: &mut Parting, _| ());
    own.pause_reading();
    own.resume_reading();
    own.flush().detach();
    let _ = (format!("{own:?}"), own.stats());
    own.close();
}

fn one_that_is_refused_may_call_its_connection(kind: Kind) {
    let mut parted = Parted::new(kind);
    let (log, _transport, mut peer) = parted.connection(kind, State::Refused);
    peer.expect_end(&mut parted.event_loop);
    assert_eq!(peer.received(), b"own");
    peer.close();
    drive(&mut parted.event_loop, "the end", || log.is_lost());
    parted.assert_parted("refused");
}
each_kind!(one_that_is_refused_may_call_its_connection);

fn one_of_a_connection_that_has_ended_may_call_back(kind: Kind) {
    for state in [State::Opening, State::Open, State::Left] {
        for end in [Transport::abort, Transport::close, Transport::reset] {
            let mut parted = Parted::new(kind);
            let (log, transport, mut peer) = parted.connection(kind, state);
            end(&transport);
            drive(&mut parted.event_loop, "the end", || {
                transport.closed().is_some()
            });
            peer.close();
            settle(&mut parted.event_loop);
            assert_eq!(parted.drops.get(), 0);
            // The log has one too.
            drop((log, transport));
            parted.assert_parted(&format!("{state:?}"));
        }
    }
}
each_kind!(one_of_a_connection_that_has_ended_may_call_back);

fn one_of_a_connect_that_is_dropped_may_call_back(kind: Kind) {
    let mut parted = Parted::new(kind);
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let options = ConnectOptions::new(&address).layer(parted.layer(State::Opening));
    let recorder = Recorder::new(&Log::new());
    let connect = parted
        .event_loop
        .handle()
        .create_connection(options, recorder);
    let _accepted = listener.accept().unwrap();
    settle(&mut parted.event_loop);
    drop(connect);
    parted.assert_parted("a dropped connect");
}
each_kind!(one_of_a_connect_that_is_dropped_may_call_back);

fn one_of_a_server_that_ends_its_clients_may_call_back(kind: Kind) {
    for aborts in [false, true] {
        let mut parted = Parted::new(kind);
        let dir = TempDir::new();
        let part = parted.part();
        let options = ListenOptions::new(kind.somewhere(&dir)).layer(move || Parting {
            state: State::Opening,
            part: part.clone(),
        });
        let served = Served::echo(parted.event_loop.handle(), options);
        let _peer = Peer::connect(&served.address());
        drive(&mut parted.event_loop, "the connection", || {
            served.server.connection_count() == 1
        });
        match aborts {
            true => served.server.abort_clients(),
            false => served.server.close_clients(),
        }
        parted.assert_parted("in the handshake");
        assert_eq!(served.accepted(), 0);
    }
}
each_kind!(one_of_a_server_that_ends_its_clients_may_call_back);

/// A layer that keeps its transport is dropped with the loop.
fn one_that_is_dropped_with_the_loop_may_call_back(kind: Kind) {
    for state in [State::Opening, State::Open, State::Left] {
        let mut parted = Parted::new(kind);
        let (log, transport, _peer) = parted.connection(kind, state);
        parted.kept.replace(Some(transport));
        let Parted {
            event_loop,
            failures,
            drops,
            soon,
            ..
        } = parted;
        drop(event_loop);
        assert_eq!((drops.get(), soon.get()), (1, 0), "{state:?}");
        assert!(log.is_lost() || log.words().is_empty());
        assert!(failures.borrow().is_empty(), "{failures:?}");
    }
}
each_kind!(one_that_is_dropped_with_the_loop_may_call_back);
