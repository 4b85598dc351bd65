//! Searches for one byte.

/// Returns where a byte is first. Frames are mostly short: the choice among instruction sets, which
/// [`memchr::memchr`] makes at each call, costs more than wider ones save.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn find(byte: u8, data: &[u8]) -> Option<usize> {
    memchr::arch::x86_64::sse2::memchr::One::new(byte)?.find(data)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn find(byte: u8, data: &[u8]) -> Option<usize> {
    memchr::memchr(byte, data)
}
