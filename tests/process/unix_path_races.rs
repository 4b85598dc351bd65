//! Starts its own process again, several times, and kills some of these by SIGKILL.
//!
//! Servers of several processes that want one Unix path at the same moment. `TIDEGATE_ROUNDS` says
//! how many rounds to run, `TIDEGATE_SEED` which.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::child::{Child, Commands, part, say};
use support::{BOUND, Log, Recorder, Rng, TempDir};
use tidegate::{Address, EventLoop, ListenOptions, Server};

const TEST: &str = "of_several_processes_exactly_one_gets_a_path_also_when_some_are_killed";
const PROCESSES: usize = 4;
const ROUNDS: usize = 500;

/// Until all processes have their command and wait for the moment.
const NOTICE: Duration = Duration::from_millis(1);

/// The maximum by which processes are apart in a round, in nanoseconds. A server starts in about
/// 100 µs, a lock is taken in about 10.
const APART: [usize; 3] = [3_000, 20_000, 150_000];

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

fn spin_until(moment: u64) {
    while now() < moment {
        std::hint::spin_loop();
    }
}

// A child: makes servers, and closes them.

/// Greets every client with the number of its process.
fn create(event_loop: &EventLoop, path: &str, name: u8, start: bool) -> std::io::Result<Server> {
    let options = ListenOptions::new(Address::Unix(path.into())).start_serving(start);
    event_loop.handle().create_server(options, move || {
        Recorder::new(&Log::new()).on_made(move |transport| {
            transport.write(&[name])?;
            transport.close();
            Ok(())
        })
    })
}

fn take_part(name: u8) {
    let mut event_loop = EventLoop::new().unwrap();
    let commands = Commands::of(&event_loop);
    let mut server: Option<Server> = None;
    loop {
        let command = commands.next(&mut event_loop);
        let words: Vec<_> = command.split(' ').collect();
        match words[..] {
            ["create", moment, start, path] => {
                assert!(server.is_none(), "one at a time");
                spin_until(moment.parse().unwrap());
                match create(&event_loop, path, name, start == "true") {
                    Ok(created) => {
                        server = Some(created);
                        say("won");
                    }
                    Err(error) => say(format_args!("{:?} {error}", error.kind())),
                }
            }
            ["start"] => {
                server.as_ref().unwrap().start_serving().unwrap();
                say("started");
            }
            ["close", moment] => {
                spin_until(moment.parse().unwrap());
                server.take().unwrap().close();
                say("closed");
            }
            _ => panic!("{command:?}"),
        }
    }
}

// The test: which process gets the path, and whether clients reach it.

/// The state of the path when a round begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// No server, but perhaps what the round before has left.
    Free,
    /// The file of a listener of another kind, which has ended.
    Stale,
    /// Another kind of program listens.
    Foreign,
    /// The server of the round before stays.
    Kept,
    /// The server of the round before is closed meanwhile.
    Closing,
    /// Its process is killed meanwhile.
    Dying,
}

/// Whether a server of the round got the path, and how many may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    None,
    One,
    OneAtMost,
}

struct Race {
    dir: TempDir,
    rng: Rng,
    children: Vec<Child>,
    /// The process that has the path, and whether it listens.
    holder: Option<(usize, bool)>,
    seen: Seen,
}

/// How often which thing has happened.
#[derive(Debug, Default)]
struct Seen {
    won: usize,
    lost: usize,
    killed: usize,
    no_winner: usize,
}

fn start(name: usize) -> Child {
    Child::start(TEST, &name.to_string())
}

