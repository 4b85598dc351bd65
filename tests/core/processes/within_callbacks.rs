//! A protocol that ends its process, or fails, within each of its callbacks.

use super::told::{Watch, each_watch, exists, shell, within};
use std::cell::Cell;
use std::process::Stdio;
use std::rc::Rc;
use support::processes::Told;
use support::{BOUND, MIB, drive, failures, settle};
use tidegate::{Pipe, Protocol, Result, SubprocessProtocol, SubprocessTransport, Transport};

const PIPES: [Pipe; 3] = [Pipe::Stdin, Pipe::Stdout, Pipe::Stderr];

/// Every callback; those of the ends go on with their reason.
const CALLBACKS: [&str; 10] = [
    "made",
    "pause",
    "resume",
    "data stdout",
    "data stderr",
    "end stdin",
    "end stdout",
    "end stderr",
    "exited",
    "lost",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill,
    Terminate,
    Close,
    ClosePipes,
    AbortPipes,
    TakePipesOver,
    StartAnother,
    Fail,
    Panic,
}

const ACTS: [Act; 9] = [
    Act::Kill,
    Act::Terminate,
    Act::Close,
    Act::ClosePipes,
    Act::AbortPipes,
    Act::TakePipesOver,
    Act::StartAnother,
    Act::Fail,
    Act::Panic,
];

/// Takes a pipe over.
struct Other;

impl Protocol for Other {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        Ok(())
    }
}

fn act(act: Act, process: &SubprocessTransport) -> Result {
    let pipes = || PIPES.into_iter().filter_map(|pipe| process.pipe(pipe));
    match act {
        Act::Kill => process.kill()?,
        Act::Terminate => process.terminate()?,
        Act::Close => process.close(),
        Act::ClosePipes => pipes().for_each(|pipe| pipe.close()),
        Act::AbortPipes => pipes().for_each(|pipe| pipe.abort()),
        Act::TakePipesOver => {
            for pipe in pipes() {
                // One that has ended refuses.
                let _ = pipe.set_protocol(Other, b"");
            }
        }
        Act::StartAnother => {
            let mut command = shell("exit 3");
            let told = Told::default();
            process
                .handle()
                .subprocess_exec(&mut command, told.protocol())?;
        }
        Act::Fail => return Err("an error of the test".into()),
        Act::Panic => panic!("a panic of the test"),
    }
    // All of these may be called everywhere.
    drop((process.wait_closed(), process.child().wait()));
    Ok(())
}

each_watch!(whatever_a_callback_does_the_process_is_reaped_and_lost_comes_last_and_once);
fn whatever_a_callback_does_the_process_is_reaped_and_lost_comes_last_and_once(watch: Watch) {
    for at in CALLBACKS {
        for what in ACTS {
            let case = format!("{what:?} at {at}");
            let mut event_loop = watch.event_loop();
            let failures = failures(event_loop.handle());
            let (told, acted) = (Told::default(), Rc::new(Cell::new(false)));
            let has_acted = acted.clone();
            let protocol = told.protocol_with(move |process, word| {
                let stdin = process.stdin().unwrap();
                match word {
                    "made" => drop(stdin.write(&vec![b'x'; MIB])?),
                    "resume" => stdin.write_eof()?,
                    _ => {}
                }
                match word.starts_with(at) && !acted.replace(true) {
                    true => act(what, process),
                    false => Ok(()),
                }
            });
            let mut command = shell("echo out; echo err >&2; exec cat >/dev/null");
            let process = event_loop
                .handle()
                .subprocess_exec(&mut command, protocol)
                .unwrap();
            drive(&mut event_loop, &case, || has_acted.get());
            // The protocol does it at a resume alone.
            let _ = process.stdin().unwrap().write_eof();
            let ended = event_loop.run_until_within(process.wait_closed(), BOUND);
            ended.unwrap_or_else(|error| panic!("{case}: {error} {:?}", told.words()));
            settle_others(&mut event_loop);
            let words = told.words();
            for word in ["made", "exited", "lost"] {
                let count = words.iter().filter(|noted| *noted == word).count();
                assert_eq!(count, 1, "{case}: {words:?}");
            }
            assert_eq!(words.last().unwrap(), "lost", "{case}: {words:?}");
            assert!(!exists(process.pid()), "{case}");
            assert!(told.with(|notes| notes.dropped), "{case}");
            let fails = matches!(what, Act::Fail | Act::Panic);
            let failures = failures.borrow();
            assert_eq!(failures.len(), usize::from(fails), "{case}: {failures:?}");
        }
    }
}

/// Runs the loop until what was started beside, or taken over, has ended too.
fn settle_others(event_loop: &mut tidegate::EventLoop) {
    let handle = event_loop.handle().clone();
    drive(event_loop, "the others", || {
        let stats = handle.stats();
        (stats.children, stats.connections) == (0, 0)
    });
    settle(event_loop);
}

/// Does everything once more when it is dropped.
struct Late {
    process: Option<SubprocessTransport>,
    other: Told,
    dropped: Rc<Cell<bool>>,
}

impl SubprocessProtocol for Late {
    fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
        self.process = Some(process.clone());
        Ok(())
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        for what in ACTS {
            if !matches!(what, Act::Fail | Act::Panic) {
                act(what, &process).unwrap();
            }
        }
        let mut command = shell("exit 4");
        process
            .handle()
            .subprocess_exec(&mut command, self.other.protocol())
            .unwrap();
        self.dropped.set(true);
    }
}

each_watch!(the_drop_of_a_protocol_may_do_everything);
fn the_drop_of_a_protocol_may_do_everything(watch: Watch) {
    for script in ["exit 0", "exec cat"] {
        let mut event_loop = watch.event_loop();
        let failures = failures(event_loop.handle());
        let (other, dropped) = (Told::default(), Rc::new(Cell::new(false)));
        let protocol = Late {
            process: None,
            other: other.clone(),
            dropped: dropped.clone(),
        };
        let mut command = shell(script);
        command.stderr(Stdio::null());
        let process = event_loop
            .handle()
            .subprocess_exec(&mut command, protocol)
            .unwrap();
        let _ = process.stdin().unwrap().write_eof();
        within(&mut event_loop, process.wait_closed()).unwrap();
        assert!(dropped.get());
        settle_others(&mut event_loop);
        assert_eq!(other.words().last().unwrap(), "lost");
        assert_eq!(other.with(|notes| notes.status.unwrap().code()), Some(4));
        assert!(failures.borrow().is_empty(), "{failures:?}");
    }
}
