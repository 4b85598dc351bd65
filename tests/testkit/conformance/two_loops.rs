//! A harness with a loop for each end, so that the suite does not come to rely on one.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, TempDir};
use tidegate::{EventLoop, Handle, LoopStats, Protocol};
use tidegate_testkit::conformance::Harness;

type Next = Rc<RefCell<Option<Box<dyn Protocol>>>>;

pub(super) struct TwoLoops {
    server: EventLoop,
    client: EventLoop,
    address: String,
    next: Next,
    _dir: TempDir,
}

impl TwoLoops {
    pub(super) fn new() -> Self {
        let (server, client) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let dir = TempDir::new();
        let address = Kind::Unix.somewhere(&dir);
        let next = Next::default();
        let slot = next.clone();
        let factory = move || slot.take().unwrap();
        server
            .handle()
            .create_server(address.as_str(), factory)
            .unwrap();
        Self {
            server,
            client,
            address,
            next,
            _dir: dir,
        }
    }

    fn stats(&self) -> [LoopStats; 2] {
        [&self.server, &self.client].map(|event_loop| {
            let mut stats = event_loop.handle().stats();
            stats.polls = 0;
            stats
        })
    }

    /// One tick of each; whether they found something.
    fn tick(&mut self) -> io::Result<bool> {
        let before = self.stats();
        self.server.run_once(Some(Duration::ZERO))?;
        self.client.run_once(Some(Duration::ZERO))?;
        Ok(self.stats() != before)
    }
}

impl Harness for TwoLoops {
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()> {
        self.next.replace(Some(accepted));
        let handle = self.client.handle().clone();
        handle
            .create_connection(self.address.as_str(), connecting)
            .detach();
        Ok(())
    }

    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        let start = Instant::now();
        while !done() {
            if start.elapsed() > BOUND {
                return Ok(false);
            }
            if !self.tick()? {
                self.client.run_once(Some(Duration::from_millis(1)))?;
            }
        }
        Ok(true)
    }

    fn settle(&mut self) -> io::Result<()> {
        while self.tick()? || self.tick()? {}
        Ok(())
    }

    fn handles(&self) -> Vec<Handle> {
        vec![self.server.handle().clone(), self.client.handle().clone()]
    }

    fn has_resets(&self) -> bool {
        false
    }
}
