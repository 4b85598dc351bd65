//! The end of one side of a relay whose other side does not read, because nobody reads from it.

use std::time::Duration;
use support::pattern;
use tidegate::{Handle, Protocol, Relay, Result, Server, Transport};
use tidegate_testkit::{Host, Link, Peer, World};

/// Does not read while its replies are not taken.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

struct Clogged {
    world: World,
    hosts: [Host; 2],
    relay: Server,
    peer: Peer,
}

/// A peer sends through a relay to an echo, and reads nothing, until nobody takes any more.
fn clogged() -> Clogged {
    let small = Link::new().send_buffer(4000).receive_buffer(4000);
    let mut world = World::builder().link(small).build();
    let hosts = ["relay", "echo"].map(|name| world.add_host(name).unwrap());
    let [front, back] = &hosts;
    let to = back.addr(7);
    back.handle().create_server(to, || Echo).unwrap();
    let relay = front
        .handle()
        .create_server(front.addr(7), move || Relay::to(to))
        .unwrap();
    let peer = world.network().dial(front.addr(7)).unwrap();
    world.settle().unwrap();
    let mut refused = 0;
    while refused < 3 {
        match peer.send(&pattern(0, 4000)) {
            Ok(_) => refused = 0,
            Err(_) => refused += 1,
        }
        world.settle().unwrap();
    }
    let held = [front, back].map(|host| host.handle().stats().pauses);
    assert_eq!(held, [2, 1], "all three writers are paused");
    Clogged {
        world,
        hosts,
        relay,
        peer,
    }
}

fn connections(hosts: &[Host; 2]) -> [usize; 2] {
    let count = |handle: &Handle| handle.stats().connections;
    [count(hosts[0].handle()), count(hosts[1].handle())]
}

#[test]
fn a_front_that_is_cut_ends_a_back_that_waits_for_us_to_read() {
    let mut clogged = clogged();
    clogged.relay.abort_clients();
    clogged.world.run_until_idle().unwrap();
    assert_eq!(connections(&clogged.hosts), [0, 0]);
    assert!(clogged.world.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_front_that_closes_ends_a_back_that_waits_for_us_to_read() {
    let mut clogged = clogged();
    clogged.relay.close_clients();
    let mut echoed = 0;
    while clogged.world.settle().is_ok() && !clogged.peer.is_ended() {
        echoed += clogged.peer.take().len();
    }
    assert!(echoed > 0, "what was written to the front is sent");
    drop(clogged.peer);
    clogged.world.run_until_idle().unwrap();
    assert_eq!(connections(&clogged.hosts), [0, 0]);
}
