//! The limits of servers and loops where layers stand between the socket and the protocol: they count
//! sockets, and bytes of the wire.

use std::time::Duration;
use support::seal::{Seal, hello, sealed};
use support::{
    Kind, Log, Peer, Recorder, Scene, Served, TempDir, drive, each_kind, no_limits, settle,
};
use tidegate::{CloseReason, EventLoop, Layer, LayerIo, ListenOptions, Result};
use tidegate_testkit::{Link, World};

fn sealed_server(kind: Kind, dir: &TempDir) -> ListenOptions {
    ListenOptions::new(kind.somewhere(dir)).layer(Seal::server)
}

each_kind!(a_connection_whose_layer_is_opening_counts_for_the_maximum);
fn a_connection_whose_layer_is_opening_counts_for_the_maximum(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = sealed_server(kind, &dir).max_connections(2);
    let served = Served::echo(event_loop.handle(), options);
    let mut silent: Vec<_> = (0..2).map(|_| Peer::connect(&served.address())).collect();
    silent[1].send(&hello()[..4]);
    drive(&mut event_loop, "both", || {
        served.server.connection_count() == 2
    });
    let mut third = Peer::connect(&served.address());
    third.send(&[hello(), sealed(b"ping")].concat());
    settle(&mut event_loop);
    assert_eq!(served.accepted(), 0);
    assert_eq!(event_loop.handle().stats().accepts, 2);
    silent.pop();
    let reply = [hello(), sealed(b"ping")].concat();
    third.expect(&mut event_loop, reply.len());
    assert_eq!(third.received(), reply);
    drop((silent, third));
    drive(&mut event_loop, "the end of all", || {
        served.server.connection_count() == 0
    });
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_kind!(handshakes_that_are_cut_at_their_limit_make_room);
fn handshakes_that_are_cut_at_their_limit_make_room(kind: Kind) {
    const PATIENCE: Duration = Duration::from_millis(20);
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir))
        .layer(|| Seal::server().limit(PATIENCE))
        .max_connections(2);
    let served = Served::echo(event_loop.handle(), options);
    let mut silent: Vec<_> = (0..10).map(|_| Peer::connect(&served.address())).collect();
    let mut last = Peer::connect(&served.address());
    last.send(&[hello(), sealed(b"ping")].concat());
    drive(&mut event_loop, "the peer behind all silent ones", || {
        assert!(served.server.connection_count() <= 2);
        last.said_behind(hello().len()).len() == 1
    });
    for peer in &mut silent {
        peer.expect_end(&mut event_loop);
    }
}

/// Makes many bytes of each that is sent.
struct Grows;

const FACTOR: usize = 100;

impl Layer for Grows {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let input = io.input().to_vec();
        io.consume(input.len());
        io.deliver(&input);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(&vec![data[0]; data.len() * FACTOR]);
        Ok(data.len())
    }
}

#[test]
fn the_write_budget_counts_what_layers_have_made_of_the_bytes() {
    const BUDGET: usize = 20_000;
    const WRITTEN: usize = 300;
    let mut world = World::new();
    let builder = EventLoop::builder().write_budget(BUDGET);
    let host = world.add_host_with("host", builder).unwrap();
    let link = Link::new().send_buffer(1).receive_buffer(99);
    world.network().set_link_to_peers(&host, link);
    let listen = |port, grows| {
        let mut options = ListenOptions::new(host.addr(port)).write_limits(no_limits());
        if grows {
            options = options.layer(|| Grows);
        }
        Served::new(host.handle(), options, |recorder| recorder)
    };
    for grows in [false, true] {
        let served = listen(7 + u16::from(grows), grows);
        let address = served.address();
        let _peer = world.network().dial(address.as_inet().unwrap()).unwrap();
        world.settle().unwrap();
        let transport = served.transport(0);
        transport.write(&[1; WRITTEN]).unwrap();
        world.settle().unwrap();
        assert!(transport.write_buffer_size() <= WRITTEN);
        let buffered = host.handle().stats().buffered as usize;
        // Those of the protocol stay until the kernel has all that was made of them.
        let made = if grows { 1 + FACTOR } else { 1 };
        // The kernels hold a hundred bytes.
        assert_eq!(buffered, WRITTEN * made - 100);
        // Those of the protocol are far below the budget.
        let refused = transport.write(&[1; WRITTEN]).is_err();
        world.settle().unwrap();
        let log = served.log(0);
        assert_eq!((refused, log.is_lost()), (grows, grows));
        if grows {
            assert_eq!(*log.closed().reason(), CloseReason::Memory);
        }
        transport.abort();
        world.settle().unwrap();
        assert_eq!(host.handle().stats().buffered, 0);
    }
}

each_kind!(what_is_given_back_stays_above_the_layer_and_its_wire_is_read_on);
fn what_is_given_back_stays_above_the_layer_and_its_wire_is_read_on(kind: Kind) {
    let log = Log::new();
    // Uses a byte, and gives back the rest, as a protocol with one message a callback.
    let recorder = Recorder::new(&log).on_data(|transport, data| {
        assert!(transport.wants_input());
        transport.unread(&data[1..]);
        Ok(())
    });
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = Scene::of(kind).strict().on(&mut event_loop, recorder);
    let pushed = transport.push_layer(Seal::server(), b"");
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    peer.send(&sealed(b"abc"));
    drive(&mut event_loop, "the last byte", || log.data() == b"abcbcc");
    // A record is counted once, however often its bytes come.
    assert_eq!(transport.stats().received, 3);
    let half = sealed(b"de");
    peer.send(&half[..4]);
    settle(&mut event_loop);
    assert_eq!(log.data(), b"abcbcc");
    peer.send(&half[4..]);
    drive(&mut event_loop, "the rest", || log.data() == b"abcbccdee");
}
