//! A supervisor: keeps copies of a program running, starts them again when they end, and passes on what they
//! write, line by line. SIGINT (Ctrl-C) or SIGTERM ends all of them within a time.
//!
//! Run, and run its tests, which are at the end of this file: ten minutes of programs that crash, in milliseconds.
//!
//!     cargo run --example supervisor -- --count 2 --grace 2 --run 'echo hello; sleep 1; exit 3'
//!     cargo test --example supervisor
//!
//! Expect `1 started as process N`, `1: hello`, `1 ended: exit status: 3, again in 100 ms`, and so on. The pause
//! doubles up to 10 s, and begins anew after a run of 10 s. At Ctrl-C each program gets SIGTERM with all of its own
//! children. The one that is left after the grace is killed, and named. The exit code is 3 then.
//!
//! When nobody reads its lines any more, it ends all programs too, with the exit code 1.
//!
//! Each program leads a process group of its own, so the terminal's Ctrl-C reaches the supervisor alone.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::{
    Completer, EventLoop, Handle, Pipe, Result, Signal, SubprocessProtocol, SubprocessTransport,
};
use tidegate_examples::{Args, exit_code};

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A program that has run this long is well.
const WELL: Duration = Duration::from_secs(10);
/// A longer line is passed on in pieces.
const LONGEST_LINE: usize = 64 * 1024;
/// The exit code of a supervisor that had to kill.
const KILLED: u8 = 3;

struct Supervisor {
    handle: Handle,
    run: String,
    /// Passes on a line.
    say: Box<dyn Fn(fmt::Arguments<'_>) -> io::Result<()>>,
    places: Vec<Place>,
    stopping: Cell<bool>,
    /// There while all programs are being ended.
    done: RefCell<Option<Completer<()>>>,
    killed: Cell<usize>,
    /// Nobody reads the lines any more.
    is_unread: Cell<bool>,
}

#[derive(Default)]
struct Place {
    process: RefCell<Option<SubprocessTransport>>,
    pause: Cell<Duration>,
}

/// One run of a program.
struct Program {
    supervisor: Rc<Supervisor>,
    place: usize,
    started: Instant,
    /// Lines that have begun, of stdout and stderr.
    begun: [Vec<u8>; 2],
}

impl Supervisor {
    fn new(
        handle: &Handle,
        run: &str,
        count: usize,
        say: impl Fn(fmt::Arguments<'_>) -> io::Result<()> + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            handle: handle.clone(),
            run: run.to_owned(),
            say: Box::new(say),
            places: (0..count).map(|_| Place::default()).collect(),
            stopping: Cell::new(false),
            done: RefCell::default(),
            killed: Cell::new(0),
            is_unread: Cell::new(false),
        })
    }

    /// Passes on a line. When nobody reads them, all programs are ended.
    fn say(&self, line: fmt::Arguments<'_>) {
        if (self.say)(line).is_err() && !self.is_unread.replace(true) && !self.stopping.get() {
            self.handle.stop();
        }
    }

    fn start_all(self: &Rc<Self>) {
        (0..self.places.len()).for_each(|place| self.start(place));
    }

    fn start(self: &Rc<Self>, place: usize) {
        if self.stopping.get() {
            return;
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.run).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let program = Program {
            supervisor: self.clone(),
            place,
            started: self.handle.now(),
            begun: Default::default(),
        };
        match self.handle.subprocess_exec(&mut command, program) {
            Ok(process) => {
                let (number, pid) = (place + 1, process.pid());
                self.say(format_args!("{number} started as process {pid}"));
                self.places[place].process.replace(Some(process));
            }
            Err(error) => self.start_later(place, &format!("cannot be started: {error}")),
        }
    }

    fn start_later(self: &Rc<Self>, place: usize, why: &str) {
        let pause = self.places[place].pause.get().max(FIRST_PAUSE);
        self.places[place].pause.set((pause * 2).min(LONGEST_PAUSE));
        let (number, ms) = (place + 1, pause.as_millis());
        self.say(format_args!("{number} {why}, again in {ms} ms"));
        let supervisor = self.clone();
        self.handle
            .call_later(pause, move |_| supervisor.start(place));
    }

    fn ended(self: &Rc<Self>, place: usize, status: ExitStatus, ran: Duration) {
        self.places[place].process.take();
        if self.stopping.get() {
            self.say(format_args!("{} ended: {status}", place + 1));
            self.look();
            return;
        }
        if ran >= WELL {
            self.places[place].pause.set(Duration::ZERO);
        }
        self.start_later(place, &format!("ended: {status}"));
    }

    fn signal_all(&self, signal: Signal) {
        for place in &self.places {
            if let Some(process) = &*place.process.borrow() {
                // It fails for a group that has just ended.
                let _ = process.child().send_signal_to_group(signal);
            }
        }
    }

