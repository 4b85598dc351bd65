//! Destinations of datagrams.

use crate::Address;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// An address to send a datagram to: an [`Address`], a [`SocketAddr`], or the path of a Unix socket.
pub trait Destination: sealed::Destination {}

mod sealed {
    use super::Address;

    pub trait Destination {
        /// Calls with the address.
        fn with_address<R>(&self, call: impl FnOnce(&Address) -> R) -> R;
    }
}

pub(super) use sealed::Destination as WithAddress;

impl Destination for Address {}
impl sealed::Destination for Address {
    #[inline]
    fn with_address<R>(&self, call: impl FnOnce(&Address) -> R) -> R {
        call(self)
    }
}

impl Destination for SocketAddr {}
impl sealed::Destination for SocketAddr {
    #[inline]
    fn with_address<R>(&self, call: impl FnOnce(&Address) -> R) -> R {
        call(&Address::Inet(*self))
    }
}

impl Destination for Path {}
impl sealed::Destination for Path {
    fn with_address<R>(&self, call: impl FnOnce(&Address) -> R) -> R {
        call(&Address::Unix(self.to_owned()))
    }
}

impl Destination for PathBuf {}
impl sealed::Destination for PathBuf {
    fn with_address<R>(&self, call: impl FnOnce(&Address) -> R) -> R {
        self.as_path().with_address(call)
    }
}
