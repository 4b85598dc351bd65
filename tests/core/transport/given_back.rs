//! Bytes that a callback gives back: when they come again, and before what.

use std::cell::RefCell;
use std::rc::Rc;
use support::seal::{Seal, hello, sealed};
use support::{
    Kind, Log, Recorder, Scene, Seen, Wire, drive, each_kind, each_wire, once, pattern, settle,
};
use tidegate::{Closed, Transport};

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec())
}

/// Uses `len` bytes, and gives back the rest.
fn uses(recorder: Recorder, len: usize) -> Recorder {
    recorder.on_data(move |transport, data| {
        transport.unread(data.get(len..).unwrap_or_default());
        Ok(())
    })
}

each_wire!(what_is_given_back_comes_before_the_kernels_bytes_and_before_the_end);
fn what_is_given_back_comes_before_the_kernels_bytes_and_before_the_end(wire: Wire) {
    for stops in [false, true] {
        let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(|recorder| {
            let mut first = once(());
            recorder.on_data(move |transport, data| {
                if first().is_some() {
                    transport.unread(&data[2..]);
                    if stops {
                        transport.pause_reading();
                    }
                }
                Ok(())
            })
        });
        peer.send(b"abcd");
        drive(&mut event_loop, "the first", || log.data_len() > 0);
        peer.send(b"ef");
        peer.shutdown_write();
        if stops {
            settle(&mut event_loop);
            assert_eq!(log.seen(), [Seen::Made, data(b"abcd")]);
            transport.resume_reading();
        }
        drive(&mut event_loop, "the end", || log.is_lost());
        let seen = [data(b"abcd"), data(b"cd"), data(b"ef")];
        assert_eq!(log.seen()[1..4], seen);
        assert_eq!(log.seen()[4..], [Seen::Eof, Seen::Lost]);
        assert_eq!(transport.stats().received, 6);
    }
}

each_wire!(of_several_calls_in_a_callback_the_later_goes_in_front);
fn of_several_calls_in_a_callback_the_later_goes_in_front(wire: Wire) {
    let (mut event_loop, log, _transport, mut peer) = wire.scene().set_with(|recorder| {
        let mut calls = 0;
        recorder.on_data(move |transport, data| {
            calls += 1;
            match calls {
                1 => {
                    transport.unread(&data[6..]);
                    transport.unread(&data[2..6]);
                }
                // Of the bytes that were lent: tails, something else in front of them, and a tail
                // that is none any more.
                2 => {
                    transport.unread(&data[4..]);
                    transport.unread(&data[3..4]);
                    transport.unread(b"new");
                    transport.unread(&data[2..3]);
                    transport.unread(b"");
                }
                _ => {}
            }
            Ok(())
        })
    });
    peer.send(b"abcdefgh");
    drive(&mut event_loop, "three times", || log.seen().len() == 4);
    let seen = [data(b"abcdefgh"), data(b"cdefgh"), data(b"enewfgh")];
    assert_eq!(log.seen()[1..], seen);
}

each_wire!(bytes_that_are_given_back_twice_are_not_copied_twice);
fn bytes_that_are_given_back_twice_are_not_copied_twice(wire: Wire) {
    const FRAMES: usize = 2000;
    let places: Rc<RefCell<Vec<(usize, usize)>>> = Rc::default();
    let noted = places.clone();
    let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(move |recorder| {
        recorder.on_data(move |transport, data| {
            noted.borrow_mut().push((data.as_ptr().addr(), data.len()));
            transport.unread(&data[4..]);
            transport.pause_reading();
            Ok(())
        })
    });
    peer.send(&pattern(0, 4 * FRAMES));
    drive(&mut event_loop, "each frame", || {
        let reading = transport.is_reading();
        transport.resume_reading();
        let used: usize = 4 * places.borrow().len();
        !reading && used >= 4 * FRAMES
    });
    let places = places.borrow();
    let copies = places
        .windows(2)
        .filter(|next| next[0].0 + 4 != next[1].0)
        .count();
    // One for each read of the kernel.
    assert!(copies < 8, "{copies} of {}", places.len());
    assert_eq!(log.data()[..8], [pattern(0, 8)].concat());
}

