//! Every error of a system call: those that end an endpoint, those that one datagram fails with, and those
//! after which the call is made once more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::datagrams::{Heard, assert_accounted, endpoint};
use support::{failures, tick};
use tidegate::driver::{
    BindOptions, DatagramBindOptions, DatagramSocket, Datagrams, Driver, Events, Listener,
    Readiness, Received, Socket, Token, Transmit, Wake,
};
use tidegate::{
    Address, CloseReason, DatagramOptions, DatagramTransport, EventLoop, WhenFull, WriteLimits,
};

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const ENOTSOCK: i32 = 88;
const EMSGSIZE: i32 = 90;
const ENETUNREACH: i32 = 101;
const ENOBUFS: i32 = 105;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

/// The results of the next calls of a socket. Without one, a receive finds nothing and a send succeeds.
#[derive(Debug, Default)]
struct Script {
    receives: RefCell<VecDeque<Result<Vec<u8>, i32>>>,
    sends: RefCell<VecDeque<i32>>,
    /// The first bytes and the lengths of the calls that send.
    calls: RefCell<Vec<(u8, usize)>>,
    registered: Cell<Option<Token>>,
    /// There is room, which the kernel has not told.
    room: Cell<bool>,
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 2))
}

#[derive(Debug)]
struct Scripted(Rc<Script>);

