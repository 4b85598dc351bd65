//! The scenario, and how it is played.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, adopted, drive, flood};
use tidegate::{EventLoop, OnEof, OnPause, Result, Transport};

/// The callbacks, by their place in the trace of the undisturbed scenario.
pub(super) const TRACE: [&str; 8] = [
    "made", "data", "pause", "resume", "soon", "then", "eof", "lost",
];
pub(super) const CALLBACKS: [&str; 10] = [
    "made",
    "get_buffer",
    "buffer_updated",
    "data",
    "pause",
    "resume",
    "soon",
    "then",
    "eof",
    "lost",
];

/// Where in [`TRACE`] a callback stands; `get_buffer` comes before the data.
pub(super) fn place(callback: &str) -> usize {
    let word = match callback {
        "get_buffer" | "buffer_updated" => "data",
        word => word,
    };
    TRACE.iter().position(|at| *at == word).unwrap()
}

/// The trace up to the callback, this included.
pub(super) fn up_to(callback: &str) -> Vec<&'static str> {
    let delivered = place(callback) + usize::from(callback != "get_buffer");
    TRACE[..delivered].to_vec()
}

pub(super) type Action = Rc<dyn Fn(&Transport) -> Result>;

pub(super) struct Scene {
    target: &'static str,
    action: Action,
    done: Cell<bool>,
    pub(super) switched: Cell<bool>,
    own: RefCell<()>,
    pub(super) log: Log,
    /// Of the protocol that `set_protocol` brings.
    pub(super) new: Log,
}

impl Scene {
    pub(super) fn new(target: &'static str, action: Action) -> Rc<Self> {
        Rc::new(Self {
            target,
            action,
            done: Cell::new(false),
            switched: Cell::new(false),
            own: RefCell::new(()),
            log: Log::new(),
            new: Log::new().switched_in(),
        })
    }

    fn enter(&self, callback: &str, transport: &Transport) -> Result {
        let _own = self.own.borrow_mut();
        if callback != self.target || self.done.replace(true) {
            return Ok(());
        }
        let before = (self.log.seen(), self.new.seen());
        let result = (self.action)(transport);
        assert_eq!((self.log.seen(), self.new.seen()), before, "{callback}");
        result
    }

    pub(super) fn recorder(self: &Rc<Self>, log: &Log) -> Recorder {
        let scene = || self.clone();
        let (made, data, eof, pause, resume) = (scene(), scene(), scene(), scene(), scene());
        let (lost, get_buffer) = (scene(), scene());
        let buffered = self.target == "get_buffer" || self.target == "buffer_updated";
        let recorder = Recorder::new(log)
            .on_made(move |transport| made.enter("made", transport))
            .on_data(move |transport, _| {
                data.enter("data", transport)?;
                data.enter("buffer_updated", transport)
            })
            .on_eof(move |transport| {
                eof.enter("eof", transport)?;
                Ok(OnEof::Close)
            })
            .on_pause(move |transport| {
                pause.enter("pause", transport)?;
                Ok(OnPause::StopReading)
            })
            .on_resume(move |transport| resume.enter("resume", transport))
            .on_lost(move |transport, _| {
                // It returns nothing; a failure in here panics.
                let _ = lost.enter("lost", transport);
            })
            .on_get_buffer(move |transport, _| {
                let _ = get_buffer.enter("get_buffer", transport);
            });
        if buffered {
            recorder.buffered(64)
        } else {
            recorder
        }
    }

    /// Notes a closure that ran for the protocol.
    fn closure(&self, name: &'static str, transport: &Transport) -> Result {
        let log = if self.switched.get() {
            &self.new
        } else {
            &self.log
        };
        log.note(name);
        self.enter(name, transport)
    }

    fn is_lost(&self) -> bool {
        self.log.is_lost() || self.new.is_lost()
    }

    fn saw(&self, what: &str) -> bool {
        let saw = |log: &Log| log.words().iter().any(|word| word == what);
        saw(&self.log) || saw(&self.new)
    }

    /// Plays the scenario to the end of the connection.
    pub(super) fn play(
        self: &Rc<Self>,
        event_loop: &mut EventLoop,
        kind: Kind,
    ) -> (Transport, Peer) {
        let protocol = self.recorder(&self.log);
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        peer.send(b"ping");
        drive(event_loop, "the ping", || {
            self.saw("data") || transport.is_closing() || self.done.get() && !transport.is_reading()
        });
        quiesce(event_loop);

        flood(&transport);
        if transport.flow().is_paused() && !transport.is_closing() {
            drive(event_loop, "the pause", || {
                self.saw("pause") || transport.is_closing()
            });
        }
        quiesce(event_loop);
        drive(event_loop, "the buffer to drain", || {
            peer.read_available();
            transport.write_buffer_size() == 0
        });
        quiesce(event_loop);

        let scene = self.clone();
        transport.call_soon(move |_: &mut Recorder, transport| scene.closure("soon", transport));
        quiesce(event_loop);
        let (completer, completion) = event_loop.handle().completion::<()>();
        let scene = self.clone();
        completion.then_on(&transport, move |_: &mut Recorder, transport, answer| {
            answer?;
            scene.closure("then", transport)
        });
        completer.complete(Ok(()));
        quiesce(event_loop);

        transport.resume_reading();
        quiesce(event_loop);
        // It fails when the connection was reset.
        let _ = peer.as_sock().shutdown(Shutdown::Write);
        drive(event_loop, "the end", || {
            peer.read_available();
            self.is_lost()
        });
        peer.expect_end(event_loop);
        self.check_nothing_is_left(event_loop, &transport, &peer);
        (transport, peer)
    }

    #[track_caller]
    fn check_nothing_is_left(
        &self,
        event_loop: &mut EventLoop,
        transport: &Transport,
        peer: &Peer,
    ) {
        let handle = event_loop.handle().clone();
        drive(event_loop, "nothing left", || {
            let left = handle.stats();
            left.connections + left.lingering + left.timers + left.completions == 0
        });
        assert!(self.done.get(), "{} did not come", self.target);
        assert!(handle.transport(transport.id()).is_none());
        assert!(transport.is_closing() && transport.closed().is_some());
        assert_eq!(self.log.dropped(), 1);
        assert_eq!(self.new.dropped(), u32::from(self.switched.get()));
        let closed = transport.closed().unwrap();
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
        if closed.is_clean() {
            assert!(peer.saw_eof(), "{:?}", peer.saw_error());
            assert_eq!(peer.received().len() as u64, transport.written());
        }
    }
}

/// Runs ticks that do not wait, until one does nothing.
pub(super) fn quiesce(event_loop: &mut EventLoop) {
    let mut quiet = 0;
    while quiet < 2 {
        let before = event_loop.handle().stats();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        let mut after = event_loop.handle().stats();
        after.polls = before.polls;
        quiet = if after == before { quiet + 1 } else { 0 };
    }
}

/// Plays it with each callback and each action; `check` sees how it ended.
pub(super) fn for_each_callback(
    kind: Kind,
    actions: &[(&'static str, Action)],
    check: impl Fn(&'static str, &Scene, &Transport, &Peer),
) {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.handle().set_error_handler(|_, failure| {
        // Escapes the isolation: nothing here may fail.
        eprintln!("{failure}");
        std::process::abort();
    });
    for (name, action) in actions {
        for callback in CALLBACKS {
            println!("{kind:?}: {name} in {callback}");
            let scene = Scene::new(callback, action.clone());
            let (transport, peer) = scene.play(&mut event_loop, kind);
            check(callback, &scene, &transport, &peer);
        }
    }
}
