//! Names to listen on: what they stand for, and what is done about addresses that fail. The worlds
//! that fail on order bind nothing real.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use support::wakers::Nobody;
use support::{Log, Peer, Recorder, Served, drive, settle};
use tidegate::driver::{
    BindOptions, Driver, Events, Listener, ListenerSocket, Socket, Token, UnixFileOptions, Wake,
};
use tidegate::{Address, EventLoop, EventLoopBuilder, Handle, ListenOptions};

// Numbers of Linux; bind(2) and socket(2) name them.
const EACCES: i32 = 13;
const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;

fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A name for these addresses.
fn knowing(texts: &[&str]) -> EventLoopBuilder {
    let known = addrs(texts);
    EventLoop::builder().resolver(move |_, _| Ok(known.clone()))
}

#[track_caller]
fn assert_serves_all(event_loop: &mut EventLoop, served: &Served) {
    for address in served.server.local_addrs().to_vec() {
        let mut peer = Peer::connect(&address);
        peer.send(b"ping");
        peer.expect(event_loop, 4);
    }
}

/// Returns the error of creating a server, whose factory is then dropped without having been called.
#[track_caller]
fn refused(event_loop: &mut EventLoop, options: impl Into<ListenOptions>) -> io::Error {
    let factory = Rc::new(Cell::new(0));
    let held = factory.clone();
    let created = event_loop.handle().create_server(options, move || {
        held.set(held.get() + 1);
        Recorder::new(&Log::new())
    });
    let error = created.unwrap_err();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    let stats = event_loop.handle().stats();
    let left = (stats.listeners, stats.jobs, stats.completions);
    assert_eq!(left, (0, 0, 0));
    assert_eq!(Rc::strong_count(&factory), 1, "the factory was dropped");
    assert_eq!(factory.get(), 0);
    error
}

#[test]
fn the_systems_localhost_is_served_on_every_address_that_it_has_here() {
    let mut event_loop = EventLoop::new().unwrap();
    for options in [
        ListenOptions::new("localhost:0"),
        ListenOptions::new(("localhost", 0)),
    ] {
        let served = Served::echo(event_loop.handle(), options);
        assert!(!served.server.local_addrs().is_empty());
        for address in served.server.local_addrs() {
            assert!(address.as_inet().unwrap().ip().is_loopback());
        }
        assert_serves_all(&mut event_loop, &served);
    }
}

#[test]
fn a_name_is_resolved_in_the_call_and_served_on_all_its_addresses_in_order() {
    type Asked = Vec<(String, u16, ThreadId)>;
    let asked: Arc<Mutex<Asked>> = Arc::default();
    let asking = asked.clone();
    let mut known = addrs(&["127.0.0.2:0", "127.0.0.1:0"]);
    if TcpListener::bind("[::1]:0").is_ok() {
        known.insert(1, "[::1]:0".parse().unwrap());
    }
    let expected: Vec<_> = known.iter().map(SocketAddr::ip).collect();
    let builder = EventLoop::builder().resolver(move |host, port| {
        let thread = thread::current().id();
        asking.lock().unwrap().push((host.to_owned(), port, thread));
        Ok(known.clone())
    });
    let mut event_loop = builder.build().unwrap();
    let options = ListenOptions::new("a-server.test:4321").start_serving(false);
    let served = Served::echo(event_loop.handle(), options);
    let here = thread::current().id();
    let once = vec![("a-server.test".to_owned(), 4321, here)];
    assert_eq!(*asked.lock().unwrap(), once);
    let bound = served.server.local_addrs();
    let ips: Vec<_> = bound
        .iter()
        .map(|bound| bound.as_inet().unwrap().ip())
        .collect();
    assert_eq!(ips, expected);
    assert_eq!(event_loop.handle().stats().listeners, 0);
    served.server.start_serving().unwrap();
    assert_serves_all(&mut event_loop, &served);
    assert_eq!(asked.lock().unwrap().len(), 1);
    // Beside other addresses, each in its place.
    let mixed = ListenOptions::new("127.0.0.3:0").also("a-server.test:1");
    let mixed = Served::echo(event_loop.handle(), mixed.also("127.0.0.4:0"));
    assert_eq!(mixed.server.local_addrs().len(), 2 + expected.len());
    assert_serves_all(&mut event_loop, &mixed);
}

#[test]
fn a_resolver_that_fails_in_any_way_fails_the_server_and_nothing_stays_bound() {
    type Answer = fn() -> io::Result<Vec<SocketAddr>>;
    let answers: [(Answer, &str); 3] = [
        (
            || Err(io::Error::other("the name service is down")),
            "is down",
        ),
        (|| panic!("the resolver is broken"), "panicked"),
        (|| Ok(Vec::new()), "no address"),
    ];
    for (answer, reason) in answers {
        let builder = EventLoop::builder().resolver(move |_, _| answer());
        let mut event_loop = builder.build().unwrap();
        let free = TcpListener::bind("127.0.0.9:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let error = refused(
            &mut event_loop,
            ListenOptions::new(addr).also("server.test:5"),
        );
        let text = error.to_string();
        assert!(
            text.contains("server.test:5") && text.contains(reason),
            "{text}"
        );
        TcpListener::bind(addr).unwrap();
    }
}

