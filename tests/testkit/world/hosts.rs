//! Hosts of a simulated world and the clock that they share: how a test runs them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{Handle, Transport};
use tidegate_streams::{open_connection, sleep, start_server_on};
use tidegate_testkit::{Faults, Link, World};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_timer_that_starts_itself_again_is_still_busy_and_runs_under_advance() {
    fn again(handle: &Handle, count: Rc<Cell<u32>>) {
        count.set(count.get() + 1);
        handle.call_later(SECOND, move |handle| again(handle, count));
    }
    let mut world = World::builder().step_limit(1000).build();
    let host = world.add_host("a").unwrap();
    let count = Rc::new(Cell::new(0));
    again(host.handle(), count.clone());
    world.advance(10 * SECOND).unwrap();
    assert_eq!(count.get(), 11);
    assert_eq!(world.elapsed(), 10 * SECOND);
    let busy = world.run_until_idle().unwrap_err();
    assert_eq!(busy.steps, 1000);
    assert!(busy.to_string().contains("1000 steps"), "{busy}");
}

#[test]
fn to_run_until_what_never_comes_is_an_error_that_says_so() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let (completer, completion) = host.handle().completion::<()>();
    let error = world.run_until(completion).unwrap_err();
    assert!(error.to_string().contains("nothing is left"), "{error}");
    drop(completer);
    let never = world.block_on(&host, std::future::pending::<()>());
    assert!(never.is_err());
    assert!(!world.run_until_true(|| false).unwrap());
}

#[test]
fn a_script_runs_at_its_times_and_may_write_into_the_trace() {
    let mut world = World::builder().trace(true).build();
    for seconds in [2, 1] {
        world.network().after(SECOND * seconds, move |network| {
            assert_eq!(network.elapsed(), SECOND * seconds);
            network.note(&format!("step {seconds}"));
        });
    }
    world.run_until_idle().unwrap();
    let trace = world.trace();
    let lines: Vec<_> = trace.lines().iter().map(|line| line.trim()).collect();
    assert_eq!(lines, ["1.000000  \"step 1\"", "2.000000  \"step 2\""]);
    assert_eq!(trace.events(), 2);
}

/// An hour of echoes under every fault; the trace.
fn hour(seed: u64) -> (u64, String) {
    let builder = World::builder().seed(seed).faults(Faults::all());
    let mut world = builder.trace(true).build();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let protocol = || Recorder::echo(&Log::new());
    // A fault may keep it from listening; then that is the run.
    let server = b.handle().create_server(b.addr(7), protocol);
    for seconds in 0..20 {
        let (to, handle) = (b.addr(7), a.handle().clone());
        a.handle().call_later(SECOND * seconds, move |_| {
            let greeting = |transport: &Transport| {
                transport.write(b"hello")?;
                transport.close();
                Ok(())
            };
            let recorder = Recorder::new(&Log::new()).on_made(greeting);
            handle.create_connection(to, recorder).detach();
        });
    }
    world.advance(3600 * SECOND).unwrap();
    drop(server);
    (world.trace().digest(), world.trace().to_string())
}

#[test]
fn the_same_seed_writes_the_same_trace_and_another_one_another() {
    for seed in 0..20 {
        let one = hour(seed);
        assert_eq!(one, hour(seed), "seed {seed}");
        assert_ne!(one.0, hour(seed + 1).0, "seed {seed}");
        assert!(one.1.len() > 1000);
    }
}

#[test]
fn streams_run_in_a_world_and_sleep_in_its_time() {
    let mut world = World::builder().link(Link::new().latency(SECOND)).build();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let _server = start_server_on(b.handle(), b.addr(7), async |mut reader, writer| {
        let line = reader.read_line().await?;
        sleep(3600 * SECOND).await;
        writer.write(&line)?;
        writer.drain().await?;
        Ok(())
    })
    .unwrap();
    let to = b.addr(7);
    let answer = async move {
        let (mut reader, writer) = open_connection(to).await?;
        writer.write(b"hello\n")?;
        let line = reader.read_line().await?;
        Ok::<_, tidegate::BoxError>(line)
    };
    let answer = world.block_on(&a, answer).unwrap().unwrap();
    assert_eq!(&answer[..], b"hello\n");
    assert_eq!(world.elapsed(), 3604 * SECOND);
}

#[test]
fn a_panic_of_a_future_goes_on_in_block_on() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let run = AssertUnwindSafe(|| world.block_on(&host, async { panic!("as expected") }));
    let panic = catch_unwind(run).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as expected"));
}

#[test]
fn a_call_from_another_thread_runs_with_the_next_step() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let (remote, ran) = (host.handle().remote(), Arc::new(AtomicBool::new(false)));
    world.run_until_idle().unwrap();
    let told = ran.clone();
    let call = move || remote.call_soon_threadsafe(move |_| told.store(true, SeqCst));
    thread::spawn(call).join().unwrap().unwrap();
    assert!(!ran.load(SeqCst));
    world.pump().unwrap();
    assert!(ran.load(SeqCst));
}

#[test]
fn unix_sockets_are_refused_with_a_reason() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let protocol = || Recorder::new(&Log::new());
    let address = tidegate::Address::Unix("/nowhere/socket".into());
    let error = host.handle().create_server(&address, protocol).unwrap_err();
    assert!(error.to_string().contains("no Unix sockets"), "{error}");
}

#[test]
fn a_host_of_another_world_is_refused_by_name() {
    let (mut world, mut other) = (World::new(), World::new());
    // With the number of a host that is there, and with one that is not.
    world.add_host("own").unwrap();
    for name in ["one", "two"] {
        let foreign = other.add_host(name).unwrap();
        let network = world.network().clone();
        let calls: [&dyn Fn(); 8] = [
            &|| network.limit_descriptors(&foreign, None),
            &|| _ = network.descriptors(&foreign),
            &|| network.set_link(&foreign, &foreign, Link::new()),
            &|| network.set_link_to_peers(&foreign, Link::new()),
            &|| network.partition(&foreign, &foreign),
            &|| network.heal(&foreign, &foreign),
            &|| network.stall(&foreign, &foreign, SECOND),
            &|| _ = network.reset_connections(&foreign, &foreign),
        ];
        for (n, call) in calls.into_iter().enumerate() {
            let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            let said = panic.downcast_ref::<String>();
            let whose = format!("the host {name:?} is of another world");
            assert_eq!(said, Some(&whose), "call {n}");
        }
        let error = world.block_on(&foreign, async {}).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        // The network is none the worse for it.
        network.note("it goes on");
    }
}
