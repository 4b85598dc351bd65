//! Counts the resident memory of the process.
//!
//! The example `key_value`: subscribers that never read, and a publisher.

#[path = "../../examples/key_value.rs"]
#[expect(dead_code, reason = "the main program")]
mod key_value;

use key_value::{CAP, clients};
use log::{Level, LevelFilter};
use support::logs::{keep_log, logged};
use support::{Kind, Scene, resident, settle};
use tidegate::{CloseReason, EventLoop, WriteLimits};

const SUBSCRIBERS: usize = 5;
const MESSAGE: usize = 100_000;
const MESSAGES: usize = 1000;

/// The maximum memory of the loop, the allocator and the test itself beside the buffers.
const CONSTANT: usize = 4 << 20;

#[test]
fn subscribers_that_never_read_are_cut_at_the_cap_and_the_publisher_goes_on() {
    keep_log(LevelFilter::Warn);
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let client = clients(1 << 20);
        let mut connect = || {
            let scene = Scene::of(kind).limits(WriteLimits::new().with_cap(CAP));
            scene.on(&mut event_loop, client())
        };
        let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| connect()).collect();
        let (_publisher, mut publisher) = connect();
        for (_, peer) in &mut subscribers {
            peer.send(b"SUBSCRIBE news\n");
        }
        settle(&mut event_loop);
        let publish = [
            b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$100000\r\n",
            &[b'x'; MESSAGE][..],
            b"\r\n",
        ]
        .concat();
        let before = resident();
        let mut told = Vec::new();
        for message in 1..=MESSAGES {
            publisher.send(&publish);
            // Each message is confirmed, whatever the subscribers do.
            publisher.expect(&mut event_loop, 4 * message);
            told.push(publisher.received()[4 * message - 3]);
            for (transport, _) in &subscribers {
                let buffered = transport.write_buffer_size();
                assert!(buffered < CAP + 2 * MESSAGE, "{kind:?}: {buffered} bytes");
            }
            let grown = resident().saturating_sub(before) as usize;
            let bound = SUBSCRIBERS * (CAP + 2 * MESSAGE) + CONSTANT;
            assert!(
                grown < bound,
                "{kind:?}: {grown} bytes after message {message}"
            );
        }
        assert_eq!((told[0], told[MESSAGES - 1]), (b'5', b'0'), "{kind:?}");
        assert!(told.is_sorted_by(|a, b| a >= b), "{kind:?}: {told:?}");
        for (transport, _) in &subscribers {
            let closed = transport.closed().unwrap();
            assert_eq!(closed.reason(), &CloseReason::LocalAbort, "{kind:?}");
            assert!(closed.unsent() >= CAP as u64, "{kind:?}: {closed}");
        }
        let lines = logged();
        assert_eq!(lines.len(), SUBSCRIBERS, "{kind:?}: {lines:?}");
        for line in lines {
            assert!(line.level == Level::Warn && line.text.contains("read too slowly: cut, "));
        }
    }
}
