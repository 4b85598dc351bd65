//! The plan of a load: the command line of `load`.

use crate::carrier::Carrier;
use crate::program::{Result, named};
use crate::service::DATAGRAM;
use crate::tls::Handshake;
use pico_args::Arguments;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// The traffic of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mode {
    /// One message on its way per connection.
    #[serde(rename = "pingpong")]
    PingPong,
    /// `depth` messages on their way per connection.
    Pipeline,
    /// As `Pipeline`, each message a line.
    Lines,
    /// The client sends and nothing comes back.
    Sink,
    /// As `Sink`, over UDP, where the kernel cuts many datagrams out of one call of the client.
    SegmentedSink,
    /// The client only receives.
    Source,
    /// Connections that live for one message.
    Churn,
    /// One message on each connection, then nothing.
    Idle,
    /// Echoes are read much more slowly than messages are sent.
    SlowReader,
}

impl Mode {
    /// Whether messages go in one direction, so that bytes a second are of interest.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Sink | Self::SegmentedSink | Self::Source)
    }
}

/// When a measurement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third end")]
pub enum Until {
    /// After this time.
    Seconds(Duration),
    /// After this number of messages on all connections together.
    Messages(u64),
}

/// The plan of a load.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The traffic of the connections.
    pub mode: Mode,
    /// The server.
    pub address: SocketAddr,
    /// The carrier of the messages.
    pub carrier: Carrier,
    /// The handshakes of connections over TLS.
    pub handshake: Handshake,
    /// The number of connections.
    pub connections: usize,
    /// Bytes of a message; of a line with its end. Over UDP those of a sink and of a source are [`DATAGRAM`].
    pub size: usize,
    /// Messages on their way on each connection.
    pub depth: usize,
    /// When it ends.
    pub until: Until,
    /// Messages before the measurement, on all connections together.
    pub warmup: u64,
    /// Maximum time in which a server that owes something may be silent.
    pub silence: Duration,
}

