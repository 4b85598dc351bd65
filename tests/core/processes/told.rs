//! For the tests of processes: both ways to watch, and a protocol that notes its callbacks.

use std::cell::RefCell;
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Instant;
use support::BOUND;
use tidegate::{
    Closed, Completion, EventLoop, Pipe, Result, SubprocessProtocol, SubprocessTransport,
};

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

#[derive(Default)]
pub(super) struct Notes {
    pub(super) words: Vec<String>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// The bytes of stdout when the process had exited.
    pub(super) at_exit: Option<usize>,
    pub(super) status: Option<ExitStatus>,
    pub(super) dropped: bool,
}

/// The notes of a [`Told`].
#[derive(Clone, Default)]
pub(super) struct Told(Rc<RefCell<Notes>>);

type Hook = Box<dyn FnMut(&SubprocessTransport, &str) -> Result>;

/// Notes the callbacks, and does more in `hook`, which is given their names.
pub(super) struct Noting {
    notes: Told,
    hook: Hook,
}

impl Told {
    pub(super) fn protocol(&self) -> Noting {
        self.protocol_with(|_, _| Ok(()))
    }

    pub(super) fn protocol_with(
        &self,
        hook: impl FnMut(&SubprocessTransport, &str) -> Result + 'static,
    ) -> Noting {
        Noting {
            notes: self.clone(),
            hook: Box::new(hook),
        }
    }

    pub(super) fn with<R>(&self, look: impl FnOnce(&mut Notes) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }

    pub(super) fn words(&self) -> Vec<String> {
        self.with(|notes| notes.words.clone())
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.with(|notes| notes.words.iter().any(|noted| noted == word))
    }

    pub(super) fn stdout(&self) -> String {
        self.with(|notes| String::from_utf8(notes.stdout.clone()).unwrap())
    }
}

impl Noting {
    fn note(&mut self, process: &SubprocessTransport, word: &str) -> Result {
        let again = self.notes.with(|notes| {
            let again = notes.words.last().is_some_and(|last| last == word);
            if !again {
                notes.words.push(word.to_owned());
            }
            again
        });
        assert!(!again || word.starts_with("data"), "{word} twice");
        assert!(
            !self.notes.has("lost") || word == "lost",
            "{word} after lost"
        );
        (self.hook)(process, word)
    }
}

impl SubprocessProtocol for Noting {
    fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
        assert!(self.notes.words().is_empty());
        self.note(process, "made")
    }

    fn pipe_data_received(
        &mut self,
        process: &SubprocessTransport,
        pipe: Pipe,
        data: &[u8],
    ) -> Result {
        self.notes.with(|notes| match pipe {
            Pipe::Stdout => notes.stdout.extend_from_slice(data),
            Pipe::Stderr => notes.stderr.extend_from_slice(data),
            Pipe::Stdin => panic!("it is written"),
        });
        self.note(process, &format!("data {pipe}"))
    }

    fn pipe_connection_lost(&mut self, process: &SubprocessTransport, pipe: Pipe, closed: &Closed) {
        let word = format!("end {pipe}: {}", closed.reason());
        self.note(process, &word).unwrap();
    }

    fn pause_writing(&mut self, process: &SubprocessTransport) -> Result {
        self.note(process, "pause")
    }

    fn resume_writing(&mut self, process: &SubprocessTransport) -> Result {
        self.note(process, "resume")
    }

    fn process_exited(&mut self, process: &SubprocessTransport, status: ExitStatus) -> Result {
        assert_eq!(process.status(), Some(status));
        self.notes.with(|notes| {
            notes.status = Some(status);
            notes.at_exit = Some(notes.stdout.len());
        });
        self.note(process, "exited")
    }

    fn connection_lost(&mut self, process: &SubprocessTransport) {
        self.note(process, "lost").unwrap();
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.notes.with(|notes| notes.dropped = true);
    }
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
