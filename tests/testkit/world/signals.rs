//! Signals of simulated hosts.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{CloseReason, Signal, SignalHandle};
use tidegate_streams::{ctrl_c, signal};
use tidegate_testkit::{Fault, Faults, Host, World};

const SECOND: Duration = Duration::from_secs(1);

type Told = Rc<RefCell<Vec<Signal>>>;

/// Adds a handler that notes what it is told.
#[track_caller]
fn note(host: &Host, signal: Signal, told: &Told) -> SignalHandle {
    let told = told.clone();
    let call = move |_: &_, signal| told.borrow_mut().push(signal);
    host.handle().add_signal_handler(signal, call).unwrap()
}

#[test]
fn a_server_ends_in_order_at_a_signal_in_virtual_time() {
    let mut world = World::new();
    let (host, client) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let (served, log) = (Log::new(), Log::new());
    let accepted = served.clone();
    let server = host
        .handle()
        .create_server(host.addr(7), move || Recorder::echo(&accepted))
        .unwrap();
    let hello = Recorder::new(&log).on_made(|transport| {
        transport.write(b"hello")?;
        Ok(())
    });
    let connecting = client.handle().create_connection(host.addr(7), hello);
    world.run_until(connecting).unwrap();
    let waiting = host
        .handle()
        .wait_signal(&[Signal::SIGINT, Signal::SIGTERM]);
    let raised = host.clone();
    world.network().after(3600 * SECOND, move |network| {
        assert!(network.raise(&raised, Signal::SIGTERM));
    });
    assert_eq!(world.run_until(waiting).unwrap(), Signal::SIGTERM);
    assert_eq!(world.elapsed(), 3600 * SECOND);
    let report = world.run_until(server.shutdown(5 * SECOND)).unwrap();
    assert_eq!((report.closed, report.aborted, report.unsent), (1, 0, 0));
    world.run_until_idle().unwrap();
    assert_eq!(log.data(), b"hello");
    assert!(log.closed().is_clean());
    assert!(matches!(served.closed().reason(), CloseReason::LocalClose));
    // A second one would have its default action.
    assert!(!world.network().raise(&host, Signal::SIGTERM));
}

#[test]
fn a_signal_is_told_at_its_host_alone_and_only_while_it_is_wanted() {
    let mut world = World::new();
    let network = world.network().clone();
    let hosts = ["a", "b"].map(|name| world.add_host(name).unwrap());
    let told = [(); 2].map(|()| Told::default());
    assert!(!network.raise(&hosts[0], Signal::SIGHUP));
    let handlers = [0, 1].map(|at| note(&hosts[at], Signal::SIGHUP, &told[at]));
    assert!(!network.raise(&hosts[0], Signal::SIGINT));
    assert!(network.raise(&hosts[0], Signal::SIGHUP));
    world.run_until_idle().unwrap();
    assert_eq!(*told[0].borrow(), [Signal::SIGHUP]);
    assert!(told[1].borrow().is_empty());
    // One that has come, and is not wanted when the loop looks.
    assert!(network.raise(&hosts[0], Signal::SIGHUP));
    assert!(handlers[0].remove());
    assert!(!network.raise(&hosts[0], Signal::SIGHUP));
    world.run_until_idle().unwrap();
    assert_eq!(told[0].borrow().len(), 1);
    assert_eq!(hosts[0].handle().stats().stale_events, 0);
}

#[test]
fn signals_that_come_before_the_loop_looks_are_one_and_are_told_by_number() {
    let mut world = World::new();
    let network = world.network().clone();
    let host = world.add_host("a").unwrap();
    let told = Told::default();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        note(&host, signal, &told);
    }
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTERM] {
        assert!(network.raise(&host, signal));
    }
    world.run_until_idle().unwrap();
    assert_eq!(*told.borrow(), [Signal::SIGHUP, Signal::SIGTERM]);
}

#[test]
fn a_wait_for_several_has_the_lowest_of_those_that_came_and_the_others_are_forgotten() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let handle = host.handle().clone();
    let waiting = handle.wait_signal(&[Signal::SIGTERM, Signal::SIGINT]);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert!(world.network().raise(&host, signal));
    }
    assert_eq!(world.run_until(waiting).unwrap(), Signal::SIGINT);
    let next = handle.wait_signal(&[Signal::SIGTERM]);
    world.run_until_idle().unwrap();
    assert!(!next.is_ready());
}

#[test]
fn async_code_gets_signals_in_virtual_time() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    for seconds in 1..=4 {
        let raised = host.clone();
        world.network().after(seconds * SECOND, move |network| {
            let signal = if seconds == 4 {
                Signal::SIGINT
            } else {
                Signal::SIGHUP
            };
            assert!(network.raise(&raised, signal));
        });
    }
    let network = world.network().clone();
    let times = world.block_on(&host, async move {
        let pressed = ctrl_c();
        let mut hangups = signal(Signal::SIGHUP).unwrap();
        let mut times = Vec::new();
        for _ in 0..3 {
            hangups.recv().await.unwrap();
            times.push(network.elapsed());
        }
        pressed.await.unwrap();
        times.push(network.elapsed());
        times
    });
    assert_eq!(times.unwrap(), [1, 2, 3, 4].map(|seconds| seconds * SECOND));
}

#[test]
fn no_fault_of_the_poll_loses_a_signal_or_invents_one() {
    for seed in 0..50 {
        let faults = Faults::none()
            .with(Fault::Interrupted, 0.2)
            .with(Fault::FewEvents, 0.3)
            .with(Fault::Reorder, 0.3)
            .with(Fault::SpuriousEvent, 0.5);
        let mut world = World::builder().seed(seed).faults(faults).build();
        let host = world.add_host("a").unwrap();
        let told = Told::default();
        note(&host, Signal::SIGUSR1, &told);
        let tick = host.handle().call_every(SECOND / 10, |_| {});
        for seconds in 1..=20 {
            let raised = host.clone();
            world.network().after(seconds * SECOND, move |network| {
                assert!(network.raise(&raised, Signal::SIGUSR1));
            });
        }
        world.advance(21 * SECOND).unwrap();
        tick.cancel();
        assert_eq!(
            told.borrow().len(),
            20,
            "seed {seed}: {}",
            world.fault_counts()
        );
        assert!(world.fault_counts().times(Fault::SpuriousEvent) > 0);
    }
}
