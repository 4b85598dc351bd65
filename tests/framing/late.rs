//! Frames that are not complete in time, in virtual time.

use crate::{Note, Notes, Reader, frame};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::Transport;
use tidegate_framing::{FrameError, Framed, Lines, TokioCodec};
use tidegate_testkit::{Peer, World};
use tokio_util::codec::LengthDelimitedCodec;

const LIMIT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(1);

/// A server with a limit, and a peer of it.
struct Served {
    world: World,
    peer: Peer,
    notes: Notes,
    transport: Rc<RefCell<Option<Transport>>>,
}

impl Served {
    fn new(prepare: fn(Reader<Lines>) -> Reader<Lines>) -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let (notes, transport) = (Notes::default(), Rc::new(RefCell::new(None)));
        let (noted, known) = (notes.clone(), transport.clone());
        let make = move || {
            let known = known.clone();
            let reader = Reader::new(Lines::new(), &noted).on_frame(move |transport, _, _| {
                *known.borrow_mut() = Some(transport.clone());
                Ok(())
            });
            Framed::new(prepare(reader)).frame_timeout(LIMIT)
        };
        host.handle().create_server(host.addr(7), make).unwrap();
        let peer = world.network().dial(host.addr(7)).unwrap();
        world.pump().unwrap();
        let mut served = Self {
            world,
            peer,
            notes,
            transport,
        };
        served.send(b"first\n");
        served
    }

    fn send(&mut self, bytes: &[u8]) {
        self.peer.send(bytes).unwrap();
        self.world.pump().unwrap();
    }

    /// Checks that nothing fails before this time is over, and that the frame is late then.
    #[track_caller]
    fn expect_late_after(&mut self, time: Duration) {
        let before = self.notes.len();
        self.world.advance(time - STEP).unwrap();
        assert_eq!(self.notes.len(), before, "early");
        self.world.advance(2 * STEP).unwrap();
        assert_eq!(self.notes.failed(), ["a frame was not complete within 10s"]);
    }
}

#[test]
fn a_torn_frame_that_is_not_complete_in_time_ends_the_connection() {
    let mut served = Served::new(|reader| reader);
    served.send(b"to");
    // Bytes that do not complete it change nothing.
    for _ in 0..3 {
        served.world.advance(Duration::from_secs(3)).unwrap();
        served.send(b"r");
    }
    served.expect_late_after(LIMIT - Duration::from_secs(9));
    assert_eq!(served.notes.all()[2..], [Note::Lost]);
    served.world.run_until_idle().unwrap();
    assert!(served.peer.is_ended());
}

#[test]
fn a_connection_without_a_torn_frame_is_not_limited() {
    let mut served = Served::new(|reader| reader);
    for lines in 2..50 {
        // A torn one that is complete in time starts the timer.
        served.send(b"torn");
        served.world.advance(LIMIT - STEP).unwrap();
        served.send(b"\n");
        served.world.advance(Duration::from_secs(3600)).unwrap();
        assert_eq!(served.notes.len(), lines);
    }
}

#[test]
fn each_frame_has_all_of_its_time() {
    let mut served = Served::new(|reader| reader);
    served.send(b"to");
    for _ in 0..5 {
        served.world.advance(Duration::from_secs(7)).unwrap();
        // The end of one and the begin of another.
        served.send(b"rn\nto");
    }
    assert_eq!(served.notes.len(), 6);
    served.expect_late_after(LIMIT);
}

#[test]
fn a_frame_is_not_late_while_reading_is_stopped() {
    let mut served = Served::new(|reader| reader);
    served.send(b"to");
    let transport = served.transport.take().unwrap();
    transport.pause_reading();
    served.send(b"rn\n");
    served.world.advance(20 * LIMIT + LIMIT / 2).unwrap();
    assert_eq!(served.notes.len(), 1);
    transport.resume_reading();
    served.world.pump().unwrap();
    assert_eq!(served.notes.all(), [frame(b"first"), frame(b"torn")]);
    served.send(b"to");
    served.expect_late_after(LIMIT);
}

#[test]
fn a_protocol_that_handles_the_failure_replies_and_closes() {
    let mut served = Served::new(|reader| {
        reader.on_failure(|transport, error| {
            assert!(matches!(
                error.downcast_ref(),
                Some(FrameError::TimedOut { limit: LIMIT, .. })
            ));
            transport.write(b"too slow")?;
            transport.close();
            Ok(())
        })
    });
    served.send(b"to");
    served.expect_late_after(LIMIT);
    served.send(b"rn\n");
    served.world.run_until_idle().unwrap();
    assert_eq!(served.peer.take(), b"too slow");
    assert_eq!(served.notes.all()[2..], [Note::Lost]);
}

#[test]
fn a_protocol_that_takes_over_from_a_late_frame_gets_its_bytes() {
    let mut served = Served::new(|reader| {
        let notes = reader.notes.clone();
        reader.on_failure(move |transport, _| {
            transport.set_protocol(Framed::new(Reader::new(Lines::new(), &notes)), b"")?;
            Ok(())
        })
    });
    served.send(b"to");
    served.expect_late_after(LIMIT);
    served.send(b"rn\n");
    assert_eq!(served.notes.all()[2..], [frame(b"torn")]);
}

#[test]
fn a_protocol_that_takes_over_has_one_timer_also_when_it_is_of_the_same_type() {
    let mut served = Served::new(|reader| reader);
    let transport = served.transport.take().unwrap();
    served.send(b"to");
    for _ in 0..5 {
        let next = Framed::new(Reader::new(Lines::new(), &served.notes)).frame_timeout(LIMIT);
        transport.set_protocol(next, b"").unwrap();
        // It gets what has come of the frame.
        served.send(b"r");
        assert_eq!(transport.handle().stats().timers, 1);
    }
    served.expect_late_after(LIMIT);
}

#[test]
fn a_head_that_a_decoder_of_tokio_util_has_taken_is_late_too() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let notes = Notes::default();
    let noted = notes.clone();
    let make = move || {
        let codec = TokioCodec::new(LengthDelimitedCodec::new());
        Framed::new(Reader::new(codec, &noted)).frame_timeout(LIMIT)
    };
    host.handle().create_server(host.addr(7), make).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.pump().unwrap();
    peer.send(b"\0\0\0\x04body\0\0\0\x04").unwrap();
    world.pump().unwrap();
    world.advance(LIMIT - STEP).unwrap();
    assert_eq!(notes.all(), [frame(b"body")]);
    world.advance(STEP).unwrap();
    assert_eq!(notes.failed(), ["a frame was not complete within 10s"]);
}

#[test]
fn a_protocol_that_takes_over_is_not_limited() {
    let mut served = Served::new(|reader| reader);
    served.send(b"to");
    let transport = served.transport.take().unwrap();
    let next = Framed::new(Reader::new(Lines::new(), &served.notes));
    transport.set_protocol(next, b"").unwrap();
    served.world.advance(10 * LIMIT).unwrap();
    served.send(b"rn\n");
    assert_eq!(served.notes.all(), [frame(b"first"), frame(b"torn")]);
}
