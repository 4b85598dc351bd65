//! Counts the descriptors of the process.
//!
//! A relay whose back arrives at its own listener, by whatever name and over whatever other relays
//! of the loop, costs a few descriptors, and is reported once for each client.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, Peer, TempDir, descriptors, failures, settle};
use tidegate::{Address, EventLoop, Failure, ListenOptions, Relay, Server};

/// The relays of a loop, which are told their targets once all of them listen.
struct Relays {
    event_loop: EventLoop,
    servers: Vec<Server>,
    targets: Vec<Rc<RefCell<String>>>,
    failures: Rc<RefCell<Vec<Failure>>>,
    dir: TempDir,
    before: usize,
}

impl Relays {
    fn new() -> Self {
        let resolver = |_: &str, port| Ok(["::1", "127.0.0.1"].map(|ip| at(ip, port)).to_vec());
        let mut event_loop = EventLoop::builder().resolver(resolver).build().unwrap();
        settle(&mut event_loop);
        Self {
            failures: failures(event_loop.handle()),
            event_loop,
            servers: Vec::new(),
            targets: Vec::new(),
            dir: TempDir::new(),
            before: descriptors(),
        }
    }

    /// Adds a relay; returns its address.
    fn listen(&mut self, at: impl Into<ListenOptions>) -> Address {
        let target: Rc<RefCell<String>> = Rc::default();
        let to = target.clone();
        let relay = move || Relay::to(to.borrow().as_str());
        let server = self.event_loop.handle().create_server(at, relay).unwrap();
        let address = server.local_addrs()[0].clone();
        self.servers.push(server);
        self.targets.push(target);
        address
    }

    fn listen_on(&mut self, kind: Kind, name: &str) -> Address {
        match kind {
            Kind::Tcp => self.listen("127.0.0.1:0"),
            Kind::Unix => self.listen(unix(&self.dir, name).as_str()),
        }
    }

    /// Has clients come to the first relay, one after the other; each must be told the end, and
    /// cost at most `pairs` of connections beside the first.
    #[track_caller]
    fn try_clients(&mut self, targets: &[String], from: &Address, pairs: usize) {
        let with_resets = !targets.iter().any(|to| to.starts_with("unix:"));
        for (target, to) in self.targets.iter().zip(targets) {
            to.clone_into(&mut target.borrow_mut());
        }
        println!("{from} to {targets:?}");
        let idle = descriptors();
        for client in 1..=3 {
            let mut peer = Peer::connect(from);
            // The client, and the front that is made of it.
            self.run_to_the_end(&mut peer, idle + 2 + 2 * pairs);
            if with_resets {
                assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
            }
            peer.close();
            settle(&mut self.event_loop);
            let stats = self.event_loop.handle().stats();
            assert_eq!((stats.connections, stats.connecting), (0, 0));
            assert_eq!(descriptors(), idle);
            let failures = self.failures.borrow();
            assert_eq!(failures.len(), client, "{failures:#?}");
            let failure = failures[client - 1].to_string();
            assert!(failure.contains("lead back to itself"), "{failure}");
        }
        self.failures.borrow_mut().clear();
        for server in self.servers.drain(..) {
            server.close();
        }
        self.targets.clear();
        settle(&mut self.event_loop);
        assert_eq!(descriptors(), self.before);
    }

    #[track_caller]
    fn run_to_the_end(&mut self, peer: &mut Peer, most: usize) {
        let begun = Instant::now();
        while !peer.is_ended() {
            self.event_loop
                .run_once(Some(Duration::from_millis(5)))
                .unwrap();
            let now = descriptors();
            assert!(now <= most, "{now} descriptors for {most}");
            assert!(begun.elapsed() < BOUND, "{:#?}", self.event_loop.handle());
            peer.read_available();
        }
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn unix(dir: &TempDir, name: &str) -> String {
    format!("unix:{}", dir.path(name).display())
}

fn port(address: &Address) -> u16 {
    address.as_inet().unwrap().port()
}

/// The address as a client writes it; all of the machine's are one of them.
fn by_name_of(relays: &mut Relays) {
    for (listen, from, to, pairs) in [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", 0),
        ("::1", "::1", "[::1]", 0),
        ("127.0.0.1", "127.0.0.1", "0.0.0.0", 0),
        ("127.0.0.1", "127.0.0.1", "localhost", 1),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1", 0),
        ("0.0.0.0", "127.0.0.2", "127.0.0.1", 1),
        ("0.0.0.0", "127.0.0.2", "0.0.0.0", 1),
        ("::", "::1", "[::1]", 0),
        ("::", "::1", "[::]", 0),
        ("::", "::1", "localhost", 1),
    ] {
        let port = port(&relays.listen((listen, 0)));
        relays.try_clients(&[format!("{to}:{port}")], &at(from, port).into(), pairs);
    }
    let port = port(&relays.listen(ListenOptions::new("[::]:0").v6only(false)));
    relays.try_clients(
        &[format!("127.0.0.1:{port}")],
        &at("127.0.0.1", port).into(),
        0,
    );
}

fn by_path(relays: &mut Relays) {
    let own = relays.dir.path("a");
    let link = relays.dir.path("link");
    std::os::unix::fs::symlink(&own, &link).unwrap();
    let detour = own.parent().unwrap().join(".").join("a");
    for name in [own, link, detour] {
        let address = relays.listen_on(Kind::Unix, "a");
        relays.try_clients(&[format!("unix:{}", name.display())], &address, 0);
    }
}

/// Relays of both kinds, each of which leads to the next, and the last to the first.
fn by_others(relays: &mut Relays) {
    use Kind::{Tcp, Unix};
    for kinds in [
        &[Tcp, Tcp][..],
        &[Unix, Unix],
        &[Tcp, Unix],
        &[Unix, Tcp],
        &[Tcp, Tcp, Tcp],
        &[Unix, Unix, Unix],
        &[Tcp, Unix, Tcp],
    ] {
        let mut addresses: Vec<_> = (0..kinds.len())
            .map(|n| relays.listen_on(kinds[n], &n.to_string()))
            .collect();
        let first = addresses[0].clone();
        addresses.rotate_left(1);
        let targets: Vec<_> = addresses.iter().map(Address::to_string).collect();
        relays.try_clients(&targets, &first, kinds.len() - 1);
    }
}

#[test]
fn a_relay_to_itself_costs_few_descriptors_and_is_reported_once_for_each_client() {
    let mut relays = Relays::new();
    by_name_of(&mut relays);
    by_path(&mut relays);
    by_others(&mut relays);
}
