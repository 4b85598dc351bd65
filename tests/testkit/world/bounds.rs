//! A simulated world ends, whatever it is told: faults that always strike, times without end, and
//! closures that hold the world itself.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder};
use tidegate::ConnectOptions;
use tidegate_testkit::{Fault, Faults, Link, World};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_world_in_which_a_fault_always_strikes_comes_to_an_end() {
    for &fault in Fault::ALL {
        let mut world = World::builder().step_limit(100_000).build();
        let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
        let log = Log::new();
        let served = log.clone();
        let echo = move || Recorder::echo(&served).keep_open();
        b.handle().create_server(b.addr(7), echo).unwrap();
        world.network().set_faults(&Faults::none().with(fault, 1.0));
        let client = Recorder::new(&Log::new()).on_made(|transport| {
            transport.write(&[7; 1000])?;
            Ok(())
        });
        let to = ConnectOptions::new(b.addr(7)).timeout(3600 * SECOND);
        a.handle().create_connection(to, client).detach();
        if let Err(busy) = world.run_until_idle() {
            panic!("{fault}: {busy}");
        }
        let again = [
            Fault::ReadAgain,
            Fault::WriteAgain,
            Fault::NoMemory,
            Fault::SlowHost,
            Fault::AcceptAgain,
            Fault::Interrupted,
        ];
        if again.contains(&fault) {
            assert_eq!(log.data_len(), 1000, "{fault}");
            assert!(world.fault_counts().times(fault) > 3, "{fault}");
        }
    }
}

#[test]
fn an_eintr_that_is_forced_for_ever_lets_each_call_end_after_nine() {
    let mut world = World::builder().step_limit(10_000).build();
    let host = world.add_host("a").unwrap();
    let log = Log::new();
    let served = log.clone();
    let echo = move || Recorder::echo(&served);
    host.handle().create_server(host.addr(7), echo).unwrap();
    world.network().force(Fault::Interrupted, u32::MAX);
    let peer = world.network().dial(host.addr(7)).unwrap();
    peer.send(b"x").ok();
    world.pump().unwrap();
    peer.send(b"hello").unwrap();
    world.pump().unwrap();
    assert_eq!(peer.take(), b"hello");
    assert!(world.fault_counts().times(Fault::Interrupted) >= 27);
}

#[test]
fn times_without_end_are_the_end_of_time_and_no_panic() {
    let far = Link::new().latency(Duration::MAX).jitter(Duration::MAX);
    for link in [far, Link::new()] {
        let mut world = World::builder().link(link).step_limit(10_000).build();
        let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
        let protocol = || Recorder::new(&Log::new());
        b.handle().create_server(b.addr(7), protocol).unwrap();
        let connect = |log: &Log| {
            let to = ConnectOptions::new(b.addr(7)).timeout(Duration::MAX);
            let client = Recorder::new(log);
            a.handle().create_connection(to, client).detach();
        };
        world.network().stall(&a, &b, Duration::MAX);
        connect(&Log::new());
        a.handle().call_later(Duration::MAX, |_| ());
        let called = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let called = called.clone();
            world
                .network()
                .after(Duration::MAX, move |_| called.set(called.get() + 1));
        }
        world
            .network()
            .set_faults(&Faults::none().with(Fault::Stall, 1.0));
        world.run_until_idle().unwrap();
        assert_eq!(called.get(), 2);
        let years = world.elapsed().as_secs() / (365 * 24 * 3600);
        assert!(years >= 1000, "{years}");
        // There it goes on, without time.
        world.network().set_faults(&Faults::all());
        world.network().after(SECOND, |_| ());
        connect(&Log::new());
        world.advance(Duration::MAX).unwrap();
        world.run_until_idle().unwrap();
    }
}

#[test]
fn a_world_that_is_dropped_drops_what_was_to_happen_and_all_that_it_holds() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let protocol = || Recorder::new(&Log::new());
    host.handle().create_server(host.addr(7), protocol).unwrap();
    let held = Rc::new(());
    let peer = world.network().dial(host.addr(7)).unwrap();
    let (network, inner) = (world.network().clone(), held.clone());
    world.network().after(SECOND, move |_| {
        drop((network, peer, inner));
    });
    let network = world.network().clone();
    world.pump().unwrap();
    drop(world);
    assert_eq!(Rc::strong_count(&held), 1);
    let late = held.clone();
    network.after(SECOND, move |_| drop(late));
    assert_eq!(Rc::strong_count(&held), 1, "nothing comes after the end");
}
