//! One way in which a conversation by datagrams may go.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident $({ $($(#[$field_doc:meta])* $field:ident: $type:ty),* })? = $word:literal;)*) => {
        /// One way to hold a [`DatagramConversation`](crate::DatagramConversation). Datagrams have numbers from 0.
        ///
        /// `parse` reads its text back, to run [just this one](crate::check_datagram_case) again.
        ///
        /// ```
        /// use tidegate_testkit::DatagramCase;
        ///
        /// let case: DatagramCase = "cut 1 7".parse()?;
        /// assert_eq!(case, DatagramCase::Cut { at: 1, len: 7 });
        /// assert_eq!(case.to_string(), "cut 1 7");
        /// # Ok::<(), tidegate_testkit::ParseDatagramCaseError>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DatagramCase {
            $($(#[$doc])* $name $({ $($(#[$field_doc])* $field: $type),* })?,)*
        }

        impl DatagramCase {
            /// Returns its name in texts, and in the counts of a report.
            pub(super) fn word(self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $word,)*
                }
            }

            fn parse(word: &str, numbers: &mut impl Iterator<Item = u64>) -> Option<Self> {
                Some(match word {
                    $($word => Self::$name $({ $($field: numbers.next()?.try_into().ok()?),* })?,)*
                    _ => return None,
                })
            }
        }

        impl fmt::Display for DatagramCase {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())?;
                match self {
                    $(Self::$name $({ $($field),* })? => { $($(write!(f, " {}", $field)?;)*)? })*
                }
                Ok(())
            }
        }
    };
}

cases! {
    /// Nothing goes wrong.
    Plain = "plain";
    /// A datagram is lost.
    Lost {
        /// The number of the datagram.
        at: usize
    } = "lost";
    /// A datagram comes twice.
    Doubled {
        /// The number of the datagram.
        at: usize
    } = "doubled";
    /// A datagram comes after all others.
    Late {
        /// The number of the datagram.
        at: usize
    } = "late";
    /// An empty datagram comes before one of the conversation, from another peer.
    Empty {
        /// The number of the datagram after it.
        at: usize
    } = "empty";
    /// A datagram of 65,507 bytes, the most that UDP has, comes before one of the conversation, from another
    /// peer.
    Long {
        /// The number of the datagram after it.
        at: usize
    } = "long";
    /// The beginning of a datagram comes before it, from another peer.
    Cut {
        /// The number of the datagram.
        at: usize,
        /// The number of bytes.
        len: usize
    } = "cut";
    /// The peer is gone when the replies to a datagram come, and is there again for the next one.
    Refused {
        /// The number of the datagram.
        at: usize
    } = "refused";
    /// The conversation comes again and again while the kernel takes hardly any reply, with small watermarks.
    Paused {
        /// The high-water mark.
        high: usize
    } = "paused";
    /// Datagrams and system calls meet faults by chance.
    Storm {
        /// The seed of the faults.
        seed: u64
    } = "storm";
    /// The endpoint is closed before a datagram.
    Closed {
        /// The number of the datagram.
        at: usize
    } = "closed";
    /// The endpoint is aborted before a datagram.
    Aborted {
        /// The number of the datagram.
        at: usize
    } = "aborted";
}

impl DatagramCase {
    /// Returns whether a conversation of these datagrams has no such place.
    pub(super) fn is_beyond(self, says: &[&[u8]]) -> bool {
        match self {
            Self::Plain | Self::Paused { .. } | Self::Storm { .. } => false,
            Self::Lost { at } | Self::Doubled { at } | Self::Late { at } | Self::Refused { at } => {
                at >= says.len()
            }
            Self::Cut { at, len } => says.get(at).is_none_or(|data| len > data.len()),
            Self::Empty { at } | Self::Long { at } | Self::Closed { at } | Self::Aborted { at } => {
                at > says.len()
            }
        }
    }

    /// Returns whether the endpoint is ended by the check.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Aborted { .. })
    }

    /// Returns whether the check has ended the endpoint before the datagram with this number.
    pub(super) fn has_ended_by(self, number: usize) -> bool {
        matches!(self, Self::Closed { at } | Self::Aborted { at } if at <= number)
    }

    /// Returns whether datagrams come that are not of the conversation.
    pub(super) fn has_strangers(self) -> bool {
        matches!(
            self,
            Self::Empty { .. } | Self::Long { .. } | Self::Cut { .. }
        )
    }
}

/// The error of parsing a text that is no [`DatagramCase`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseDatagramCaseError(String);

impl fmt::Display for ParseDatagramCaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "\"{text}\" is no case: one reads, for example, \"plain\", \"lost 3\" or \"cut 3 10\""
        )
    }
}

impl Error for ParseDatagramCaseError {}

impl FromStr for DatagramCase {
    type Err = ParseDatagramCaseError;

    fn from_str(text: &str) -> Result<Self, ParseDatagramCaseError> {
        let no_case = || ParseDatagramCaseError(text.to_owned());
        let mut words = text.split_whitespace();
        let word = words.next().ok_or_else(no_case)?;
        let numbers: Vec<u64> = words
            .map(|number| number.parse().map_err(|_| no_case()))
            .collect::<Result<_, _>>()?;
        let mut numbers = numbers.into_iter();
        let case = Self::parse(word, &mut numbers).ok_or_else(no_case)?;
        match numbers.next() {
            None => Ok(case),
            Some(_) => Err(no_case()),
        }
    }
}
