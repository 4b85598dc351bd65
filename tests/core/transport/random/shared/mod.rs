//! A protocol that follows its scripts and asks the model at each of its callbacks.

mod acts;
mod push;

use crate::transport::random::model::Model;
use crate::transport::random::ops::{Op, Script};
use crate::transport::random::protocol::{Leftover, Scripted};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use support::{Log, Recorder};
use tidegate::{OnEof, OnPause, Protocol, Transport};

/// The state that the callbacks of a case share. The model stays borrowed across every call of the library,
/// so a call that calls back at once is seen.
pub(crate) struct Shared {
    pub(crate) model: RefCell<Model>,
    leftover: Rc<Leftover>,
    /// The number of those around each protocol.
    wrappers: usize,
    pub(crate) complaints: RefCell<Vec<String>>,
    pub(crate) lost: Cell<bool>,
    /// Closures that have neither run nor been dropped.
    pub(crate) closures: Cell<usize>,
    /// The connect has not completed.
    pub(crate) is_connecting: Cell<bool>,
    /// Layers open first: a connection that ends before has no callback at all.
    pub(crate) may_be_unmade: Cell<bool>,
}

/// Where an operation is called.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Outside,
    Callback,
    /// In `data_received`, with these bytes.
    Data(&'a [u8]),
}

type Answer<R> = tidegate::Result<R>;

impl Shared {
    pub(crate) fn new(model: Model, wrappers: usize) -> Rc<Self> {
        Rc::new(Self {
            leftover: model.leftover.clone(),
            wrappers,
            model: RefCell::new(model),
            complaints: RefCell::default(),
            lost: Cell::new(false),
            closures: Cell::new(0),
            is_connecting: Cell::new(false),
            may_be_unmade: Cell::new(false),
        })
    }

    fn complain(&self, complaint: String) {
        self.complaints.borrow_mut().push(complaint);
    }

    /// A protocol that asks the model at each of its callbacks.
    pub(crate) fn protocol(
        self: &Rc<Self>,
        index: usize,
        log: &Log,
        buffer: usize,
    ) -> Box<dyn Protocol> {
        let recorder = self.recorder(index, log, buffer);
        Scripted::boxed(recorder, index, &self.leftover, self.wrappers)
    }

    fn recorder(self: &Rc<Self>, index: usize, log: &Log, buffer: usize) -> Recorder {
        let [made, data, eof, pause, resume, lost, get] = std::array::from_fn(|_| self.clone());
        let mut given = 0;
        let recorder = Recorder::new(log)
            .on_made(move |transport| {
                made.callback(transport, index, "connection_made", None, |_, _| ())
            })
            .on_data(move |transport, bytes| {
                let name = "data_received";
                data.callback(transport, index, name, Some(bytes), |model, _| {
                    model.check_wanted(transport);
                    model.data(bytes)
                })
            })
            .on_eof(move |transport| {
                eof.callback(transport, index, "eof_received", None, |model, script| {
                    model.eof(!script.closes);
                    if script.closes {
                        OnEof::Close
                    } else {
                        OnEof::KeepOpen
                    }
                })
            })
            .on_pause(move |transport| {
                pause.callback(transport, index, "pause_writing", None, |model, script| {
                    let answer = if script.stops {
                        OnPause::StopReading
                    } else {
                        OnPause::KeepReading
                    };
                    model.pause(answer);
                    answer
                })
            })
            .on_resume(move |transport| {
                let name = "resume_writing";
                resume.callback(transport, index, name, None, |model, _| {
                    model.resume(transport);
                })
            })
            .on_lost(move |transport, closed| {
                lost.lost.set(true);
                // It cannot return an error; the script's is for the others.
                let _ = lost.callback(transport, index, "connection_lost", None, |model, _| {
                    model.lose(transport, closed);
                });
            });
        if buffer == 0 {
            return recorder;
        }
        recorder
            .buffered(buffer)
            .on_get_buffer(move |transport, _| {
                given += 1;
                if given % 5 == 0 {
                    get.get_buffer(transport, index);
                }
            })
    }

