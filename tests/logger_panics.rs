//! A logger that panics; in a process of its own, because there is one logger for all.

use log::{LevelFilter, Log, Metadata, Record};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tests::{Kind, Recorder, adopted, drive};
use tidegate::EventLoop;

struct Panics;

static LINES: AtomicU32 = AtomicU32::new(0);

impl Log for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("tidegate") {
            LINES.fetch_add(1, Ordering::Relaxed);
            panic!("the logger is broken");
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_that_panics_harms_neither_the_loop_nor_a_connection() {
    log::set_logger(&Panics).unwrap();
    log::set_max_level(LevelFilter::Trace);
    for kind in Kind::ALL {
        let builder = EventLoop::builder().slow_callback(Duration::ZERO);
        let mut event_loop = builder.build().unwrap();
        let log = tests::Log::new();
        let (_, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
        event_loop.handle().call_soon(|_| panic!("to be logged"));
        peer.send(b"still here");
        peer.expect(&mut event_loop, 10);
        peer.shutdown_write();
        peer.expect_end(&mut event_loop);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.reason(), "peer-eof");
    }
    let lines = LINES.load(Ordering::Relaxed);
    assert!(lines >= 10, "{lines} lines: each callback is slow");
}
