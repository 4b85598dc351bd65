//! Other programs as peers: running them, and large transfers that are verified by their hash.

mod bulk;
mod program;

pub use bulk::{BLOCK, Bulk, Noise, Record, Tally, tally};
pub use program::Program;

use crate::{Kind, TempDir, strict_loop};
use std::rc::Rc;
use tidegate::{CloseReason, Closed, ConnectOptions, EventLoop, ListenOptions};

/// The side that connects.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_enums, reason = "there is no third side")]
pub enum Caller {
    /// We do.
    We,
    /// The program does.
    They,
}

impl Caller {
    /// Each of the two.
    pub const BOTH: [Self; 2] = [Self::We, Self::They];
}

/// A connection between a [`Bulk`] of ours and another program.
#[derive(Debug)]
pub struct Meeting {
    /// The loop of our end.
    pub event_loop: EventLoop,
    /// The record of our end.
    pub record: Rc<Record>,
    /// The other end.
    pub program: Program,
    _dir: TempDir,
}

impl Meeting {
    /// We listen, and the program that `start` runs connects to the address that it is given.
    #[track_caller]
    pub fn they_call(
        kind: Kind,
        ours: impl FnOnce(&Rc<Record>) -> Bulk,
        start: impl FnOnce(&str) -> Program,
    ) -> Self {
        Self::they_call_with(kind, |options| options, ours, start)
    }

    /// The same, with other settings of our server.
    #[track_caller]
    pub fn they_call_with(
        kind: Kind,
        set: impl FnOnce(ListenOptions) -> ListenOptions,
        ours: impl FnOnce(&Rc<Record>) -> Bulk,
        start: impl FnOnce(&str) -> Program,
    ) -> Self {
        let event_loop = strict_loop();
        let record = Rc::default();
        let dir = TempDir::new();
        let mut bulk = Some(ours(&record));
        let factory = move || match bulk.take() {
            Some(bulk) => bulk,
            None => panic!("one connection was to come"),
        };
        let handle = event_loop.handle();
        let options = set(ListenOptions::new(kind.somewhere(&dir)));
        let server = match handle.create_server(options, factory) {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        };
        let address = server.local_addrs()[0].to_string();
        Self {
            program: start(&address),
            event_loop,
            record,
            _dir: dir,
        }
    }

    /// The program that `start` runs listens, and `address` says where, once it does.
    #[track_caller]
    pub fn we_call(
        kind: Kind,
        ours: impl FnOnce(&Rc<Record>) -> Bulk,
        start: impl FnOnce(&str) -> Program,
        address: impl FnOnce(&mut Program, &mut EventLoop) -> String,
    ) -> Self {
        Self::we_call_with(kind, |options| options, ours, start, address)
    }

    /// The same, with other settings of our connect.
    #[track_caller]
    pub fn we_call_with(
        kind: Kind,
        set: impl FnOnce(ConnectOptions) -> ConnectOptions,
        ours: impl FnOnce(&Rc<Record>) -> Bulk,
        start: impl FnOnce(&str) -> Program,
        address: impl FnOnce(&mut Program, &mut EventLoop) -> String,
    ) -> Self {
        let mut event_loop = strict_loop();
        let record = Rc::default();
        let dir = TempDir::new();
        let mut program = start(&kind.somewhere(&dir));
        let address = address(&mut program, &mut event_loop);
        let handle = event_loop.handle();
        handle
            .create_connection(set(ConnectOptions::new(&*address)), ours(&record))
            .then(move |_, made| assert!(made.is_ok(), "connect to {address}: {made:?}"));
        Self {
            event_loop,
            record,
            program,
            _dir: dir,
        }
    }

    /// Runs the loop until a line of the program contains `mark`; returns the text after the mark.
    #[track_caller]
    pub fn hear(&mut self, mark: &str) -> String {
        self.program.expect(&mut self.event_loop, mark)
    }

    /// Runs the loop until `done` is true of our record.
    #[track_caller]
    pub fn drive(&mut self, what: &str, done: impl Fn(&Record) -> bool) {
        program::drive(&mut self.event_loop, what, || done(&self.record));
    }

    /// Runs the loop until our end has got `connection_lost`.
    #[track_caller]
    pub fn lost(&mut self) -> Closed {
        self.drive("connection_lost", |record| record.closed().is_some());
        match self.record.closed() {
            Some(closed) => closed,
            None => panic!("it has not ended"),
        }
    }

    /// Runs the loop until our end has ended as it should after `eof` at both sides.
    #[track_caller]
    pub fn ends_well(&mut self) {
        let closed = self.lost();
        assert!(matches!(closed.reason(), CloseReason::PeerEof), "{closed}");
        assert!(closed.is_clean(), "{closed}");
    }

    /// Runs the loop until the program has ended, which it must do as it should.
    #[track_caller]
    pub fn expect_success(&mut self) {
        self.program.expect_success(&mut self.event_loop);
    }
}
