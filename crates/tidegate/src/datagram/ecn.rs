//! Congestion marks.

/// The marks of a datagram's IP header that tell of congestion (ECN, RFC 3168).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "two bits of a header")]
pub enum Ecn {
    /// The sender does not heed marks: routers drop in place of marking (Not-ECT).
    NotCapable = 0,
    /// The sender heeds marks: ECT(1), which is also the mark of L4S (RFC 9331).
    Capable1 = 1,
    /// The sender heeds marks: ECT(0).
    Capable0 = 2,
    /// A router was congested (CE).
    Congested = 3,
}

impl Ecn {
    /// Returns the two bits of the header, as protocols such as QUIC know them.
    pub fn bits(self) -> u8 {
        self as u8
    }

    /// Returns the marks of these bits; of a traffic class, which has them as its lower two bits, too.
    pub fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotCapable,
            1 => Self::Capable1,
            2 => Self::Capable0,
            _ => Self::Congested,
        }
    }
}
