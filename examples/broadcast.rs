//! Threads that produce lines, and a room of connections that all get them, in bounded memory.
//!
//! The producers send to a mailbox of the loop. The closure that takes the lines stays on the loop, so it holds
//! the room, which is an `Rc`. The mailbox is bounded, so producers that are faster than the loop wait. A
//! member that reads too slowly misses lines, and is told how many: nobody waits for it.
//!
//! Run:
//!
//!     cargo run --example broadcast -- --listen 127.0.0.1:8888 --producers 4 --rate 10
//!
//! Expect `listening on 127.0.0.1:8888`; then, in other terminals,
//!
//!     nc 127.0.0.1 8888
//!
//! each prints some forty lines a second, such as `producer 2: 17`. Ctrl-C ends the server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use tidegate::{
    Bytes, Closed, EventLoop, ListenOptions, Mailbox, OnEof, Protocol, Result, Transport,
    TransportId, WriteLimits,
};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};

/// Lines that wait for the loop, at most.
const WAITING: usize = 1000;
/// A producer that waits longer for the loop gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The members, and the number of lines that each has missed since the last one it got.
#[derive(Default)]
struct Room(RefCell<BTreeMap<TransportId, (Transport, u64)>>);

impl Room {
    fn tell_all(&self, line: &Bytes) {
        for (transport, missed) in self.0.borrow_mut().values_mut() {
            if transport.flow().is_paused() {
                *missed += 1;
                continue;
            }
            if *missed > 0 {
                // Refused when the member is leaving: `connection_lost` takes it out.
                let _ = writeln!(transport, "({missed} lines missed)");
                *missed = 0;
            }
            let _ = transport.write_owned(line.clone());
        }
    }
}

struct Member(Rc<Room>);

impl Protocol for Member {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let member = (transport.clone(), 0);
        self.0.0.borrow_mut().insert(transport.id(), member);
        Ok(())
    }

    /// A member that only listens is one still.
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        Ok(OnEof::KeepOpen)
    }

    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        self.0.0.borrow_mut().remove(&transport.id());
    }
}

/// Sends lines at a rate, until the loop is gone or has taken none for too long.
fn produce(number: usize, pause: Duration, mailbox: &Mailbox<Bytes>) {
    for line in 1_u64.. {
        thread::sleep(pause);
        let text = format!("producer {number}: {line}\n");
        if let Err(error) = mailbox.send_within(text.into(), PATIENCE) {
            log::warn!("producer {number} ends: {error}");
            return;
        }
    }
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("producers", "NUMBER"), ("rate", "LINES-A-SECOND")])?;
    let producers = args.number("producers", 1..=256, 4)?;
    let rate = args.number("rate", 1..=1_000_000, 10_u32)?;
    let mut event_loop = EventLoop::new()?;
    let room = Rc::new(Room::default());
    let all = room.clone();
    let handle = event_loop.handle();
    let mailbox = handle.mailbox(WAITING, move |_, line: Bytes| all.tell_all(&line));
    // A member that reads nothing is gone at some time.
    let options = ListenOptions::new(args.listen("127.0.0.1:8888"))
        .write_limits(WriteLimits::new().with_high(64 * 1024))
        .write_timeout(Duration::from_secs(60));
    let server = handle.create_server(options, move || Member(room.clone()))?;
    for number in 1..=producers {
        let (mailbox, pause) = (mailbox.clone(), Duration::from_secs(1) / rate);
        thread::Builder::new()
            .name(format!("producer-{number}"))
            .spawn(move || produce(number, pause, &mailbox))?;
    }
    print_addresses(server.local_addrs())?;
    event_loop.run_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
