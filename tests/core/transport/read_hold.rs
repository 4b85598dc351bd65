//! Holds on reading: they are counted, and apart from what else stops reading.

use std::cell::RefCell;
use std::rc::Rc;
use support::{Kind, Log, Recorder, Seen, Wire, adopted, drive, each_wire, flood, settle};
use tidegate::{EventLoop, ReadHold};

each_wire!(reading_goes_on_when_the_last_of_several_holds_is_dropped);
fn reading_goes_on_when_the_last_of_several_holds_is_dropped(wire: Wire) {
    let (mut event_loop, log, transport, mut peer) = wire.scene().set();
    settle(&mut event_loop);
    let mut holds: Vec<ReadHold> = (0..3).map(|_| transport.hold_reading()).collect();
    peer.send(b"bytes");
    peer.shutdown_write();
    while let Some(hold) = holds.pop() {
        settle(&mut event_loop);
        assert!(!transport.is_reading());
        assert_eq!(log.words(), ["made"]);
        drop(hold);
    }
    assert!(transport.is_reading());
    // Not within the drop.
    assert_eq!(log.words(), ["made"]);
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

each_wire!(a_hold_within_a_callback_holds_at_once);
fn a_hold_within_a_callback_holds_at_once(wire: Wire) {
    let mut hold = None;
    let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(|recorder| {
        recorder.buffered(1).on_data(move |transport, _| {
            hold.get_or_insert_with(|| transport.hold_reading());
            Ok(())
        })
    });
    peer.send(b"two");
    drive(&mut event_loop, "the first", || log.data() == b"t");
    settle(&mut event_loop);
    assert_eq!(log.data(), b"t");
    // The old protocol holds, until the loop drops it.
    let new = Log::new().switched_in();
    transport.set_protocol(Recorder::new(&new), b"").unwrap();
    drive(&mut event_loop, "the rest", || new.data() == b"wo");
}

each_wire!(neither_a_pause_nor_the_loops_hold_undoes_one_nor_the_other_way_round);
fn neither_a_pause_nor_the_loops_hold_undoes_one_nor_the_other_way_round(wire: Wire) {
    // Which of the three goes on last.
    for last in 0..3 {
        let (mut event_loop, log, transport, mut peer) = wire.scene().set();
        settle(&mut event_loop);
        flood(&transport);
        drive(&mut event_loop, "the pause", || log.has(&Seen::Pause));
        let mut hold = Some(transport.hold_reading());
        transport.pause_reading();
        peer.send(b"bytes");
        for step in 1..=3 {
            settle(&mut event_loop);
            assert_eq!(log.data_len(), 0, "{last} {step}");
            assert!(!transport.is_reading());
            match (last + step) % 3 {
                0 => drop(hold.take()),
                1 => transport.resume_reading(),
                _ => drive(&mut event_loop, "the resume", || {
                    peer.read_available();
                    log.has(&Seen::Resume)
                }),
            }
        }
        drive(&mut event_loop, "the bytes", || log.data() == b"bytes");
    }
}

#[test]
fn a_reset_of_the_peer_is_noticed_while_reading_is_held() {
    for wire in [Wire::bare(Kind::Tcp), Wire::layered(Kind::Tcp)] {
        let (mut event_loop, log, transport, mut peer) = wire.scene().set();
        settle(&mut event_loop);
        let hold = transport.hold_reading();
        peer.send(b"bytes");
        settle(&mut event_loop);
        peer.reset();
        drive(&mut event_loop, "the error", || {
            transport.closed().is_some()
        });
        assert!(transport.closed().unwrap().is_reset());
        assert_eq!(log.words(), ["made"]);
        drop(hold);
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}

#[test]
fn a_reset_that_was_there_before_the_hold_is_noticed_too() {
    for wire in [Wire::bare(Kind::Unix), Wire::layered(Kind::Unix)] {
        let holds: Rc<RefCell<Vec<ReadHold>>> = Rc::default();
        let taken = holds.clone();
        let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(|recorder| {
            recorder.on_data(move |transport, _| {
                taken.borrow_mut().push(transport.hold_reading());
                Ok(())
            })
        });
        settle(&mut event_loop);
        transport.write(b"not read by the peer").unwrap();
        settle(&mut event_loop);
        // One event tells of the data and of the reset.
        peer.send(b"data");
        peer.close();
        drive(&mut event_loop, "the error", || {
            transport.closed().is_some()
        });
        assert!(transport.closed().unwrap().is_reset());
        assert_eq!(log.words(), ["made", "data"]);
        holds.take();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}

each_wire!(a_hold_may_outlive_its_connection_and_the_loop);
fn a_hold_may_outlive_its_connection_and_the_loop(wire: Wire) {
    let (mut event_loop, log, transport, _peer) = wire.scene().set();
    settle(&mut event_loop);
    let holds = [transport.hold_reading(), transport.hold_reading()];
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    let [first, second] = holds;
    let late = transport.hold_reading();
    drop(first);
    drop(event_loop);
    drop(late);
    drop(second);
    assert_eq!(log.words(), ["made", "lost"]);
}

#[test]
fn a_hold_says_which_connection_it_is_of() {
    let event_loop = EventLoop::new().unwrap();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::default());
    let hold = format!("{:?}", transport.hold_reading());
    assert!(hold.contains(&format!("{:?}", transport.id())), "{hold}");
}
