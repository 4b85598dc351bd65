//! One way in which the bytes between two layers may come.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Side {
    /// The one that connected.
    Client,
    /// The one that accepted.
    Server,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// The events of a [`LayerCase`] besides cutting the bytes between the layers into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerVariation {
    /// Nothing: both ends send their messages at once, piece by piece, and end their streams.
    Whole,
    /// So little room in the kernels that below a layer a part of its output is refused.
    Tight {
        /// The number of bytes that each kernel buffer holds.
        buffer: usize,
    },
    /// Both protocols have a read buffer of their own, so a layer has little room above.
    Room {
        /// The size of these buffers.
        size: usize,
    },
    /// One end sends its message when the stream of the other has ended.
    First {
        /// The end whose stream ends first.
        side: Side,
    },
    /// The client closes the connection when it has the server's message.
    Close,
    /// Both messages are 300,000 bytes, each in one write.
    Long {
        /// The number of bytes that each kernel buffer holds.
        buffer: usize,
    },
    /// The stream to one end ends, and what follows is lost: it was cut.
    Cut {
        /// The end that receives it.
        to: Side,
        /// The number of bytes that arrive before.
        at: usize,
    },
}

impl LayerVariation {
    fn parse(word: &str, numbers: &[usize]) -> Option<Self> {
        Some(match (word, numbers) {
            ("plain", []) => Self::Whole,
            ("tight", &[buffer]) => Self::Tight { buffer },
            ("room", &[size]) => Self::Room { size },
            ("client-first", []) => Self::First { side: Side::Client },
            ("server-first", []) => Self::First { side: Side::Server },
            ("close", []) => Self::Close,
            ("long", &[buffer]) => Self::Long { buffer },
            ("cut-to-client", &[at]) => Self::Cut {
                to: Side::Client,
                at,
            },
            ("cut-to-server", &[at]) => Self::Cut {
                to: Side::Server,
                at,
            },
            _ => return None,
        })
    }

    /// Returns the end to which the stream is cut.
    pub(super) fn cut_to(self) -> Option<Side> {
        match self {
            Self::Cut { to, .. } => Some(to),
            _ => None,
        }
    }
}

impl fmt::Display for LayerVariation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("plain"),
            Self::Tight { buffer } => write!(f, "tight {buffer}"),
            Self::Room { size } => write!(f, "room {size}"),
            Self::First { side } => write!(f, "{side}-first"),
            Self::Close => f.write_str("close"),
            Self::Long { buffer } => write!(f, "long {buffer}"),
            Self::Cut { to, at } => write!(f, "cut-to-{to} {at}"),
        }
    }
}

/// One way in which the bytes between two layers may come: where they are cut into chunks, in each
/// direction, and what else happens. Its text is read back with `parse`, to run
/// [just this one](crate::LayerCheck::run_case) again.
///
/// ```
/// use tidegate_testkit::{Side, LayerCase, LayerVariation};
///
/// let case: LayerCase = "to-server 3 7, cut-to-client 9".parse()?;
/// assert_eq!(case.chunks(Side::Server), [3, 7]);
/// assert_eq!(case.variation(), LayerVariation::Cut { to: Side::Client, at: 9 });
/// assert_eq!(case.to_string(), "to-server 3 7, cut-to-client 9");
/// # Ok::<(), tidegate_testkit::ParseLayerCaseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerCase {
    to_server: Vec<usize>,
    to_client: Vec<usize>,
    variation: LayerVariation,
}

impl LayerCase {
    pub(super) const PLAIN: Self = Self {
        to_server: Vec::new(),
        to_client: Vec::new(),
        variation: LayerVariation::Whole,
    };

    pub(super) fn of(variation: LayerVariation) -> Self {
        Self {
            variation,
            ..Self::PLAIN
        }
    }

    /// The same with chunks to one end that end after these numbers of bytes.
    pub(super) fn with_chunks(mut self, to: Side, mut ends: Vec<usize>) -> Self {
        ends.sort_unstable();
        ends.dedup();
        match to {
            Side::Server => self.to_server = ends,
            Side::Client => self.to_client = ends,
        }
        self
    }

    /// Returns the numbers of bytes to this end after which each chunk ends, but for the last.
    pub fn chunks(&self, to: Side) -> &[usize] {
        match to {
            Side::Server => &self.to_server,
            Side::Client => &self.to_client,
        }
    }

    /// Returns what else happens.
    pub fn variation(&self) -> LayerVariation {
        self.variation
    }

    /// The number of ends of chunks, in both directions.
    pub(super) fn count(&self) -> usize {
        self.to_server.len() + self.to_client.len()
    }

    /// Without these of its ends of chunks.
    pub(super) fn without(&self, range: Range<usize>) -> Self {
        let mut left = self.clone();
        let at = left.to_server.len();
        left.to_client
            .drain(range.start.saturating_sub(at)..range.end.saturating_sub(at));
        left.to_server.drain(range.start.min(at)..range.end.min(at));
        left
    }
}

impl fmt::Display for LayerCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for to in [Side::Server, Side::Client] {
            let chunks = self.chunks(to);
            if !chunks.is_empty() {
                write!(f, "{comma}to-{to}")?;
                chunks.iter().try_for_each(|end| write!(f, " {end}"))?;
                comma = ", ";
            }
        }
        if comma.is_empty() || self.variation != LayerVariation::Whole {
            write!(f, "{comma}{}", self.variation)?;
        }
        Ok(())
    }
}

/// The error of parsing a text that is no [`LayerCase`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseLayerCaseError(String);

impl fmt::Display for ParseLayerCaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" is no case of layers: one reads \"plain\", or, each part once, \"to-server 1 2\", \
             \"to-client 1 2\", and one of \"tight 1\", \"room 1\", \"client-first\", \
             \"server-first\", \"close\", \"long 1\", \"cut-to-server 3\" and \"cut-to-client 3\"",
            self.0
        )
    }
}

impl Error for ParseLayerCaseError {}

impl FromStr for LayerCase {
    type Err = ParseLayerCaseError;

    fn from_str(text: &str) -> Result<Self, ParseLayerCaseError> {
        let no_case = || ParseLayerCaseError(text.to_owned());
        let (mut to_server, mut to_client, mut variation) = (None, None, None);
        for part in text.split(',') {
            let mut words = part.split_whitespace();
            let word = words.next().ok_or_else(no_case)?;
            let numbers: Vec<usize> = words
                .map(|word| word.parse().map_err(|_| no_case()))
                .collect::<Result<_, _>>()?;
            let again = match (word, numbers.as_slice()) {
                ("to-server", [_, ..]) => to_server.replace(numbers).is_some(),
                ("to-client", [_, ..]) => to_client.replace(numbers).is_some(),
                (word, numbers) => {
                    let other = LayerVariation::parse(word, numbers).ok_or_else(no_case)?;
                    variation.replace(other).is_some()
                }
            };
            // "plain" stands alone.
            let is_cut = to_server.is_some() || to_client.is_some();
            if again || (is_cut && variation == Some(LayerVariation::Whole)) {
                return Err(no_case());
            }
        }
        let case = Self::of(variation.unwrap_or(LayerVariation::Whole));
        Ok(case
            .with_chunks(Side::Server, to_server.unwrap_or_default())
            .with_chunks(Side::Client, to_client.unwrap_or_default()))
    }
}
