//! Harnesses that break one rule each.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Closed, Handle, OnEof, OnPause, Protocol, Result, Transport};
use tidegate_testkit::conformance::{Harness, Unix};
use tidegate_testkit::{Log, Recorder};

/// Faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    // Of the callbacks.
    SkipsMade,
    DropsAByte,
    SwapsBytes,
    DeliversEmptyData,
    SwallowsEof,
    RepeatsEof,
    DeliversAfterEof,
    SwallowsPause,
    RepeatsPause,
    SwallowsResume,
    SwallowsLost,
    RepeatsLost,
    TellsAnotherEnd,
    KeepsTheProtocol,
    // Of the handling of return values.
    IgnoresKeepOpen,
    IgnoresStopReading,
    // Of the transport.
    AddsAByte,
    CutsTheClose,
    NeverReadsOn,
    LiftsThePause,
    // Things left behind.
    LeavesATimer,
    LeavesACompletion,
    LeavesAConnection,
    // Of the harness.
    CannotConnect,
    RefusesToRun,
    ClaimsResets,
}

/// Unix sockets, and a fault that can be switched off.
pub(super) struct Broken {
    harness: Unix,
    fault: Rc<Cell<Fault>>,
    transports: Rc<RefCell<Vec<Transport>>>,
    kept: Vec<Box<dyn std::any::Any>>,
}

impl Broken {
    pub(super) fn new(fault: Fault) -> Self {
        // A missing callback does not come later either.
        let harness = Unix::new().unwrap().patience(Duration::from_millis(100));
        Self {
            harness,
            fault: Rc::new(Cell::new(fault)),
            transports: Rc::default(),
            kept: Vec::new(),
        }
    }

    pub(super) fn repair(&self) {
        self.fault.set(Fault::None);
    }

    fn wrap(&self, protocol: Box<dyn Protocol>) -> Box<dyn Protocol> {
        Box::new(Liar {
            protocol: Some(protocol),
            fault: self.fault.clone(),
            transports: self.transports.clone(),
            done: false,
        })
    }

    fn interfere(&self) {
        for transport in self.transports.borrow().iter() {
            match self.fault.get() {
                Fault::CutsTheClose if transport.is_closing() => transport.abort(),
                Fault::NeverReadsOn => transport.pause_reading(),
                Fault::LiftsThePause => transport.resume_reading(),
                _ => {}
            }
        }
    }
}

impl Harness for Broken {
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()> {
        let handle = self.harness.handles().remove(0);
        match self.fault.get() {
            Fault::CannotConnect => return Err(io::ErrorKind::ConnectionRefused.into()),
            Fault::LeavesATimer => {
                handle.call_later(Duration::from_secs(3600), |_| {});
            }
            Fault::LeavesACompletion => {
                self.kept.push(Box::new(handle.completion::<()>()));
            }
            Fault::LeavesAConnection => {
                let more = || Box::new(Recorder::new(&Log::new()));
                self.harness.connect(more(), more())?;
            }
            _ => {}
        }
        let (connecting, accepted) = (self.wrap(connecting), self.wrap(accepted));
        self.harness.connect(connecting, accepted)
    }

    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        if self.fault.get() == Fault::RefusesToRun {
            return Err(io::Error::other("out of order"));
        }
        self.interfere();
        self.harness.run_until(done)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.interfere();
        self.harness.settle()
    }

    fn handles(&self) -> Vec<Handle> {
        self.harness.handles()
    }

    fn has_resets(&self) -> bool {
        self.fault.get() == Fault::ClaimsResets
    }
}

/// Stands between the loop and a protocol, and is not to be trusted.
struct Liar {
    protocol: Option<Box<dyn Protocol>>,
    fault: Rc<Cell<Fault>>,
    transports: Rc<RefCell<Vec<Transport>>>,
    /// It lies once a connection.
    done: bool,
}

impl Liar {
    fn lies(&mut self, fault: Fault) -> bool {
        self.fault.get() == fault && !mem::replace(&mut self.done, true)
    }

    fn protocol(&mut self) -> &mut Box<dyn Protocol> {
        self.protocol.as_mut().unwrap()
    }
}

impl Protocol for Liar {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.transports.borrow_mut().push(transport.clone());
        if self.fault.get() == Fault::AddsAByte {
            transport.write(b"~")?;
        }
        if self.lies(Fault::SkipsMade) {
            return Ok(());
        }
        self.protocol().connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let mut data = data.to_vec();
        if self.lies(Fault::DropsAByte) {
            data.remove(data.len() / 2);
        }
        if self.lies(Fault::SwapsBytes) {
            let middle = data.len() / 2;
            data.swap(middle, middle + 1);
        }
        if self.lies(Fault::DeliversEmptyData) {
            self.protocol().data_received(transport, b"")?;
        }
        self.protocol().data_received(transport, &data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        if self.lies(Fault::SwallowsEof) {
            return Ok(OnEof::KeepOpen);
        }
        if self.lies(Fault::RepeatsEof) {
            self.protocol().eof_received(transport)?;
        }
        let answer = self.protocol().eof_received(transport)?;
        if self.lies(Fault::DeliversAfterEof) {
            self.protocol().data_received(transport, b"late")?;
        }
        if self.lies(Fault::IgnoresKeepOpen) {
            return Ok(OnEof::Close);
        }
        Ok(answer)
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        if self.lies(Fault::SwallowsPause) {
            return Ok(OnPause::KeepReading);
        }
        if self.lies(Fault::RepeatsPause) {
            self.protocol().pause_writing(transport)?;
        }
        let answer = self.protocol().pause_writing(transport)?;
        if self.lies(Fault::IgnoresStopReading) {
            return Ok(OnPause::KeepReading);
        }
        Ok(answer)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        if self.lies(Fault::SwallowsResume) {
            return Ok(());
        }
        self.protocol().resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.transports
            .borrow_mut()
            .retain(|it| it.id() != transport.id());
        if self.lies(Fault::SwallowsLost) {
            return;
        }
        if self.lies(Fault::RepeatsLost) {
            self.protocol().connection_lost(transport, closed);
        }
        if self.lies(Fault::TellsAnotherEnd) {
            self.protocol().connection_lost(transport, &another_end());
            return;
        }
        self.protocol().connection_lost(transport, closed);
        if self.lies(Fault::KeepsTheProtocol) {
            mem::forget(self.protocol.take());
        }
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        self.protocol().get_buffer(transport, size_hint)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        self.protocol().buffer_updated(transport, len)
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        let protocol: &mut dyn Protocol = self.protocol.as_mut()?;
        Some(protocol)
    }
}

/// How some other connection ended: with the end of its loop.
fn another_end() -> Closed {
    let mut event_loop = tidegate::EventLoop::new().unwrap();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let protocol = Recorder::new(&Log::new());
    let transport = event_loop.handle().adopt(ours, protocol).unwrap();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    drop(event_loop);
    transport.closed().unwrap()
}