each_wire!(a_protocol_with_a_buffer_of_its_own_gives_back_into_it);
fn a_protocol_with_a_buffer_of_its_own_gives_back_into_it(wire: Wire) {
    let hints: Rc<RefCell<Vec<usize>>> = Rc::default();
    let hinted = hints.clone();
    let (mut event_loop, log, _transport, mut peer) = wire.scene().set_with(move |recorder| {
        uses(recorder.buffered(4), 1).on_get_buffer(move |_, hint| hinted.borrow_mut().push(hint))
    });
    peer.send(b"abcdef");
    drive(&mut event_loop, "each byte", || {
        log.seen().ends_with(&[data(b"f")])
    });
    let seen: [&[u8]; 6] = [b"abcd", b"bcd", b"cd", b"d", b"ef", b"f"];
    assert_eq!(log.seen()[1..], seen.map(data));
    assert_eq!(hints.borrow()[..5], [0, 3, 2, 1, 0]);
}

each_wire!(bytes_that_get_buffer_gives_back_come_before_those_that_its_buffer_was_for);
fn bytes_that_get_buffer_gives_back_come_before_those_that_its_buffer_was_for(wire: Wire) {
    for unread in [false, true] {
        let mut first = once(());
        let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(|recorder| {
            recorder.buffered(64).on_get_buffer(move |transport, _| {
                if first().is_some() {
                    transport.unread(b"first, ");
                }
            })
        });
        settle(&mut event_loop);
        if unread {
            transport.unread(b"bytes");
        } else {
            peer.send(b"bytes");
        }
        drive(&mut event_loop, "all of it", || {
            log.data() == b"first, bytes"
        });
    }
}

each_wire!(giving_back_yields_to_the_others_until_the_next_tick);
fn giving_back_yields_to_the_others_until_the_next_tick(wire: Wire) {
    let polls: Rc<RefCell<Vec<u64>>> = Rc::default();
    let noted = polls.clone();
    let (mut event_loop, log, _transport, mut peer) = wire.scene().set_with(move |recorder| {
        recorder.on_data(move |transport, data| {
            noted.borrow_mut().push(transport.handle().stats().polls);
            transport.unread(&data[1..]);
            Ok(())
        })
    });
    let (quiet, frames) = (Log::new(), polls.clone());
    let other = Recorder::new(&quiet).on_data({
        let quiet = quiet.clone();
        move |_, _| {
            quiet.note(frames.borrow().len().to_string());
            Ok(())
        }
    });
    let (_other, mut beside) = wire.scene().on(&mut event_loop, other);
    settle(&mut event_loop);
    peer.send(&[b'.'; 100]);
    drive(&mut event_loop, "the first", || polls.borrow().len() == 1);
    beside.send(b"beside");
    drive(&mut event_loop, "all of them", || {
        polls.borrow().len() == 100
    });
    let polls = polls.borrow();
    assert!(
        polls.windows(2).all(|two| two[0] + 1 == two[1]),
        "{polls:?}"
    );
    let Some(Seen::Note(frames)) = quiet.seen().pop() else {
        panic!("nothing in between: {:?}", quiet.seen());
    };
    assert!(frames.parse::<usize>().unwrap() < 100, "{frames}");
    assert_eq!(log.seen().len(), 101);
}

each_wire!(what_is_given_back_outside_of_a_read_comes_in_the_next_tick);
fn what_is_given_back_outside_of_a_read_comes_in_the_next_tick(wire: Wire) {
    let (mut event_loop, log, transport, mut peer) = wire.scene().set();
    settle(&mut event_loop);
    transport.call_soon(|_: &mut Recorder, transport| {
        transport.unread(b"timer");
        Ok(())
    });
    drive(&mut event_loop, "bytes of a closure", || {
        log.data() == b"timer"
    });
    transport.unread(b" outside");
    assert_eq!(log.data(), b"timer");
    peer.send(b" kernel");
    drive(&mut event_loop, "all of it", || {
        log.data() == b"timer outside kernel"
    });
}

each_wire!(after_set_protocol_it_comes_to_the_new_one_in_the_same_tick);
fn after_set_protocol_it_comes_to_the_new_one_in_the_same_tick(wire: Wire) {
    let new = Log::new().switched_in();
    let polls: Rc<RefCell<Vec<u64>>> = Rc::default();
    let [by_old, by_new] = [polls.clone(), polls.clone()];
    let mut next = once(Recorder::new(&new).on_data(move |transport, _| {
        by_new.borrow_mut().push(transport.handle().stats().polls);
        Ok(())
    }));
    let (mut event_loop, old, _transport, mut peer) = wire.scene().set_with(move |recorder| {
        recorder.on_data(move |transport, data| {
            by_old.borrow_mut().push(transport.handle().stats().polls);
            transport.unread(&data[2..]);
            transport.set_protocol(next().unwrap(), b"")?;
            Ok(())
        })
    });
    peer.send(b"abcd");
    drive(&mut event_loop, "the rest", || new.data() == b"cd");
    assert_eq!(old.data(), b"abcd");
    assert_eq!(polls.borrow()[0], polls.borrow()[1]);
}

