//! A read buffer that begins where a page begins.
//!
//! The kernel copies a little faster into one; where a plain allocation begins is an accident, and
//! what is compared should not differ by accident.

use std::fmt;
use std::ops::{Deref, DerefMut};

const PAGE: usize = 4096;

/// Zeroed bytes, the first of them at the start of a page.
pub struct PageBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl PageBuffer {
    /// One of `len` bytes.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        // Documented as possible, though not where this runs: then it is a plain buffer.
        let start = if start < PAGE { start } else { 0 };
        Self { bytes, start, len }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl fmt::Debug for PageBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageBuffer({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_buffer_begins_with_a_page_and_has_the_length_asked_for() {
        for len in [1, 4096, 65_536] {
            let buffer = PageBuffer::new(len);
            assert_eq!(buffer.as_ptr() as usize % PAGE, 0);
            assert_eq!(buffer.len(), len);
        }
    }
}
