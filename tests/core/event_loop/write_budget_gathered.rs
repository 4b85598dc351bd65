//! The write budget, and the small writes of a callback in front of a large one.

use std::io::Write;
use std::os::unix::net::UnixStream;
use support::{Log, MIB, Recorder, put, settle, text};
use tidegate::{CloseReason, Closed, EventLoop, PanicPolicy};

/// The end of a connection whose `connection_made` has written 1800 bytes in small writes and then a
/// mebibyte, with a budget of 1000 bytes.
fn end_of_one(kernel_is_full: bool) -> Option<Closed> {
    let builder = EventLoop::builder().panic_policy(PanicPolicy::Propagate);
    let mut event_loop = builder.write_budget(1000).build().unwrap();
    let log = Log::new();
    let writer = Recorder::new(&log).on_made(move |transport| {
        for _ in 0..2 {
            assert!(!put(transport, 900).is_paused());
        }
        let refused = transport.write(&text(1800, MIB)).is_err();
        assert_eq!(refused, kernel_is_full);
        assert_eq!(transport.sent() > 0, !kernel_is_full);
        Ok(())
    });
    let (mut ours, _peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while kernel_is_full && ours.write(&[0; 4096]).is_ok() {}
    let transport = event_loop.handle().adopt(ours, writer).unwrap();
    settle(&mut event_loop);
    transport.closed()
}

#[test]
fn small_writes_of_a_callback_fill_the_budget_for_a_large_one_behind_them() {
    let closed = end_of_one(true).unwrap();
    assert_eq!(*closed.reason(), CloseReason::Memory);
    assert_eq!(closed.unsent(), 1800 + MIB as u64);
}

#[test]
fn small_writes_that_the_kernel_takes_with_a_part_of_a_large_one_fill_no_budget() {
    assert_eq!(end_of_one(false), None);
}
