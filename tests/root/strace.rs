//! The example server while its system calls fail, or take long: strace(1) sees to that. No
//! connection may be lost that the fault did not end, and no byte be wrong.

use std::collections::BTreeMap;
use support::root::{Crowd, Mode, Server, Traffic, wait_until};
use support::{Kind, each_kind};

/// One client after the other in the backlog, and echoes of more than one read.
const TRAFFIC: Traffic = Traffic {
    clients: 24,
    messages: 10,
    most: 200 * 1024,
    late: true,
};

/// Much to accept, little to say.
const CONNECTS: Traffic = Traffic {
    clients: 40,
    messages: 2,
    most: 100,
    late: false,
};

/// Runs the traffic while strace injects into each of the calls; returns the number of injections.
#[track_caller]
fn survives(
    kind: Kind,
    mode: Mode,
    traffic: Traffic,
    calls: &[&str],
    fault: &str,
    most_lines: usize,
) -> BTreeMap<String, usize> {
    let injections: Vec<_> = calls.iter().map(|call| format!("{call}:{fault}")).collect();
    let injections: Vec<_> = injections.iter().map(String::as_str).collect();
    let server = Server::traced(kind, mode, &injections);
    let bytes = traffic.verify(&server);
    server.assert_is_well();
    server.assert_lines(most_lines);
    let injected = server.injected();
    println!("{kind:?}, {mode:?}, {fault}: {bytes} bytes, {injected:?}");
    injected
}

#[track_caller]
fn assert_hit(injected: &BTreeMap<String, usize>, calls: &[&str]) {
    for &call in calls {
        let count = injected.get(call).copied().unwrap_or_default();
        assert!(count > 0, "{call} was never tampered with: {injected:?}");
    }
}

each_kind!(every_call_that_a_signal_can_interrupt_is_made_again);
fn every_call_that_a_signal_can_interrupt_is_made_again(kind: Kind) {
    const CALLS: [&str; 5] = ["epoll_wait", "accept4", "recvfrom", "sendto", "sendmsg"];
    for mode in Mode::ALL {
        let fault = "error=EINTR:when=1+3";
        let injected = survives(kind, mode, TRAFFIC, &CALLS, fault, 0);
        assert_hit(&injected, &CALLS);
    }
}

each_kind!(a_kernel_that_has_no_memory_for_a_transfer_now_is_asked_again);
fn a_kernel_that_has_no_memory_for_a_transfer_now_is_asked_again(kind: Kind) {
    const CALLS: [&str; 3] = ["recvfrom", "sendto", "sendmsg"];
    for (mode, error) in [(Mode::Protocol, "ENOBUFS"), (Mode::Buffered, "ENOMEM")] {
        let fault = format!("error={error}:when=1+4");
        let injected = survives(kind, mode, TRAFFIC, &CALLS, &fault, 0);
        assert_hit(&injected, &CALLS);
    }
}

each_kind!(a_connection_aborted_in_the_backlog_does_not_hold_up_those_behind_it);
fn a_connection_aborted_in_the_backlog_does_not_hold_up_those_behind_it(kind: Kind) {
    for error in ["ECONNABORTED", "EPROTO"] {
        let fault = format!("error={error}:when=1+3");
        let injected = survives(kind, Mode::Protocol, CONNECTS, &["accept4"], &fault, 0);
        assert_hit(&injected, &["accept4"]);
    }
}

each_kind!(a_backlog_that_accept_failed_for_is_accepted_later_without_a_new_connect);
fn a_backlog_that_accept_failed_for_is_accepted_later_without_a_new_connect(kind: Kind) {
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        // Three refusals in a row are told once, and that they are over.
        let fault = format!("error={error}:when=1..3");
        let injected = survives(kind, Mode::Protocol, CONNECTS, &["accept4"], &fault, 2);
        assert_eq!(injected["accept4"], 3);
    }
    let fault = "error=EMFILE:when=1+10";
    let injected = survives(kind, Mode::Buffered, CONNECTS, &["accept4"], fault, 20);
    assert_hit(&injected, &["accept4"]);
}

each_kind!(a_loop_that_wakes_up_late_loses_nothing);
fn a_loop_that_wakes_up_late_loses_nothing(kind: Kind) {
    for mode in Mode::ALL {
        let fault = "delay_exit=10000:when=2+5";
        let injected = survives(kind, mode, TRAFFIC, &["epoll_wait"], fault, 0);
        assert_hit(&injected, &["epoll_wait"]);
    }
}

/// While each of these injections takes a connection away, exactly that number is lost.
#[track_caller]
fn loses_what_is_hit(kind: Kind, mode: Mode, injection: &str, hits: usize) {
    const CLIENTS: usize = 24;
    let server = Server::traced(kind, mode, &[injection]);
    let ends = Crowd::around(&server, CLIENTS as u64, 100_000, |crowd| {
        wait_until("all that are hit have ended", || {
            server.connections() <= CLIENTS - hits
        });
        crowd.goes_on(hits);
    });
    let lost = ends.iter().filter(|end| end.is_err()).count();
    server.assert_is_well();
    server.assert_lines(hits);
    let injected = server.injected();
    println!("{kind:?}, {mode:?}, {injection}: {lost} lost, {injected:?}");
    assert_eq!(injected.values().sum::<usize>(), hits);
    assert_eq!(lost, hits, "{ends:#?}");
}

each_kind!(a_connection_that_fails_harms_no_other);
fn a_connection_that_fails_harms_no_other(kind: Kind) {
    for mode in Mode::ALL {
        loses_what_is_hit(kind, mode, "recvfrom:error=ETIMEDOUT:when=15..55+20", 3);
        loses_what_is_hit(kind, mode, "sendto:error=EPIPE:when=15..55+20", 3);
    }
}

each_kind!(a_connection_that_cannot_be_registered_is_closed_and_the_others_are_served);
fn a_connection_that_cannot_be_registered_is_closed_and_the_others_are_served(kind: Kind) {
    // The first two calls are the loop's own.
    loses_what_is_hit(
        kind,
        Mode::Protocol,
        "epoll_ctl:error=ENOSPC:when=5..20+5",
        4,
    );
}
