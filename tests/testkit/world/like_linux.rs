//! A simulated connection behaves as one of Linux does: the same rows of calls on
//! both, with the same results.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::BOUND;
use tidegate_testkit::{Peer, World};

/// The calls of both kinds of ends.
trait End: Sized {
    fn write(&self, data: &[u8]) -> Result<usize>;
    fn read(&self, buffer: &mut [u8]) -> Result<usize>;
    fn shutdown(&self) -> Result<()>;
    fn reset(self);
}

impl End for Peer {
    fn write(&self, data: &[u8]) -> Result<usize> {
        self.send(data)
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        self.read(buffer)
    }

    fn shutdown(&self) -> Result<()> {
        self.send_eof()
    }

    fn reset(self) {
        self.reset();
    }
}

impl End for TcpStream {
    fn write(&self, data: &[u8]) -> Result<usize> {
        Write::write(&mut &*self, data)
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        Read::read(&mut &*self, buffer)
    }

    fn shutdown(&self) -> Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn reset(self) {
        SockRef::from(&self)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// Makes one call at the end `a` or `b`; returns its result in a word.
fn call<E: End>(ends: &mut [Option<E>; 2], step: &str) -> String {
    let (whose, call) = step.split_once('.').unwrap();
    let slot = &mut ends[usize::from(whose == "b")];
    let end = slot.as_ref().unwrap();
    let word = |kind: ErrorKind| format!("{kind:?}");
    match call {
        "write" => match end.write(b"xyz") {
            Ok(len) => len.to_string(),
            Err(error) => word(error.kind()),
        },
        "read" => {
            let mut buffer = [0; 100];
            match end.read(&mut buffer) {
                Ok(0) => "eof".to_owned(),
                Ok(len) => buffer[..len].escape_ascii().to_string(),
                Err(error) => word(error.kind()),
            }
        }
        "shutdown" => match end.shutdown() {
            Ok(()) => "done".to_owned(),
            Err(error) => word(error.kind()),
        },
        "close" => {
            *slot = None;
            "done".to_owned()
        }
        "reset" => {
            slot.take().unwrap().reset();
            "done".to_owned()
        }
        other => panic!("no call: {other}"),
    }
}

/// The sight of an end: bytes or an end, that the peer's stream has ended, that all is over.
type Sight = Option<(bool, bool, bool)>;

fn simulated(script: &[&str]) -> Vec<(String, [Sight; 2])> {
    let mut world = World::new();
    let listener = world.network().listen(0).unwrap();
    let a = world.network().dial(listener.addr()).unwrap();
    world.run_until_idle().unwrap();
    let mut ends = [Some(a), listener.accept()];
    let seen = |end: &Option<Peer>| {
        let end = end.as_ref()?;
        let ended = end.is_ended() || end.is_reset();
        Some((end.waiting() > 0 || ended, ended, end.is_reset()))
    };
    let rows = script.iter().map(|step| {
        let answer = call(&mut ends, step);
        world.run_until_idle().unwrap();
        (answer, [seen(&ends[0]), seen(&ends[1])])
    });
    rows.collect()
}

/// Whether the kernel sees this: what was sent takes a moment on the loopback interface too.
fn sees(end: &TcpStream, sight: (bool, bool, bool)) -> bool {
    let mut fds = [PollFd::new(end, PollFlags::IN | PollFlags::RDHUP)];
    poll(&mut fds, Some(&Timespec::default())).unwrap();
    let told = fds[0].revents();
    let (readable, ended, over) = sight;
    told.contains(PollFlags::IN) == readable
        && told.contains(PollFlags::RDHUP) == ended
        && (told.contains(PollFlags::HUP) || !over)
}

fn real(script: &[&str], simulated: &[(String, [Sight; 2])]) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    for end in [&a, &b] {
        end.set_nonblocking(true).unwrap();
    }
    let mut ends = [Some(a), Some(b)];
    let rows = script.iter().zip(simulated).map(|(step, (_, sights))| {
        let answer = call(&mut ends, step);
        let start = Instant::now();
        for (end, sight) in ends.iter().zip(sights) {
            let (Some(end), Some(sight)) = (end, sight) else {
                continue;
            };
            while !sees(end, *sight) {
                assert!(
                    start.elapsed() < BOUND,
                    "after {step} of {script:?} Linux never saw {sight:?}"
                );
                std::thread::yield_now();
            }
        }
        answer
    });
    rows.collect()
}

#[test]
fn a_simulated_connection_answers_every_call_as_one_of_linux() {
    let scripts = [
        "b.reset a.write a.write a.read a.read",
        "b.reset a.read a.read a.write",
        "b.write b.reset a.read a.read a.read a.write",
        "b.write b.reset a.write a.read a.read a.write",
        "b.close a.read a.write a.write a.write a.read",
        "b.close a.write a.write a.read a.read",
        "b.close a.write a.read a.read a.write",
        "b.write b.close a.read a.read a.write a.write",
        "a.write b.close a.read a.read a.write",
        "a.write b.write b.close a.read a.read a.read",
        "a.write b.read b.close a.read a.shutdown a.write",
        "b.shutdown b.reset a.read a.write a.write",
        "b.shutdown b.reset a.write a.write a.read",
        "b.shutdown b.write a.read a.write b.read a.shutdown b.read b.read",
        "b.write b.shutdown b.reset a.read a.read a.write",
        "a.shutdown b.reset a.read a.read a.write a.shutdown",
        "a.shutdown b.write a.read b.shutdown a.read a.read",
        "a.shutdown b.read b.close a.read a.write",
        "a.shutdown a.shutdown a.write a.read",
        "a.shutdown b.shutdown a.shutdown a.read a.write b.write b.reset a.read",
        "b.reset a.shutdown a.write a.shutdown a.read",
        "a.write a.write b.read b.read a.close b.read b.write b.write",
        "a.write a.close b.read b.read b.close",
        "a.shutdown a.close b.read b.write b.write b.read",
    ];
    for script in scripts {
        let steps: Vec<_> = script.split(' ').collect();
        let simulated = simulated(&steps);
        let real = real(&steps, &simulated);
        let answers: Vec<_> = simulated.into_iter().map(|(answer, _)| answer).collect();
        assert_eq!(answers, real, "simulated and real answers to {script}");
    }
}
