//! Cuts what is written into pieces for a layer.

use super::buffer::Buffer;
use super::shared::Shared;
use std::io::IoSlice;

/// The maximum number of bytes that a layer is given to send at a time: what a TLS record holds
/// (RFC 8446, 5.1).
pub(super) const PIECE: usize = 16 * 1024;

/// A place in the slices of one write.
#[derive(Debug, Clone)]
pub(super) struct Pieces<'a> {
    /// The first one begins at `offset`.
    slices: &'a [IoSlice<'a>],
    offset: usize,
    left: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(slices: &'a [IoSlice<'a>]) -> Self {
        Self {
            slices,
            offset: 0,
            left: slices.iter().map(|slice| slice.len()).sum(),
        }
    }

    /// Returns the number of bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Goes on behind the next `len` bytes, of which there must be as many.
    pub(super) fn skip(&mut self, len: usize) {
        self.left -= len;
        self.offset += len;
        while let [first, rest @ ..] = self.slices
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            self.slices = rest;
        }
    }

    /// Returns what is left, slice by slice, as far as the first `most` bytes.
    pub(super) fn rest(&self, most: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut offset, mut most) = (self.offset, most);
        self.slices.iter().map(move |slice| {
            let slice = &slice[offset..];
            offset = 0;
            let part = &slice[..slice.len().min(most)];
            most -= part.len();
            part
        })
    }

    /// Returns the next piece. Small slices are put together in `gather`.
    pub(super) fn next<'s>(&'s self, gather: &'s mut Buffer, shared: &Shared) -> &'s [u8] {
        let len = self.left.min(PIECE);
        if let Some(first) = self.rest(len).find(|slice| !slice.is_empty())
            && first.len() == len
        {
            return first;
        }
        gather.clear();
        for slice in self.rest(len) {
            gather.push(slice, shared);
        }
        gather.bytes()
    }
}