#[test]
fn one_address_of_a_name_that_is_in_use_fails_it_and_is_named_with_it() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = busy.local_addr().unwrap().to_string();
    let mut event_loop = knowing(&["127.0.0.2:0", &addr]).build().unwrap();
    let error = refused(&mut event_loop, "server.test:80");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(
        text.contains("server.test:80") && text.contains(&addr),
        "{text}"
    );
}

#[test]
fn a_resolver_may_itself_use_the_loop_whose_server_waits_for_it() {
    let builder = EventLoop::builder().resolver(|_, port| {
        if let Some(handle) = Handle::current() {
            let inner = handle.create_server("127.0.0.1:0", || Recorder::new(&Log::new()));
            inner?.close();
            drop(handle.run_in_executor(|| ()));
            handle.call_soon(|_| {});
        }
        Ok(vec![([127, 0, 0, 1], port).into()])
    });
    let mut event_loop = builder.build().unwrap();
    let created = Rc::new(RefCell::new(None));
    let server = created.clone();
    event_loop.handle().call_soon(move |handle| {
        // A caller may hold borrows of its own.
        let mut server = server.borrow_mut();
        *server = Some(Served::echo(handle, "server.test:0"));
    });
    drive(&mut event_loop, "the server", || created.borrow().is_some());
    let served = created.take().unwrap();
    assert_serves_all(&mut event_loop, &served);
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().listeners, 1);
}

/// Binds what it is told to, and counts it.
#[derive(Debug, Default)]
struct World {
    errors: RefCell<BTreeMap<SocketAddr, i32>>,
    listen_error: Cell<Option<i32>>,
    asked: RefCell<Vec<(SocketAddr, BindOptions)>>,
    bound: Cell<usize>,
    listening: RefCell<Vec<u32>>,
}

#[derive(Debug)]
struct Scripted(Rc<World>);

#[derive(Debug)]
struct Bound(Rc<World>, SocketAddr);

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.bound.set(self.0.bound.get() - 1);
    }
}

impl ListenerSocket for Bound {
    fn accept(&mut self) -> io::Result<(Socket, Address)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(self.1.into())
    }
}

impl Driver for Scripted {
    fn poll(&mut self, _: &mut Events, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Nobody)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn bind(&mut self, address: &Address, options: BindOptions) -> io::Result<Listener> {
        let addr = address.as_inet().unwrap();
        self.0.asked.borrow_mut().push((addr, options));
        if let Some(code) = self.0.errors.borrow().get(&addr) {
            return Err(io::Error::from_raw_os_error(*code));
        }
        self.0.bound.set(self.0.bound.get() + 1);
        Ok(Listener::foreign(Bound(self.0.clone(), addr)))
    }

    fn listen(&mut self, listener: &mut Listener, backlog: u32, _: Token) -> io::Result<()> {
        listener.of::<Bound>()?;
        if let Some(code) = self.0.listen_error.get()
            && !self.0.listening.borrow().is_empty()
        {
            return Err(io::Error::from_raw_os_error(code));
        }
        self.0.listening.borrow_mut().push(backlog);
        Ok(())
    }

    fn connect(&mut self, _: &Address, _: Option<SocketAddr>) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn register(&mut self, _: &mut Socket, _: Token) -> io::Result<()> {
        Ok(())
    }
}

const NAMED: [&str; 3] = ["127.0.0.1:80", "[::1]:80", "127.0.0.2:80"];

/// A loop in which `server.test` is [`NAMED`], and some of these fail.
fn scripted(errors: &[(&str, i32)]) -> (EventLoop, Rc<World>) {
    let world = Rc::new(World::default());
    for (addr, code) in errors {
        let addr = addr.parse().unwrap();
        world.errors.borrow_mut().insert(addr, *code);
    }
    let builder = knowing(&NAMED).driver(Scripted(world.clone()));
    (builder.build().unwrap(), world)
}

#[test]
fn addresses_of_a_name_that_this_machine_does_not_have_are_left_out() {
    for code in [EADDRNOTAVAIL, EAFNOSUPPORT] {
        for (n, missing) in NAMED.into_iter().enumerate() {
            let (event_loop, world) = scripted(&[(missing, code)]);
            let served = Served::echo(event_loop.handle(), "server.test:80");
            let mut expected = addrs(&NAMED);
            expected.remove(n);
            let expected: Vec<_> = expected.into_iter().map(Address::Inet).collect();
            assert_eq!(served.server.local_addrs(), expected);
            assert_eq!(world.bound.get(), 2);
            served.server.close();
            assert_eq!(world.bound.get(), 0);
        }
    }
}

