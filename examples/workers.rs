//! A chat on all cores: a loop on each thread, a room in each loop, and a mailbox from each loop to the others.
//!
//! A connection stays on its loop, and so does the room of that loop: an `Rc` without locks. A line goes to the
//! members of the own room at once, and to the mailboxes of the other loops. A mailbox that is full loses
//! the line for that loop, which is logged; a member that reads too slowly is cut.
//!
//! Run:
//!
//!     cargo run --example workers -- --listen 127.0.0.1:8888 --threads 4
//!
//! Expect `listening on 127.0.0.1:8888`; then, in several terminals,
//!
//!     nc 127.0.0.1 8888
//!
//! Each is greeted by the name of its thread, and sees the lines of the others. Ctrl-C ends the server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tidegate::{
    Bytes, Closed, EventLoop, Handle, Mailbox, OnEof, Result, Transport, TransportId, WriteLimits,
};
use tidegate_examples::{Args, LISTEN, exit_code, print_addresses};
use tidegate_framing::{FrameProtocol, Framed, Lines};
use tidegate_service::{Spread, Workers};

/// Lines that wait for a loop, at most.
const WAITING: usize = 1000;
/// A member for which more waits is cut.
const BEHIND: usize = 256 * 1024;

/// The members on one loop.
#[derive(Default)]
struct Room(RefCell<BTreeMap<TransportId, Transport>>);

impl Room {
    fn tell(&self, line: &Bytes, except: Option<TransportId>) {
        for (id, member) in &*self.0.borrow() {
            if Some(*id) != except && member.write_owned(line.clone()).is_err() {
                member.abort();
            }
        }
    }
}

/// The ways to the rooms of all loops, in the order in which the loops have begun.
type Rooms = Arc<Mutex<Vec<Mailbox<Bytes>>>>;

struct Member {
    lines: Lines,
    room: Rc<Room>,
    /// The place of the own loop among the rooms.
    own: usize,
    rooms: Rooms,
}

impl FrameProtocol for Member {
    type Codec = Lines;

    fn codec(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn connection_made(&mut self, transport: &Transport) -> Result {
        let name = thread::current().name().unwrap_or("a thread").to_owned();
        writeln!(transport, "you are on {name}")?;
        let members = &mut *self.room.0.borrow_mut();
        members.insert(transport.id(), transport.clone());
        Ok(())
    }

    fn frame_received(&mut self, transport: &Transport, line: &[u8]) -> Result {
        let line = Bytes::from([line, b"\n"].concat());
        self.room.tell(&line, Some(transport.id()));
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, room) in rooms.iter().enumerate() {
            if place != self.own
                && let Err(error) = room.send(line.clone())
            {
                log::warn!("a line is lost for loop {place}: {error}");
            }
        }
        Ok(())
    }

    /// A member that only listens is one still.
    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        Ok(OnEof::KeepOpen)
    }

    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        self.room.0.borrow_mut().remove(&transport.id());
    }
}

/// Makes the room of a loop. The returned closure makes the members there.
fn open_room(handle: &Handle, rooms: &Rooms) -> impl FnMut() -> Framed<Member> + use<> {
    let room = Rc::new(Room::default());
    let from_elsewhere = room.clone();
    let mailbox = handle.mailbox(WAITING, move |_, line| from_elsewhere.tell(&line, None));
    let own = {
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.push(mailbox);
        rooms.len() - 1
    };
    let rooms = rooms.clone();
    move || {
        Framed::new(Member {
            lines: Lines::new(),
            room: room.clone(),
            own,
            rooms: rooms.clone(),
        })
    }
}

fn run() -> Result {
    let args = Args::from_env(&[LISTEN, ("threads", "NUMBER")])?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.number("threads", 1..=1024, cores)?;
    let workers = Workers::start(threads, "worker", EventLoop::builder)?;
    let rooms = Rooms::default();
    let server = workers.create_server(
        args.listen("127.0.0.1:8888"),
        |options| {
            options
                .max_connections(10_000)
                .write_timeout(Duration::from_secs(30))
                .write_limits(WriteLimits::new().with_cap(BEHIND))
        },
        Spread::LeastConnections,
        move |handle| open_room(handle, &rooms),
    )?;
    print_addresses(server.local_addrs())?;
    workers.wait()?;
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