impl Driver for Scripted {
    fn poll(&mut self, events: &mut Events, _: Option<Duration>) -> io::Result<()> {
        if let Some(token) = self.0.registered.get()
            && !self.0.receives.borrow().is_empty()
        {
            events.push(token, Readiness::new().with_readable());
        }
        if let Some(token) = self.0.registered.get()
            && self.0.room.take()
        {
            events.push(token, Readiness::new().with_writable());
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Nobody)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn bind(&mut self, _: &Address, _: BindOptions) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen(&mut self, _: &mut Listener, _: u32, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, _: &Address, _: Option<SocketAddr>) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn register(&mut self, _: &mut Socket, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bind_datagrams(
        &mut self,
        _: Option<&Address>,
        _: Option<&Address>,
        _: DatagramBindOptions,
    ) -> io::Result<Datagrams> {
        Ok(Datagrams::foreign(ScriptedSocket(self.0.clone())))
    }

    fn register_datagrams(&mut self, _: &mut Datagrams, token: Token) -> io::Result<()> {
        self.0.registered.set(Some(token));
        Ok(())
    }

    fn watch_room(&mut self, _: &mut Datagrams, _: Token, _: bool) -> io::Result<()> {
        Ok(())
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

#[derive(Debug)]
struct ScriptedSocket(Rc<Script>);

impl DatagramSocket for ScriptedSocket {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let next = self.0.receives.borrow_mut().pop_front();
        let data = next.unwrap_or(Err(EAGAIN));
        let data = data.map_err(io::Error::from_raw_os_error)?;
        buffer[..data.len()].copy_from_slice(&data);
        Ok(Received {
            len: data.len(),
            segment: data.len(),
            from: peer().into(),
        })
    }

    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<()> {
        let first = transmit.data.first().copied().unwrap_or_default();
        let call = (first, transmit.data.len());
        self.0.calls.borrow_mut().push(call);
        match self.0.sends.borrow_mut().pop_front() {
            Some(errno) if errno != 0 => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    fn max_segments(&self) -> usize {
        64
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)).into())
    }
}

struct Scene {
    event_loop: EventLoop,
    script: Rc<Script>,
    protocol: Heard,
    transport: DatagramTransport,
}

impl Scene {
    fn new(connected: bool) -> Self {
        let options = DatagramOptions::new("127.0.0.1:1");
        Self::of(match connected {
            true => options.remote(peer()),
            false => options,
        })
    }

    fn of(options: DatagramOptions) -> Self {
        let script: Rc<Script> = Rc::default();
        let driver = Scripted(script.clone());
        let mut event_loop = EventLoop::builder().driver(driver).build().unwrap();
        let protocol = Heard::default();
        let transport = endpoint(&event_loop, options, &protocol);
        tick(&mut event_loop);
        Self {
            event_loop,
            script,
            protocol,
            transport,
        }
    }

    /// Sends datagrams of these lengths, whose first byte is their number, while calls fail so.
    fn send(&mut self, lengths: &[usize], errors: &[i32]) {
        self.script.sends.borrow_mut().extend(errors);
        for (number, len) in lengths.iter().enumerate() {
            let data = vec![number as u8; *len];
            self.transport.send_to(&data, &peer()).unwrap();
        }
        for _ in 0..3 {
            tick(&mut self.event_loop);
        }
        assert_accounted(&self.transport);
    }
}

#[test]
fn an_error_of_receiving_that_is_the_sockets_own_ends_the_endpoint_and_no_other_does() {
    for errno in [EBADF, ENOTSOCK, EINVAL, EFAULT] {
        let mut scene = Scene::new(false);
        let told = failures(scene.event_loop.handle());
        let receives = [Ok(vec![1]), Err(errno), Ok(vec![2])];
        scene.script.receives.borrow_mut().extend(receives);
        tick(&mut scene.event_loop);
        let closed = scene.protocol.closed().unwrap();
        let CloseReason::Io(error) = closed.reason() else {
            panic!("{closed}");
        };
        assert_eq!(error.raw_os_error(), Some(errno));
        assert_eq!(scene.protocol.datagrams(), [[1]]);
        assert_eq!(scene.protocol.errors(), []);
        assert!(told.borrow().is_empty(), "{told:?}");
    }
    for connected in [false, true] {
        for errno in [
            ECONNREFUSED,
            EHOSTUNREACH,
            ENETUNREACH,
            EMSGSIZE,
            EACCES,
            ENOMEM,
            ENOBUFS,
        ] {
            let mut scene = Scene::new(connected);
            let receives = [Ok(vec![1]), Err(errno), Ok(vec![2])];
            scene.script.receives.borrow_mut().extend(receives);
            tick(&mut scene.event_loop);
            assert_eq!(scene.protocol.datagrams(), [[1], [2]], "errno {errno}");
            let errors = scene.protocol.errors();
            assert_eq!(errors.len(), 1, "errno {errno}: {errors:?}");
            let to = connected.then(|| Address::Inet(peer()));
            assert_eq!((errors[0].1.clone(), errors[0].2), (to, None));
            assert_eq!(scene.protocol.closed(), None);
        }
    }
}

#[test]
fn a_call_that_was_interrupted_is_made_again() {
    let mut scene = Scene::new(false);
    let receives = [Err(EINTR), Err(EINTR), Ok(vec![1])];
    scene.script.receives.borrow_mut().extend(receives);
    scene.send(&[5], &[EINTR, EINTR]);
    assert_eq!(scene.protocol.datagrams(), [[1]]);
    assert_eq!(*scene.script.calls.borrow(), [(0, 5); 3]);
    assert_eq!(scene.protocol.errors(), []);
}

#[test]
fn a_send_without_memory_fails_its_datagram_and_is_not_made_again() {
    for connected in [false, true] {
        for errno in [ENOBUFS, ENOMEM] {
            let mut scene = Scene::new(connected);
            scene.send(&[10, 20, 30], &[0, errno]);
            assert_eq!(*scene.script.calls.borrow(), [(0, 10), (1, 20), (2, 30)]);
            let errors = scene.protocol.errors();
            assert_eq!(errors.len(), 1, "{errors:?}");
            let to = Some(Address::Inet(peer()));
            assert_eq!((errors[0].1.clone(), errors[0].2), (to, Some(20)));
            let stats = scene.transport.stats();
            assert_eq!((stats.taken, stats.sent, stats.failed), (3, 2, 1));
            let error = {
                scene.script.sends.borrow_mut().push_back(errno);
                scene.transport.try_send_to(&[4; 40], &peer()).unwrap_err()
            };
            assert_eq!(error.raw_os_error(), Some(errno));
            assert_eq!(scene.script.calls.borrow().len(), 4);
        }
    }
}

#[test]
fn an_error_that_may_be_an_earlier_datagrams_has_the_send_made_again_with_a_remote_address_only() {
    for (connected, errors, calls, len) in [
        (false, &[ECONNREFUSED][..], 1, Some(10)),
        (true, &[ECONNREFUSED], 2, None),
        (true, &[ECONNREFUSED, ECONNREFUSED], 2, Some(10)),
    ] {
        let mut scene = Scene::new(connected);
        scene.send(&[10], errors);
        assert_eq!(scene.script.calls.borrow().len(), calls, "{errors:?}");
        let told = scene.protocol.errors();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].2, len);
        let sent = u64::from(len.is_none());
        assert_eq!(scene.transport.stats().sent, sent);
    }
}

#[test]
fn no_error_of_a_send_ends_the_endpoint() {
    for errno in [
        EBADF,
        ENOTSOCK,
        EINVAL,
        EFAULT,
        EACCES,
        EMSGSIZE,
        ENETUNREACH,
    ] {
        let mut scene = Scene::new(false);
        scene.send(&[10, 20], &[errno]);
        assert_eq!(scene.protocol.closed(), None, "errno {errno}");
        assert_eq!(scene.protocol.errors().len(), 1, "errno {errno}");
        assert_eq!(scene.transport.stats().sent, 1);
    }
}

