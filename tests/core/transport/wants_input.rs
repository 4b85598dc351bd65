//! Whether a protocol that makes several messages of its input is to go on.

use std::cell::RefCell;
use std::rc::Rc;
use support::{
    Hooked, Kind, Log, Recorder, Scene, Seen, Wire, drive, each_kind, each_wire, flood, settle,
};
use tidegate::{OnPause, ReadHold, Transport};

type Act = fn(&Transport, &mut Option<ReadHold>);

const STOPS: [(&str, Act); 8] = [
    ("pause_reading", |transport, _| transport.pause_reading()),
    ("hold_reading", |transport, hold| {
        *hold = Some(transport.hold_reading());
    }),
    ("close", |transport, _| transport.close()),
    ("abort", |transport, _| transport.abort()),
    ("reset", |transport, _| transport.reset()),
    ("set_protocol", |transport, _| {
        transport
            .set_protocol(Recorder::default(), b"")
            .expect("not lost");
    }),
    ("push_layer", |transport, _| {
        let layer = Hooked::new(|_, _| Ok(()));
        transport.push_layer(layer, b"").detach();
    }),
    ("the crossing of the mark", |transport, _| flood(transport)),
];

each_wire!(it_is_false_from_what_stops_a_protocol_on_within_the_callback);
fn it_is_false_from_what_stops_a_protocol_on_within_the_callback(wire: Wire) {
    for (name, stop) in STOPS {
        for outside in [false, true] {
            let log = Log::new();
            let noted = log.clone();
            let mut hold = None;
            let (mut event_loop, _, transport, mut peer) = wire.scene().set_with(|recorder| {
                recorder.on_data(move |transport, _| {
                    assert!(transport.wants_input());
                    if !outside {
                        stop(transport, &mut hold);
                        assert!(!transport.wants_input(), "{name}");
                    }
                    noted.note("done");
                    Ok(())
                })
            });
            peer.send(b"bytes");
            drive(&mut event_loop, "the callback", || log.words() == ["done"]);
            if outside {
                let mut hold = None;
                assert!(transport.wants_input());
                stop(&transport, &mut hold);
                assert!(!transport.wants_input(), "{name}");
            }
        }
    }
}

each_wire!(it_is_true_again_when_reading_goes_on);
fn it_is_true_again_when_reading_goes_on(wire: Wire) {
    let (mut event_loop, _, transport, _peer) = wire.scene().set();
    settle(&mut event_loop);
    transport.pause_reading();
    let hold = transport.hold_reading();
    transport.resume_reading();
    assert!(!transport.wants_input());
    drop(hold);
    assert!(transport.wants_input());
    transport.write_eof().unwrap();
    assert!(transport.wants_input());
}

each_wire!(while_paused_it_is_what_pause_writing_has_returned);
fn while_paused_it_is_what_pause_writing_has_returned(wire: Wire) {
    for answer in [OnPause::KeepReading, OnPause::StopReading] {
        let wants: Rc<RefCell<Vec<bool>>> = Rc::default();
        let noted = wants.clone();
        let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(|recorder| {
            recorder
                .on_pause(move |_| Ok(answer))
                .on_data(move |transport, _| {
                    noted.borrow_mut().push(transport.wants_input());
                    Ok(())
                })
        });
        settle(&mut event_loop);
        flood(&transport);
        assert!(!transport.wants_input());
        drive(&mut event_loop, "the pause", || log.has(&Seen::Pause));
        assert_eq!(transport.wants_input(), answer == OnPause::KeepReading);
        peer.send(b"bytes");
        if answer == OnPause::StopReading {
            settle(&mut event_loop);
            assert_eq!(log.data_len(), 0);
        }
        drive(&mut event_loop, "the bytes", || {
            if answer == OnPause::StopReading {
                peer.read_available();
            }
            log.data_len() > 0
        });
        assert_eq!(*wants.borrow(), [true]);
    }
}

each_kind!(a_server_of_long_replies_stops_in_the_middle_of_a_batch);
fn a_server_of_long_replies_stops_in_the_middle_of_a_batch(kind: Kind) {
    const REPLY: usize = 50_000;
    const REQUESTS: usize = 1000;
    let most: Rc<RefCell<usize>> = Rc::default();
    let seen = most.clone();
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().set_with(|recorder| {
            recorder.on_data(move |transport, data| {
                for place in 0..data.len() {
                    if !transport.wants_input() {
                        transport.unread(&data[place..]);
                        break;
                    }
                    transport.write(&[data[place]; REPLY])?;
                    let mut most = seen.borrow_mut();
                    *most = (*most).max(transport.write_buffer_size());
                }
                Ok(())
            })
        });
    peer.send(&[b'.'; REQUESTS]);
    drive(&mut event_loop, "the pause", || log.has(&Seen::Pause));
    settle(&mut event_loop);
    let high = transport.write_limits().high();
    assert!(*most.borrow() <= high + REPLY, "{}", most.borrow());
    peer.expect(&mut event_loop, REPLY * REQUESTS);
    assert!(*most.borrow() <= high + REPLY, "{}", most.borrow());
}
