//! Connections that end and others that take their slots and descriptors, within one batch of
//! events. Each peer sends its own number; a connection that sees another's has got a foreign event.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, Seen, TempDir, adopted, drive, settle};
use tidegate::{Completion, EventLoop, Handle, ListenOptions, Transport, TransportId};

const BATCH: usize = 100;

/// Connections under the loop, each with its number, its record and its peer.
struct World {
    handle: Handle,
    kind: Kind,
    next: Cell<u64>,
    open: RefCell<Vec<(u64, Log, Transport, Peer)>>,
    /// Slots that were freed in this batch.
    freed: RefCell<Vec<String>>,
    reopened: Cell<usize>,
}

/// An id prints as `#slot.generation`.
fn slot(id: TransportId) -> String {
    id.to_string().split('.').next().unwrap().to_owned()
}

impl World {
    fn new(event_loop: &EventLoop, kind: Kind) -> Rc<Self> {
        Rc::new(Self {
            handle: event_loop.handle().clone(),
            kind,
            next: Cell::new(0),
            open: RefCell::default(),
            freed: RefCell::default(),
            reopened: Cell::new(0),
        })
    }

    /// Adopts a connection that does what `dress` adds to its recorder; its peer sends its number.
    fn open(&self, dress: impl FnOnce(Recorder) -> Recorder) {
        let number = self.next.get();
        self.next.set(number + 1);
        let log = Log::new();
        let protocol = dress(Recorder::new(&log));
        let (transport, mut peer) = adopted(&self.handle, self.kind, protocol);
        peer.send(&number.to_be_bytes());
        if self.freed.borrow().contains(&slot(transport.id())) {
            self.reopened.set(self.reopened.get() + 1);
        }
        let connection = (number, log, transport, peer);
        self.open.borrow_mut().push(connection);
    }

    /// Waits until each has its number and checks that it has nothing else, then ends them all.
    fn check_and_end(&self, event_loop: &mut EventLoop) {
        drive(event_loop, "the numbers", || {
            let open = self.open.borrow();
            open.iter().all(|(_, log, ..)| log.data_len() >= 8)
        });
        for (number, log, transport, peer) in self.open.take() {
            assert_eq!(
                log.seen(),
                [Seen::Made, Seen::Data(number.to_be_bytes().into())]
            );
            assert_eq!(transport.stats().received, 8);
            transport.reset();
            drop(peer);
        }
        drive(event_loop, "the end of them all", || {
            self.handle.stats().connections == 0
        });
        self.freed.borrow_mut().clear();
    }

    fn tick(&self, event_loop: &mut EventLoop) {
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
    }
}

/// All connects of a batch are decided in one poll. The first gives the others up, which frees
/// their slots at once, and opens as many connections: the events that follow in the same batch
/// are for slots that have a new owner.
fn give_up_connects(kind: Kind, rounds: usize) -> (usize, u64) {
    let mut event_loop = EventLoop::new().unwrap();
    let world = World::new(&event_loop, kind);
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    listener.set_nonblocking(true).unwrap();
    for _ in 0..rounds {
        let connects: Rc<RefCell<Vec<Completion<Transport>>>> = Rc::default();
        for _ in 0..BATCH {
            let (world, others) = (world.clone(), connects.clone());
            let protocol = Recorder::new(&Log::new()).on_made(move |transport| {
                let own = slot(transport.id());
                let freed = (0..BATCH).map(|slot| format!("#{slot}"));
                *world.freed.borrow_mut() = freed.filter(|slot| *slot != own).collect();
                others.take();
                for _ in 1..BATCH {
                    world.open(|recorder| recorder);
                }
                let world = world.clone();
                transport.handle().call_soon(move |_| {
                    // They were touched by nothing in this batch.
                    let open = world.open.borrow();
                    assert!(open.iter().all(|(_, log, ..)| log.seen().is_empty()));
                });
                Ok(())
            });
            let connect = event_loop.handle().create_connection(&address, protocol);
            connects.borrow_mut().push(connect);
        }
        let before = world.handle.stats().stale_events;
        drive(&mut event_loop, "the connects", || {
            connects.borrow().is_empty()
        });
        if kind == Kind::Unix {
            let stale = world.handle.stats().stale_events - before;
            assert_eq!(stale as usize, BATCH - 1);
        }
        while listener.accept().is_ok() {}
        world.check_and_end(&mut event_loop);
    }
    let stale = event_loop.handle().stats().stale_events;
    (world.reopened.get(), stale)
}