fn another() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3))
}

impl Scene {
    /// Sends datagrams of one length to `to`, while calls fail so. Returns the lengths of the calls.
    fn burst(&mut self, to: SocketAddr, count: usize, len: usize, errors: &[i32]) -> Vec<usize> {
        self.script.calls.borrow_mut().clear();
        self.script.sends.borrow_mut().extend(errors);
        for _ in 0..count {
            self.transport.send_to(&vec![0; len], &to).unwrap();
        }
        for _ in 0..3 {
            tick(&mut self.event_loop);
        }
        assert_accounted(&self.transport);
        let calls = self.script.calls.borrow();
        calls.iter().map(|(_, len)| *len).collect()
    }
}

#[test]
fn a_run_whose_datagrams_are_refused_one_by_one_too_teaches_nothing() {
    for errno in [EINVAL, EMSGSIZE, EIO] {
        let mut scene = Scene::new(false);
        let calls = scene.burst(peer(), 3, 10, &[errno; 4]);
        assert_eq!(calls, [30, 10, 10, 10]);
        assert_eq!(scene.burst(another(), 1, 10, &[]), [10]);
        for to in [another(), peer()] {
            assert_eq!(scene.burst(to, 3, 10, &[]), [30], "errno {errno}");
        }
        // Others of the run do not make up for its first.
        let calls = scene.burst(peer(), 3, 10, &[errno, errno, 0, 0]);
        assert_eq!(calls, [30, 10, 10, 10]);
        assert_eq!(scene.burst(peer(), 3, 10, &[]), [30], "errno {errno}");
    }
}

#[test]
fn a_refused_run_whose_first_datagram_is_dropped_teaches_nothing() {
    let options = DatagramOptions::new("127.0.0.1:1").when_full(WhenFull::DropOldest);
    // Room for two datagrams and one that crosses the cap; each counts 64 beside its bytes.
    let limits = WriteLimits::new().with_low(0).with_high(200).with_cap(200);
    let mut scene = Scene::of(options.write_limits(limits));
    assert_eq!(scene.burst(peer(), 3, 10, &[EINVAL, EAGAIN]), [30, 10]);
    assert_eq!(scene.burst(another(), 1, 20, &[]), [0; 0]);
    assert_eq!(scene.transport.stats().dropped, 1);
    scene.script.room.set(true);
    let calls = scene.burst(another(), 0, 0, &[]);
    assert_eq!(calls, [10, 10, 20]);
    scene
        .transport
        .set_write_limits(WriteLimits::new())
        .unwrap();
    assert_eq!(scene.burst(peer(), 3, 10, &[]), [30]);
}

#[test]
fn a_destination_that_takes_no_runs_gets_single_datagrams_and_the_others_get_runs() {
    for (errno, shorter) in [(EMSGSIZE, vec![15]), (EINVAL, vec![15]), (EIO, vec![5; 3])] {
        let mut scene = Scene::new(false);
        let calls = scene.burst(peer(), 3, 10, &[errno]);
        assert_eq!(calls, [30, 10, 10, 10], "errno {errno}");
        assert_eq!(scene.burst(peer(), 3, 10, &[]), [10; 3], "errno {errno}");
        assert_eq!(scene.burst(peer(), 3, 12, &[]), [12; 3], "errno {errno}");
        assert_eq!(scene.burst(peer(), 3, 5, &[]), shorter, "errno {errno}");
        assert_eq!(scene.burst(another(), 3, 10, &[]), [30], "errno {errno}");
        assert_eq!(scene.burst(peer(), 3, 10, &[]), [10; 3], "errno {errno}");
    }
}

#[test]
fn runs_to_a_destination_that_took_none_are_tried_again_after_a_thousand_datagrams() {
    for connected in [false, true] {
        let mut scene = Scene::new(connected);
        // With a remote address, the call is made again for an error that may be an earlier datagram's.
        let refused = [EMSGSIZE; 2];
        let errors = &refused[..1 + usize::from(connected)];
        scene.burst(peer(), 30, 10, errors);
        let mut singly = 0;
        while scene.burst(peer(), 30, 10, &[]) == [10; 30] {
            singly += 30;
            assert!(singly < 3_000, "runs are not tried again");
        }
        assert!((1_000..1_100).contains(&singly), "after {singly}");
        assert_eq!(scene.burst(peer(), 30, 10, &[]), [300]);
    }
}
