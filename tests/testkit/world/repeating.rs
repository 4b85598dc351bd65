//! Repeating timers and moved deadlines, by a clock that tells the very nanosecond.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{CallbackHandle, Result, Transport};
use tidegate_testkit::World;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Times = Rc<RefCell<Vec<Duration>>>;

#[test]
fn a_repeating_timer_does_not_drift() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let times = Times::default();
    let (noted, network) = (times.clone(), world.network().clone());
    let period = Duration::from_nanos(1_000_001);
    let timer = host.handle().call_every(period, move |_| {
        noted.borrow_mut().push(network.elapsed());
    });
    world.advance(1000 * period).unwrap();
    let expected: Vec<_> = (1..=1000).map(|n| n * period).collect();
    assert_eq!(*times.borrow(), expected);
    timer.cancel();
    world.run_until_idle().unwrap();
    assert_eq!(times.borrow().len(), 1000);
}

#[test]
fn the_period_counts_on_from_a_deadline_that_was_moved() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let (times, own) = (
        Times::default(),
        Rc::new(RefCell::new(None::<CallbackHandle>)),
    );
    let (noted, network, itself) = (times.clone(), world.network().clone(), own.clone());
    let timer = host.handle().call_every(SECOND, move |_| {
        noted.borrow_mut().push(network.elapsed());
        // The third run moves the fourth.
        if noted.borrow().len() == 3 {
            assert!(itself.borrow().as_ref().unwrap().reset(300 * MS));
        }
    });
    own.replace(Some(timer.clone()));
    // From outside, before the first.
    world.advance(900 * MS).unwrap();
    assert!(timer.reset(SECOND));
    world.advance(5000 * MS).unwrap();
    let expected = [1900, 2900, 3900, 4200, 5200].map(|ms| ms * MS);
    assert_eq!(*times.borrow(), expected);
    // It may wait for good, and go on.
    assert!(timer.reset(Duration::MAX));
    world.advance(100 * SECOND).unwrap();
    assert_eq!(times.borrow().len(), 5);
    assert!(timer.reset(SECOND));
    world.advance(2 * SECOND).unwrap();
    assert_eq!(times.borrow().len(), 7);
}

#[test]
fn a_connection_that_is_idle_for_its_timeout_is_closed_then_and_not_before() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let idle: Rc<RefCell<Option<CallbackHandle>>> = Rc::default();
    let (log, made, read) = (Log::new(), idle.clone(), idle.clone());
    let served = log.clone();
    let factory = move || {
        let (made, read) = (made.clone(), read.clone());
        let recorder = Recorder::new(&served).on_made(move |transport| -> Result {
            let close = |_: &mut Recorder, transport: &Transport| {
                transport.close();
                Ok(())
            };
            made.replace(Some(transport.call_later(10 * SECOND, close)));
            Ok(())
        });
        recorder.on_data(move |_, _| {
            read.borrow().as_ref().unwrap().reset(10 * SECOND);
            Ok(())
        })
    };
    b.handle().create_server(b.addr(7), factory).unwrap();
    let connect = a.handle().create_connection(b.addr(7), Recorder::default());
    let transport = world.run_until(connect).unwrap();
    for _ in 0..5 {
        world.advance(8 * SECOND).unwrap();
        transport.write(b"x").unwrap();
        world.advance(SECOND).unwrap();
    }
    assert!(!log.is_lost());
    world.advance(8 * SECOND).unwrap();
    assert!(!log.is_lost());
    world.advance(2 * SECOND).unwrap();
    assert!(log.is_lost());
    assert_eq!(log.reason(), "local-close");
}