/// All peers of a batch have sent. The first callback aborts the other connections; each of them
/// ends at its own event, and its `connection_lost` opens another one, in the slot and with the
/// descriptor of the one that ended just before.
fn abort_the_others(kind: Kind, rounds: usize) -> usize {
    let mut event_loop = EventLoop::new().unwrap();
    let world = World::new(&event_loop, kind);
    for _ in 0..rounds {
        let first = Rc::new(Cell::new(true));
        let old: Rc<RefCell<Vec<(Log, Transport, Peer)>>> = Rc::default();
        for _ in 0..BATCH {
            let log = Log::new();
            let protocol = Recorder::new(&log)
                .on_data({
                    let (first, old) = (first.clone(), old.clone());
                    move |transport, _| {
                        assert!(first.replace(false), "bytes after an abort");
                        for (_, other, _) in old.borrow().iter() {
                            if other.id() != transport.id() {
                                other.abort();
                            }
                        }
                        Ok(())
                    }
                })
                .on_lost({
                    let world = world.clone();
                    move |transport, _| {
                        world.open(|recorder| recorder);
                        world.freed.borrow_mut().push(slot(transport.id()));
                    }
                });
            let (transport, mut peer) = adopted(&world.handle, kind, protocol);
            peer.send(b"old");
            old.borrow_mut().push((log, transport, peer));
        }
        // Made and registered in the first tick, all ready in the second.
        while first.get() {
            world.tick(&mut event_loop);
        }
        let opened = |count| {
            let world = world.clone();
            move || world.open.borrow().len() == count
        };
        drive(&mut event_loop, "all but one to end", opened(BATCH - 1));
        for (log, transport, _) in old.take() {
            if !log.is_lost() {
                assert_eq!(log.data(), b"old");
                transport.reset();
            }
        }
        drive(&mut event_loop, "the last one to end", opened(BATCH));
        world.check_and_end(&mut event_loop);
    }
    world.reopened.get()
}

#[test]
fn no_event_of_a_closed_connection_reaches_the_one_that_took_its_slot() {
    let (after_connect, stale) = give_up_connects(Kind::Unix, 510);
    assert!(stale as usize >= after_connect);
    let after_abort = abort_the_others(Kind::Unix, 520);
    let reopened = after_connect + after_abort;
    assert!(reopened >= 100_000, "only {reopened}");
}

#[test]
fn no_event_of_a_closed_tcp_connection_reaches_the_one_that_took_its_slot() {
    let (reopened, stale) = give_up_connects(Kind::Tcp, 10);
    assert!(stale > 0 && reopened > 0);
    assert!(abort_the_others(Kind::Tcp, 10) > 0);
}

#[test]
fn an_event_of_a_server_that_a_callback_closed_accepts_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let servers: Rc<RefCell<Vec<tidegate::Server>>> = Rc::default();
    let log = Log::new();
    let mut clients = Vec::new();
    for n in 0..10 {
        let (others, log) = (servers.clone(), log.clone());
        let at = format!("unix:{}", dir.path(n.to_string()).display());
        let factory = move || {
            log.note("accepted");
            for server in others.take() {
                server.close();
            }
            Recorder::new(&Log::new())
        };
        let server = handle
            .create_server(ListenOptions::new(at), factory)
            .unwrap();
        clients.push(Peer::connect(&server.local_addrs()[0]));
        servers.borrow_mut().push(server);
    }
    settle(&mut event_loop);
    assert_eq!(log.words(), ["accepted"]);
    assert_eq!(handle.stats().stale_events, 9);
    assert_eq!(handle.stats().listeners, 0);
}
