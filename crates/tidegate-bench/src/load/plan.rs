//! What a load is to be: the command line of `load`.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What the connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// One message on its way per connection.
    PingPong,
    /// `depth` messages on their way per connection.
    Pipeline,
    /// As `Pipeline`, each message a line.
    Lines,
    /// The client sends and nothing comes back.
    Sink,
    /// The client only receives.
    Source,
    /// Connections that live for one message.
    Churn,
    /// One message on each connection, then nothing.
    Idle,
    /// Echoes are read much more slowly than messages are sent.
    SlowReader,
}

const NAMES: [(Mode, &str); 8] = [
    (Mode::PingPong, "pingpong"),
    (Mode::Pipeline, "pipeline"),
    (Mode::Lines, "lines"),
    (Mode::Sink, "sink"),
    (Mode::Source, "source"),
    (Mode::Churn, "churn"),
    (Mode::Idle, "idle"),
    (Mode::SlowReader, "slow-reader"),
];

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found
            .map(|(mode, _)| *mode)
            .ok_or_else(|| format!("no such mode: {text}"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = NAMES.iter().find(|(mode, _)| mode == self);
        f.write_str(found.map_or("", |(_, name)| name))
    }
}

/// When a measurement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third end")]
pub enum Until {
    /// After so long.
    Seconds(Duration),
    /// After so many messages on all connections together.
    Messages(u64),
}

/// What a load is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// What the connections do.
    pub mode: Mode,
    /// The server.
    pub address: SocketAddr,
    /// How many connections.
    pub connections: usize,
    /// Bytes of a message; of a line with its end.
    pub size: usize,
    /// Messages on their way on each connection.
    pub depth: usize,
    /// When it ends.
    pub until: Until,
    /// Messages before the measurement, on all connections together.
    pub warmup: u64,
    /// How long a server may be silent while it owes something.
    pub silence: Duration,
}

impl Plan {
    /// One connection, 64 bytes, depth 1, one second, no warm-up.
    pub fn new(mode: Mode, address: SocketAddr) -> Self {
        Self {
            mode,
            address,
            connections: 1,
            size: 64,
            depth: 1,
            until: Until::Seconds(Duration::from_secs(1)),
            warmup: 0,
            silence: Duration::from_secs(10),
        }
    }

    /// Reads the command line, its first word the program's name.
    ///
    /// # Errors
    ///
    /// What does not belong there, is missing, or makes no sense.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut parser = lexopt::Parser::from_iter(arguments);
        let mut mode: Option<Mode> = None;
        let mut address = None;
        let mut until = None;
        let mut plan = Self::new(Mode::PingPong, SocketAddr::from(([127, 0, 0, 1], 0)));
        while let Some(argument) = parser.next()? {
            match argument {
                Long("connect") => address = Some(parser.value()?.parse()?),
                Long("connections") => plan.connections = parser.value()?.parse()?,
                Long("size") => plan.size = parser.value()?.parse()?,
                Long("depth") => plan.depth = parser.value()?.parse()?,
                Long("warmup") => plan.warmup = parser.value()?.parse()?,
                Long("messages") => until = Some(Until::Messages(parser.value()?.parse()?)),
                Long("seconds") => {
                    let seconds: f64 = parser.value()?.parse()?;
                    let seconds =
                        Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())?;
                    until = Some(Until::Seconds(seconds));
                }
                Value(name) if mode.is_none() => mode = Some(name.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        plan.mode = mode.ok_or("a mode is missing, for instance pingpong")?;
        plan.address = address.ok_or("--connect is missing")?;
        plan.until = until.ok_or("--seconds or --messages is missing")?;
        plan.check().map_err(lexopt::Error::from)?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), String> {
        let none = self.connections == 0 || self.depth == 0;
        if none || (self.size == 0 && self.mode != Mode::Idle) {
            return Err("--connections, --size and --depth must be more than 0".into());
        }
        let deep = matches!(self.mode, Mode::Pipeline | Mode::Lines);
        if self.depth > 1 && !deep {
            return Err(format!("{} has a depth of 1", self.mode));
        }
        if self.mode == Mode::Idle && matches!(self.until, Until::Messages(_)) {
            return Err("idle connections end after --seconds".into());
        }
        Ok(())
    }

    /// Messages before the measurement.
    pub(crate) fn warm_up(&self) -> u64 {
        match self.mode {
            Mode::Idle if self.size == 0 => 0,
            Mode::Idle => self.connections as u64,
            _ => self.warmup,
        }
    }

    /// Messages in all.
    pub(crate) fn budget(&self) -> u64 {
        match (self.mode, self.until) {
            (Mode::Idle, _) => self.warm_up(),
            (_, Until::Seconds(_)) => u64::MAX,
            (_, Until::Messages(messages)) => self.warmup.saturating_add(messages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan, lexopt::Error> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        Plan::parse(words.map(OsString::from))
    }

    #[test]
    fn a_plan_is_read_from_the_command_line() {
        let line = "pipeline --connect 127.0.0.1:9 --connections 3 --size 100 --depth 16 \
                    --messages 1000 --warmup 7";
        let plan = parse(line).unwrap();
        assert_eq!(plan.mode, Mode::Pipeline);
        assert_eq!((plan.connections, plan.size, plan.depth), (3, 100, 16));
        assert_eq!((plan.until, plan.warmup), (Until::Messages(1000), 7));
        assert_eq!(plan.budget(), 1007);
        for (mode, name) in NAMES {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(mode.to_string(), name);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let at = "--connect 127.0.0.1:9";
        assert!(parse(&format!("echo {at} --seconds 1")).is_err());
        assert!(parse("pingpong --seconds 1").is_err());
        assert!(parse(&format!("pingpong {at}")).is_err());
        assert!(parse(&format!("pingpong {at} --seconds -1")).is_err());
        assert!(parse(&format!("pingpong {at} --seconds 1 --depth 2")).is_err());
        assert!(parse(&format!("sink {at} --seconds 1 --size 0")).is_err());
        assert!(parse(&format!("idle {at} --messages 1")).is_err());
        assert!(parse(&format!("idle {at} --seconds 0.5 --size 0")).is_ok());
    }
}
