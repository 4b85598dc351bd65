//! The other forms of a stream writer's `write`: formatted text, and owned bytes.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Kind, drive, each_kind, limits, opened, settle, stall};
use tidegate::{EventLoop, Flow, WriteError};

each_kind!(formatted_text_and_owned_bytes_arrive_in_the_order_of_the_calls);
each_kind!(text_that_fails_to_format_is_not_written);
each_kind!(owned_bytes_that_wait_for_the_kernel_are_not_copied);
each_kind!(each_form_returns_paused_above_the_high_water_mark);
each_kind!(each_form_fails_as_write_does);

fn formatted_text_and_owned_bytes_arrive_in_the_order_of_the_calls(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    assert_eq!(write!(writer, "{} {:03} ", 1, 2).unwrap(), Flow::Open);
    writer.write_owned("three ").unwrap();
    writer.write(b"four ").unwrap();
    writer.write_owned(vec![b'5'; 3]).unwrap();
    writeln!(writer).unwrap();
    peer.expect(&mut event_loop, 21);
    assert_eq!(peer.received(), b"1 002 three four 555\n");
}

/// Fails after a part of its text.
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half of ")?;
        Err(fmt::Error)
    }
}

fn text_that_fails_to_format_is_not_written(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    writer.write(b"before ").unwrap();
    let error = write!(writer, "lost {Broken}").unwrap_err();
    assert!(matches!(error, WriteError::Format { .. }), "{error:?}");
    writer.write(b"after").unwrap();
    peer.expect(&mut event_loop, 12);
    assert_eq!(peer.received(), b"before after");
}

struct Owner(Arc<AtomicBool>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        b"owned"
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn owned_bytes_that_wait_for_the_kernel_are_not_copied(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, writer.transport(), 1);
    let dropped = Arc::new(AtomicBool::new(false));
    let is_dropped = || dropped.load(Ordering::Relaxed);
    writer
        .write_owned(Bytes::from_owner(Owner(dropped.clone())))
        .unwrap();
    settle(&mut event_loop);
    assert!(!is_dropped(), "a copy waits in their place");
    drive(&mut event_loop, "the owner to be dropped", || {
        peer.read_available();
        is_dropped()
    });
    drive(&mut event_loop, "the owned bytes", || {
        peer.read_available();
        peer.received().ends_with(b"owned")
    });
}

fn each_form_returns_paused_above_the_high_water_mark(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, writer.transport(), 1);
    let buffered = writer.transport().write_buffer_size();
    let limits = limits(buffered + 2, 0);
    writer.transport().set_write_limits(limits).unwrap();
    assert_eq!(write!(writer, "1").unwrap(), Flow::Open);
    assert_eq!(writer.write_owned("2").unwrap(), Flow::Open);
    assert_eq!(write!(writer, "3").unwrap(), Flow::Paused);
    assert_eq!(writer.write_owned("4").unwrap(), Flow::Paused);
}

fn each_form_fails_as_write_does(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    let errors = || {
        [
            writer.write(b"x").unwrap_err(),
            write!(writer, "{}", 1).unwrap_err(),
            writer.write_owned("x").unwrap_err(),
        ]
    };
    writer.write_eof().unwrap();
    let after_eof = errors();
    assert!(
        after_eof
            .iter()
            .all(|error| matches!(error, WriteError::AfterEof { .. })),
        "{after_eof:?}"
    );
    writer.abort();
    let after_abort = errors();
    assert!(
        after_abort
            .iter()
            .all(|error| matches!(error, WriteError::Closed { .. })),
        "{after_abort:?}"
    );
}
