//! The reaction of a listener to the errors that accept(2) may give, in a world where they come on
//! order and the clock only moves when the loop sleeps.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::wakers::Nobody;
use support::{Served, answer_of, tick};
use tidegate::driver::{
    BindOptions, Driver, Events, Listener, ListenerSocket, Readiness, Socket, SocketOption,
    StreamSocket, Token, Wake,
};
use tidegate::{Address, EventLoop};

// Numbers of Linux; accept(2) names them.
const ENOMEM: i32 = 12;
const EPERM: i32 = 1;
const EPROTO: i32 = 71;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENETDOWN: i32 = 100;
const ECONNABORTED: i32 = 103;
const ENOBUFS: i32 = 105;
const EHOSTUNREACH: i32 = 113;

/// The backlog: connections, and errors that accept gives in their place.
#[derive(Debug, Default)]
struct World {
    backlog: RefCell<VecDeque<Option<i32>>>,
    /// Every accept fails with it.
    starved_by: Cell<Option<i32>>,
    listening: Cell<Option<Token>>,
    announced: Cell<bool>,
    asleep: Cell<Duration>,
}

#[derive(Debug)]
struct Scripted {
    world: Rc<World>,
    start: Instant,
}

impl Driver for Scripted {
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        // Edge-triggered: what waits is announced once.
        if let Some(token) = self.world.listening.get()
            && self.world.announced.replace(false)
        {
            events.push(token, Readiness::new().with_readable());
            return Ok(());
        }
        let slept = timeout.expect("a sleep that nothing would end");
        self.world.asleep.set(self.world.asleep.get() + slept);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Nobody)
    }

    fn now(&self) -> Instant {
        self.start + self.world.asleep.get()
    }

    fn bind(&mut self, _: &Address, _: BindOptions) -> io::Result<Listener> {
        let world = self.world.clone();
        Ok(Listener::Foreign(Box::new(Backlog(world))))
    }

    fn listen(&mut self, _: &mut Listener, _: u32, token: Token) -> io::Result<()> {
        self.world.listening.set(Some(token));
        Ok(())
    }

    fn connect(&mut self, _: &Address, _: Option<SocketAddr>) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn register(&mut self, _: &mut Socket, _: Token) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Backlog(Rc<World>);

impl ListenerSocket for Backlog {
    fn accept(&mut self) -> io::Result<(Socket, Address)> {
        let mut backlog = self.0.backlog.borrow_mut();
        if backlog.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some(code) = self.0.starved_by.get() {
            return Err(io::Error::from_raw_os_error(code));
        }
        match backlog.pop_front().flatten() {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok((Socket::Foreign(Box::new(Quiet)), Address::Unnamed)),
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok("127.0.0.1:1".parse::<SocketAddr>().unwrap().into())
    }
}

/// A stream whose peer says nothing.
#[derive(Debug)]
struct Quiet;

impl StreamSocket for Quiet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unnamed)
    }

    fn set_option(&mut self, _: SocketOption) -> io::Result<()> {
        Ok(())
    }
}

fn scripted() -> (EventLoop, Rc<World>, Served) {
    let world = Rc::new(World::default());
    let driver = Scripted {
        world: world.clone(),
        start: Instant::now(),
    };
    let event_loop = EventLoop::builder().driver(driver).build().unwrap();
    let served = Served::new(event_loop.handle(), "127.0.0.1:1", |recorder| recorder);
    (event_loop, world, served)
}

/// Runs ticks, which may sleep, until the server has `n` connections.
#[track_caller]
fn accept_all(event_loop: &mut EventLoop, served: &Served, n: usize) {
    for _ in 0..1000 {
        if served.accepted() == n {
            return;
        }
        event_loop.run_once(None).unwrap();
    }
    panic!("{} of {n} accepted", served.accepted());
}

#[test]
fn an_error_of_one_waiting_connection_is_skipped() {
    for code in [ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, EPERM] {
        let (mut event_loop, world, served) = scripted();
        let waiting = [Some(code), None, Some(code), Some(code), None];
        world.backlog.borrow_mut().extend(waiting);
        world.announced.set(true);
        tick(&mut event_loop);
        assert_eq!(served.accepted(), 2, "error {code}");
        // At once: no timer was needed.
        let stats = event_loop.handle().stats();
        assert_eq!((stats.timers, stats.polls), (0, 1), "error {code}");
        assert_eq!(world.asleep.get(), Duration::ZERO);
    }
}

#[test]
fn a_backlog_of_aborted_connections_does_not_hold_the_loop() {
    let (mut event_loop, world, served) = scripted();
    let aborted = std::iter::repeat_n(Some(ECONNABORTED), 1000);
    world.backlog.borrow_mut().extend(aborted.chain([None]));
    world.announced.set(true);
    tick(&mut event_loop);
    assert_eq!(served.accepted(), 0, "errors use up the tick's share too");
    accept_all(&mut event_loop, &served, 1);
    assert_eq!(world.asleep.get(), Duration::ZERO);
}

