//! The ends of a piece of a stream.

/// One separator that ends a piece, or several. Made from `b"\n"`, `"\r\n"`, a byte slice, or a slice
/// of byte slices.
#[derive(Debug, Clone, Copy)]
pub struct Separators<'s>(Which<'s>);

#[derive(Debug, Clone, Copy)]
enum Which<'s> {
    One([&'s [u8]; 1]),
    Several(&'s [&'s [u8]]),
}

impl<'s> Separators<'s> {
    pub(crate) fn as_slices(&self) -> &[&'s [u8]] {
        match &self.0 {
            Which::One(one) => one,
            Which::Several(several) => several,
        }
    }
}

impl<'s> From<&'s [u8]> for Separators<'s> {
    fn from(one: &'s [u8]) -> Self {
        Self(Which::One([one]))
    }
}

impl<'s, const N: usize> From<&'s [u8; N]> for Separators<'s> {
    fn from(one: &'s [u8; N]) -> Self {
        one.as_slice().into()
    }
}

impl<'s> From<&'s str> for Separators<'s> {
    fn from(one: &'s str) -> Self {
        one.as_bytes().into()
    }
}

impl<'s, const N: usize> From<&'s [&'s [u8]; N]> for Separators<'s> {
    fn from(several: &'s [&'s [u8]; N]) -> Self {
        several.as_slice().into()
    }
}

impl<'s> From<&'s [&'s [u8]]> for Separators<'s> {
    fn from(several: &'s [&'s [u8]]) -> Self {
        Self(Which::Several(several))
    }
}
