//! What every server under test serves, and how each of ours is told.

use lexopt::ValueExt;
#[cfg(not(target_arch = "x86_64"))]
use memchr::memchr as find;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::str::FromStr;

/// Room for what one read takes, in every server and in the load generator.
pub const READ_BUFFER: usize = 64 * 1024;

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the servers match on all of them")]
pub enum Service {
    /// Sends every byte back.
    Echo,
    /// Sends every complete line back, each as an answer of its own.
    Lines,
    /// Reads all and says nothing.
    Sink,
    /// Sends [`source_block`] over and over, as fast as it is taken.
    Source,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "echo" => Ok(Self::Echo),
            "lines" => Ok(Self::Lines),
            "sink" => Ok(Self::Sink),
            "source" => Ok(Self::Source),
            other => Err(format!("no such service: {other}")),
        }
    }
}

/// The first line with its end, and what follows it. Searches as memchr(3) does, as the servers in C.
pub fn split_line(data: &[u8]) -> Option<(&[u8], &[u8])> {
    Some(data.split_at(find(b'\n', data)? + 1))
}

/// For short lines, what every such processor has is faster than to ask each time for more.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn find(byte: u8, data: &[u8]) -> Option<usize> {
    memchr::arch::x86_64::sse2::memchr::One::new(byte)?.find(data)
}

/// The period of the bytes of a source: byte number `n` of the stream is `n % SOURCE_PERIOD`.
pub const SOURCE_PERIOD: usize = 251;

/// What a source sends in one write: 256 periods, so that the blocks follow on each other.
pub fn source_block() -> Vec<u8> {
    (0..SOURCE_PERIOD * 256)
        .map(|index| (index % SOURCE_PERIOD) as u8)
        .collect()
}

/// The command line of a server: a service, `--listen`, and options of its own.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerArguments {
    /// What to serve.
    pub service: Service,
    /// Where.
    pub listen: SocketAddr,
}

impl ServerArguments {
    /// Reads the command line. `option` is given the name of an option that is not known here
    /// and a way to its value; it answers whether it knows it.
    ///
    /// # Errors
    ///
    /// What does not belong there, or is missing.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        mut option: impl FnMut(&str, &mut lexopt::Parser) -> Result<bool, lexopt::Error>,
    ) -> Result<Self, lexopt::Error> {
        let mut parser = lexopt::Parser::from_iter(arguments);
        let mut service = None;
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
        while let Some(argument) = parser.next()? {
            match argument {
                lexopt::Arg::Long("listen") => listen = parser.value()?.parse()?,
                lexopt::Arg::Value(name) if service.is_none() => service = Some(name.parse()?),
                lexopt::Arg::Long(name) => {
                    let name = name.to_owned();
                    if !option(&name, &mut parser)? {
                        return Err(lexopt::Error::UnexpectedOption(format!("--{name}")));
                    }
                }
                other => return Err(other.unexpected()),
            }
        }
        let service = service.ok_or("a service is missing: echo, lines, sink or source")?;
        Ok(Self { service, listen })
    }
}

/// Says where a server listens, for whoever started it. Standard output to a pipe is buffered by
/// the block in other languages; here a line goes out as it ends.
pub fn announce(address: SocketAddr) {
    println!("listening on {address}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(ServerArguments, Option<String>), lexopt::Error> {
        let mut api = None;
        let words = std::iter::once("serve").chain(line.split_whitespace());
        let arguments = ServerArguments::parse(words.map(OsString::from), |name, parser| {
            if name == "api" {
                api = Some(parser.value()?.string()?);
            }
            Ok(name == "api")
        })?;
        Ok((arguments, api))
    }

    #[test]
    fn a_server_is_told_its_service_its_address_and_options_of_its_own_in_any_order() {
        let (arguments, api) = parse("--api streams lines --listen 127.0.0.1:9").unwrap();
        assert_eq!(arguments.service, Service::Lines);
        assert_eq!(arguments.listen.to_string(), "127.0.0.1:9");
        assert_eq!(api.as_deref(), Some("streams"));
        for wrong in ["", "tea", "echo sink", "echo --x", "echo --listen there"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn blocks_of_a_source_one_after_the_other_keep_the_period() {
        let stream = source_block().repeat(2);
        for (index, byte) in stream.iter().enumerate() {
            assert_eq!(usize::from(*byte), index % SOURCE_PERIOD);
        }
    }
}
