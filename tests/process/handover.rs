//! The example `handover`, on its own processes: this binary is started again as the server, by signals.

#[path = "../../examples/handover/main.rs"]
#[expect(dead_code, reason = "the main program")]
mod handover;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;
use support::BOUND;

/// Is set in the processes of the server.
const SERVER: &str = "TIDEGATE_TEST_SERVER";

const TEST: &str =
    "no_connection_is_refused_or_reset_while_processes_take_over_one_after_the_other";

/// The first process of the server, and the lines of all of them.
struct Server {
    first: Child,
    lines: Receiver<String>,
    ends: Vec<String>,
}

impl Server {
    fn start() -> Self {
        let mut first = Command::new(env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(SERVER, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(first.stdout.take().unwrap());
        let (told, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = output.lines().map_while(io::Result::ok);
            lines.for_each(|line| drop(told.send(line)));
        });
        let ends = Vec::new();
        Self { first, lines, ends }
    }

    /// The next line in which `find` finds something.
    #[track_caller]
    fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => {
                    if line.ends_with(" bytes unsent") {
                        self.ends.push(line.clone());
                    }
                    if let Some(found) = find(&line) {
                        return found;
                    }
                }
                Err(error) => panic!("no line of {what}: {error}; {:?}", self.first.try_wait()),
            }
        }
    }

    /// Returns the number of the process that serves from now on.
    #[track_caller]
    fn serving(&mut self) -> Pid {
        self.line("a process that serves", |line| {
            let number = line.strip_prefix("process ")?.strip_suffix(" serves")?;
            Pid::from_raw(number.parse().ok()?)
        })
    }

    /// Returns the last lines of the processes, when all have ended.
    #[track_caller]
    fn ended(mut self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) if line.ends_with(" bytes unsent") => self.ends.push(line),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("not all processes end: {error}, {:?}", self.ends),
            }
            assert!(begun.elapsed() < BOUND, "{:?}", self.ends);
        }
        assert!(self.first.wait().unwrap().success());
        self.ends
    }
}

/// Connections one after the other, each with a message and its echo, as often as there is time.
#[derive(Default)]
struct Clients {
    echoed: AtomicUsize,
    failed: Mutex<Vec<io::Error>>,
    done: AtomicBool,
}

impl Clients {
    fn run(&self, server: SocketAddr) {
        while !self.done.load(Ordering::SeqCst) {
            let number = self.echoed.load(Ordering::SeqCst);
            match connect(server, number).and_then(|mut peer| echo(&mut peer)) {
                Ok(()) => drop(self.echoed.fetch_add(1, Ordering::SeqCst)),
                Err(error) => self.failed.lock().unwrap().push(error),
            }
        }
    }

    /// Waits until some more have been served.
    #[track_caller]
    fn go_on(&self) {
        let (begun, before) = (Instant::now(), self.echoed.load(Ordering::SeqCst));
        while self.echoed.load(Ordering::SeqCst) < before + 20 {
            let failed = self.failed.lock().unwrap();
            assert!(failed.is_empty() && begun.elapsed() < BOUND, "{failed:?}");
            drop(failed);
            thread::yield_now();
        }
    }
}

/// Connects from one of many addresses: each has ports of its own, and a port rests after a connection.
fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let from = Ipv4Addr::new(127, 0, 1, 1 + (number % 200) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&server.into())?;
    socket.set_read_timeout(Some(BOUND))?;
    Ok(socket.into())
}

fn echo(peer: &mut TcpStream) -> io::Result<()> {
    peer.write_all(b"ping")?;
    let mut reply = [0; 4];
    peer.read_exact(&mut reply)?;
    assert_eq!(&reply, b"ping");
    Ok(())
}

#[test]
fn no_connection_is_refused_or_reset_while_processes_take_over_one_after_the_other() {
    if env::var_os(SERVER).is_some() {
        handover::serve("127.0.0.1:0", 2 * BOUND).unwrap();
        return;
    }
    let mut server = Server::start();
    // The test runner may have begun the line.
    let address = server.line("the address", |line| {
        line.split_once("listening on ")?.1.parse().ok()
    });
    let mut serving = server.serving();
    let clients = Arc::new(Clients::default());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let clients = clients.clone();
            thread::spawn(move || clients.run(address))
        })
        .collect();
    for _ in 0..3 {
        clients.go_on();
        let mut stays = connect(address, 0).unwrap();
        echo(&mut stays).unwrap();
        kill_process(serving, Signal::HUP).unwrap();
        let next = server.serving();
        assert_ne!(next, serving);
        clients.go_on();
        // Still with the process before.
        echo(&mut stays).unwrap();
        serving = next;
    }
    clients.done.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|it| it.join().unwrap());
    kill_process(serving, Signal::TERM).unwrap();
    let ends = server.ended();
    let failed = clients.failed.lock().unwrap();
    let echoed = clients.echoed.load(Ordering::SeqCst);
    assert!(failed.is_empty(), "{echoed} echoed, but {failed:?}");
    assert_eq!(ends.len(), 4, "{ends:?}");
    let clean = |end: &String| end.ends_with(": 0 closed, 0 cut, 0 bytes unsent");
    assert!(ends.iter().all(clean), "{ends:?}");
    println!("{echoed} connections echoed");
}