    /// Ends all, and kills those that are left after `grace`: `done` completes when they have ended.
    fn stop(self: &Rc<Self>, grace: Duration, done: Completer<()>) {
        self.say(format_args!("ending all within {} s", grace.as_secs_f64()));
        self.stopping.set(true);
        self.done.replace(Some(done));
        self.signal_all(Signal::SIGTERM);
        let late = self.clone();
        self.handle.call_later(grace, move |_| late.kill());
        self.look();
    }

    fn kill(&self) {
        for (place, number) in self.places.iter().zip(1..) {
            if place.process.borrow().is_some() {
                self.say(format_args!("{number} had to be killed"));
                self.killed.set(self.killed.get() + 1);
            }
        }
        self.signal_all(Signal::SIGKILL);
    }

    fn look(&self) {
        let left = self
            .places
            .iter()
            .any(|place| place.process.borrow().is_some());
        if !left && let Some(done) = self.done.take() {
            done.complete(Ok(()));
        }
    }
}

impl Program {
    fn say(&self, line: &[u8]) {
        let (number, line) = (self.place + 1, String::from_utf8_lossy(line));
        self.supervisor.say(format_args!("{number}: {line}"));
    }

    /// Passes on the lines that have no end.
    fn say_begun(&mut self) {
        for line in std::mem::take(&mut self.begun) {
            if !line.is_empty() {
                self.say(&line);
            }
        }
    }
}

impl SubprocessProtocol for Program {
    fn pipe_data_received(&mut self, _: &SubprocessTransport, pipe: Pipe, data: &[u8]) -> Result {
        let stream = usize::from(pipe == Pipe::Stderr);
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.begun[stream].extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun[stream].len() >= LONGEST_LINE {
                let line = std::mem::take(&mut self.begun[stream]);
                self.say(line.strip_suffix(b"\n").unwrap_or(&line));
            }
        }
        Ok(())
    }

    fn process_exited(&mut self, process: &SubprocessTransport, status: ExitStatus) -> Result {
        self.say_begun();
        let ran = process
            .handle()
            .now()
            .saturating_duration_since(self.started);
        self.supervisor.ended(self.place, status, ran);
        Ok(())
    }

    /// A child of the program may have written after its end.
    fn connection_lost(&mut self, _: &SubprocessTransport) {
        self.say_begun();
    }
}

fn run() -> Result<ExitCode> {
    let args = Args::from_env(&[("run", "COMMAND"), ("count", "N"), ("grace", "SECONDS")])?;
    let count = args.number("count", 1..=1000, 2)?;
    let grace = Duration::from_secs_f64(args.number("grace", 0.0..=1e9, 5.0)?);
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let signal = handle.wait_signal(&SIGNALS);
    let say = |line: fmt::Arguments<'_>| {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    };
    let supervisor = Supervisor::new(&handle, args.required("run")?, count, say);
    supervisor.start_all();
    let stopped = event_loop.run_until(signal);
    if !supervisor.is_unread.get() {
        stopped?;
    }

    handle.wait_signal(&SIGNALS).then(|handle, second| {
        // It fails when no descriptor is left, which is no reason to cut the grace short.
        if second.is_ok() {
            handle.stop();
        }
    });
    let (done, all_ended) = handle.completion();
    supervisor.stop(grace, done);
    // An error: a second signal. The end of the loop kills what is left.
    if event_loop.run_until(all_ended).is_err() {
        supervisor.kill();
    }
    let killed = supervisor.killed.get() > 0;
    let unread = supervisor.is_unread.get();
    Ok(ExitCode::from(match killed {
        true => KILLED,
        false => u8::from(unread),
    }))
}

fn main() -> ExitCode {
    exit_code(run)
}