#[test]
fn an_address_that_is_named_and_that_a_name_stands_for_is_bound_once() {
    let all = || addrs(&NAMED);
    for (options, expected) in [
        (
            ListenOptions::new(NAMED[1]).also("server.test:80"),
            vec![all()[1], all()[0], all()[2]],
        ),
        (ListenOptions::new("server.test:80").also(NAMED), all()),
        (
            ListenOptions::new(["server.test:80", "same.test:80"]),
            all(),
        ),
    ] {
        let (event_loop, world) = scripted(&[]);
        let served = Served::echo(event_loop.handle(), options);
        let expected: Vec<_> = expected.into_iter().map(Address::Inet).collect();
        assert_eq!(served.server.local_addrs(), expected);
        assert_eq!(world.bound.get(), 3);
    }
    // The rest of the name is bound already, so nothing is missing.
    let (event_loop, world) = scripted(&[(NAMED[1], EADDRNOTAVAIL), (NAMED[2], EAFNOSUPPORT)]);
    let options = ListenOptions::new(NAMED[0]).also("server.test:80");
    let served = Served::echo(event_loop.handle(), options);
    assert_eq!(served.server.local_addrs(), [all()[0].into()]);
    assert_eq!(world.bound.get(), 1);
}

#[test]
fn the_systems_localhost_may_stand_beside_its_own_address() {
    let mut event_loop = EventLoop::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let options = ListenOptions::new(addr).also(("localhost", addr.port()));
    let served = Served::echo(event_loop.handle(), options);
    assert_eq!(served.address(), addr.into());
    assert_serves_all(&mut event_loop, &served);
}

#[test]
fn a_name_without_any_address_of_this_machine_fails_with_the_reason_of_each() {
    let errors = [
        (NAMED[0], EADDRNOTAVAIL),
        (NAMED[1], EAFNOSUPPORT),
        (NAMED[2], EADDRNOTAVAIL),
    ];
    let (mut event_loop, world) = scripted(&errors);
    let options = ListenOptions::new("127.0.0.5:80").also("server.test:80");
    let error = refused(&mut event_loop, options);
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = error.to_string();
    assert!(text.contains("server.test:80"), "{text}");
    for (addr, code) in errors {
        let reason = format!("{addr}: {}", io::Error::from_raw_os_error(code));
        assert!(text.contains(&reason), "{text}");
    }
    assert_eq!(world.bound.get(), 0);
}

#[test]
fn any_other_error_and_any_of_an_address_that_is_no_name_fails_the_server() {
    let (mut event_loop, world) = scripted(&[(NAMED[1], EACCES)]);
    let error = refused(&mut event_loop, "server.test:80");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let text = error.to_string();
    assert!(
        text.contains("server.test:80") && text.contains(NAMED[1]),
        "{text}"
    );
    assert_eq!(world.bound.get(), 0);
    let (mut event_loop, world) = scripted(&[(NAMED[1], EADDRNOTAVAIL)]);
    let error = refused(&mut event_loop, NAMED);
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains(NAMED[1]), "{error}");
    assert_eq!(world.bound.get(), 0);
}

#[test]
fn in_a_world_without_interfaces_a_zone_is_a_number() {
    let (mut event_loop, world) = scripted(&[]);
    let error = refused(&mut event_loop, "[fe80::1%eth0]:80");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("[fe80::1%eth0]:80"), "{error}");
    let served = Served::echo(event_loop.handle(), "[fe80::1%3]:80");
    assert_eq!(served.address().to_string(), "[fe80::1%3]:80");
    assert_eq!(world.bound.get(), 1);
}

#[test]
fn the_options_reach_every_address() {
    for (reuse_port, only_v6, backlog) in [(false, true, 1024), (true, false, 7)] {
        let (event_loop, world) = scripted(&[]);
        let mut options = ListenOptions::new("server.test:80");
        if reuse_port {
            options = options.reuse_port(true).v6only(false).backlog(7);
        }
        Served::echo(event_loop.handle(), options);
        let expected = BindOptions {
            reuse_port,
            only_v6,
            unix: UnixFileOptions::default(),
        };
        let asked: Vec<_> = addrs(&NAMED)
            .into_iter()
            .map(|addr| (addr, expected))
            .collect();
        assert_eq!(*world.asked.borrow(), asked);
        assert_eq!(*world.listening.borrow(), [backlog; 3]);
    }
}

#[test]
fn a_listen_that_fails_closes_what_listens_already_and_names_the_address() {
    let (mut event_loop, world) = scripted(&[]);
    world.listen_error.set(Some(EACCES));
    let error = refused(&mut event_loop, "server.test:80");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(NAMED[1]), "{error}");
    assert_eq!(world.listening.borrow().len(), 1);
    assert_eq!(world.bound.get(), 0);
}
