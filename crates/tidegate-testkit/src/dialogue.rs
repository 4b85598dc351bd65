//! The dialogue of two sides, as a text.

use std::fmt;
use std::time::Duration;

/// Maximum number of bytes of a piece that are shown.
const SHOWN: usize = 200;

/// The events of a connection, or of the peers of an endpoint of datagrams, with their times, as the peer saw
/// them: a text, one line each.
///
/// ```
/// use tidegate_testkit::{Log, Recorder, Script};
///
/// let script = Script::new().send("ping\n").expect("ping\n");
/// let played = script.play(Recorder::echo(&Log::new()))?;
/// let said = played.dialogue().to_string();
/// assert!(said.contains(r#"peer -> "ping\n""#) && said.contains(r#"peer <- "ping\n""#));
/// # Ok::<(), tidegate_testkit::Mismatch>(())
/// ```
#[derive(Clone, Default)]
pub struct Dialogue(Vec<(Duration, Said)>);

#[derive(Clone)]
pub(crate) enum Said {
    Sent(Vec<u8>),
    SentEof,
    SentReset,
    Left,
    Got(Vec<u8>),
    /// Datagrams of the peer with this number, and to it.
    SentDatagram(usize, Vec<u8>),
    GotDatagram(usize, Vec<u8>),
    LeftAs(usize),
    GotEof,
    GotReset,
}

impl Dialogue {
    pub(crate) fn add(&mut self, at: Duration, said: Said) {
        self.0.push((at, said));
    }

    /// Returns whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, said) in &self.0 {
            write!(f, "  {:>10.3} s  ", at.as_secs_f64())?;
            match said {
                Said::Sent(data) => writeln!(f, "peer -> {}", Escaped(data)),
                Said::SentEof => writeln!(f, "peer -> end of stream"),
                Said::SentReset => writeln!(f, "peer -> reset"),
                Said::Left => writeln!(f, "peer leaves"),
                Said::SentDatagram(peer, data) => writeln!(f, "peer {peer} -> {}", Escaped(data)),
                Said::GotDatagram(peer, data) => writeln!(f, "peer {peer} <- {}", Escaped(data)),
                Said::LeftAs(peer) => writeln!(f, "peer {peer} leaves"),
                Said::Got(data) => writeln!(f, "peer <- {}", Escaped(data)),
                Said::GotEof => writeln!(f, "peer <- end of stream"),
                Said::GotReset => writeln!(f, "peer <- reset"),
            }?;
        }
        Ok(())
    }
}

/// The text of its `Display`.
impl fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

/// Bytes as they are written in Rust.
pub(crate) struct Escaped<'d>(pub(crate) &'d [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.0.split_at(self.0.len().min(SHOWN));
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if rest.is_empty() {
            Ok(())
        } else {
            write!(f, " and {} more bytes", rest.len())
        }
    }
}
