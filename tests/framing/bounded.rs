//! Servers that reply to what they read, to a peer that does not.

use crate::connection;
use std::cell::Cell;
use std::rc::Rc;
use support::{Kind, Scene, drive, each_kind, limits, settle};
use tidegate::{OnPause, Result, Transport};
use tidegate_framing::{FrameProtocol, Framed, Lines};

const LINES: usize = 10_000;
const REPLY: usize = 50_000;

/// Sends a long reply to each line.
struct Replies {
    codec: Lines,
    most: Rc<Cell<usize>>,
    paused: Rc<Cell<usize>>,
    on_pause: Option<OnPause>,
}

impl Replies {
    fn new(on_pause: Option<OnPause>) -> Self {
        Self {
            codec: Lines::new(),
            most: Rc::default(),
            paused: Rc::default(),
            on_pause,
        }
    }
}

impl FrameProtocol for Replies {
    type Codec = Lines;

    fn codec(&mut self) -> &mut Lines {
        &mut self.codec
    }

    fn frame_received(&mut self, transport: &Transport, line: &[u8]) -> Result {
        transport.write(&[line[0]; REPLY])?;
        self.most
            .set(self.most.get().max(transport.write_buffer_size()));
        Ok(())
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.paused.set(self.paused.get() + 1);
        let side = match transport.is_accepted() {
            true => OnPause::StopReading,
            false => OnPause::KeepReading,
        };
        Ok(self.on_pause.unwrap_or(side))
    }
}

each_kind!(a_framed_server_that_replies_to_what_it_reads_is_bounded_without_code);
fn a_framed_server_that_replies_to_what_it_reads_is_bounded_without_code(kind: Kind) {
    let replies = Replies::new(None);
    let (most, paused) = (replies.most.clone(), replies.paused.clone());
    let (mut event_loop, transport, mut peer) = connection(kind, Framed::new(replies));
    peer.send(&b"a\n".repeat(LINES));
    drive(&mut event_loop, "the pause", || paused.get() > 0);
    settle(&mut event_loop);
    let bound = transport.write_limits().high() + 2 * REPLY;
    assert!(most.get() <= bound, "{} bytes", most.get());
    // Nothing is lost when the peer reads.
    let first = 200;
    peer.expect(&mut event_loop, first * REPLY);
    assert!(most.get() <= bound, "{} bytes", most.get());
    assert!(transport.closed().is_none());
}

each_kind!(the_crossing_of_the_mark_ends_a_batch_and_pause_writing_decides);
fn the_crossing_of_the_mark_ends_a_batch_and_pause_writing_decides(kind: Kind) {
    let replies = Replies::new(Some(OnPause::KeepReading));
    let (most, paused) = (replies.most.clone(), replies.paused.clone());
    let mut event_loop = support::strict_loop();
    let scene = Scene::of(kind).limits(limits(64 * 1024, 16 * 1024));
    let (transport, mut peer) = scene.on(&mut event_loop, Framed::new(replies));
    peer.send(&b"a\n".repeat(100));
    // It was told, and reads on.
    drive(&mut event_loop, "all replies", || {
        transport.written() == 100 * REPLY as u64
    });
    assert_eq!(paused.get(), 1);
    assert!(most.get() > 10 * REPLY);
    peer.expect(&mut event_loop, 100 * REPLY);
}
