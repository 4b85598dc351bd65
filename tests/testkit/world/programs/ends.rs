//! The end of a loop with programs, values that programs hold, and the trace.

use super::{SECOND, TERM, assert_nothing_left, start, world};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::rc::Rc;
use support::processes::Told;
use tidegate::SubprocessTransport;
use tidegate_testkit::{Host, Network, Program, World};

#[test]
fn the_end_of_a_loop_kills_and_reaps_all_but_the_detached() {
    let (mut world, host) = world();
    let (told, late) = (Told::default(), Told::default());
    let deaf = Program::new().ignore_signal(TERM).write("up").hang();
    let process = start(&world, &host, &told, deaf);
    let free = start(
        &world,
        &host,
        &Told::default(),
        Program::new().wait(SECOND).exit(4),
    );
    free.child().detach();
    world.run_until_true(|| told.stdout() == "up").unwrap();
    // Its own end was not noticed yet.
    let gone = start(&world, &host, &late, Program::new().write("bye").exit(5));
    let children = [process.child().clone(), gone.child().clone()];
    world.end_host(&host);
    let ends = children.map(|child| child.status().map(ExitStatus::into_raw));
    assert_eq!(ends, [Some(9), Some(9)]);
    for told in [&told, &late] {
        assert!(
            told.has("exited") && told.with(|notes| notes.dropped),
            "{:?}",
            told.words()
        );
        assert_eq!(told.words().last().unwrap(), "lost");
    }
    assert_eq!(free.status(), None);
    assert_eq!(world.network().processes(), 1, "the detached one");
    world.run_until_idle().unwrap();
    assert_eq!(world.elapsed(), SECOND, "it ended by itself");
    assert_eq!(world.network().processes(), 1, "nobody has reaped it");
    drop(free);
    assert_eq!(world.network().processes(), 0);
    let refused = host
        .handle()
        .subprocess_exec(&mut Command::new("program"), Told::default().protocol());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the event loop was dropped"
    );
}

/// Asks the world when it is dropped, as nothing could that is borrowed.
struct Asks(Network, Rc<Cell<u32>>);

impl Drop for Asks {
    fn drop(&mut self) {
        let _ = self.0.processes();
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn closures_of_programs_are_dropped_in_every_end_and_may_ask_the_network_then() {
    type Ending = fn(&mut World, &Host, &SubprocessTransport);
    let endings: [Ending; 5] = [
        |_, _, process| process.kill().unwrap(),
        |_, _, process| process.terminate().unwrap(),
        |_, _, process| process.send_signal(10).unwrap(),
        |world, host, _| world.end_host(host),
        |_, _, _| (),
    ];
    for ending in endings {
        let (mut world, host) = world();
        let drops = Rc::new(Cell::new(0));
        let asks = || {
            let asks = Asks(world.network().clone(), drops.clone());
            move |_: &Network| drop(asks)
        };
        let program = Program::new()
            .on_signal(TERM, Program::new().wait(SECOND).call(asks()))
            .on_signal(10, Program::new().on_signal(TERM, Program::new()).hang())
            .fork(Program::new().hang().call(asks()))
            .hang()
            .call(asks());
        let process = start(&world, &host, &Told::default(), program);
        world.run_until_idle().unwrap();
        ending(&mut world, &host, &process);
        world.run_until_idle().unwrap();
        drop(process);
        drop(world);
        assert_eq!(drops.get(), 3);
    }
}

#[test]
fn steps_of_a_signal_whose_place_another_one_takes_may_ask_the_network_when_they_are_dropped() {
    let (mut world, host) = world();
    let drops = Rc::new(Cell::new(0));
    let asks = Asks(world.network().clone(), drops.clone());
    let program = Program::new()
        .on_signal(10, Program::new().call(move |_| drop(asks)))
        .on_signal(TERM, Program::new().exit(7))
        .hang();
    let process = start(&world, &host, &Told::default(), program);
    world.run_until_idle().unwrap();
    // Both come before it goes on.
    process.send_signal(10).unwrap();
    process.terminate().unwrap();
    let status = world.run_until(process.wait_closed()).unwrap();
    assert_eq!((status.code(), drops.get()), (Some(7), 1));
    assert_nothing_left(&world, &host);
}

#[test]
fn pipes_signals_and_ends_are_in_the_trace() {
    let mut world = World::builder().trace(true).build();
    let host = world.add_host("a").unwrap();
    let program = Program::new().read_line().write("out").hang();
    let process = start(&world, &host, &Told::default(), program);
    process.stdin().unwrap().write(b"put\n").unwrap();
    world.run_until_idle().unwrap();
    process.terminate().unwrap();
    world.run_until(process.wait_closed()).unwrap();
    let trace = world.trace().to_string();
    let mut from = 0;
    for event in [
        "h1 process 1001 starts \"program\"",
        "pipe write 4 \"put\\n\"",
        "program read 4 \"put\\n\"",
        "program write 3 \"out\"",
        "pipe read 3 \"out\"",
        "process 1001 gets signal 15",
        "process 1001 ends: signal: 15",
        "process 1001 is reaped",
    ] {
        let at = trace[from..].find(event);
        from += at.unwrap_or_else(|| panic!("no {event} at its place: {trace}"));
    }
}
