//! Programs of a simulated world.

mod ends;
mod faults;
mod life;
mod like_linux;
mod pipes;
mod signals;

use std::process::Command;
use std::time::Duration;
use support::processes::Told;
use tidegate::SubprocessTransport;
use tidegate_testkit::{Host, Program, World};

const SECOND: Duration = Duration::from_secs(1);
const TERM: i32 = 15;

fn world() -> (World, Host) {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    (world, host)
}

/// Installs `program` for one run, and starts it.
fn start(world: &World, host: &Host, told: &Told, program: Program) -> SubprocessTransport {
    install(world, host, program);
    let mut command = Command::new("program");
    let started = host.handle().subprocess_exec(&mut command, told.protocol());
    started.unwrap()
}

fn install(world: &World, host: &Host, program: Program) {
    let mut program = Some(program);
    world
        .network()
        .program(host, "program", move |_| program.take().unwrap());
}

/// Nothing is left of any process.
fn assert_nothing_left(world: &World, host: &Host) {
    let stats = host.handle().stats();
    let left = (stats.children, stats.connections);
    assert_eq!(left, (0, 0), "{stats:?}");
    assert_eq!(world.network().descriptors(host), 0);
    assert_eq!(world.network().processes(), 0);
}
