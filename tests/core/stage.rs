//! A connection in a world of its own, and a peer that reads when it is told to.

use crate::memory::{CAPACITY, Memory, World};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, Served};
use tidegate::{CloseReason, EventLoop, OnEof, TimeoutKind, Transport};

/// The least that a clock can tell.
pub(crate) const INSTANT: Duration = Duration::from_nanos(1);

/// More than the world takes.
pub(crate) const STALLING: usize = 3 * CAPACITY;

/// A connection that we opened, and a peer that reads when it is told to.
pub(crate) struct Stage {
    pub(crate) world: Rc<World>,
    pub(crate) event_loop: EventLoop,
    pub(crate) log: Log,
    pub(crate) transport: Transport,
    pub(crate) served: Served,
    /// What the peer reads at once.
    pub(crate) portion: Rc<Cell<usize>>,
    pub(crate) peer: Transport,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let log = Log::new();
        let recorder = Recorder::new(&log).on_eof(|_| Ok(OnEof::KeepOpen));
        Self::with(log, recorder)
    }

    pub(crate) fn with(log: Log, recorder: Recorder) -> Self {
        let world = World::new();
        let driver = Memory(world.clone());
        let mut event_loop = EventLoop::builder().driver(driver).build().unwrap();
        let portion = Rc::new(Cell::new(0_usize));
        let left = portion.clone();
        let address = SocketAddr::from(([192, 0, 2, 1], 7));
        // A byte at a time, until the portion is used up.
        let served = Served::new(event_loop.handle(), address, move |recorder| {
            let left = left.clone();
            recorder
                .buffered(1)
                .on_get_buffer({
                    let left = left.clone();
                    move |transport, _| {
                        if left.get() == 0 {
                            transport.pause_reading();
                        }
                    }
                })
                .on_data(move |_, data| {
                    left.set(left.get() - data.len());
                    Ok(())
                })
        });
        let connect = event_loop
            .handle()
            .create_connection(served.address(), recorder);
        let transport = event_loop.run_until(connect).unwrap();
        while served.accepted() == 0 {
            event_loop.run_once(None).unwrap();
        }
        let peer = served.transport(0);
        let mut stage = Self {
            world,
            event_loop,
            log,
            transport,
            served,
            portion,
            peer,
        };
        stage.run();
        stage
    }

    /// Whose transport has bytes that the world does not take, for a limit.
    pub(crate) fn stalled(limit: Duration) -> Self {
        let mut stage = Self::new();
        stage.transport.set_write_timeout(Some(limit));
        stage.transport.write(&[1; STALLING]).unwrap();
        stage.run();
        assert_eq!(stage.transport.write_buffer_size(), STALLING - CAPACITY);
        stage
    }

    /// Runs turns, which never wait here, until nothing more happens.
    pub(crate) fn run(&mut self) {
        loop {
            self.world.timeouts.take();
            let before = self.event_loop.handle().stats();
            self.event_loop.run_once(None).unwrap();
            let mut after = self.event_loop.handle().stats();
            after.polls = before.polls;
            let idle = self.world.timeouts.borrow()[0] != Some(Duration::ZERO);
            if idle && after == before {
                return;
            }
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.world.advance(time);
        self.run();
    }

    /// The peer reads so many bytes.
    pub(crate) fn read(&mut self, count: usize) {
        self.portion.set(count);
        self.peer.resume_reading();
        self.run();
    }

    pub(crate) fn timers(&self) -> usize {
        self.event_loop.handle().stats().timers
    }

    /// It ends when this time has passed, and not a nanosecond before.
    #[track_caller]
    pub(crate) fn assert_ends_in(&mut self, time: Duration) {
        self.pass(time - INSTANT);
        assert!(!self.log.is_lost(), "early: {}", self.log.closed());
        assert_eq!(self.timers(), 1);
        self.pass(INSTANT);
        assert!(self.log.is_lost(), "late: {:?}", self.transport);
        self.assert_timed_out();
    }

    #[track_caller]
    pub(crate) fn assert_timed_out(&self) {
        assert_eq!(self.ending(), TimeoutKind::Write);
        assert_eq!(self.timers(), 0);
    }

    #[track_caller]
    pub(crate) fn ending(&self) -> TimeoutKind {
        match self.log.closed().reason() {
            CloseReason::Timeout(kind) => *kind,
            other => panic!("{other:?}"),
        }
    }
}
