//! One connection's share of a tick, when a layer makes much of little.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use support::seal::RECORD;
use support::{
    Kind, Log, MIB, Recorder, Scene, drive, each_kind, failures, no_limits, pattern, settle,
    strict_loop, tick,
};
use tidegate::{CloseReason, Layer, LayerIo, Result};

/// The maximum number of reads of a connection in a tick, and the size of the loop's buffer.
const READS: usize = 16;
const BUFFER: usize = 128 * 1024;

/// The bytes of the wire that one connection may send in a tick.
const BUDGET: usize = MIB;

/// The bytes that a layer is offered before the budget is looked at again, at most.
const OFFER: usize = 112 * 1024;

/// Makes `factor` bytes of each, both ways, as many as there is room for.
struct Blown {
    factor: usize,
    /// Bytes that are still to be made of the first byte of the input.
    left: usize,
    minds_room: bool,
    made: Rc<Cell<usize>>,
}

impl Blown {
    fn new(factor: usize) -> Self {
        Self {
            factor,
            left: factor,
            minds_room: true,
            made: Rc::default(),
        }
    }

    fn deliver(&mut self, len: usize, io: &mut LayerIo<'_>) {
        self.made.set(self.made.get() + len);
        io.deliver(&vec![7; len]);
    }
}

impl Layer for Blown {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        if !self.minds_room {
            let len = io.input().len();
            io.consume(len);
            self.deliver(len * self.factor, io);
            return Ok(());
        }
        while !io.input().is_empty() {
            let len = self.left.min(io.room());
            if len == 0 {
                io.more();
                return Ok(());
            }
            self.deliver(len, io);
            self.left -= len;
            if self.left == 0 {
                self.left = self.factor;
                io.consume(1);
            }
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let data = &data[..data.len().min(RECORD)];
        let bytes: Vec<u8> = data
            .iter()
            .flat_map(|&byte| std::iter::repeat_n(byte, self.factor))
            .collect();
        self.made.set(self.made.get() + bytes.len());
        io.send(&bytes);
        Ok(data.len())
    }
}

/// Runs one tick; returns how much `made` has grown.
fn tick_of(event_loop: &mut tidegate::EventLoop, made: &Cell<usize>) -> usize {
    let before = made.get();
    tick(event_loop);
    made.get() - before
}

fn a_layer_that_makes_much_of_what_it_receives_gets_its_share_of_a_tick(kind: Kind) {
    const INPUT: usize = 20_000;
    const FACTOR: usize = 10_000;
    let mut event_loop = strict_loop();
    let log = Log::new();
    let got = Rc::new(Cell::new(0));
    let counts = CountBytes(got.clone());
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, counts);
    let (_other, mut other_peer) = Scene::of(kind).on(&mut event_loop, Recorder::echo(&log));
    let layer = Blown::new(FACTOR);
    let made = layer.made.clone();
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    settle(&mut event_loop);
    peer.send(&vec![1; INPUT]);
    while got.get() == 0 {
        assert!(tick_of(&mut event_loop, &made) <= READS * BUFFER);
    }
    for n in 1..=5 {
        other_peer.send(b"ping");
        for _ in 0..3 {
            assert!(tick_of(&mut event_loop, &made) <= READS * BUFFER);
        }
        other_peer.read_available();
        assert_eq!(other_peer.received().len(), 4 * n, "not served");
        // Whatever the layer has made was delivered.
        assert_eq!(made.get(), got.get());
    }
    assert!(got.get() < FACTOR * INPUT, "it was all made at once");
    drive(&mut event_loop, "the rest", || got.get() == FACTOR * INPUT);
    assert_eq!(transport.stats().received as usize, FACTOR * INPUT);
}
each_kind!(a_layer_that_makes_much_of_what_it_receives_gets_its_share_of_a_tick);

/// Keeps no bytes.
struct CountBytes(Rc<Cell<usize>>);

impl tidegate::Protocol for CountBytes {
    fn data_received(&mut self, _: &tidegate::Transport, data: &[u8]) -> Result {
        self.0.set(self.0.get() + data.len());
        Ok(())
    }
}

fn it_stops_when_reading_stops_and_the_loop_sleeps(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().set_with(|recorder| {
            recorder.on_data(|transport, _| {
                transport.pause_reading();
                Ok(())
            })
        });
    let layer = Blown::new(1000);
    let made = layer.made.clone();
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(&[1; 1000]);
    for n in 1..=5 {
        drive(&mut event_loop, "the data", || log.seen().len() > n);
        settle(&mut event_loop);
        assert_eq!(log.seen().len(), 1 + n);
        assert_eq!(made.get(), log.data_len());
        assert!(made.get() <= n * BUFFER);
        transport.resume_reading();
    }
    let polls = event_loop.handle().stats().polls;
    assert!(polls < 200, "{polls}");
}
each_kind!(it_stops_when_reading_stops_and_the_loop_sleeps);

fn one_that_does_not_mind_the_room_ends_its_connection_alone(kind: Kind) {
    let mut event_loop = strict_loop();
    let told = failures(event_loop.handle());
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&log));
    let (_other, mut other_peer) = Scene::of(kind).on(&mut event_loop, Recorder::echo(&Log::new()));
    let layer = Blown {
        minds_room: false,
        ..Blown::new(1000)
    };
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(&[1; 100]);
    drive(&mut event_loop, "the data", || log.data_len() == 100_000);
    peer.send(&vec![1; 20_000]);
    drive(&mut event_loop, "the end", || log.is_lost());
    let closed = log.closed();
    let CloseReason::Io(error) = closed.reason() else {
        panic!("{closed:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("room"), "{error}");
    assert!(told.borrow().is_empty());
    other_peer.send(b"ping");
    other_peer.expect(&mut event_loop, 4);
}
each_kind!(one_that_does_not_mind_the_room_ends_its_connection_alone);

/// The protocol has an eighth of the bytes.
fn the_budget_of_a_tick_counts_bytes_of_the_wire(kind: Kind) {
    const LEN: usize = MIB / 2;
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().limits(no_limits()).set();
    let layer = Blown::new(8);
    let made = layer.made.clone();
    let opened = transport.push_layer(layer, b"");
    event_loop.run_until(opened).unwrap();
    settle(&mut event_loop);
    let bytes = pattern(0, LEN);
    transport.call_soon(move |_: &mut Recorder, transport| {
        for part in bytes.chunks(1000) {
            transport.write(part)?;
        }
        Ok(())
    });
    let in_tick = tick_of(&mut event_loop, &made);
    assert_eq!(transport.written() as usize, LEN);
    assert!(in_tick <= BUDGET + 8 * OFFER, "{in_tick} bytes in a tick");
    peer.expect(&mut event_loop, 8 * LEN);
    assert_eq!(transport.sent() as usize, LEN);
    assert_eq!(log.words(), ["made"]);
}
each_kind!(the_budget_of_a_tick_counts_bytes_of_the_wire);
