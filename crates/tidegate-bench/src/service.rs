//! The services of every server under test, and the command line of each of ours.

use crate::program::{Result, named};
#[cfg(not(target_arch = "x86_64"))]
use memchr::memchr as find;
use pico_args::Arguments;
use serde::Deserialize;
use std::net::SocketAddr;

/// Room for what one read takes, in every server and in the load generator.
pub const READ_BUFFER: usize = 64 * 1024;

/// The behaviour of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the servers match on all of them")]
pub enum Service {
    /// Sends every byte back.
    Echo,
    /// Sends every complete line back, each by a write of its own.
    Lines,
    /// Reads all and sends nothing.
    Sink,
    /// Sends [`source_block`] over and over, as fast as it is taken.
    Source,
    /// Replies to each read with a [`megabyte`], in one write.
    Megabyte,
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

/// Returns the bytes of one write of a source: 256 periods, so that the blocks follow on each other.
pub fn source_block() -> Vec<u8> {
    of_source(SOURCE_PERIOD * 256)
}

/// Number of bytes of each datagram of a source and of a sink over UDP.
pub const DATAGRAM: usize = 1200;

/// Number of datagrams that a source over UDP sends for each that it receives, and that a sink is sent
/// before it is waited for: as many as a receive buffer of the default size has room for.
pub const WINDOW: usize = 64;

/// The first byte of a datagram that a sink over UDP returns. It only receives the others.
pub const ASKS: u8 = 1;

/// Returns the datagrams of a window of a source over UDP, one behind the other: the bytes of a source.
pub fn window() -> Vec<u8> {
    of_source(WINDOW * DATAGRAM)
}

/// Number of bytes of a [`megabyte`].
pub const MEGABYTE: usize = 1 << 20;

/// Returns the first [`MEGABYTE`] bytes of a source.
pub fn megabyte() -> Vec<u8> {
    of_source(MEGABYTE)
}

/// Returns the first bytes of a source.
fn of_source(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index % SOURCE_PERIOD) as u8)
        .collect()
}

/// The part of the command line that all servers have.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerArguments {
    /// The service.
    pub service: Service,
    /// The address to listen at.
    pub listen: SocketAddr,
}

impl ServerArguments {
    /// Reads `--listen` and the service, after a server has read its own options.
    ///
    /// # Errors
    ///
    /// A value that does not parse, or no service.
    pub fn parse(words: &mut Arguments) -> Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self {
            listen: words.opt_value_from_str("--listen")?.unwrap_or(any),
            service: words.free_from_fn(named)?,
        })
    }
}

/// Prints where a server listens, for the program that started it. Standard output to a pipe is
/// buffered by the block in other languages; here a line goes out as it ends.
pub fn announce(address: SocketAddr) {
    println!("listening on {address}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::read;

    fn parse(line: &str) -> Result<(ServerArguments, Option<String>)> {
        let words = line.split_whitespace().map(Into::into).collect();
        read(Arguments::from_vec(words), |words| {
            let api = words.opt_value_from_str("--api")?;
            Ok((ServerArguments::parse(words)?, api))
        })
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