each_kind!(it_is_the_input_of_a_layer_that_is_put_on_before_or_after_it);
fn it_is_the_input_of_a_layer_that_is_put_on_before_or_after_it(kind: Kind) {
    const LINE: &[u8] = b"STARTTLS\n";
    for before in [false, true] {
        // Bytes that the loop lends, and bytes that were given back once already.
        for again in [false, true] {
            let mut first = once(());
            let mut waits = again;
            let (mut event_loop, log, transport, mut peer) =
                Scene::of(kind).strict().set_with(|recorder| {
                    recorder.on_data(move |transport, data| {
                        if waits {
                            waits = false;
                            transport.unread(data);
                        } else if first().is_some() {
                            // The layer gets what it is given behind what is given back later.
                            let (middle, tail) = data[LINE.len()..].split_at(4);
                            if before {
                                transport.unread(tail);
                            }
                            let given = if before { b"" } else { tail };
                            transport.push_layer(Seal::server(), given).detach();
                            transport.unread(middle);
                        }
                        Ok(())
                    })
                });
            peer.send(&[LINE, &hello()[..], &sealed(b"secret")].concat());
            drive(&mut event_loop, "the secret", || {
                log.seen().ends_with(&[data(b"secret")])
            });
            assert!(transport.with_layer(|_: &mut Seal, _| ()).is_some());
        }
    }
}

each_wire!(from_close_and_abort_on_and_after_the_end_it_does_nothing);
fn from_close_and_abort_on_and_after_the_end_it_does_nothing(wire: Wire) {
    type End = fn(&Transport);
    let ends: [End; 3] = [Transport::close, Transport::abort, Transport::reset];
    for end in ends {
        for gives_back_before in [false, true] {
            // Bytes that nobody will get are not kept either.
            let kept: Rc<RefCell<Vec<bool>>> = Rc::default();
            let (noted, noted_at_the_end) = (kept.clone(), kept.clone());
            let (mut event_loop, log, transport, mut peer) = wire.scene().set_with(|recorder| {
                recorder
                    .on_data(move |transport, data| {
                        if gives_back_before {
                            transport.unread(&data[3..]);
                        }
                        end(transport);
                        transport.unread(&data[1..]);
                        noted.borrow_mut().push(transport.has_unread());
                        Ok(())
                    })
                    .on_lost(move |transport, _: &Closed| {
                        transport.unread(b"lost");
                        noted_at_the_end.borrow_mut().push(transport.has_unread());
                    })
            });
            peer.send(b"abcd");
            drive(&mut event_loop, "lost", || log.is_lost());
            transport.unread(b"after");
            kept.borrow_mut().push(transport.has_unread());
            settle(&mut event_loop);
            assert_eq!(log.words(), ["made", "data", "lost"]);
            assert!(
                gives_back_before || *kept.borrow() == [false; 3],
                "{kept:?}"
            );
        }
    }
}

#[test]
fn after_a_failed_write_what_is_given_back_is_delivered_to_the_end() {
    for wire in [Wire::bare(Kind::Unix), Wire::layered(Kind::Unix)] {
        let (mut event_loop, log, transport, mut peer) =
            wire.scene().set_with(|recorder| uses(recorder, 1));
        settle(&mut event_loop);
        transport.pause_reading();
        peer.send(b"kernel");
        peer.close();
        // A layer takes what is written, so its failure comes a tick later.
        let _ = transport.write(&[0; 100_000]);
        drive(&mut event_loop, "the failure", || {
            transport.closed().is_some()
        });
        transport.unread(b"un");
        transport.resume_reading();
        drive(&mut event_loop, "lost", || log.is_lost());
        let seen: [&[u8]; 8] = [
            b"un", b"n", b"kernel", b"ernel", b"rnel", b"nel", b"el", b"l",
        ];
        assert_eq!(log.seen()[1..9], seen.map(data));
        assert_eq!(log.seen()[9..], [Seen::Lost]);
    }
}
