//! The life of an endpoint: its first callback, its last, and what its failures end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams, Heard, assert_accounted, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{
    Address, CloseReason, DatagramProtocol, DatagramTransport, EventLoop, Result, TimeoutKind,
    WithProtocolError, WriteError,
};
use tidegate_testkit::{DatagramRecorder, Seen};

#[test]
fn connection_made_comes_first_and_connection_lost_last_and_once() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let protocol = Heard::echo();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        let peer = DatagramPeer::new(wire, &dir, "b");
        peer.send_to(b"one", transport.local_addr());
        drive(&mut event_loop, "an echo", || transport.stats().sent == 1);
        assert_eq!(peer.receive(), b"one");
        transport.close();
        transport.close();
        peer.send_to(b"late", transport.local_addr());
        drive(&mut event_loop, "the end", || protocol.closed().is_some());
        settle(&mut event_loop);
        let heard = protocol.seen();
        assert_eq!(heard.len(), 3, "{wire:?}: {heard:?}");
        assert_eq!(heard[0], Seen::Made);
        assert_eq!(heard[1], Seen::Datagram(b"one".into(), peer.address()));
        let closed = protocol.closed().unwrap();
        assert!(closed.is_clean(), "{closed}");
        assert_eq!(transport.closed(), Some(closed));
        assert_eq!(event_loop.handle().stats().datagram_endpoints, 0);
    }
}

#[test]
fn close_in_a_callback_ends_receiving_and_sends_what_was_queued() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let protocol = Heard::default().on_datagram(|transport, data, from| {
            transport.send_to(data, from)?;
            transport.close();
            assert!(transport.is_closing() && !transport.is_reading());
            transport.send_to(b"refused", from)?;
            Ok(())
        });
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        let peer = DatagramPeer::new(wire, &dir, "b");
        for data in [b"one", b"two"] {
            peer.send_to(data, transport.local_addr());
        }
        drive(&mut event_loop, "the end", || protocol.closed().is_some());
        assert_eq!(protocol.datagrams(), [b"one"], "{wire:?}");
        assert_eq!(peer.receive(), b"one");
        assert!(protocol.closed().unwrap().is_clean());
        assert_accounted(&transport);
    }
}

#[test]
fn abort_drops_the_queue_and_counts_it_as_unsent() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    settle(&mut event_loop);
    transport.send_to(&[1; 10], &peer.address()).unwrap();
    transport.send_to(&[2; 5], &peer.address()).unwrap();
    transport.abort();
    drive(&mut event_loop, "the end", || protocol.closed().is_some());
    let closed = protocol.closed().unwrap();
    assert_eq!(closed.unsent(), 15);
    assert_eq!(closed.reason(), &CloseReason::LocalAbort);
    assert_eq!(transport.stats().dropped, 2);
    assert_accounted(&transport);
    assert!(matches!(
        transport.send_to(b"x", &peer.address()),
        Err(WriteError::Closed { .. })
    ));
}

#[test]
fn an_error_that_says_that_the_endpoint_is_ending_is_no_failure() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let reports: Rc<RefCell<Vec<String>>> = Rc::default();
    let noted = reports.clone();
    event_loop
        .handle()
        .set_error_handler(move |_, failure| noted.borrow_mut().push(failure.to_string()));
    let protocol = Heard::default().on_datagram(|transport, _, from| {
        transport.abort();
        transport.send_to(b"x", from)?;
        Ok(())
    });
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    peer.send_to(b"x", transport.local_addr());
    drive(&mut event_loop, "the end", || protocol.closed().is_some());
    assert!(reports.borrow().is_empty(), "{:?}", reports.borrow());
}

#[test]
fn the_end_of_the_loop_ends_an_endpoint_as_shutdown() {
    let event_loop = EventLoop::new().unwrap();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    drop(event_loop);
    let heard = protocol.seen();
    assert_eq!(heard[0], Seen::Made);
    assert_eq!(protocol.closed().unwrap().reason(), &CloseReason::Shutdown);
    assert!(transport.is_closing());
}

#[test]
fn close_within_ends_an_endpoint_whose_queue_does_not_go() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "full");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &protocol);
    for _ in 0..500 {
        transport.send_to(&[0; 1_000], &peer.address()).unwrap();
    }
    drive(&mut event_loop, "a full receiver", || {
        transport.flow().is_paused()
    });
    transport.close_within(Duration::from_secs(60));
    transport.close_within(Duration::from_millis(10));
    drive(&mut event_loop, "the deadline", || {
        protocol.closed().is_some()
    });
    let closed = protocol.closed().unwrap();
    assert_eq!(closed.reason(), &CloseReason::Timeout(TimeoutKind::Close));
    assert!(closed.unsent() > 0);
    assert_accounted(&transport);
    assert_eq!(event_loop.handle().stats().timers, 0);
}

#[test]
fn typed_callbacks_reach_the_protocol_and_end_with_the_endpoint() {
    struct Counter(usize);
    impl DatagramProtocol for Counter {
        fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
            Ok(())
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let transport = event_loop
        .handle()
        .create_datagram_endpoint("127.0.0.1:0", Counter(0))
        .unwrap();
    let dropped = Rc::new(());
    transport.call_soon(|this: &mut Counter, _| {
        this.0 += 1;
        Ok(())
    });
    transport.call_later(Duration::from_millis(1), |this: &mut Counter, _| {
        this.0 += 10;
        Ok(())
    });
    let held = dropped.clone();
    transport.call_later(Duration::from_secs(1_000), move |_: &mut Counter, _| {
        drop(held);
        Ok(())
    });
    let cancelled = transport.call_later(Duration::from_secs(1_000), |_: &mut Counter, _| Ok(()));
    cancelled.cancel();
    drive(&mut event_loop, "both calls", || {
        transport.with_protocol(|this: &mut Counter, _| this.0) == Ok(11)
    });
    assert_eq!(event_loop.handle().stats().timers, 1);
    let other = transport.with_protocol(|_: &mut DatagramRecorder, _| ());
    assert!(matches!(other, Err(WithProtocolError::OtherType { .. })));
    transport.close();
    let closed = event_loop.run_until(transport.wait_closed()).unwrap();
    assert!(closed.is_clean());
    settle(&mut event_loop);
    assert_eq!(Rc::strong_count(&dropped), 1);
    assert_eq!(event_loop.handle().stats().timers, 0);
    let ended = transport.with_protocol(|_: &mut Counter, _| ());
    assert_eq!(ended, Err(WithProtocolError::Ended));
}

#[test]
fn a_wrapped_protocol_is_found_by_its_own_type_and_the_wrapper_by_its() {
    struct Inner(u32);
    impl DatagramProtocol for Inner {
        fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
            Ok(())
        }
    }
    struct Outer(Inner);
    impl DatagramProtocol for Outer {
        fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
            Ok(())
        }

        fn inner(&mut self) -> Option<&mut dyn DatagramProtocol> {
            Some(&mut self.0)
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let made = event_loop
        .handle()
        .create_datagram_endpoint("127.0.0.1:0", Outer(Inner(0)));
    let transport = made.unwrap();
    transport.call_soon(|inner: &mut Inner, _| {
        inner.0 += 1;
        Ok(())
    });
    drive(&mut event_loop, "the call", || {
        transport.with_protocol(|inner: &mut Inner, _| inner.0) == Ok(1)
    });
    assert_eq!(
        transport.with_protocol(|outer: &mut Outer, _| outer.0.0),
        Ok(1)
    );
    let other = transport.with_protocol(|_: &mut DatagramRecorder, _| ());
    assert!(matches!(other, Err(WithProtocolError::OtherType { .. })));
}
