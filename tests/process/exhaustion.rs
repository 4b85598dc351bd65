//! Starts its own process again, and lowers the limit on descriptors there.
//!
//! A server in a process of its own that runs out of descriptors while clients go on coming.
//!
//! `descriptors` has the same within one process, by turns; `accept` the errors one by one. Here
//! it is a process that sleeps and wakes by itself, and the time that it uses.

use log::LevelFilter;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::Socket;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::child::{self, Child, Commands};
use support::logs::{keep_log, logged};
use support::{Kind, TempDir, descriptors, dial, drive};
use tidegate::{EventLoop, Protocol, Result, Transport};

/// The child's limit.
const DESCRIPTORS: u64 = 64;

/// More clients than that.
const CLIENTS: usize = 80;

const TEST: &str = "a_server_without_descriptors_serves_on_rests_and_serves_the_backlog_later";

/// The processor time that this process has used.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// Serves until the test ends; needs no further descriptor to obey.
fn serve(place: &str) {
    keep_log(LevelFilter::Info);
    let lines = RefCell::new(Vec::new());
    let update = || {
        let new = logged().into_iter();
        let new = new.map(|line| format!("{} {}: {}", line.level, line.target, line.text));
        lines.borrow_mut().extend(new);
    };
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let server = handle.create_server(place, || Echo).unwrap();
    let commands = Commands::of(&event_loop);
    child::say(&server.local_addrs()[0]);
    loop {
        let command = commands.next(&mut event_loop);
        let count = || server.connection_count();
        match command.as_str() {
            "descriptors" => child::say(descriptors()),
            "limit" => {
                let limit = Some(DESCRIPTORS);
                let limit = Rlimit {
                    current: limit,
                    maximum: limit,
                };
                setrlimit(Resource::Nofile, limit).unwrap();
                child::say("limited");
            }
            "starve" => {
                drive(&mut event_loop, "a refusal", || {
                    update();
                    !lines.borrow().is_empty()
                });
                child::say(count());
            }
            "count" => child::say(count()),
            "used" => child::say(used().as_micros()),
            // The child sleeps and wakes as it likes until then.
            "wait" => {
                let over = Rc::new(Cell::new(false));
                let end = over.clone();
                handle.call_later(WINDOW, move |handle| {
                    end.set(true);
                    handle.stop();
                });
                let before = handle.stats().polls;
                while !over.get() {
                    event_loop.run_forever().unwrap();
                }
                child::say(handle.stats().polls - before);
            }
            "lines" => {
                update();
                child::say(lines.borrow().join(" | "));
            }
            "empty" => {
                drive(&mut event_loop, "the end of all connections", || {
                    let now = handle.stats();
                    now.connections + now.lingering == 0
                });
                let now = handle.stats();
                child::say(now.timers + now.completions + now.connecting);
            }
            command => panic!("{command}?"),
        }
    }
}

const WINDOW: Duration = Duration::from_millis(250);

/// The time in which waiting clients are served after descriptors were free.
const SOON: Duration = Duration::from_millis(1500);

fn send(client: &Socket, n: usize) {
    (&*client).write_all(&[n as u8; 10]).unwrap();
}

fn receive(client: &Socket, n: usize) {
    let mut answer = [0; 10];
    (&*client).read_exact(&mut answer).unwrap();
    assert_eq!(answer, [n as u8; 10]);
}

/// The name is in [`TEST`] too.
#[test]
fn a_server_without_descriptors_serves_on_rests_and_serves_the_backlog_later() {
    if let Some(place) = child::part() {
        return serve(&place);
    }
    for kind in Kind::ALL {
        let dir = TempDir::new();
        let mut child = Child::start(TEST, &kind.somewhere(&dir));
        let place = child.line();
        let address = kind.address(&place);
        let before = child.ask("descriptors");
        child.ask("limit");

        // All of them are connected, as far as they can tell.
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| dial(&address)).collect();
        for (n, client) in clients.iter().enumerate() {
            send(client, n);
        }
        let [established]: [usize; 1] = child.numbers("starve");
        assert!(
            (20..DESCRIPTORS as usize).contains(&established),
            "{established}"
        );
        for (n, client) in clients[..established].iter().enumerate() {
            receive(client, n);
        }

        let begun = Instant::now();
        let [used]: [u64; 1] = child.numbers("used");
        let mut polls = 0;
        for _ in 0..4 {
            send(&clients[0], 1);
            receive(&clients[0], 1);
            let [more]: [u64; 1] = child.numbers("wait");
            polls += more;
        }
        for (n, client) in clients[..established].iter().enumerate() {
            send(client, n);
            receive(client, n);
        }
        let [used_then]: [u64; 1] = child.numbers("used");
        let (used, wall) = (Duration::from_micros(used_then - used), begun.elapsed());
        println!(
            "{kind:?}: {established} of {CLIENTS} served; starved for {wall:?} in {polls} ticks, \
             {used:?} of processor time"
        );
        assert!(wall >= 4 * WINDOW);
        assert!(used < wall / 10, "{used:?} in {wall:?}");
        assert_eq!(child.ask("count"), established.to_string());

        // A few are freed, then the rest; nobody connects any more.
        let mut next = established;
        for freed in [5, established - 5] {
            drop(clients.drain(..freed));
            next -= freed;
            let free = Instant::now();
            let waited = freed.min(clients.len() - next);
            for client in &clients[next..next + waited] {
                receive(client, CLIENTS - clients.len() + next);
                next += 1;
            }
            println!(
                "{kind:?}: {waited} who waited were served after {:?}",
                free.elapsed()
            );
            assert!(free.elapsed() < SOON);
        }
        assert_eq!(next, clients.len(), "none is lost");
        drop(clients);
        assert_eq!(child.ask("empty"), "0");
        assert_eq!(child.ask("descriptors"), before);
        let lines = child.ask("lines");
        println!("{kind:?}: {lines}");
        let lines: Vec<_> = lines.split(" | ").collect();
        assert!(lines.len() <= 4, "{lines:#?}");
        assert!(lines[0].starts_with("WARN tidegate::server"), "{lines:#?}");
    }
}
