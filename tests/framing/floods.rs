//! A peer that floods with the smallest frames there are: others, and timers, have their turn.

use crate::Noted;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Kind, Peer, Scene, each_kind, settle, strict_loop};
use tidegate::EventLoop;
use tidegate_framing::{Decode, Lines, Netstring, framed};

/// The maximum number of frames in one go.
const GO: usize = 4096;

/// The number of times that the timer fires, and that the quiet connection asks.
const TURNS: usize = 30;

const PERIOD: Duration = Duration::from_millis(1);

/// A timer, and the number of frames that came after it was due and before it fired.
#[derive(Clone, Default)]
struct Timed {
    due: Rc<Cell<Option<Instant>>>,
    behind: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    fired: Rc<Cell<usize>>,
}

impl Timed {
    fn start(&self, handle: &tidegate::Handle) {
        let timed = self.clone();
        self.due.set(Some(Instant::now() + PERIOD));
        handle.call_later(PERIOD, move |handle| {
            let behind = timed.behind.take();
            timed.most.set(timed.most.get().max(behind));
            timed.fired.set(timed.fired.get() + 1);
            timed.start(handle);
        });
    }

    fn frame(&self) {
        if self.due.get().is_some_and(|due| due <= Instant::now()) {
            self.behind.set(self.behind.get() + 1);
        }
    }
}

/// Sends what the kernel takes of the same frame again and again, and never a part of one in between.
struct Flood {
    peer: Peer,
    frames: Vec<u8>,
    at: usize,
}

impl Flood {
    fn refill(&mut self) {
        loop {
            let sent = self.peer.write(&self.frames[self.at..]);
            if sent == 0 {
                return;
            }
            self.at = (self.at + sent) % self.frames.len();
        }
    }
}

/// A line that is asked again and again, each time when the reply to the last one is there.
struct Quiet {
    peer: Peer,
    asked: usize,
}

impl Quiet {
    fn new(event_loop: &mut EventLoop, kind: Kind) -> Self {
        let echo = framed(Lines::new(), |transport, line| {
            Lines::new().write(transport, line)?;
            Ok(())
        });
        let (_, peer) = Scene::of(kind).on(event_loop, echo);
        Self { peer, asked: 0 }
    }

    fn replies(&mut self) -> usize {
        self.peer.read_available();
        self.peer.received().len() / 2
    }

    fn ask(&mut self) {
        if self.replies() == self.asked {
            self.peer.send(b"?\n");
            self.asked += 1;
        }
    }
}

fn check<C: Decode + Noted>(kind: Kind, codec: C, one: &[u8]) {
    let mut event_loop = strict_loop();
    let (timed, frames) = (Timed::default(), Rc::new(Cell::new(0_usize)));
    let (seen, counted) = (timed.clone(), frames.clone());
    let flooded = framed(codec, move |_, _| {
        counted.set(counted.get() + 1);
        seen.frame();
        Ok(())
    });
    let (_transport, peer) = Scene::of(kind).on(&mut event_loop, flooded);
    let mut flood = Flood {
        peer,
        frames: one.repeat(64 * 1024),
        at: 0,
    };
    let mut quiet = Quiet::new(&mut event_loop, kind);
    settle(&mut event_loop);
    timed.start(event_loop.handle());
    let (begun, mut ticks, mut most) = (Instant::now(), 0, 0);
    while timed.fired.get() < TURNS || quiet.replies() < TURNS {
        flood.refill();
        quiet.ask();
        let before = frames.get();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        most = most.max(frames.get() - before);
        ticks += 1;
        assert!(
            begun.elapsed() < support::BOUND,
            "{ticks} ticks, {most} frames in one"
        );
    }
    // A go that has left nothing is followed by a read in the same tick.
    assert!(most <= 2 * GO, "{most} frames in a tick");
    assert!(most >= GO, "the flood was none: {most} frames in a tick");
    assert!(
        timed.most.get() <= 2 * GO,
        "{} before the timer",
        timed.most.get()
    );
    // In the same tick, but for what the kernel was slow to pass on.
    let replies = quiet.replies();
    assert!(2 * replies >= ticks, "{replies} replies in {ticks} ticks");
}

each_kind!(a_flood_of_the_smallest_frames_keeps_neither_a_quiet_connection_nor_a_timer_waiting);
fn a_flood_of_the_smallest_frames_keeps_neither_a_quiet_connection_nor_a_timer_waiting(kind: Kind) {
    check(kind, Lines::new(), b"\n");
    check(kind, Netstring::new(), b"0:,");
}

each_kind!(two_floods_share_a_tick_with_the_others);
fn two_floods_share_a_tick_with_the_others(kind: Kind) {
    let mut event_loop = strict_loop();
    let counts: [Rc<Cell<usize>>; 2] = Default::default();
    let mut floods: Vec<_> = counts
        .iter()
        .map(|count| {
            let count = count.clone();
            let flooded = framed(Lines::new(), move |_, _| {
                count.set(count.get() + 1);
                Ok(())
            });
            let (_, peer) = Scene::of(kind).on(&mut event_loop, flooded);
            Flood {
                peer,
                frames: b"\n".repeat(64 * 1024),
                at: 0,
            }
        })
        .collect();
    let mut quiet = Quiet::new(&mut event_loop, kind);
    settle(&mut event_loop);
    for tick in 1..=TURNS {
        floods.iter_mut().for_each(Flood::refill);
        quiet.ask();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        for count in &counts {
            assert!(count.take() <= 2 * GO, "in tick {tick}");
        }
    }
    let replies = quiet.replies();
    assert!(2 * replies >= TURNS, "{replies} replies");
}
