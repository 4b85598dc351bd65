//! For the tests of processes: both ways to watch, and commands.

use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::BOUND;
use tidegate::{Completion, EventLoop};

/// How the exit of a child is noticed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Watch {
    Pidfd,
    Thread,
}

impl Watch {
    pub(super) fn event_loop(self) -> EventLoop {
        let builder = EventLoop::builder();
        match self {
            Self::Pidfd => builder.build().unwrap(),
            Self::Thread => builder.children_by_threads().build().unwrap(),
        }
    }
}

/// Makes two tests of a function that takes a [`Watch`].
macro_rules! each_watch {
    ($test:ident) => {
        mod $test {
            #[test]
            fn pidfd() {
                super::$test($crate::processes::told::Watch::Pidfd);
            }

            #[test]
            fn thread() {
                super::$test($crate::processes::told::Watch::Thread);
            }
        }
    };
}
pub(super) use each_watch;

/// A shell with these pipes.
pub(super) fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

/// Whether there is a process of this number, also a zombie.
pub(super) fn exists(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Waits, without running a loop, until a process has ended. One that had ended when it was watched was reaped then.
pub(super) fn until_ended(pid: u32) {
    let begun = Instant::now();
    while let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        if stat.contains(") Z ") {
            return;
        }
        assert!(begun.elapsed() < BOUND, "it does not end: {stat}");
        std::thread::yield_now();
    }
}

/// Runs the loop until there is a result, for a bounded time.
pub(super) fn within<T: 'static>(
    event_loop: &mut EventLoop,
    completion: Completion<T>,
) -> io::Result<T> {
    event_loop.run_until_within(completion, BOUND)
}
