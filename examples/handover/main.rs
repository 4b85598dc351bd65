//! An echo server that is replaced while it serves, for an upgrade of the program. No connection is refused or
//! reset, and none waits for the start of the new process.
//!
//! Run:
//!
//!     cargo run --example handover -- --listen 127.0.0.1:8888 --grace 5
//!
//! Expect `listening on 127.0.0.1:8888` and `process N serves`. SIGHUP (`kill -HUP N`) starts the program again.
//! Expect the same two lines of the new process, then `process N ends: M serves`, and when its connections have
//! ended `process N: 0 closed, 0 cut, 0 bytes unsent`. When the new process ends instead, the old one says
//! so and serves on. SIGTERM and SIGINT (Ctrl-C) end the server without a successor.
//!
//! Both processes have the same listening socket, and so one backlog: `pass.rs` says how. Until the new one
//! serves, the old one accepts. Then it accepts what waits in the backlog, closes its descriptor, and goes on
//! with its connections until their clients have ended them. Those that are left after the grace are closed, as
//! in the example `shutdown`, which has the exit codes.
//!
//! The new process is the old one's child, and the process number changes with it. A supervisor that watches one
//! number, such as systemd, had better hold the listening sockets itself. A program takes them with the crate
//! listenfd, and `create_server` takes them from there.

mod pass;

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::time::Duration;
use tidegate::{
    ChildHandle, Closed, EventLoop, Handle, Protocol, Result, Server, Signal, Transport,
};
use tidegate_examples::{Args, exit_code, print_addresses, say};

/// The exit code of a process that had to cut connections.
const CUT: u8 = 3;
/// A new process that does not serve after this time is killed.
const START: Duration = Duration::from_secs(30);
/// The time for the close of connections that were not ended within the grace.
const CLOSE: Duration = Duration::from_secs(1);

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// The listening socket, until a successor serves there.
struct Handover {
    listener: RefCell<Option<TcpListener>>,
    under_way: Cell<bool>,
}

impl Handover {
    /// Starts the successor. One at a time.
    fn begin(self: &Rc<Self>, handle: &Handle) -> io::Result<()> {
        let listener = self.listener.borrow();
        let Some(listener) = listener.as_ref().filter(|_| !self.under_way.get()) else {
            return Ok(());
        };
        let (child, channel) = pass::start_successor(listener)?;
        let child = handle.watch_child(child)?;
        let successor = Successor {
            child,
            handover: self.clone(),
        };
        let transport = handle.adopt(channel, successor)?;
        transport.call_later(START, |successor: &mut Successor, _| {
            Ok(successor.child.kill()?)
        });
        self.under_way.set(true);
        Ok(())
    }
}

/// The way to a successor, until it serves.
struct Successor {
    child: ChildHandle,
    handover: Rc<Handover>,
}

impl Protocol for Successor {
    /// It serves: this process has done its part.
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
        transport.close();
        // After a signal that ends the server there is no listener, and the end of our loop kills the successor.
        if self.handover.listener.take().is_some() {
            self.child.detach();
            say!(
                "process {} ends: {} serves",
                process::id(),
                self.child.pid()
            );
            transport.handle().stop();
        }
        Ok(())
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        if self.handover.listener.borrow().is_some() {
            self.handover.under_way.set(false);
            let failed = self.child.pid();
            say!(
                "process {failed} does not serve: {} serves on",
                process::id()
            );
        }
    }
}

/// Serves until a successor does, or a signal comes; then ends within the grace.
pub(crate) fn serve(listen: &str, grace: Duration) -> Result<ExitCode> {
    let (listener, predecessor) = match pass::from_predecessor()? {
        Some((listener, channel)) => (listener, Some(channel)),
        None => (TcpListener::bind(listen)?, None),
    };
    let mut event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let server = handle.create_server(listener.try_clone()?, || Echo)?;
    let handover = Rc::new(Handover {
        listener: RefCell::new(Some(listener)),
        under_way: Cell::new(false),
    });
    let begins = handover.clone();
    handle.add_signal_handler(Signal::SIGHUP, move |handle, _| {
        if let Err(error) = begins.begin(handle) {
            log::error!("no successor can be started: {error}");
        }
    })?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        handle.add_signal_handler(signal, |handle, _| handle.stop())?;
    }
    print_addresses(server.local_addrs())?;
    say!("process {} serves", process::id());
    if let Some(mut channel) = predecessor {
        channel.write_all(b"S")?;
    }
    event_loop.run_forever()?;
    handover.listener.take();
    end(&mut event_loop, &server, grace)
}

/// Accepts nothing more than the backlog, and ends when all connections have ended, or the grace is over, or at
/// another signal.
fn end(event_loop: &mut EventLoop, server: &Server, grace: Duration) -> Result<ExitCode> {
    server.finish_accepting().detach();
    let close = match event_loop.run_until_within(server.wait_closed(), grace) {
        Err(error) if error.kind() != io::ErrorKind::TimedOut => Duration::ZERO,
        _ => CLOSE,
    };
    let report = event_loop.run_until(server.shutdown(close));
    // An error: stopped again. The shortest grace holds.
    let report = report.or_else(|_| event_loop.run_until(server.shutdown(Duration::ZERO)))?;
    let (closed, aborted) = (report.closed, report.aborted);
    say!(
        "process {}: {closed} closed, {aborted} cut, {} bytes unsent",
        process::id(),
        report.unsent
    );
    Ok(ExitCode::from(if aborted > 0 { CUT } else { 0 }))
}

fn run() -> Result<ExitCode> {
    let args = Args::from_env(&[("listen", "IP:PORT"), ("grace", "SECONDS")])?;
    let grace = Duration::from_secs_f64(args.number("grace", 0.0..=1e9, 5.0)?);
    serve(&args.listen("127.0.0.1:8888"), grace)
}

fn main() -> ExitCode {
    exit_code(run)
}
