//! How failures and slow callbacks are called: by the callback, the connection, and its peer.

use std::time::{Duration, Instant};
use support::logs::{keep_log, logged};
use support::{Kind, Peer, adopted, drive, each_kind, failures, settle};
use tidegate::{EventLoop, Protocol, Result, Transport};

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    GetBuffer,
    Empty,
    Updated,
    UpdatedPanics,
}

impl Fails {
    const ALL: [Self; 4] = [
        Self::GetBuffer,
        Self::Empty,
        Self::Updated,
        Self::UpdatedPanics,
    ];

    fn callback(self) -> &'static str {
        match self {
            Self::GetBuffer | Self::Empty => "get_buffer",
            Self::Updated | Self::UpdatedPanics => "buffer_updated",
        }
    }
}

/// A buffered protocol that fails.
struct Buffered(Fails, [u8; 16]);

impl Protocol for Buffered {
    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        match self.0 {
            Fails::GetBuffer => panic!("on purpose"),
            Fails::Empty => Some(&mut []),
            _ => Some(&mut self.1),
        }
    }

    fn buffer_updated(&mut self, _: &Transport, _: usize) -> Result {
        assert!(self.0 != Fails::UpdatedPanics, "on purpose");
        Err("on purpose".into())
    }
}

/// Fails only when it gets data, and so names `data_received`.
struct Unbuffered;

impl Protocol for Unbuffered {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        Err("on purpose".into())
    }
}

each_kind!(a_failure_of_a_buffered_protocol_names_the_callback_that_failed);
fn a_failure_of_a_buffered_protocol_names_the_callback_that_failed(kind: Kind) {
    for slow_log in [false, true] {
        let mut builder = EventLoop::builder();
        if slow_log {
            builder = builder.slow_callback(Duration::from_secs(3600));
        }
        let mut event_loop = builder.build().unwrap();
        let failures = failures(event_loop.handle());
        for fails in Fails::ALL {
            let (_transport, mut peer) =
                adopted(event_loop.handle(), kind, Buffered(fails, [0; 16]));
            peer.send(b"go");
            drive(&mut event_loop, "the failure", || {
                !failures.borrow().is_empty()
            });
            let failure = failures.borrow_mut().remove(0);
            assert_eq!(failure.context(), fails.callback(), "{failure}");

            // The name of an earlier failure does not stick.
            let (_transport, mut peer) = adopted(event_loop.handle(), kind, Unbuffered);
            peer.send(b"go");
            drive(&mut event_loop, "the failure", || {
                !failures.borrow().is_empty()
            });
            let failure = failures.borrow_mut().remove(0);
            assert_eq!(failure.context(), "data_received", "{failure}");
        }
    }
}

each_kind!(a_failure_of_a_buffered_protocol_that_is_given_unread_bytes_is_named_alike);
fn a_failure_of_a_buffered_protocol_that_is_given_unread_bytes_is_named_alike(kind: Kind) {
    for fails in Fails::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let (transport, _peer) = adopted(event_loop.handle(), kind, Unbuffered);
        settle(&mut event_loop);
        let buffered = Buffered(fails, [0; 16]);
        transport.set_protocol(buffered, b"unread").unwrap();
        drive(&mut event_loop, "the failure", || {
            !failures.borrow().is_empty()
        });
        let failure = failures.borrow_mut().remove(0);
        assert_eq!(failure.context(), fails.callback(), "{failure}");
    }
}

/// A buffered protocol that is slow, and one that is not.
struct Slow(Duration, [u8; 16]);

impl Protocol for Slow {
    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        Some(&mut self.1)
    }

    fn buffer_updated(&mut self, transport: &Transport, _: usize) -> Result {
        spin(self.0);
        transport.write(b"done")?;
        Ok(())
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() <= time {
        std::hint::spin_loop();
    }
}

each_kind!(a_slow_callback_is_logged_by_its_own_name_with_the_peer);
fn a_slow_callback_is_logged_by_its_own_name_with_the_peer(kind: Kind) {
    keep_log(log::LevelFilter::Warn);
    let limit = Duration::from_millis(20);
    let builder = EventLoop::builder().slow_callback(limit);
    let mut event_loop = builder.build().unwrap();
    let handle = event_loop.handle().clone();
    let talk = |event_loop: &mut EventLoop, time| {
        let (transport, mut peer) = adopted(&handle, kind, Slow(time, [0; 16]));
        peer.send(b"go");
        peer.expect(event_loop, 4);
        (transport, peer)
    };
    let (transport, _peer) = talk(&mut event_loop, limit);
    let (id, address) = (transport.id(), transport.peer_addr());
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let text = &lines[0].text;
    assert!(text.starts_with("buffer_updated of "), "{text}");
    let with_peer = format!(" on {id} (peer {address}) took ");
    assert!(text.contains(&with_peer), "{text}");

    // One that was fast leaves no name behind.
    let _fast = talk(&mut event_loop, Duration::ZERO);
    handle.call_soon(move |_| spin(limit));
    settle(&mut event_loop);
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].text.starts_with("call_soon took"), "{lines:?}");
}

#[test]
fn what_is_timed_as_something_else_counts_for_that_alone() {
    keep_log(log::LevelFilter::Warn);
    let limit = Duration::from_millis(20);
    let builder = EventLoop::builder().slow_callback(limit);
    let mut event_loop = builder.build().unwrap();
    let handle = event_loop.handle().clone();
    let inner = move |handle: &tidegate::Handle| {
        handle.timed_as(|| "the part".into(), || spin(limit));
        assert_eq!(handle.timed_as(|| panic!("not slow"), || 7), 7);
    };
    handle.call_soon(inner);
    settle(&mut event_loop);
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].text.starts_with("the part took"), "{lines:?}");

    // The rest of the callback counts for the callback.
    handle.call_soon(move |handle| {
        inner(handle);
        spin(limit);
    });
    settle(&mut event_loop);
    let lines = logged();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].text.starts_with("call_soon took"), "{lines:?}");
}

#[test]
fn a_failure_names_the_peer_of_its_connection() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    let server = handle.create_server("127.0.0.1:0", || Unbuffered).unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.send(b"go");
    peer.expect_end(&mut event_loop);
    let failure = failures.borrow_mut().remove(0);
    let address = failure.peer().expect("a peer").clone();
    let local = peer.as_sock().local_addr().unwrap();
    assert_eq!(address.as_inet(), local.as_socket());
    assert!(
        failure.to_string().contains(&format!(" (peer {address}) ")),
        "{failure}"
    );
    // Of one that belongs to no connection there is none.
    handle.call_soon(|_| panic!("on purpose"));
    settle(&mut event_loop);
    let failure = failures.borrow_mut().remove(0);
    assert_eq!(failure.peer(), None);
    assert_eq!(failure.to_string(), "call_soon panicked: on purpose");
}
