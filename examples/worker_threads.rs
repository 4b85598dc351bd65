//! A server that counts primes on threads of its own, so that the loop's thread is free for other
//! connections meanwhile.
//!
//! A request is a line with a number, its reply a line with the number of primes below it, in the order
//! of the requests. A job carries the `TransportId` of its connection, which unlike the transport may go
//! to another thread. The result finds the connection by it, if it still exists. A connection with 32
//! requests under way is not read until the first of them has its reply.
//!
//! Run:
//!
//!     cargo run --example worker_threads -- --listen 127.0.0.1:8888 --threads 4
//!
//! Expect `listening on 127.0.0.1:8888`; then, in another terminal,
//!
//!     printf '10\n1000000\n100\n' | nc -N 127.0.0.1 8888
//!
//! prints 4, 78498 and 25, a line each, and ends. Ctrl-C ends the server.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tidegate::{EventLoop, OnEof, Protocol, RemoteHandle, Result, Transport, TransportId};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};

/// Maximum number of requests of one connection that are under way.
const UNDER_WAY: usize = 32;
/// A request is no longer than this, and asks for no more than this.
const LONGEST_LINE: usize = 64;
const LARGEST: usize = 10_000_000;

/// A job for a worker.
struct Job {
    transport: TransportId,
    /// Of the request, counted in its connection.
    number: u64,
    below: usize,
}

struct Primes {
    jobs: Sender<Job>,
    /// Part of a line, or more lines than may be under way.
    input: VecDeque<u8>,
    /// One for each request under way, in their order; `None` until its worker is done.
    answers: VecDeque<Option<String>>,
    /// The number of replies that were sent, and of the first request under way.
    sent: u64,
    ended: bool,
}

impl Primes {
    fn new(jobs: Sender<Job>) -> Self {
        Self {
            jobs,
            input: VecDeque::new(),
            answers: VecDeque::new(),
            sent: 0,
            ended: false,
        }
    }

    /// From a worker, by way of the loop.
    fn answered(&mut self, transport: &Transport, number: u64, primes: usize) -> Result {
        let place = (number - self.sent) as usize;
        self.answers[place] = Some(primes.to_string());
        self.advance(transport)
    }

    /// Sends the replies that are next, and begins further requests.
    fn advance(&mut self, transport: &Transport) -> Result {
        loop {
            while let Some(Some(answer)) = self.answers.front() {
                writeln!(transport, "{answer}")?;
                self.answers.pop_front();
                self.sent += 1;
            }
            if self.answers.len() == UNDER_WAY {
                transport.pause_reading();
                return Ok(());
            }
            let Some(end) = self.input.iter().position(|&byte| byte == b'\n') else {
                break;
            };
            let line: Vec<u8> = self.input.drain(..=end).collect();
            self.begin(transport, &line)?;
        }
        if self.input.len() > LONGEST_LINE {
            return Err("a request that is too long".into());
        }
        transport.resume_reading();
        if self.ended && self.answers.is_empty() {
            transport.close();
        }
        Ok(())
    }

    fn begin(&mut self, transport: &Transport, line: &[u8]) -> Result {
        let text = std::str::from_utf8(line).unwrap_or_default();
        let below = text.trim().parse().ok().filter(|&below| below <= LARGEST);
        let Some(below) = below else {
            let refusal = format!("not a number up to {LARGEST}");
            self.answers.push_back(Some(refusal));
            return Ok(());
        };
        self.jobs.send(Job {
            transport: transport.id(),
            number: self.sent + self.answers.len() as u64,
            below,
        })?;
        self.answers.push_back(None);
        Ok(())
    }
}

impl Protocol for Primes {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        // For a peer that asks and does not read the replies.
        transport.set_write_timeout(Some(Duration::from_secs(30)));
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.input.extend(data);
        self.advance(transport)
    }

    /// The last reply closes, not the end of the requests.
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.ended = true;
        if !self.input.is_empty() {
            self.input.push_back(b'\n');
        }
        self.advance(transport)?;
        Ok(OnEof::KeepOpen)
    }
}

/// Works until there are no jobs, and no sender that could bring one.
fn work(jobs: &Mutex<Receiver<Job>>, remote: &RemoteHandle) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let primes = primes_below(job.below);
        let left = remote.call_soon_threadsafe(move |handle| {
            // The connection may have ended meanwhile.
            if let Some(transport) = handle.transport(job.transport) {
                transport.call_soon(move |this: &mut Primes, transport| {
                    this.answered(transport, job.number, primes)
                });
            }
        });
        if left.is_err() {
            // The loop is gone.
            return;
        }
    }
}

/// The sieve of Eratosthenes.
fn primes_below(limit: usize) -> usize {
    let mut composite = vec![false; limit];
    let mut count = 0;
    for n in 2..limit {
        if !composite[n] {
            count += 1;
            for multiple in (n * n..limit).step_by(n) {
                composite[multiple] = true;
            }
        }
    }
    count
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("threads", "NUMBER")])?;
    let threads = args.number("threads", 1..=256, 4)?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    let (sender, receiver) = mpsc::channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..threads {
        let (receiver, remote) = (receiver.clone(), event_loop.handle().remote());
        thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || work(&receiver, &remote))?;
    }
    let server = event_loop
        .handle()
        .create_server(args.listen("127.0.0.1:8888"), move || {
            Primes::new(sender.clone())
        })?;
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
