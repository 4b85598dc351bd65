//! Allocations of the load generator while it measures. Allocations are counted for the whole
//! process, so this test is alone in its own.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use tidegate_bench::carrier::Carrier;
use tidegate_bench::load::{Load, Mode, Plan, Until};
use tidegate_bench::server_process::{Listening, ServerProcess, tied_to_us};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn nothing_is_allocated_while_measuring() {
    let loads = [
        (Mode::PingPong, "echo", 1),
        (Mode::Pipeline, "echo", 16),
        (Mode::Lines, "lines", 16),
        (Mode::Sink, "sink", 1),
        (Mode::Source, "source", 1),
        (Mode::Churn, "echo", 1),
        (Mode::SlowReader, "echo", 1),
    ];
    for (mode, service, depth) in loads {
        check(mode, service, depth, Carrier::Tcp, 20);
    }
    for (mode, service, depth) in [
        (Mode::PingPong, "echo", 1),
        (Mode::Pipeline, "echo", 16),
        (Mode::Sink, "sink", 1),
        (Mode::SegmentedSink, "sink", 1),
        (Mode::Source, "source", 1),
    ] {
        check(mode, service, depth, Carrier::Udp, 1);
    }
}

fn check(mode: Mode, service: &str, depth: usize, carrier: Carrier, connections: usize) {
    let mut command = tied_to_us(env!("CARGO_BIN_EXE_serve_mio"));
    command.args([service, "--listen", "127.0.0.1:0"]);
    if carrier == Carrier::Udp {
        command.arg("--udp");
    }
    let server = ServerProcess::start(command, Listening::Says).unwrap();
    let mut plan = Plan::new(mode, server.address());
    (plan.carrier, plan.connections, plan.depth) = (carrier, connections, depth);
    plan.until = Until::Messages(500);
    plan.warmup = 20;
    let mut load = Load::connect(plan).unwrap();
    load.warm_up().unwrap();
    let region = Region::new(GLOBAL);
    load.measure().unwrap();
    let change = region.change();
    let report = load.report();
    assert_eq!(report.errors, 0, "{report}");
    assert!(report.messages >= 500, "{report}");
    let changes = change.allocations + change.reallocations + change.deallocations;
    assert_eq!(changes, 0, "{mode:?} {carrier:?}: {change:?}");
}
