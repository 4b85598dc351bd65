//! One way in which the peer may hold a conversation.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The event of a case, beside the cuts of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variation {
    /// Nothing.
    Whole,
    /// The peer does not read until it has sent everything. The kernel buffers are small, and so are the
    /// watermarks.
    Paused {
        /// The size in bytes of each kernel buffer on the way to the peer.
        buffer: usize,
    },
    /// The peer reads only while the protocol does not take what it has sent. The kernel buffers are small,
    /// and so are the watermarks.
    Slow {
        /// The size in bytes of each kernel buffer on the way to the peer.
        buffer: usize,
    },
    /// The peer resets the connection after a number of bytes.
    Reset {
        /// The number of bytes.
        at: usize,
    },
    /// The peer ends its stream after a number of bytes.
    Eof {
        /// The number of bytes.
        at: usize,
    },
    /// The peer falls silent after a number of bytes, and leaves after a long time.
    Silence {
        /// The number of bytes.
        at: usize,
    },
}

impl Variation {
    /// Returns the place at which the peer breaks off.
    pub(super) fn at(self) -> Option<usize> {
        match self {
            Self::Reset { at } | Self::Eof { at } | Self::Silence { at } => Some(at),
            Self::Whole | Self::Paused { .. } | Self::Slow { .. } => None,
        }
    }

    /// Returns the size of the kernel buffers on the way to a peer that holds the protocol up.
    pub(super) fn buffer(self) -> Option<usize> {
        match self {
            Self::Paused { buffer } | Self::Slow { buffer } => Some(buffer),
            _ => None,
        }
    }

    fn parse(word: &str, numbers: &[usize]) -> Option<Self> {
        Some(match (word, numbers) {
            ("plain", []) => Self::Whole,
            ("pause", &[buffer]) => Self::Paused { buffer },
            ("slow", &[buffer]) => Self::Slow { buffer },
            ("reset", &[at]) => Self::Reset { at },
            ("eof", &[at]) => Self::Eof { at },
            ("silence", &[at]) => Self::Silence { at },
            _ => return None,
        })
    }

    /// Returns its name in the counts of a report.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Whole => "chunkings",
            Self::Paused { .. } => "pauses",
            Self::Slow { .. } => "slow readers",
            Self::Reset { .. } => "resets",
            Self::Eof { .. } => "early ends",
            Self::Silence { .. } => "silences",
        }
    }
}

/// One way to hold a [`Conversation`](crate::Conversation): the cuts of the peer's stream, and a
/// [`Variation`].
///
/// `parse` reads its text back, to run [just this one](crate::check_case) again.
///
/// ```
/// use tidegate_testkit::{Case, Variation};
///
/// let case: Case = "cut 3 7, reset 9".parse()?;
/// assert_eq!(case.cuts(), [3, 7]);
/// assert_eq!(case.variation(), Variation::Reset { at: 9 });
/// assert_eq!(case.to_string(), "cut 3 7, reset 9");
/// # Ok::<(), tidegate_testkit::ParseCaseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Case {
    cuts: Vec<usize>,
    variation: Variation,
}

impl Case {
    pub(super) const PLAIN: Self = Self {
        cuts: Vec::new(),
        variation: Variation::Whole,
    };

    pub(super) fn new(mut cuts: Vec<usize>, variation: Variation) -> Self {
        cuts.sort_unstable();
        cuts.dedup();
        Self { cuts, variation }
    }

    /// Returns the places in the stream at which each chunk ends, but for the last.
    pub fn cuts(&self) -> &[usize] {
        &self.cuts
    }

    /// Returns the event beside the cuts.
    pub fn variation(&self) -> Variation {
        self.variation
    }

    pub(super) fn is_plain(&self) -> bool {
        *self == Self::PLAIN
    }

    /// Returns the case with these cuts and nothing beside them.
    pub(super) fn undisturbed(&self) -> Self {
        Self::new(self.cuts.clone(), Variation::Whole)
    }

    /// Returns the case without these of its cuts.
    pub(super) fn without(&self, cuts: Range<usize>) -> Self {
        let mut left = self.cuts.clone();
        left.drain(cuts);
        Self::new(left, self.variation)
    }

    /// Returns the place that it names and a stream of `len` bytes does not have.
    pub(super) fn beyond(&self, len: usize) -> Option<String> {
        let cut = self.cuts.iter().find(|cut| **cut == 0 || **cut >= len);
        let at = self.variation.at().filter(|at| *at > len);
        cut.map(|cut| format!("a cut after {cut} of them"))
            .or_else(|| at.map(|at| format!("a peer that breaks off after {at} of them")))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() {
            return f.write_str("plain");
        }
        if !self.cuts.is_empty() {
            f.write_str("cut")?;
            self.cuts.iter().try_for_each(|cut| write!(f, " {cut}"))?;
        }
        if !self.cuts.is_empty() && self.variation != Variation::Whole {
            f.write_str(", ")?;
        }
        match self.variation {
            Variation::Whole => Ok(()),
            Variation::Paused { buffer } => write!(f, "pause {buffer}"),
            Variation::Slow { buffer } => write!(f, "slow {buffer}"),
            Variation::Reset { at } => write!(f, "reset {at}"),
            Variation::Eof { at } => write!(f, "eof {at}"),
            Variation::Silence { at } => write!(f, "silence {at}"),
        }
    }
}

/// The error of parsing a text that is no [`Case`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseCaseError(String);

impl fmt::Display for ParseCaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" is no case: one reads, each part once, \"plain\", \"cut 1 2\", \"pause 1\", \"slow 1\", \
             \"reset 3\", \"eof 3\", \"silence 3\" or \"cut 1 2, reset 3\"",
            self.0
        )
    }
}

impl Error for ParseCaseError {}

impl FromStr for Case {
    type Err = ParseCaseError;

    fn from_str(text: &str) -> Result<Self, ParseCaseError> {
        let no_case = || ParseCaseError(text.to_owned());
        let (mut cuts, mut variation) = (None, None);
        for part in text.split(',') {
            let mut words = part.split_whitespace();
            let word = words.next().ok_or_else(no_case)?;
            let numbers: Vec<usize> = words
                .map(|word| word.parse().map_err(|_| no_case()))
                .collect::<Result<_, _>>()?;
            let again = match (word, numbers.as_slice()) {
                ("cut", [_, ..]) => cuts.replace(numbers).is_some(),
                (word, numbers) => {
                    let other = Variation::parse(word, numbers).ok_or_else(no_case)?;
                    variation.replace(other).is_some()
                }
            };
            // "plain" stands alone.
            if again || (cuts.is_some() && variation == Some(Variation::Whole)) {
                return Err(no_case());
            }
        }
        let variation = variation.unwrap_or(Variation::Whole);
        Ok(Self::new(cuts.unwrap_or_default(), variation))
    }
}
