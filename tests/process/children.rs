//! Counts the descriptors, the threads and the children of its process, and lowers its limit on descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::{BOUND, descriptors, drive, settle};
use tidegate::{EventLoop, Pipe, Result, SubprocessProtocol, SubprocessTransport};

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

const CHILDREN: usize = 1000;
/// Not all at once: the limits of descriptors and processes are those of the machine.
const AT_A_TIME: usize = 50;

fn event_loop(by_threads: bool) -> EventLoop {
    let builder = EventLoop::builder();
    match by_threads {
        true => builder.children_by_threads().build().unwrap(),
        false => builder.build().unwrap(),
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// The children of this process, also zombies.
fn children() -> usize {
    let own = std::process::id().to_string();
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let rest = stat.rsplit_once(") ")?.1.to_owned();
        rest.split(' ').nth(1).map(str::to_owned)
    });
    stats.filter(|parent| *parent == own).count()
}

fn counts() -> (usize, usize, usize) {
    (descriptors(), threads(), children())
}

/// The counts, as soon as they are these, and at the bound whatever they are: a thread that has told of an exit
/// ends a moment later.
fn counts_back_at(before: (usize, usize, usize)) -> (usize, usize, usize) {
    let begun = Instant::now();
    while counts() != before && begun.elapsed() < BOUND {
        std::thread::yield_now();
    }
    counts()
}

/// Says a word to `cat`, and ends it when the word has come back.
struct Speak {
    ended: Rc<Cell<usize>>,
    heard: usize,
}

impl SubprocessProtocol for Speak {
    fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
        if let Some(stdin) = process.stdin() {
            stdin.write(b"word")?;
        }
        Ok(())
    }

    fn pipe_data_received(
        &mut self,
        process: &SubprocessTransport,
        _: Pipe,
        data: &[u8],
    ) -> Result {
        self.heard += data.len();
        if let Some(stdin) = process.stdin().filter(|_| self.heard == 4) {
            stdin.write_eof()?;
        }
        Ok(())
    }

    fn process_exited(&mut self, _: &SubprocessTransport, status: ExitStatus) -> Result {
        assert!(status.success());
        assert_eq!(self.heard, 4);
        Ok(())
    }

    fn connection_lost(&mut self, _: &SubprocessTransport) {
        self.ended.set(self.ended.get() + 1);
    }
}

fn cat() -> Command {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn a_thousand_children_leave_no_zombie_no_descriptor_and_no_thread() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for by_threads in [false, true] {
        let mut event_loop = event_loop(by_threads);
        settle(&mut event_loop);
        let failures = support::failures(event_loop.handle());
        let before = counts();
        let ended = Rc::new(Cell::new(0));
        for group in 0..CHILDREN / AT_A_TIME {
            for _ in 0..AT_A_TIME {
                let protocol = Speak {
                    ended: ended.clone(),
                    heard: 0,
                };
                event_loop
                    .handle()
                    .subprocess_exec(&mut cat(), protocol)
                    .unwrap();
            }
            let until = (group + 1) * AT_A_TIME;
            drive(&mut event_loop, "a group of children", || {
                ended.get() == until
            });
        }
        assert!(failures.borrow().is_empty(), "{failures:?}");
        settle(&mut event_loop);
        assert_eq!(counts_back_at(before), before, "threads: {by_threads}");
        let stats = event_loop.handle().stats();
        assert_eq!(
            (stats.children, stats.connections, stats.stale_events),
            (0, 0, 0)
        );
    }
}

#[test]
fn a_loop_that_is_dropped_with_a_hundred_children_reaps_them_within_a_second() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for by_threads in [false, true] {
        let before = (descriptors(), children());
        let event_loop = event_loop(by_threads);
        let ended = Rc::new(Cell::new(0));
        for _ in 0..100 {
            let protocol = Speak {
                ended: ended.clone(),
                heard: 0,
            };
            // Nothing of the word is read before the end.
            event_loop
                .handle()
                .subprocess_exec(&mut cat(), Cut(protocol))
                .unwrap();
        }
        assert_eq!(children(), before.1 + 100);
        let begun = Instant::now();
        drop(event_loop);
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!((descriptors(), children()), before);
        assert_eq!(ended.get(), 100);
    }
}

/// Notes the end alone.
struct Cut(Speak);

impl SubprocessProtocol for Cut {
    fn connection_lost(&mut self, process: &SubprocessTransport) {
        self.0.connection_lost(process);
    }
}

#[test]
fn a_start_that_fails_leaves_no_descriptor() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut event_loop = event_loop(false);
    settle(&mut event_loop);
    let before = counts();
    for _ in 0..10 {
        let mut command = Command::new("/nowhere/at/all");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let protocol = Speak {
            ended: Rc::default(),
            heard: 0,
        };
        event_loop
            .handle()
            .subprocess_exec(&mut command, protocol)
            .unwrap_err();
    }
    settle(&mut event_loop);
    assert_eq!(counts(), before);
}

#[test]
fn a_start_that_runs_out_of_descriptors_leaves_nothing_and_one_that_succeeds_is_watched() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut event_loop = event_loop(false);
    settle(&mut event_loop);
    let before = counts();
    let usual = getrlimit(Resource::Nofile);
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let (mut failed, mut succeeded) = (0, 0);
    for room in 0..16 {
        let ended = Rc::new(Cell::new(0));
        let protocol = Speak {
            ended: ended.clone(),
            heard: 0,
        };
        let limit = Rlimit {
            current: Some(next + room),
            maximum: usual.maximum,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let started = event_loop.handle().subprocess_exec(&mut cat(), protocol);
        match started {
            Ok(_) => {
                drive(&mut event_loop, "its end", || ended.get() == 1);
                succeeded += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("open files"), "{error}");
                failed += 1;
            }
        }
        settle(&mut event_loop);
        setrlimit(Resource::Nofile, usual).unwrap();
        assert_eq!(counts_back_at(before), before, "room for {room}");
    }
    assert!(
        failed > 0 && succeeded > 0,
        "{failed} failed, {succeeded} did not"
    );
}
