//! The bytes of one write, in the forms in which a user gives them.
//!
//! Pure: it knows nothing of transports, buffers and sockets.

use bytes::{Buf, Bytes};
use std::io::IoSlice;

/// The bytes of one call, less those that the kernel has taken.
pub(super) enum Payload<'a> {
    Slice(&'a [u8]),
    /// Less the first `taken` bytes of the first slice.
    Slices {
        slices: &'a [IoSlice<'a>],
        taken: usize,
    },
    Owned(Bytes),
}

impl<'a> Payload<'a> {
    pub(super) fn nothing() -> Self {
        Self::Slice(&[])
    }

    pub(super) fn slices(slices: &'a [IoSlice<'a>]) -> Self {
        Self::Slices { slices, taken: 0 }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Slice(data) => data.len(),
            Self::Slices { slices, taken } => {
                let sum = slices
                    .iter()
                    .fold(0, |sum: usize, slice| sum.saturating_add(slice.len()));
                sum - taken
            }
            Self::Owned(data) => data.len(),
        }
    }

    /// Returns the maximum number of its slices.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Slice(_) | Self::Owned(_) => 1,
            Self::Slices { slices, .. } => slices.len(),
        }
    }

    /// Appends a copy to `bytes`, but for owned bytes, which are not to be copied.
    #[inline(always)]
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        match self {
            Self::Slice(data) => bytes.extend_from_slice(data),
            Self::Slices { slices, .. } => {
                slices.iter().for_each(|data| bytes.extend_from_slice(data));
            }
            Self::Owned(_) => return false,
        }
        true
    }

    /// Calls `visit` with one part after the other, until it has enough.
    pub(super) fn visit<'s>(&'s self, mut visit: impl FnMut(&'s [u8]) -> bool) {
        match self {
            Self::Slice(data) => {
                visit(data);
            }
            Self::Owned(data) => {
                visit(data);
            }
            Self::Slices { slices, taken } => {
                let mut taken = *taken;
                for slice in *slices {
                    if !visit(&slice[taken..]) {
                        return;
                    }
                    taken = 0;
                }
            }
        }
    }

    /// Forgets the first `count` bytes. Forgotten slices are not looked at again: there may be any number of
    /// them, and many system calls.
    pub(super) fn advance(&mut self, count: usize) {
        match self {
            Self::Slice(data) => *data = &data[count..],
            Self::Owned(data) => Buf::advance(data, count),
            Self::Slices { slices, taken } => {
                *taken += count;
                while let [first, rest @ ..] = *slices
                    && *taken >= first.len()
                {
                    *taken -= first.len();
                    *slices = rest;
                }
            }
        }
    }
}
