//! The load generator: a client on one thread, on mio, that says what a server does for it.
//!
//! `plan` is what was asked for. A mode (`echo`, `bulk`, `churn`, `slow_reader`) keeps
//! the connections busy and tells the `tally` what came of it; `pattern` is what is sent, and
//! what must come back; a `stream` is the socket, or TLS on it. Over UDP the modes are `datagram_echo` and
//! `datagram_windows`, each on the socket of `datagram`, which has the
//! kernel cut datagrams out of one call with the control message of `segmentation`. Nothing is allocated between
//! [`Load::warm_up`] and the end of [`Load::measure`], so that what is measured is the server. Over
//! TLS this is true of the generator itself, and not of rustls: that allocates for each record.
//!
//! It is a closed loop: each connection keeps `depth` messages on their way and sends the next one
//! when an echo is complete. A latency is the time from the write of a message until the read that
//! completes its echo; where many connections are busy, most of it is the others' turn.

mod bulk;
mod churn;
mod connection;
mod datagram;
mod datagram_echo;
mod datagram_windows;
mod echo;
mod pattern;
mod plan;
mod report;
mod segmentation;
mod slow_reader;
mod stream;
mod tally;

pub use plan::{Mode, Plan, Until};
pub use report::Report;

use crate::carrier::Carrier;
use crate::usage;
use mio::event::Event;
use mio::{Events, Poll, Registry};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};
use tally::Tally;

/// Keeps the connections busy.
trait Drive {
    /// Starts every connection.
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()>;

    /// Handles an event of one of them.
    fn event(&mut self, event: &Event, registry: &Registry, tally: &mut Tally);

    /// When `tick` is to be called next, for modes that do something without being asked.
    fn next_tick(&self) -> Option<Instant> {
        None
    }

    /// The time of [`next_tick`](Drive::next_tick) has come.
    fn tick(&mut self, tally: &mut Tally) {
        let _ = tally;
    }
}

/// Makes one measurement of a server. Returns the figures, and the processor time of its process.
///
/// The load generator runs in this process, so the server's time is taken exactly at the begin and the end.
///
/// # Errors
///
/// Those of connecting, of mio, and of reading the server's time. One in which a connection failed is an error.
pub fn measure(plan: Plan, server: u32) -> io::Result<(Report, Duration)> {
    let mut load = Load::connect(plan)?;
    load.warm_up()?;
    let before = usage::cpu_time(server)?;
    load.measure()?;
    let used = usage::cpu_time(server)?.saturating_sub(before);
    let report = load.report();
    if report.errors > 0 {
        let error = format!("{} connections failed: {report}", report.errors);
        return Err(io::Error::other(error));
    }
    Ok((report, used))
}

/// Connections to a server, during a measurement.
pub struct Load {
    plan: Plan,
    poll: Poll,
    events: Events,
    drive: Box<dyn Drive>,
    tally: Tally,
    start: Instant,
    elapsed: Duration,
}

impl Load {
    /// Connects all of the plan's connections.
    ///
    /// # Errors
    ///
    /// Those of connecting.
    pub fn connect(plan: Plan) -> io::Result<Self> {
        let drive: Box<dyn Drive> = match plan.mode {
            mode if mode.is_stream() && plan.carrier == Carrier::Udp => {
                Box::new(datagram_windows::DatagramWindows::connect(&plan)?)
            }
            _ if plan.carrier == Carrier::Udp => {
                Box::new(datagram_echo::DatagramEchoes::connect(&plan)?)
            }
            Mode::PingPong | Mode::Pipeline | Mode::Lines | Mode::Idle => {
                Box::new(echo::Echoes::connect(&plan)?)
            }
            Mode::Sink | Mode::SegmentedSink | Mode::Source => {
                Box::new(bulk::Bulk::connect(&plan)?)
            }
            Mode::Churn => Box::new(churn::Churn::new(&plan)),
            Mode::SlowReader => Box::new(slow_reader::SlowReaders::connect(&plan)?),
        };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            tally: Tally::new(plan.connections, plan.budget()),
            drive,
            plan,
            start: Instant::now(),
            elapsed: Duration::ZERO,
        })
    }

    /// Begins, and goes on until the messages of the warm-up are complete.
    ///
    /// # Errors
    ///
    /// Those of mio. The failure of a connection is counted instead.
    pub fn warm_up(&mut self) -> io::Result<()> {
        self.start = self.tally.tell_time();
        self.drive.start(self.poll.registry(), &mut self.tally)?;
        self.run(self.plan.warm_up(), None)?;
        if self.plan.warm_up() > 0 {
            self.tally.restart(self.plan.warm_up());
            self.start = self.tally.tell_time();
        }
        Ok(())
    }

    /// Goes on until the end of the plan, and counts.
    ///
    /// # Errors
    ///
    /// Those of mio.
    pub fn measure(&mut self) -> io::Result<()> {
        match self.plan.until {
            Until::Seconds(seconds) => self.run(u64::MAX, Some(self.start + seconds))?,
            Until::Messages(messages) => {
                self.tally.goal = messages;
                self.run(messages, None)?;
            }
        }
        self.elapsed = self.tally.tell_time() - self.start;
        Ok(())
    }

    /// Returns the figures.
    pub fn report(&self) -> Report {
        Report::new(&self.plan, &self.tally, self.elapsed)
    }

    /// Serves events until this number of messages is done, the deadline has passed, or nothing
    /// more can be expected.
    fn run(&mut self, messages: u64, deadline: Option<Instant>) -> io::Result<()> {
        let mut heard = self.tally.now;
        while self.tally.done < messages && self.tally.alive > 0 {
            let silent_until = heard + self.plan.silence;
            let end = deadline.unwrap_or(silent_until);
            let next = self.drive.next_tick().map_or(end, |tick| tick.min(end));
            let timeout = next
                .min(silent_until)
                .saturating_duration_since(self.tally.now);
            match self.poll.poll(&mut self.events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            let now = self.tally.tell_time();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
            if !self.events.is_empty() || self.plan.mode == Mode::Idle {
                heard = now;
            }
            if self.drive.next_tick().is_some_and(|tick| now >= tick) {
                self.drive.tick(&mut self.tally);
            }
            // All of them: mio reports each event once.
            for event in &self.events {
                self.drive
                    .event(event, self.poll.registry(), &mut self.tally);
            }
            if now - heard >= self.plan.silence {
                self.tally.errors += 1;
                return Ok(());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("plan", &self.plan)
            .field("alive", &self.tally.alive)
            .finish_non_exhaustive()
    }
}

/// The whole of a plan.
///
/// # Errors
///
/// Those of connecting, and of mio.
pub fn run(plan: Plan) -> io::Result<Report> {
    let mut load = Load::connect(plan)?;
    load.warm_up()?;
    load.measure()?;
    Ok(load.report())
}