#[test]
fn a_listener_without_descriptors_or_memory_rests_by_one_timer_and_then_serves() {
    for code in [EMFILE, ENFILE, ENOBUFS, ENOMEM] {
        let (mut event_loop, world, served) = scripted();
        world.starved_by.set(Some(code));
        world.backlog.borrow_mut().extend([None; 5]);
        world.announced.set(true);
        tick(&mut event_loop);
        let before = event_loop.handle().stats();
        assert_eq!((before.accepts, before.timers), (1, 1), "error {code}");
        // New connects do not make it try more often.
        for _ in 0..50 {
            world.backlog.borrow_mut().push_back(None);
            world.announced.set(true);
            tick(&mut event_loop);
        }
        let after = event_loop.handle().stats();
        assert_eq!((after.accepts, after.timers), (1, 1), "error {code}");
        assert_eq!(world.asleep.get(), Duration::ZERO);
        // Ten minutes of it cost a few ticks a second.
        while world.asleep.get() < Duration::from_secs(600) {
            event_loop.run_once(None).unwrap();
            assert_eq!(event_loop.handle().stats().timers, 1);
        }
        let ticks = event_loop.handle().stats().polls - after.polls;
        assert!(ticks <= 600 * 20, "{ticks} ticks, error {code}");
        world.starved_by.set(None);
        let free = world.asleep.get();
        accept_all(&mut event_loop, &served, 55);
        assert!(world.asleep.get() - free < Duration::from_secs(1));
        assert_eq!(event_loop.handle().stats().timers, 0);
    }
}

#[test]
fn a_refusal_among_left_overs_starts_one_timer_also_with_an_event() {
    let (mut event_loop, world, served) = scripted();
    world.backlog.borrow_mut().extend([None; 200]);
    world.announced.set(true);
    tick(&mut event_loop);
    assert!(served.accepted() < 200);
    world.starved_by.set(Some(EMFILE));
    world.announced.set(true);
    tick(&mut event_loop);
    assert_eq!(event_loop.handle().stats().timers, 1);
    world.starved_by.set(None);
    accept_all(&mut event_loop, &served, 200);
    assert_eq!(event_loop.handle().stats().timers, 0);
}

#[test]
fn a_server_closed_while_its_listener_rests_takes_its_timer_along() {
    let (mut event_loop, world, served) = scripted();
    world.starved_by.set(Some(EMFILE));
    world.backlog.borrow_mut().push_back(None);
    world.announced.set(true);
    tick(&mut event_loop);
    assert_eq!(event_loop.handle().stats().timers, 1);
    served.server.close();
    let stats = event_loop.handle().stats();
    assert_eq!((stats.timers, stats.listeners), (0, 0));
    tick(&mut event_loop);
    assert_eq!(served.accepted(), 0);
}

#[test]
fn a_pause_while_the_listener_rests_holds_and_the_timer_is_not_started_again() {
    let (mut event_loop, world, served) = scripted();
    world.starved_by.set(Some(EMFILE));
    world.backlog.borrow_mut().extend([None; 3]);
    world.announced.set(true);
    tick(&mut event_loop);
    served.server.pause_accepting();
    world.starved_by.set(None);
    // The rest ends in the pause.
    event_loop.run_once(None).unwrap();
    let stats = event_loop.handle().stats();
    assert_eq!((stats.timers, stats.accepts), (0, 1));
    served.server.resume_accepting();
    accept_all(&mut event_loop, &served, 3);
}

#[test]
fn a_resume_while_the_listener_rests_leaves_that_to_its_timer() {
    let (mut event_loop, world, served) = scripted();
    world.starved_by.set(Some(EMFILE));
    world.backlog.borrow_mut().extend([None; 3]);
    world.announced.set(true);
    tick(&mut event_loop);
    for _ in 0..3 {
        served.server.pause_accepting();
        served.server.resume_accepting();
        tick(&mut event_loop);
    }
    let stats = event_loop.handle().stats();
    assert_eq!((stats.timers, stats.accepts), (1, 1));
    world.starved_by.set(None);
    accept_all(&mut event_loop, &served, 3);
    assert_eq!(event_loop.handle().stats().timers, 0);
}

#[test]
fn a_shutdown_without_descriptors_serves_what_it_could_take_and_loses_the_rest() {
    let (mut event_loop, world, served) = scripted();
    served.server.pause_accepting();
    world
        .backlog
        .borrow_mut()
        .extend([None, Some(ECONNABORTED), None, Some(EMFILE), None]);
    let answer = answer_of(served.server.shutdown(Duration::from_secs(3600)));
    accept_all(&mut event_loop, &served, 2);
    while answer.borrow().is_none() {
        event_loop.run_once(None).unwrap();
    }
    let report = answer.borrow().unwrap();
    assert_eq!((report.closed, report.from_backlog), (2, 2));
    assert_eq!(world.backlog.borrow().len(), 1);
}

#[test]
fn a_shutdown_takes_no_more_than_a_backlog_from_peers_that_go_on_connecting() {
    let (event_loop, world, served) = scripted();
    served.server.pause_accepting();
    let waiting = std::iter::repeat_n(None, 100_000);
    world.backlog.borrow_mut().extend(waiting);
    drop(served.server.finish_accepting());
    // The longest backlog by default of Linux, and one more, as there.
    assert_eq!(served.server.connection_count(), 4097);
    assert_eq!(event_loop.handle().stats().accepts, 4097);
}