impl Plan {
    /// One connection of TCP, 64 bytes, depth 1, one second, no warm-up.
    pub fn new(mode: Mode, address: SocketAddr) -> Self {
        Self {
            mode,
            address,
            carrier: Carrier::Tcp,
            handshake: Handshake::Full,
            connections: 1,
            size: 64,
            depth: 1,
            until: Until::Seconds(Duration::from_secs(1)),
            warmup: 0,
            silence: Duration::from_secs(10),
        }
    }

    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// A value that does not parse, a missing option, or numbers that make no sense together.
    pub fn parse(words: &mut Arguments) -> Result<Self> {
        let seconds = words.opt_value_from_fn("--seconds", |text| -> Result<_> {
            Ok(Until::Seconds(Duration::try_from_secs_f64(text.parse()?)?))
        })?;
        let messages = words.opt_value_from_str("--messages")?.map(Until::Messages);
        let missing = "either --seconds or --messages is needed";
        let none = Self::new(Mode::PingPong, SocketAddr::from(([127, 0, 0, 1], 0)));
        let handshake = words.opt_value_from_fn("--tls", named)?;
        let carrier = match (words.contains("--udp"), handshake) {
            (false, None) => Carrier::Tcp,
            (false, Some(_)) => Carrier::Tls,
            (true, None) => Carrier::Udp,
            (true, Some(_)) => return Err("either --tls or --udp".into()),
        };
        let plan = Self {
            address: words.value_from_str("--connect")?,
            until: seconds.xor(messages).ok_or(missing)?,
            carrier,
            handshake: handshake.unwrap_or(none.handshake),
            connections: words
                .opt_value_from_str("--connections")?
                .unwrap_or(none.connections),
            size: words.opt_value_from_str("--size")?.unwrap_or(none.size),
            depth: words.opt_value_from_str("--depth")?.unwrap_or(none.depth),
            warmup: words.opt_value_from_str("--warmup")?.unwrap_or(none.warmup),
            mode: words.free_from_fn(named)?,
            ..none
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        let none = self.connections == 0 || self.depth == 0;
        if none || (self.size == 0 && self.mode != Mode::Idle) {
            return Err("--connections, --size and --depth must be more than 0".into());
        }
        let deep = matches!(self.mode, Mode::Pipeline | Mode::Lines);
        if self.depth > 1 && !deep {
            return Err(format!("{:?} has a depth of 1", self.mode).into());
        }
        let is_stream = self.mode.is_stream();
        if self.carrier == Carrier::Tls && is_stream {
            return Err("--tls is for the modes in which messages come back".into());
        }
        if self.carrier == Carrier::Udp {
            if !is_stream && !matches!(self.mode, Mode::PingPong | Mode::Pipeline) {
                return Err("--udp is for pingpong, pipeline and the sinks and sources".into());
            }
            if is_stream && self.size != DATAGRAM {
                return Err(format!("over UDP these have a --size of {DATAGRAM}").into());
            }
        }
        if self.mode == Mode::SegmentedSink && self.carrier != Carrier::Udp {
            return Err("segmented-sink is for --udp".into());
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
    use crate::program::read;

    fn parse(line: &str) -> Result<Plan> {
        let words = line.split_whitespace().map(Into::into).collect();
        read(Arguments::from_vec(words), Plan::parse)
    }

    #[test]
    fn a_plan_is_read_from_the_command_line() {
        let line = "pipeline --connect 127.0.0.1:9 --connections 3 --size 100 --depth 16 \
                    --messages 1000 --warmup 7";
        let plan = parse(line).unwrap();
        assert_eq!(plan.mode, Mode::Pipeline);
        assert_eq!((plan.connections, plan.size, plan.depth), (3, 100, 16));
        assert_eq!((plan.until, plan.warmup), (Until::Messages(1000), 7));
        assert_eq!((plan.budget(), plan.carrier), (1007, Carrier::Tcp));
        let plan = parse("churn --connect 127.0.0.1:9 --tls resumed --messages 1").unwrap();
        assert_eq!(plan.carrier, Carrier::Tls);
        assert_eq!(plan.handshake, Handshake::Resumed);
        let plan = parse("sink --udp --connect 127.0.0.1:9 --size 1200 --messages 1").unwrap();
        assert_eq!(plan.carrier, Carrier::Udp);
        let line = "segmented-sink --udp --connect 127.0.0.1:9 --size 1200 --messages 1";
        assert_eq!(parse(line).unwrap().mode, Mode::SegmentedSink);
        let plan = parse("--connect=127.0.0.1:9 slow-reader --seconds=0.5").unwrap();
        assert_eq!(plan.mode, Mode::SlowReader);
        assert_eq!(plan.until, Until::Seconds(Duration::from_millis(500)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let at = "--connect 127.0.0.1:9";
        assert!(parse(&format!("echo {at} --seconds 1")).is_err());
        assert!(parse("pingpong --seconds 1").is_err());
        assert!(parse(&format!("pingpong {at} --seconds 1 --messages 1")).is_err());
        assert!(parse(&format!("pingpong {at} --seconds 1 --loud")).is_err());
        assert!(parse(&format!("pingpong {at}")).is_err());
        assert!(parse(&format!("pingpong {at} --seconds -1")).is_err());
        assert!(parse(&format!("pingpong {at} --seconds 1 --depth 2")).is_err());
        assert!(parse(&format!("sink {at} --seconds 1 --size 0")).is_err());
        assert!(parse(&format!("sink {at} --seconds 1 --tls full")).is_err());
        assert!(parse(&format!("sink {at} --seconds 1 --udp")).is_err());
        assert!(parse(&format!("segmented-sink {at} --seconds 1 --size 1200")).is_err());
        assert!(parse(&format!("lines {at} --seconds 1 --udp")).is_err());
        assert!(parse(&format!("pingpong {at} --seconds 1 --udp --tls full")).is_err());
        assert!(parse(&format!("churn {at} --seconds 1 --tls never")).is_err());
        assert!(parse(&format!("idle {at} --messages 1")).is_err());
        assert!(parse(&format!("idle {at} --seconds 0.5 --size 0")).is_ok());
    }
}
