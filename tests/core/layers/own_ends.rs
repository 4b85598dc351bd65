//! Ends that code of a layer asks for: they wait until that code has returned, and are what was asked for.

use std::cell::RefCell;
use std::io::ErrorKind;
use support::{Hooked, Kind, Scene, drive, each_kind};
use tidegate::{CloseReason, Transport};

/// Calls of one method of the layer, in order.
type Ends = &'static [fn(&Transport)];

#[test]
fn a_reset_that_a_layer_asks_for_is_one_for_the_peer_also_beside_an_abort() {
    let table: [(Ends, Option<ErrorKind>); 4] = [
        (&[Transport::abort], None),
        (&[Transport::reset], Some(ErrorKind::ConnectionReset)),
        (
            &[Transport::abort, Transport::reset],
            Some(ErrorKind::ConnectionReset),
        ),
        (
            &[Transport::reset, Transport::abort],
            Some(ErrorKind::ConnectionReset),
        ),
    ];
    for (n, (ends, expected)) in table.into_iter().enumerate() {
        let (mut event_loop, log, transport, mut peer) = Scene::of(Kind::Tcp).strict().set();
        let own = transport.clone();
        let layer = Hooked::on("receive", move |_| {
            for end in ends {
                end(&own);
            }
            assert!(own.closed().is_none(), "not before the layer returns");
            Ok(())
        });
        event_loop
            .run_until(transport.push_layer(layer, b""))
            .unwrap();
        peer.send(b"ends it");
        drive(&mut event_loop, "the end", || log.is_lost());
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.saw_error(), expected, "row {n}");
        assert_eq!(log.closed().reason(), &CloseReason::LocalAbort, "row {n}");
    }
}

/// The other end is that of the loop, which is dropped within a call with the layer.
fn of_two_ends_that_a_layer_asks_for_the_first_is_the_reason(kind: Kind) {
    for aborts_first in [true, false] {
        let (mut event_loop, log, transport, _peer) = Scene::of(kind).strict().set();
        let layer = Hooked::new(|_, _| Ok(()));
        event_loop
            .run_until(transport.push_layer(layer, b""))
            .unwrap();
        let event_loop = RefCell::new(Some(event_loop));
        let called = transport.with_layer(|_: &mut Hooked, _| {
            if aborts_first {
                transport.abort();
            }
            drop(event_loop.take());
            transport.abort();
        });
        assert_eq!(called, Some(()));
        let expected = if aborts_first {
            CloseReason::LocalAbort
        } else {
            CloseReason::Shutdown
        };
        assert_eq!(log.closed().reason(), &expected);
        assert_eq!(log.words(), ["made", "lost"]);
    }
}
each_kind!(of_two_ends_that_a_layer_asks_for_the_first_is_the_reason);
