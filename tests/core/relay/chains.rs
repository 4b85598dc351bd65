//! Relays of one loop that lead to each other.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Peer, TempDir, accept, drive, each_kind, failures, relay_server, settle};
use tidegate::{Address, EventLoop, Failure, Relay, WriteLimits};
use tidegate_testkit::{Link, World};

each_kind!(relays_of_one_loop_may_stand_in_a_line);
fn relays_of_one_loop_may_stand_in_a_line(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dirs: [_; 3] = std::array::from_fn(|_| TempDir::new());
    let back_dir = TempDir::new();
    let (listener, back) = kind.listen(&back_dir);
    let mut to = back;
    let mut servers = Vec::new();
    for dir in &dirs {
        let (server, reports) = relay_server(
            event_loop.handle(),
            kind.somewhere(dir).as_str(),
            WriteLimits::new(),
            &to,
        );
        to = server.local_addrs()[0].clone();
        servers.push((server, reports));
    }
    // Each server is a front's listener and a back's target; clients come at both ends.
    let fronts: Vec<Address> = servers
        .iter()
        .map(|it| it.0.local_addrs()[0].clone())
        .collect();
    let mut tied = Vec::new();
    for (n, front) in fronts.iter().chain(fronts.iter().rev()).enumerate() {
        let mut front = Peer::connect(front);
        let mut back = accept(&mut event_loop, &listener);
        front.send(&[n as u8; 10]);
        back.expect(&mut event_loop, 10);
        assert_eq!(back.received(), [n as u8; 10]);
        tied.push((front, back));
    }
    drop(tied);
    drive(&mut event_loop, "all reports", || {
        servers.iter().map(|it| it.1.borrow().len()).sum::<usize>() == 2 * (1 + 2 + 3)
    });
    for (_, reports) in &servers {
        assert!(reports.borrow().iter().all(|report| report.back.is_ok()));
    }
}

#[test]
fn of_a_name_that_also_names_the_relay_itself_the_other_addresses_are_taken() {
    let resolver = |_: &str, port| {
        Ok([1, 2]
            .map(|host| SocketAddr::from(([127, 0, 0, host], port)))
            .to_vec())
    };
    let mut event_loop = EventLoop::builder().resolver(resolver).build().unwrap();
    let failures = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    let port = Rc::new(Cell::new(0));
    let of_both = port.clone();
    let relay = move || Relay::to(("both.test", of_both.get()));
    let server = handle.create_server(("127.0.0.1", 0), relay).unwrap();
    let back = server.local_addrs()[0].clone();
    port.set(back.as_inet().unwrap().port());
    let listen = SocketAddr::from(([127, 0, 0, 2], port.get()));
    let listener = std::net::TcpListener::bind(listen).unwrap().into();
    let mut front = Peer::connect(&back);
    let mut back = accept(&mut event_loop, &listener);
    front.send(b"through");
    back.expect(&mut event_loop, 7);
    settle(&mut event_loop);
    assert!(failures.borrow().is_empty());
}

#[test]
fn two_relays_that_lead_to_each_other_end_however_long_packets_take() {
    for latency in [Duration::ZERO, Duration::from_millis(100)] {
        let mut world = World::builder().link(Link::new().latency(latency)).build();
        let host = world.add_host("relays").unwrap();
        let failures = failures(host.handle());
        for (from, to) in [(1, 2), (2, 1)] {
            let to = host.addr(to);
            let relay = move || Relay::to(to);
            host.handle().create_server(host.addr(from), relay).unwrap();
        }
        let peer = world.network().dial(host.addr(1)).unwrap();
        world.run_until_idle().unwrap();
        assert!(peer.is_reset(), "{:#?}", host.handle());
        let failures = failures
            .borrow()
            .iter()
            .map(Failure::to_string)
            .collect::<Vec<_>>();
        let causes = failures
            .iter()
            .filter(|it| it.contains("lead back to itself"));
        assert_eq!(causes.count(), 1, "{failures:#?}");
        let stats = host.handle().stats();
        assert_eq!((stats.connections, stats.connecting), (0, 0));
        // One of the test's, two of each relay that was reached.
        assert!(stats.registrations <= 2 + 4, "{stats:?}");
    }
}
