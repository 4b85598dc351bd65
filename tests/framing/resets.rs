//! Streams of every codec in single bytes, over many connections that end anywhere: nothing is left of
//! any.

use crate::streams::{Check, STREAMS, check_stream};
use crate::{Note, Noted, Notes, Reader};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::Rng;
use tidegate::ListenOptions;
use tidegate_framing::Framed;
use tidegate_testkit::{Peer, World};

/// The number of connections of each stream at the same time.
const CROWD: usize = 40;

/// The maximum number of bytes that one of them sends.
const MOST: usize = 150;

const LIMIT: Duration = Duration::from_secs(10);

/// How a peer leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaves {
    Resets,
    Closes,
    /// Ends its own side, and reads on.
    EndsItsSide,
}

const WAYS: [Leaves; 3] = [Leaves::Resets, Leaves::Closes, Leaves::EndsItsSide];

struct Crowd {
    frames: usize,
}

/// Checks that these are the first of the frames, the last of which may be a part.
#[track_caller]
fn assert_first_of(expected: &[Note], got: &[Note]) {
    for (n, got) in got.iter().enumerate() {
        match (got, &expected[n]) {
            (Note::Raw(bytes, false), Note::Raw(all, true)) => assert!(all.starts_with(bytes)),
            (got, expected) => assert_eq!(got, expected, "frame {n}"),
        }
    }
}

impl Check for Crowd {
    fn check<C: Noted>(&mut self, rng: &mut Rng, codec: C, stream: &[u8], expected: Vec<Note>) {
        let stream = &stream[..stream.len().min(MOST)];
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        host.handle().set_error_handler(|_, _| {});
        let all: Rc<RefCell<Vec<Notes>>> = Rc::default();
        let made = all.clone();
        let make = move || {
            let notes = Notes::default();
            made.borrow_mut().push(notes.clone());
            Framed::new(Reader::new(codec.clone(), &notes)).frame_timeout(LIMIT)
        };
        let options = ListenOptions::new(host.addr(7))
            .max_connections_per_peer(CROWD)
            .idle_timeout(6 * LIMIT);
        let server = host.handle().create_server(options, make).unwrap();
        let mut peers: Vec<(Option<Peer>, usize, Leaves)> = Vec::new();
        for n in 0..CROWD {
            let peer = world.network().dial(host.addr(7)).unwrap();
            world.settle().unwrap();
            peers.push((
                Some(peer),
                rng.below(stream.len() + 1),
                WAYS[n % WAYS.len()],
            ));
        }
        assert_eq!(all.borrow().len(), CROWD);
        let mut half_closed = Vec::new();
        for at in 0..=stream.len() {
            for (peer, end, leaves) in &mut peers {
                let Some(open) = peer.take_if(|_| *end == at) else {
                    if let Some(peer) = peer {
                        peer.send(&stream[at..=at]).unwrap();
                    }
                    continue;
                };
                match leaves {
                    Leaves::Resets => open.reset(),
                    Leaves::Closes => drop(open),
                    Leaves::EndsItsSide => {
                        open.send_eof().unwrap();
                        half_closed.push(open);
                    }
                }
            }
            world.settle().unwrap();
        }
        // No time has passed: nothing was cut by a limit.
        assert_eq!(world.elapsed(), Duration::ZERO);
        let stats = host.handle().stats();
        assert_eq!(server.connection_count(), 0);
        let left = (
            stats.connections,
            stats.lingering,
            stats.timers,
            stats.buffered,
        );
        assert_eq!(left, (0, 0, 0, 0), "{stats:#?}");
        assert!(half_closed.iter().all(Peer::is_ended));
        drop(half_closed);
        world.settle().unwrap();
        assert_eq!(world.network().sockets(), 0);
        for (notes, (_, end, leaves)) in all.borrow().iter().zip(&peers) {
            let notes = notes.all();
            assert_eq!(notes.last(), Some(&Note::Lost));
            self.frames += notes.len() - 1;
            if *leaves == Leaves::Resets {
                // Neither an end of the stream, nor an error of the codec.
                assert_first_of(&expected, &notes[..notes.len() - 1]);
                assert!(notes.len() - 1 <= *end);
            }
        }
        server.close();
    }
}

#[test]
fn streams_in_single_bytes_that_are_reset_anywhere_leave_nothing() {
    let mut rng = Rng::from_environment();
    for which in 0..STREAMS {
        let mut crowd = Crowd { frames: 0 };
        for _ in 0..8 {
            check_stream(&mut rng, which, &mut crowd);
        }
        assert!(
            crowd.frames > 100,
            "stream {which}: {} frames",
            crowd.frames
        );
    }
}
