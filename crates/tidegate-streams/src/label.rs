//! The name of a task in reports and in the log.

use std::sync::Arc;
use tidegate::{CloseReason, Failure};

/// Names a task. A type of its own for each kind of name, so that a task without one has no
/// room for it.
pub(crate) trait Label: 'static {
    fn failure(&self, reason: CloseReason) -> Failure;

    /// Returns the name for the log. `future` is the type of the task's future.
    fn name(&self, future: &str) -> String;
}

const TASK: &str = "a task";

pub(crate) struct Unnamed;

impl Label for Unnamed {
    fn failure(&self, reason: CloseReason) -> Failure {
        Failure::new(TASK, reason)
    }

    fn name(&self, future: &str) -> String {
        format!("{TASK} ({future})")
    }
}

pub(crate) struct Named(pub(crate) Arc<str>);

impl Label for Named {
    fn failure(&self, reason: CloseReason) -> Failure {
        Failure::new(TASK, reason).named(self.0.clone())
    }

    fn name(&self, _: &str) -> String {
        format!("{TASK} named {}", self.0)
    }
}