/// How a supervisor is tested: its programs are scripts of a simulated world, whose clock is virtual.
#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_testkit::{Fault, Faults, Host, InstalledProgram, Program as Script, World};

    const SECOND: Duration = Duration::from_secs(1);

    type Lines = Rc<RefCell<Vec<String>>>;

    struct Scene {
        world: World,
        supervisor: Rc<Supervisor>,
        sh: InstalledProgram,
        lines: Lines,
    }

    /// Supervises `count` programs that `script` makes of the number of the start.
    fn supervise(
        mut world: World,
        count: usize,
        mut script: impl FnMut(u64) -> Script + 'static,
    ) -> Scene {
        let host: Host = world.add_host("host").unwrap();
        let mut starts = 0;
        let shell = move |args: &[String]| {
            assert_eq!(args, ["-c", "a program"]);
            starts += 1;
            script(starts)
        };
        let sh = world.network().program(&host, "sh", shell).without_stdin();
        let lines = Lines::default();
        let said = lines.clone();
        let say = move |line: fmt::Arguments<'_>| {
            said.borrow_mut().push(line.to_string());
            Ok(())
        };
        let supervisor = Supervisor::new(host.handle(), "a program", count, say);
        supervisor.start_all();
        Scene {
            world,
            supervisor,
            sh,
            lines,
        }
    }

    impl Scene {
        fn said(&self, line: &str) -> usize {
            let lines = self.lines.borrow();
            lines.iter().filter(|said| *said == line).count()
        }

        /// Ends all, and returns the time that it took.
        fn stop(&mut self, grace: Duration) -> Duration {
            let begun = self.world.elapsed();
            let (done, all_ended) = self.supervisor.handle.completion();
            self.supervisor.stop(grace, done);
            self.world.run_until(all_ended).unwrap();
            self.world.elapsed() - begun
        }

        /// The pauses before the starts of the first program.
        fn pauses(&self) -> Vec<u64> {
            let lines = self.lines.borrow();
            let pauses = lines.iter().filter_map(|line| {
                let (_, rest) = line.strip_prefix("1 ")?.split_once(", again in ")?;
                rest.strip_suffix(" ms")?.parse().ok()
            });
            pauses.collect()
        }
    }

    #[test]
    fn ten_minutes_of_crashes_are_66_starts() {
        let mut scene = supervise(World::new(), 1, |_| Script::new().write("hello").exit(3));
        scene.world.advance(600 * SECOND).unwrap();
        // At 0, 0.1, 0.3, 0.7 s and so on up to 12.7 s, and then every 10 s.
        assert_eq!(scene.sh.starts(), 8 + 58);
        let pauses = scene.pauses();
        assert_eq!(
            pauses[..9],
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(scene.said("1: hello"), 66);
        assert_eq!(scene.said("1 ended: exit status: 3, again in 400 ms"), 1);
        scene.stop(SECOND);
    }

    #[test]
    fn the_pause_begins_anew_after_a_run_of_ten_seconds() {
        let mut scene = supervise(World::new(), 1, |starts| match starts {
            5 => Script::new().wait(WELL).raise(Signal::SIGKILL),
            _ => Script::new().exit(1),
        });
        scene.world.advance(13 * SECOND).unwrap();
        assert_eq!(scene.pauses()[..7], [100, 200, 400, 800, 100, 200, 400]);
    }

    #[test]
    fn a_program_that_cannot_be_started_is_tried_again() {
        let mut scene = supervise(World::new(), 1, |_| Script::new().wait(SECOND));
        scene.world.network().force(Fault::NoDescriptor, 3);
        scene.world.advance(3 * SECOND).unwrap();
        assert_eq!(scene.pauses(), [100, 200, 400, 800]);
        assert_eq!(scene.sh.starts(), 2);
    }

    #[test]
    fn programs_end_with_their_children_in_their_own_time_and_the_deaf_are_killed() {
        let mut scene = supervise(World::new(), 3, |starts| match starts {
            1 => Script::new()
                .on_signal(
                    Signal::SIGTERM,
                    Script::new().wait(2 * SECOND).write("bye\n"),
                )
                .hang(),
            2 => Script::new().fork(Script::new().hang()).hang(),
            _ => Script::new().ignore_signal(Signal::SIGTERM).hang(),
        });
        scene.world.advance(SECOND).unwrap();
        assert_eq!(scene.stop(5 * SECOND), 5 * SECOND);
        assert_eq!(scene.sh.running(), 0);
        assert_eq!(
            scene.said("1: bye") + scene.said("1 ended: exit status: 0"),
            2
        );
        assert_eq!(scene.said("2 ended: signal: 15 (SIGTERM)"), 1);
        assert_eq!(scene.said("3 had to be killed"), 1);
        assert_eq!(scene.supervisor.killed.get(), 1);
        // Nothing is started again.
        assert_eq!(scene.sh.starts(), 3);
    }

    #[test]
    fn it_keeps_its_promises_in_worlds_with_faults() {
        for seed in 0..50 {
            let faults = Faults::all().with(Fault::ClockJump, 0.0);
            let world = World::builder().seed(seed).faults(faults).build();
            let mut scene = supervise(world, 4, |starts| match starts % 3 {
                0 => Script::new().write("half a line").exit(1),
                1 => Script::new()
                    .ignore_signal(Signal::SIGTERM)
                    .write("one\ntwo\n")
                    .wait(20 * SECOND),
                _ => Script::new()
                    .fork(Script::new().wait(3 * SECOND).write("late\n"))
                    .raise(Signal::SIGKILL),
            });
            for _ in 0..600 {
                scene.world.advance(SECOND).unwrap();
                let places = scene.supervisor.places.iter();
                let held = places
                    .filter(|place| place.process.borrow().is_some())
                    .count();
                let known = scene.supervisor.handle.stats().children;
                assert_eq!(known, held, "seed {seed}: {:?}", scene.lines);
            }
            let starts = scene.sh.starts();
            assert!((50..2000).contains(&starts), "seed {seed}: {starts} starts");
            for two in scene.pauses().windows(2) {
                let doubled = two[1] == (2 * two[0]).min(10_000);
                assert!(doubled || two[1] == 100, "seed {seed}: {two:?}");
            }
            let took = scene.stop(5 * SECOND);
            assert!(took <= 8 * SECOND, "seed {seed}: {took:?}");
            let network = scene.world.network().clone();
            scene.world.run_until_idle().unwrap();
            assert_eq!(network.processes(), 0, "seed {seed}");
        }
    }
}
