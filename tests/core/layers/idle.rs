//! The idle timeout of connections with layers: it counts bytes of the wire.

use crate::server::idle_timeout::{INSTANT, LATE, LIMIT, Timed};
use std::cell::Cell;
use std::rc::Rc;
use support::seal::{Seal, hello, question, record_of};
use support::{Hooked, never_paused};
use tidegate::ListenOptions;
use tidegate_testkit::Peer as SimPeer;

/// A connection whose layer is open.
fn sealed() -> (Timed, SimPeer) {
    let layer = |options: ListenOptions| options.layer(Seal::server);
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let peer = timed.dial();
    peer.send(&hello()).unwrap();
    timed.world.settle().unwrap();
    assert_eq!(timed.served.log(0).words(), ["made"]);
    (timed, peer)
}

#[test]
fn with_layers_a_silent_connection_ends_as_well() {
    let (mut timed, peer) = sealed();
    timed.assert_ends_after(0, LIMIT);
    assert!(peer.is_ended());
}

#[test]
fn the_time_counts_while_layers_are_opening() {
    let layer = |options: ListenOptions| options.layer(|| Seal::server().limit(10 * LIMIT));
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let peer = timed.dial();
    timed.pass(LIMIT - INSTANT);
    assert_eq!(timed.served.server.connection_count(), 1);
    timed.pass(LIMIT / 4 + LATE);
    assert_eq!(timed.served.server.connection_count(), 0);
    assert!(peer.is_ended());
}

#[test]
fn bytes_of_the_layers_alone_keep_a_connection() {
    let (mut timed, peer) = sealed();
    for _ in 0..10 {
        timed.pass(LIMIT - INSTANT);
        peer.send(&question()).unwrap();
        timed.world.settle().unwrap();
    }
    assert_eq!(timed.served.log(0).words(), ["made"]);
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn half_a_record_keeps_a_connection_a_byte_at_a_time() {
    let (mut timed, peer) = sealed();
    let record = record_of(b'D', b"slow");
    let (last, begin) = record.split_last().unwrap();
    for byte in begin {
        timed.pass(LIMIT - INSTANT);
        peer.send(&[*byte]).unwrap();
        timed.world.settle().unwrap();
        assert_eq!(timed.served.log(0).words(), ["made"]);
    }
    timed.pass(LIMIT - INSTANT);
    peer.send(&[*last]).unwrap();
    timed.world.settle().unwrap();
    assert_eq!(timed.served.log(0).data(), b"slow");
    timed.assert_ends_after(0, LIMIT);
}

/// Where nothing but the bytes of the wire tells a connection that is sent to from an idle one.
#[test]
fn a_layers_output_that_the_kernel_refuses_keeps_no_connection() {
    let layer = |options: ListenOptions| options.layer(Seal::server);
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let peer = timed.dial();
    peer.send(&hello()).unwrap();
    timed.world.settle().unwrap();
    never_paused(&timed.served.transport(0))
        .write(&[1; 3000])
        .unwrap();
    timed.world.settle().unwrap();
    for _ in 0..5 {
        timed.pass(LIMIT - INSTANT);
        // A part of a record, of which the protocol is told nothing.
        assert_eq!(peer.read(&mut [0]).unwrap(), 1);
        timed.world.settle().unwrap();
        assert!(!timed.served.log(0).is_lost());
    }
    timed.assert_ends_after(0, LIMIT);
}

/// One byte each, which the kernel takes whole: no event of the socket tells of it.
#[test]
fn bytes_that_a_layer_sends_by_itself_keep_a_connection() {
    let beats = Rc::new(Cell::new(12_u32));
    let left = beats.clone();
    let layer = |options: ListenOptions| {
        options.layer(move || {
            let left = left.clone();
            Hooked::new(move |called, io| {
                if called == "timer" {
                    left.set(left.get() - 1);
                    io.send(b".");
                }
                if left.get() > 0 {
                    io.wake_after(LIMIT - INSTANT);
                }
                Ok(())
            })
        })
    };
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let peer = timed.dial();
    timed.pass(12 * (LIMIT - INSTANT));
    assert_eq!((beats.get(), peer.take().len()), (0, 12));
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn bytes_that_code_of_the_user_has_a_layer_send_keep_a_connection() {
    let layer = |options: ListenOptions| options.layer(|| Hooked::new(|_, _| Ok(())));
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let peer = timed.dial();
    let transport = timed.served.transport(0);
    for _ in 0..10 {
        timed.pass(LIMIT - INSTANT);
        let sent = transport.with_layer(|_: &mut Hooked, io| io.send(b"."));
        assert!(sent.is_some());
        timed.world.settle().unwrap();
        assert!(!timed.served.log(0).is_lost());
    }
    assert_eq!(peer.take().len(), 10);
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn a_layer_that_wakes_and_sends_nothing_keeps_no_connection() {
    let layer = |options: ListenOptions| {
        options.layer(|| {
            Hooked::new(|_, io| {
                io.wake_after(LIMIT / 16);
                Ok(())
            })
        })
    };
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let _peer = timed.dial();
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn reads_in_which_a_layer_finds_nothing_keep_no_connection() {
    let reads = Rc::new(Cell::new(0));
    let counted = reads.clone();
    let layer = |options: ListenOptions| {
        options.layer(move || {
            let reads = counted.clone();
            Hooked::new(move |called, io| {
                if called == "timer" {
                    io.more();
                } else if called == "receive" {
                    reads.set(reads.get() + 1);
                }
                io.wake_after(LIMIT / 16);
                Ok(())
            })
        })
    };
    let mut timed = Timed::new(LIMIT, layer, |recorder| recorder);
    let _peer = timed.dial();
    timed.assert_ends_after(0, LIMIT);
    assert!(reads.get() >= 16, "{}", reads.get());
}
