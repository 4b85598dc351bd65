//! Watermarks: when a transport pauses its writer and when it resumes it.
//!
//! Pure: it sees numbers of bytes and nothing else. Every comparison with a watermark in this
//! crate is made here: strictly above `high` pauses, at or below `low` resumes.

use std::io;

/// Whether a transport wants more bytes now.
///
/// A write returns it. A callback does not: see [`Result`](crate::Result) for its last line.
///
/// A hint, not an error. Ignoring it is safe: the loop then calls `pause_writing`, whose default
/// implementation stops reading from accepted peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third state")]
pub enum Flow {
    /// The buffer is low enough: write on.
    Open,
    /// The buffer went above the high-water mark and has not yet fallen to the low one. A write that
    /// returns it has taken its bytes.
    Paused,
}

impl Flow {
    /// Returns whether this is [`Flow::Paused`].
    pub fn is_paused(self) -> bool {
        self == Self::Paused
    }
}

const DEFAULT_HIGH: usize = 64 * 1024;
const DEFAULT_CAP: usize = 64 * 1024 * 1024;

/// The watermarks and the cap of a transport's write buffer, in bytes.
///
/// * Above `high` the writer is paused; at `low` or below it is resumed. The rule and the defaults
///   (64 KiB and 16 KiB) are asyncio's. A missing one follows from the other, as in asyncio:
///   `low = high / 4`, `high = 4 * low`. `high = 0` pauses as soon as the kernel leaves a single byte.
/// * At `cap` (64 MiB unless set) `write` takes nothing more and fails with
///   [`BufferFull`](crate::WriteError::BufferFull). The size before the write decides: one write of any
///   size is taken while the buffer is below the cap, so the buffer is smaller than the cap and one
///   write.
/// * With a [write budget](crate::EventLoopBuilder::write_budget) the marks are lower while the loop has less
///   left.
///
/// Setting them fails with [`InvalidInput`](io::ErrorKind::InvalidInput), and changes nothing,
/// unless `low <= high <= cap` and `cap` is not 0.
///
/// ```
/// use tidegate::WriteLimits;
///
/// let limits = WriteLimits::new().with_high(4096);
/// assert_eq!((limits.high(), limits.low()), (4096, 1024));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "limits do nothing until they are set"]
pub struct WriteLimits {
    high: Option<usize>,
    low: Option<usize>,
    cap: Option<usize>,
}

impl WriteLimits {
    /// Returns the defaults: high 64 KiB, low 16 KiB, cap 64 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the high-water mark.
    pub fn with_high(mut self, bytes: usize) -> Self {
        self.high = Some(bytes);
        self
    }

    /// Sets the low-water mark.
    pub fn with_low(mut self, bytes: usize) -> Self {
        self.low = Some(bytes);
        self
    }

    /// Sets the cap.
    pub fn with_cap(mut self, bytes: usize) -> Self {
        self.cap = Some(bytes);
        self
    }

    /// Returns the high-water mark.
    pub fn high(&self) -> usize {
        match (self.high, self.low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(4),
            (None, None) => DEFAULT_HIGH,
        }
    }

    /// Returns the low-water mark.
    pub fn low(&self) -> usize {
        self.low.unwrap_or(self.high() / 4)
    }

    /// Returns the cap.
    pub fn cap(&self) -> usize {
        self.cap.unwrap_or(DEFAULT_CAP)
    }

    /// Sets the cap unless it was set, for others than streams; it is not below `high`.
    pub(crate) fn or_cap(mut self, bytes: usize) -> Self {
        if self.cap.is_none() {
            self.cap = Some(bytes.max(self.high()));
        }
        self
    }

    pub(crate) fn resolve(&self) -> io::Result<Watermarks> {
        let marks = Watermarks {
            high: self.high(),
            low: self.low(),
            cap: self.cap(),
        };
        let complaint = if marks.cap == 0 {
            "the cap must be above zero"
        } else if marks.low > marks.high {
            "low must not be above high"
        } else if marks.high > marks.cap {
            "high must not be above the cap: lower high or raise the cap"
        } else {
            return Ok(marks);
        };
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "write limits high {}, low {}, cap {}: {complaint}",
                marks.high, marks.low, marks.cap
            ),
        ))
    }
}

/// Checked limits: `low <= high <= cap`, `cap > 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    high: usize,
    low: usize,
    cap: usize,
}

/// The effect of a change of the buffered bytes, or of the limits, on the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossing {
    None,
    Pause,
    Resume,
}

