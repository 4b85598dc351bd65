//! The world of a script: one host, with the failures of its callbacks.

use super::{Mismatch, Played};
use crate::dialogue::Dialogue;
use crate::log::Log;
use crate::network::Host;
use crate::world::World;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{CloseReason, EventLoop, Failure, PanicPolicy};

pub(super) struct Stage {
    pub(super) world: World,
    pub(super) host: Host,
    pub(super) ending: Ending,
}

/// The record of the protocol, and the failures of its callbacks.
pub(super) struct Ending {
    pub(super) log: Log,
    failures: Rc<RefCell<Vec<Failure>>>,
}

impl Stage {
    pub(super) fn new(seed: u64) -> Result<Self, Mismatch> {
        let mut world = World::builder().seed(seed).build();
        let strict = EventLoop::builder().panic_policy(PanicPolicy::Propagate);
        let host = world
            .add_host_with("host", strict)
            .map_err(|error| Mismatch::at_start("a host", &error))?;
        let failures: Rc<RefCell<Vec<Failure>>> = Rc::default();
        let told = failures.clone();
        let tell = move |_: &_, failure: &Failure| told.borrow_mut().push(failure.clone());
        host.handle().set_error_handler(tell);
        let log = Log::new();
        Ok(Self {
            world,
            host,
            ending: Ending { log, failures },
        })
    }
}

impl Ending {
    /// Returns the result of a script of a number of steps: a failure of a callback is a mismatch too.
    pub(super) fn judge(
        self,
        played: Result<Duration, Mismatch>,
        steps: usize,
        may_fail: bool,
        dialogue: &Dialogue,
    ) -> Result<Played, Mismatch> {
        let failures = self.failures.take();
        let mismatch = match played {
            Ok(_) if failures.iter().any(is_panic) => {
                Mismatch::at_end(steps, "no panic", "a panic".into())
            }
            Ok(_) if !may_fail && !failures.is_empty() => {
                Mismatch::at_end(steps, "no error", "an error".into())
            }
            Ok(elapsed) => {
                return Ok(Played {
                    elapsed,
                    failures,
                    dialogue: dialogue.clone(),
                    log: self.log,
                });
            }
            Err(mismatch) => mismatch,
        };
        Err(mismatch.with(dialogue, &failures))
    }
}

/// Returns whether it is a panic of a task: those of callbacks go on out of the loop.
fn is_panic(failure: &Failure) -> bool {
    matches!(failure.reason(), CloseReason::Panic(_))
}
