//! How `shutdown` ends a server: what it gives the peers, what it waits for, and what it reports.

use std::cell::RefCell;
use std::time::{Duration, Instant};
use support::{
    Kind, Served, TempDir, answer_of, assert_refused, drive, each_kind, pattern, settle,
};
use tidegate::{EventLoop, ShutdownReport};

const LONG: Duration = Duration::from_secs(3600);

fn report(answer: &RefCell<Option<ShutdownReport>>) -> (usize, usize, u64) {
    let report = answer.borrow().expect("the shutdown has ended");
    (report.closed, report.aborted, report.unsent)
}
each_kind!(a_shutdown_without_connections_ends_at_once);
fn a_shutdown_without_connections_ends_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let result = event_loop.run_until(served.server.shutdown(LONG)).unwrap();
    assert_eq!(result, ShutdownReport::default());
    assert_refused(&served.address());
    assert_eq!(event_loop.handle().stats().timers, 0);
    assert!(!served.server.is_serving());
    // Once more, on a server that is closed already; Duration::MAX does not overflow.
    let again = served.server.shutdown(Duration::MAX);
    assert_eq!(
        event_loop.run_until(again).unwrap(),
        ShutdownReport::default()
    );
}
each_kind!(a_shutdown_gives_polite_peers_all_their_bytes_and_counts_them_as_closed);
fn a_shutdown_gives_polite_peers_all_their_bytes_and_counts_them_as_closed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let mut all = served.connect::<3>(&mut event_loop);
    let total = 8 << 20;
    for n in 0..3 {
        served
            .transport(n)
            .write(&pattern(n as u64, total))
            .unwrap();
    }
    let answer = answer_of(served.server.shutdown(LONG));
    assert!(!served.server.is_serving());
    drive(&mut event_loop, "the shutdown", || {
        for peer in &mut all {
            peer.read_available();
            if peer.saw_eof() {
                peer.close();
            }
        }
        answer.borrow().is_some()
    });
    assert_eq!(report(&answer), (3, 0, 0));
    for (n, peer) in all.iter().enumerate() {
        assert!(peer.received() == pattern(n as u64, total));
        assert_eq!(served.log(n).reason(), "local-close");
    }
    let stats = event_loop.handle().stats();
    assert_eq!((stats.timers, stats.lingering), (0, 0));
}
each_kind!(a_shutdown_cuts_stalled_peers_at_the_end_of_the_grace_and_counts_the_loss);
fn a_shutdown_cuts_stalled_peers_at_the_end_of_the_grace_and_counts_the_loss(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let [mut polite, _stalled] = served.connect(&mut event_loop);
    served.transport(1).write(&vec![0; 12 << 20]).unwrap();
    let buffered = served.transport(1).write_buffer_size() as u64;
    assert!(buffered > 0);
    let grace = Duration::from_millis(60);
    let begun = Instant::now();
    let answer = answer_of(served.server.shutdown(grace));
    polite.expect_end(&mut event_loop);
    polite.close();
    drive(&mut event_loop, "the polite one", || {
        served.log(0).is_lost()
    });
    if begun.elapsed() < grace {
        assert!(answer.borrow().is_none());
    }
    drive(&mut event_loop, "the shutdown", || {
        answer.borrow().is_some()
    });
    assert!(begun.elapsed() >= grace);
    assert_eq!(served.log(1).reason(), "shutdown");
    let unsent = served.log(1).closed().unsent();
    assert!(unsent > 0 && unsent <= buffered);
    assert_eq!(report(&answer), (1, 1, unsent));
}
each_kind!(a_shutdown_waits_for_what_lingers_but_not_past_the_grace);
fn a_shutdown_waits_for_what_lingers_but_not_past_the_grace(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    for cut in [true, false] {
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let [mut peer] = served.connect(&mut event_loop);
        let grace = if cut { Duration::from_millis(50) } else { LONG };
        let begun = Instant::now();
        let answer = answer_of(served.server.shutdown(grace));
        // It has its end of stream, and keeps its own side open.
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof() && served.log(0).is_lost());
        if cut {
            drive(&mut event_loop, "the grace", || answer.borrow().is_some());
            // Without the cut the socket would wait a second for the peer.
            assert!(begun.elapsed() < Duration::from_millis(900));
        } else {
            settle(&mut event_loop);
            assert!(answer.borrow().is_none(), "it lingers");
            assert_eq!(event_loop.handle().stats().lingering, 1);
            peer.close();
            drive(&mut event_loop, "the peer's end", || {
                answer.borrow().is_some()
            });
        }
        assert_eq!(report(&answer), (1, 0, 0));
        let stats = event_loop.handle().stats();
        assert_eq!((stats.lingering, stats.timers), (0, 0));
    }
}
#[test]
fn of_several_shutdowns_the_shortest_grace_holds_and_all_get_the_report() {
    for shortest_first in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
        let _stalled = served.connect::<1>(&mut event_loop);
        served.transport(0).write(&vec![0; 12 << 20]).unwrap();
        let short = Duration::from_millis(30);
        let graces = if shortest_first {
            [short, LONG, LONG]
        } else {
            [LONG, LONG, short]
        };
        let answers = graces.map(|grace| answer_of(served.server.shutdown(grace)));
        drive(&mut event_loop, "all shutdowns", || {
            answers.iter().all(|answer| answer.borrow().is_some())
        });
        let unsent = served.log(0).closed().unsent();
        for answer in &answers {
            assert_eq!(report(answer), (0, 1, unsent));
        }
        assert_eq!(event_loop.handle().stats().timers, 0);
    }
}
#[test]
fn a_shutdown_goes_on_when_nobody_waits_for_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let _stalled = served.connect::<1>(&mut event_loop);
    served.transport(0).write(&vec![0; 12 << 20]).unwrap();
    drop(served.server.shutdown(Duration::from_millis(20)));
    drive(&mut event_loop, "lost", || served.log(0).is_lost());
    assert_eq!(served.log(0).reason(), "shutdown");
    event_loop.run_until(served.server.wait_closed()).unwrap();
}
each_kind!(a_shutdown_with_no_grace_cuts_what_the_kernel_does_not_take_now);
fn a_shutdown_with_no_grace_cuts_what_the_kernel_does_not_take_now(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let _peers = served.connect::<2>(&mut event_loop);
    served.transport(0).write(&vec![0; 12 << 20]).unwrap();
    let answer = answer_of(served.server.shutdown(Duration::ZERO));
    drive(&mut event_loop, "the shutdown", || {
        answer.borrow().is_some()
    });
    let (closed, aborted, unsent) = report(&answer);
    assert_eq!(closed + aborted, 2);
    assert_eq!(served.log(0).reason(), "shutdown");
    assert_eq!(unsent, served.log(0).closed().unsent());
}
each_kind!(a_shutdown_with_no_grace_loses_nothing_that_the_kernel_takes_now);
fn a_shutdown_with_no_grace_loses_nothing_that_the_kernel_takes_now(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let [mut peer] = served.connect(&mut event_loop);
    // Or the first event of the connection would offer it.
    settle(&mut event_loop);
    served.transport(0).write(b"goodbye").unwrap();
    let answer = answer_of(served.server.shutdown(Duration::ZERO));
    drive(&mut event_loop, "the shutdown", || {
        answer.borrow().is_some()
    });
    assert_eq!(report(&answer), (1, 0, 0));
    peer.expect(&mut event_loop, 7);
}
