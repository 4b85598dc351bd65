//! A protocol of a process that notes its callbacks.

use std::cell::RefCell;
use std::fmt;
use std::process::ExitStatus;
use std::rc::Rc;
use tidegate::{Closed, Pipe, Result, SubprocessProtocol, SubprocessTransport};

/// The callbacks of a process, and its output.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Notes {
    /// The callbacks; several in a row with data of one pipe are one.
    pub words: Vec<String>,
    /// The bytes of stdout.
    pub stdout: Vec<u8>,
    /// The bytes of stderr.
    pub stderr: Vec<u8>,
    /// The number of bytes of stdout when the process had exited.
    pub at_exit: Option<usize>,
    /// That of `process_exited`.
    pub status: Option<ExitStatus>,
    /// The protocol was dropped.
    pub dropped: bool,
}

/// The notes of a [`Told`].
#[derive(Debug, Clone, Default)]
pub struct Told(Rc<RefCell<Notes>>);

type Hook = Box<dyn FnMut(&SubprocessTransport, &str) -> Result>;

/// Notes the callbacks, and does more in `hook`, which is given their names.
pub struct Noting {
    notes: Told,
    hook: Hook,
}

impl fmt::Debug for Noting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.fmt(f)
    }
}

impl Told {
    /// A protocol that notes here.
    pub fn protocol(&self) -> Noting {
        self.protocol_with(|_, _| Ok(()))
    }

    /// A protocol that notes here, and does more.
    pub fn protocol_with(
        &self,
        hook: impl FnMut(&SubprocessTransport, &str) -> Result + 'static,
    ) -> Noting {
        Noting {
            notes: self.clone(),
            hook: Box::new(hook),
        }
    }

    /// Looks at the notes.
    pub fn with<R>(&self, look: impl FnOnce(&mut Notes) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }

    /// The callbacks so far.
    pub fn words(&self) -> Vec<String> {
        self.with(|notes| notes.words.clone())
    }

    /// Whether a callback came.
    pub fn has(&self, word: &str) -> bool {
        self.with(|notes| notes.words.iter().any(|noted| noted == word))
    }

    /// The output so far.
    pub fn stdout(&self) -> String {
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
