//! Listeners: the trait of one of another world, and the type that stands for both.

use super::os::OsListener;
use super::stream::{Socket, SocketOption};
use super::{of_another_driver, uninterrupted};
use crate::Address;
use crate::socket_options::Configure;
use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

/// How a listener is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct BindOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub only_v6: bool,
    /// Of a listener with a Unix path; the others are of TCP.
    pub unix: UnixFileOptions,
}

/// How the file of a Unix socket is made, and whether it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct UnixFileOptions {
    /// Its permissions; `None`: those that bind(2) gives it.
    pub mode: Option<u32>,
    /// The numbers of its user and its group; `None`: as they are.
    pub owner: (Option<u32>, Option<u32>),
    /// Whether it stays when the listener is closed.
    pub keep: bool,
}

/// A listener of another world.
pub trait ListenerSocket: Any + fmt::Debug {
    /// Takes one connection and the address of its peer.
    fn accept(&mut self) -> io::Result<(Socket, Address)>;
    /// The address that it is bound to.
    fn local_addr(&self) -> io::Result<Address>;
}

/// A listener, real or of another world.
#[derive(Debug)]
#[allow(private_interfaces, reason = "the real ones are made in here only")]
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum Listener {
    /// A real one.
    Os(OsListener),
    /// One of another world.
    Foreign(Box<dyn ListenerSocket>),
}

impl Listener {
    /// Wraps one of another world.
    pub fn foreign(listener: impl ListenerSocket) -> Self {
        Self::Foreign(Box::new(listener))
    }

    /// Returns the listener as the type of the driver that made it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for one that another driver made.
    pub fn of<L: ListenerSocket>(&mut self) -> io::Result<&mut L> {
        let listener: &mut dyn Any = match self {
            Self::Os(listener) => listener,
            Self::Foreign(listener) => &mut **listener,
        };
        listener.downcast_mut().ok_or_else(of_another_driver)
    }

    pub(crate) fn accept(&mut self) -> io::Result<(Socket, Address)> {
        match self {
            Self::Os(listener) => {
                let (stream, peer) = uninterrupted(|| listener.accept())?;
                Ok((Socket::Os(stream), peer))
            }
            Self::Foreign(listener) => uninterrupted(|| listener.accept()),
        }
    }

    /// Has accepted sockets get these options too.
    pub(crate) fn hand_down(&mut self, options: &[SocketOption]) {
        if let Self::Os(listener) = self {
            listener.hand_down(options);
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Os(listener) => listener.local_addr(),
            Self::Foreign(listener) => listener.local_addr(),
        }
    }
}

impl Configure for Listener {
    /// Those of another world have no options.
    fn configure(&mut self, option: SocketOption) -> io::Result<()> {
        match self {
            Self::Os(listener) => listener.set_option(option),
            Self::Foreign(_) => Ok(()),
        }
    }

    fn expose(&mut self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Os(listener) => Some(listener.expose()),
            Self::Foreign(_) => None,
        }
    }
}