    /// Runs one callback: the model's check, the script's operations, the return value.
    fn callback<R>(
        self: &Rc<Self>,
        transport: &Transport,
        index: usize,
        name: &str,
        data: Option<&[u8]>,
        check: impl FnOnce(&mut Model, &Script) -> R,
    ) -> Answer<R> {
        let Ok(mut model) = self.model.try_borrow_mut() else {
            self.complain(format!("{name} within a call of ours"));
            return Err("called back".into());
        };
        model.enter(transport, index, name);
        self.may_be_unmade.set(false);
        // Opening a connection fails with its `connection_made`; that is not for here.
        let silent = model.finale || self.is_connecting.get();
        let script = match silent {
            true => Script::default(),
            false => model.scripts.pop_front().unwrap_or_default(),
        };
        let answer = check(&mut model, &script);
        if model.is_at_announced()
            && let Some(bytes) = data
        {
            let unread = &bytes[model.plain..];
            self.put_on(&mut model, transport, unread);
        }
        let place = data.map_or(Place::Callback, |bytes| Place::Data(&bytes[..model.plain]));
        if name == "connection_lost" && model.resets_when_lost {
            // It has no error to give.
            let _ = self.act(&mut model, transport, &Op::Reset, place);
        }
        let mut first = None;
        for op in &script.ops {
            let result = self.act(&mut model, transport, op, place);
            first = first.or(result.err());
        }
        if name == "connection_made" {
            model.made_has_returned();
        }
        if script.fails {
            model.fails(transport, None);
            return Err("the script fails".into());
        }
        if let Some(error) = first.filter(|_| script.propagates) {
            model.fails(transport, Some(&error));
            return Err(error.into());
        }
        // The end comes again behind bytes that were given back.
        if name == "eof_received" && script.closes && model.front.is_empty() {
            model.begin_close();
        }
        Ok(answer)
    }

    fn get_buffer(self: &Rc<Self>, transport: &Transport, index: usize) {
        let Ok(mut model) = self.model.try_borrow_mut() else {
            self.complain("get_buffer within a call of ours".to_owned());
            return;
        };
        model.enter(transport, index, "get_buffer");
        model.check_reading();
        let script = match model.finale {
            true => Script::default(),
            false => model.scripts.pop_front().unwrap_or_default(),
        };
        for op in &script.ops {
            // A buffer is given or not; there is no error to return.
            let _ = self.act(&mut model, transport, op, Place::Callback);
        }
    }

    /// Makes a scheduled closure, which is given the index of the protocol that it was called with. It is
    /// missed when it goes without having run.
    fn closure(
        self: &Rc<Self>,
        ops: &[Op],
    ) -> impl FnOnce(&Transport, Option<usize>) -> Answer<()> + use<> {
        let ops = ops.to_vec();
        let guard = Guard::new(self);
        move |transport, protocol| {
            let shared = guard.ran();
            let Ok(mut model) = shared.model.try_borrow_mut() else {
                shared.complain("a closure within a call of ours".to_owned());
                return Ok(());
            };
            let place = if let Some(index) = protocol {
                model.enter(transport, index, "a closure");
                Place::Callback
            } else {
                model.enter_outside(transport);
                Place::Outside
            };
            if !model.finale {
                for op in &ops {
                    // Refusals are checked where they come.
                    let _ = shared.act(&mut model, transport, op, place);
                }
            }
            Ok(())
        }
    }
}

/// Sees that a closure is run, or dropped after the end.
struct Guard {
    shared: Rc<Shared>,
    ran: Cell<bool>,
}

impl Guard {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.closures.set(shared.closures.get() + 1);
        Self {
            shared: shared.clone(),
            ran: Cell::new(false),
        }
    }

    fn ran(&self) -> Rc<Shared> {
        self.ran.set(true);
        self.shared.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.closures.set(self.shared.closures.get() - 1);
        let unmade = || self.shared.may_be_unmade.get();
        if !self.ran.get() && !self.shared.lost.get() && !unmade() {
            let complaint = "a closure was dropped before the end, without having run";
            self.shared.complain(complaint.to_owned());
        }
    }
}
