//! A connection in the simulated world, whose peer takes what the test lets it.

use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{CloseReason, OnEof, TimeoutKind, Transport};
use tidegate_testkit::{Host, Link, Peer, World};

/// The least that a clock can tell.
pub(super) const INSTANT: Duration = Duration::from_nanos(1);

/// How many bytes the kernels of both ends take.
pub(super) const CAPACITY: usize = 1000;

/// More than that.
pub(super) const STALLING: usize = 3 * CAPACITY;

pub(super) struct Timed {
    pub(super) world: World,
    pub(super) host: Host,
    pub(super) log: Log,
    pub(super) transport: Transport,
    pub(super) peer: Peer,
    /// The bytes that the peer has read.
    pub(super) received: Vec<u8>,
}

impl Timed {
    pub(super) fn new() -> Self {
        let log = Log::new();
        let recorder = Recorder::new(&log).on_eof(|_| Ok(OnEof::KeepOpen));
        Self::with(log, recorder)
    }

    /// Our kernel tells of each byte of room.
    pub(super) fn with(log: Log, recorder: Recorder) -> Self {
        let link = Link::new().send_buffer(1).receive_buffer(CAPACITY - 1);
        Self::over(link, log, recorder)
    }

    pub(super) fn over(link: Link, log: Log, recorder: Recorder) -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        world.network().set_link_to_peers(&host, link);
        let listener = world.network().listen(7).unwrap();
        let connect = host.handle().create_connection(listener.addr(), recorder);
        let transport = world.run_until(connect).unwrap();
        let peer = listener.accept().unwrap();
        world.settle().unwrap();
        Self {
            world,
            host,
            log,
            transport,
            peer,
            received: Vec::new(),
        }
    }

    /// Begins with bytes that the kernel does not take, under a write timeout.
    pub(super) fn stalled(limit: Duration) -> Self {
        let mut timed = Self::new();
        timed.stall(limit);
        timed
    }

    pub(super) fn stall(&mut self, limit: Duration) {
        self.transport.set_write_timeout(Some(limit));
        self.transport.write(&[1; STALLING]).unwrap();
        self.run();
        assert_eq!(self.transport.write_buffer_size(), STALLING - CAPACITY);
    }

    /// Runs everything that needs no time.
    pub(super) fn run(&mut self) {
        self.world.pump().unwrap();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.world.advance(time).unwrap();
    }

    /// Reads `count` bytes at the peer, or all there are.
    pub(super) fn read(&mut self, count: usize) {
        let mut buffer = vec![0; count];
        let mut done = 0;
        while done < count {
            done += match self.peer.read(&mut buffer[done..]) {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            self.run();
        }
        self.received.extend_from_slice(&buffer[..done]);
    }

    pub(super) fn timers(&self) -> usize {
        self.host.handle().stats().timers
    }

    /// It ends when this time has passed, and not a nanosecond before.
    #[track_caller]
    pub(super) fn assert_ends_in(&mut self, time: Duration) {
        self.pass(time - INSTANT);
        assert!(!self.log.is_lost(), "early: {}", self.log.closed());
        assert_eq!(self.timers(), 1);
        self.pass(INSTANT);
        assert!(self.log.is_lost(), "late: {:?}", self.transport);
        self.assert_timed_out();
    }

    #[track_caller]
    pub(super) fn assert_timed_out(&self) {
        assert_eq!(self.ending(), TimeoutKind::Write);
        assert_eq!(self.timers(), 0);
    }

    #[track_caller]
    pub(super) fn ending(&self) -> TimeoutKind {
        match self.log.closed().reason() {
            CloseReason::Timeout(kind) => *kind,
            other => panic!("{other:?}"),
        }
    }
}