impl Race {
    fn new() -> Self {
        Self {
            dir: TempDir::new(),
            rng: Rng::from_environment(),
            children: (0..PROCESSES).map(start).collect(),
            holder: None,
            seen: Seen::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path("s")
    }

    fn kill(&mut self, number: usize) {
        std::mem::replace(&mut self.children[number], start(number)).kill();
        self.seen.killed += 1;
    }

    fn close_holder(&mut self) {
        if let Some((holder, _)) = self.holder.take() {
            assert_eq!(self.children[holder].ask("close 0"), "closed");
        }
    }

    fn scene(&mut self) -> Scene {
        let with_holder = [Scene::Kept, Scene::Closing, Scene::Dying];
        let without = [Scene::Free, Scene::Stale, Scene::Foreign];
        if self.holder.is_none() {
            return without[self.rng.below(3)];
        }
        if self.rng.percent(60) {
            return with_holder[self.rng.below(3)];
        }
        // A file that nobody listens behind, and its lock, are left in half of the cases.
        if self.rng.percent(50) {
            let (holder, _) = self.holder.take().unwrap();
            self.kill(holder);
        } else {
            self.close_holder();
            assert_eq!(fs::read_dir(self.dir.path("")).unwrap().count(), 0);
        }
        without[self.rng.below(3)]
    }

    fn round(&mut self) {
        let scene = self.scene();
        if matches!(scene, Scene::Stale | Scene::Foreign) {
            let _ = fs::remove_file(self.path());
        }
        let foreign = match scene {
            Scene::Stale | Scene::Foreign => Some(UnixListener::bind(self.path()).unwrap()),
            _ => None,
        };
        let foreign = foreign.filter(|_| scene == Scene::Foreign);
        // One that is killed while it starts.
        let victim = self.rng.percent(15).then(|| self.rng.below(PROCESSES));
        let expected = match scene {
            Scene::Kept | Scene::Foreign => Expected::None,
            Scene::Closing | Scene::Dying => Expected::OneAtMost,
            _ if victim.is_some() => Expected::OneAtMost,
            _ => Expected::One,
        };
        let holder = self.holder;
        let replies = self.race(scene, victim);
        if let Some(foreign) = foreign {
            drop(foreign);
            fs::remove_file(self.path()).unwrap();
        }
        if scene == Scene::Kept {
            assert_eq!(replies.winner, None, "{holder:?} has it: {replies}");
            self.assert_reached();
            return;
        }
        self.holder = replies.winner;
        match expected {
            Expected::None => assert_eq!(replies.winner, None, "{scene:?}: {replies}"),
            Expected::One => assert_ne!(replies.winner, None, "{scene:?}: {replies}"),
            Expected::OneAtMost if replies.winner.is_some() => {}
            Expected::OneAtMost => {
                self.seen.no_winner += 1;
                let again = self.race(Scene::Free, None);
                assert_ne!(
                    again.winner, None,
                    "{scene:?}, then free: {replies}; {again}"
                );
                self.holder = again.winner;
            }
        }
        self.assert_reached();
    }

    /// Has every process without a server make one at the same moment.
    fn race(&mut self, scene: Scene, victim: Option<usize>) -> Replies {
        let moment = now() + u64::try_from(NOTICE.as_nanos()).unwrap();
        let path = self.path();
        let holder = self.holder.map(|(holder, _)| holder);
        let victim = victim.filter(|victim| Some(*victim) != holder);
        let apart = APART[self.rng.below(APART.len())];
        let mut asked = Vec::new();
        for number in (0..PROCESSES).filter(|number| Some(*number) != holder) {
            let moment = moment + self.rng.below(apart) as u64;
            let start = self.rng.percent(50);
            let path = path.display();
            self.children[number].tell(&format!("create {moment} {start} {path}"));
            asked.push((number, start));
        }
        let late = moment + self.rng.below(apart) as u64;
        if let (Some(holder), Scene::Closing) = (holder, scene) {
            self.children[holder].tell(&format!("close {late}"));
        }
        let dying = holder.filter(|_| scene == Scene::Dying);
        for killed in dying.into_iter().chain(victim) {
            spin_until(moment + self.rng.below(2 * apart) as u64);
            self.kill(killed);
        }
        let mut replies = Replies::default();
        for (number, start) in asked {
            if Some(number) != victim {
                replies.add(number, start, self.children[number].line());
            }
        }
        if let (Some(holder), Scene::Closing) = (holder, scene) {
            assert_eq!(self.children[holder].line(), "closed");
        }
        self.seen.won += usize::from(replies.winner.is_some());
        self.seen.lost += replies.lost.len();
        replies
    }

    /// The path leads to the process that says that it has it.
    fn assert_reached(&mut self) {
        let path = self.path();
        let Some((holder, listens)) = &mut self.holder else {
            return;
        };
        if !*listens {
            let early = UnixStream::connect(&path).map(drop).unwrap_err();
            assert_eq!(early.kind(), std::io::ErrorKind::ConnectionRefused);
            assert_eq!(self.children[*holder].ask("start"), "started");
            *listens = true;
        }
        assert_eq!(greeting(&path), *holder as u8);
    }
}

fn greeting(path: &Path) -> u8 {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(BOUND)).unwrap();
    let mut greeting = [0];
    client.read_exact(&mut greeting).unwrap();
    greeting[0]
}

#[derive(Debug, Default)]
struct Replies {
    /// Its number, and whether it listens.
    winner: Option<(usize, bool)>,
    lost: Vec<String>,
}

impl Replies {
    #[track_caller]
    fn add(&mut self, number: usize, listens: bool, reply: String) {
        if reply == "won" {
            assert_eq!(self.winner, None, "and {number} too: {self}");
            self.winner = Some((number, listens));
        } else {
            assert!(reply.starts_with("AddrInUse "), "{reply}");
            self.lost.push(reply);
        }
    }
}

impl fmt::Display for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "winner {:?}, others {:?}", self.winner, self.lost)
    }
}

#[test]
fn of_several_processes_exactly_one_gets_a_path_also_when_some_are_killed() {
    if let Some(name) = part() {
        return take_part(name.parse().unwrap());
    }
    let rounds = std::env::var("TIDEGATE_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut race = Race::new();
    for _ in 0..rounds {
        race.round();
    }
    race.close_holder();
    println!("{rounds} rounds: {:?}", race.seen);
}