/// Those of limits that nobody has set.
impl Default for Watermarks {
    fn default() -> Self {
        let limits = WriteLimits::new();
        Self {
            high: limits.high(),
            low: limits.low(),
            cap: limits.cap(),
        }
    }
}

impl Watermarks {
    pub(crate) fn limits(&self) -> WriteLimits {
        WriteLimits {
            high: Some(self.high),
            low: Some(self.low),
            cap: Some(self.cap),
        }
    }

    /// Returns the marks that hold while a loop has `left` bytes for everything that it buffers.
    ///
    /// Without a lower `low`, one connection after the other would be resumed at what it may hold at most.
    pub(crate) fn within(self, left: u64) -> Self {
        let Some(high) = usize::try_from(left).ok().filter(|left| *left < self.high) else {
            return self;
        };
        Self {
            high,
            low: self.low.min(high / 4),
            ..self
        }
    }

    pub(crate) fn above_high(&self, buffered: u64) -> bool {
        buffered > self.high as u64
    }

    /// `cost` is payload plus the overhead of its chunks.
    pub(crate) fn at_cap(&self, cost: u64) -> bool {
        cost >= self.cap as u64
    }

    pub(crate) fn crossing(&self, paused: bool, buffered: u64) -> Crossing {
        if paused {
            if buffered <= self.low as u64 {
                return Crossing::Resume;
            }
        } else if self.above_high(buffered) {
            return Crossing::Pause;
        }
        Crossing::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(high: usize, low: usize) -> Watermarks {
        WriteLimits::new()
            .with_high(high)
            .with_low(low)
            .resolve()
            .unwrap()
    }

    #[test]
    fn what_is_left_out_is_derived_as_in_asyncio() {
        let table = [
            (WriteLimits::new(), (65536, 16384, DEFAULT_CAP)),
            (WriteLimits::new().with_high(100), (100, 25, DEFAULT_CAP)),
            (WriteLimits::new().with_low(100), (400, 100, DEFAULT_CAP)),
            (WriteLimits::new().with_high(0), (0, 0, DEFAULT_CAP)),
            (
                WriteLimits::new().with_high(8).with_low(8).with_cap(8),
                (8, 8, 8),
            ),
        ];
        for (limits, expected) in table {
            let marks = limits.resolve().unwrap();
            assert_eq!((marks.high, marks.low, marks.cap), expected, "{limits:?}");
        }
    }

    #[test]
    fn limits_out_of_order_are_refused_with_the_numbers() {
        let table = [
            WriteLimits::new().with_high(1).with_low(2),
            WriteLimits::new().with_high(0).with_cap(0),
            WriteLimits::new().with_high(DEFAULT_CAP + 1),
            WriteLimits::new().with_low(usize::MAX),
            WriteLimits::new().with_cap(1),
        ];
        for limits in table {
            let error = limits.resolve().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("write limits high"), "{error}");
        }
    }

    #[test]
    fn pause_is_strictly_above_high_and_resume_at_or_below_low() {
        let table = [
            (false, 100, Crossing::None),
            (false, 101, Crossing::Pause),
            (true, 101, Crossing::None),
            (true, 26, Crossing::None),
            (true, 25, Crossing::Resume),
            (false, 0, Crossing::None),
        ];
        for (paused, buffered, expected) in table {
            assert_eq!(marks(100, 25).crossing(paused, buffered), expected);
        }
    }

    #[test]
    fn where_less_is_left_than_high_the_marks_are_that_and_at_most_a_quarter_of_it() {
        for (high, low, left, expected) in [
            (100, 25, u64::MAX, (100, 25)),
            (100, 100, 100, (100, 100)),
            (100, 100, 99, (99, 24)),
            (100, 5, 99, (99, 5)),
            (100, 5, 3, (3, 0)),
            (100, 25, 0, (0, 0)),
        ] {
            let within = marks(high, low).within(left);
            assert_eq!((within.high, within.low), expected, "{high} {low} {left}");
            assert_eq!(within.cap, DEFAULT_CAP);
        }
    }

    #[test]
    fn high_zero_pauses_at_one_byte_and_resumes_at_empty() {
        let marks = marks(0, 0);
        assert_eq!(marks.crossing(false, 0), Crossing::None);
        assert_eq!(marks.crossing(false, 1), Crossing::Pause);
        assert_eq!(marks.crossing(true, 1), Crossing::None);
        assert_eq!(marks.crossing(true, 0), Crossing::Resume);
    }
}
