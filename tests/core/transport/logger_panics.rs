//! A logger that panics.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::logs::log_to;
use support::{Kind, Recorder, adopted, drive, each_kind};
use tidegate::EventLoop;

each_kind!(a_logger_that_panics_harms_neither_the_loop_nor_a_connection);
fn a_logger_that_panics_harms_neither_the_loop_nor_a_connection(kind: Kind) {
    let lines = Rc::new(Cell::new(0));
    let counted = lines.clone();
    log_to(log::LevelFilter::Trace, move |record| {
        if record.target().starts_with("tidegate") {
            counted.set(counted.get() + 1);
            panic!("the logger is broken");
        }
    });
    let builder = EventLoop::builder().slow_callback(Duration::ZERO);
    let mut event_loop = builder.build().unwrap();
    let log = support::Log::new();
    let (_, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
    event_loop.handle().call_soon(|_| panic!("to be logged"));
    peer.send(b"still here");
    peer.expect(&mut event_loop, 10);
    peer.shutdown_write();
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "peer-eof");
    let lines = lines.get();
    assert!(lines >= 5, "{lines} lines: each callback is slow");
}
