//! From the places of the options to bound listeners.

use super::options::{ListenAt, ListenOptions};
use crate::Address;
use crate::address::Target;
use crate::driver::{BindOptions, Listener};
use crate::event_loop::Core;
use crate::resolve::in_zone;
use crate::socket_options::SocketOptions;
use std::fmt;
use std::io;
use std::net::Ipv6Addr;

impl ListenOptions {
    /// Binds every address, or none. Names are resolved here and now.
    pub(super) fn bind(&mut self, core: &Core) -> io::Result<Vec<Listener>> {
        check_mode(self.bind.unix.mode)?;
        let mut binding = Binding::new(core, self.bind, &self.socket);
        for at in self.at.drain(..) {
            match at {
                ListenAt::Ready(listener) => binding.take_over(listener)?,
                ListenAt::Failed(error) => return Err(error),
                ListenAt::Target(Target::Address(address)) => {
                    let bound = binding.bind(&address);
                    bound.map_err(|error| refused(&address, &error))?;
                }
                ListenAt::Target(Target::Zoned { ip, zone, port }) => {
                    binding.bind_in_zone(ip, zone, port)?;
                }
                ListenAt::Target(Target::Name { host, port }) => binding.bind_name(&host, port)?,
            }
        }
        if binding.bound.is_empty() && !self.nowhere {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a server needs at least one address to listen on",
            ));
        }
        for listener in &mut binding.bound {
            listener.hand_down(self.socket.options());
        }
        Ok(binding.bound)
    }
}

fn check_mode(mode: Option<u32>) -> io::Result<()> {
    match mode {
        Some(mode) if mode > 0o777 => {
            let message = format!(
                "the mode {mode:#o} of a socket file is above 0o777: is {mode} meant to be octal, \
                 0o{mode}?"
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
        _ => Ok(()),
    }
}

/// The addresses of one server on their way to listeners.
struct Binding<'a> {
    core: &'a Core,
    options: BindOptions,
    socket: &'a SocketOptions,
    bound: Vec<Listener>,
    /// The addresses that were asked for and are bound.
    named: Vec<Address>,
}

impl<'a> Binding<'a> {
    fn new(core: &'a Core, options: BindOptions, socket: &'a SocketOptions) -> Self {
        Self {
            core,
            options,
            socket,
            bound: Vec::new(),
            named: Vec::new(),
        }
    }

    /// Sets the options on a listener that was given to the server.
    fn take_over(&mut self, mut listener: Listener) -> io::Result<()> {
        let address = listener.local_addr()?;
        let applied = self.socket.apply(self.core, &mut listener);
        applied.map_err(|error| refused(&address, &error))?;
        self.bound.push(listener);
        Ok(())
    }

    /// Binds an address, once. Port 0 names another address each time.
    fn bind(&mut self, address: &Address) -> io::Result<()> {
        if self.named.contains(address) {
            return Ok(());
        }
        let (options, socket) = (self.options, self.socket.prepare(self.core, address)?);
        let listener = self
            .core
            .with_driver(|driver| driver.bind(address, options, socket))?;
        self.bound.push(listener);
        if address.as_inet().is_none_or(|addr| addr.port() != 0) {
            self.named.push(address.clone());
        }
        Ok(())
    }

    fn bind_in_zone(&mut self, ip: Ipv6Addr, zone: String, port: u16) -> io::Result<()> {
        let bound =
            in_zone(self.core, ip, &zone, port).and_then(|addr| self.bind(&Address::Inet(addr)));
        bound.map_err(|error| refused(&Target::Zoned { ip, zone, port }, &error))
    }

    fn bind_name(&mut self, host: &str, port: u16) -> io::Result<()> {
        let name = Target::Name {
            host: host.to_owned(),
            port,
        };
        let addresses = self
            .core
            .resolver()
            .ask(host, port)
            .map_err(|error| refused(&name, &error))?;
        let number = addresses.len();
        let mut left_out = Vec::new();
        for address in addresses.into_iter().map(Address::Inet) {
            match self.bind(&address) {
                Ok(()) => {}
                Err(error) if is_not_of_this_machine(&error) => {
                    left_out.push(format!("{address}: {error}"));
                }
                Err(error) => return Err(refused(&format!("{name}: {address}"), &error)),
            }
        }
        if left_out.len() == number {
            let message = format!("cannot listen on {name}: {}", left_out.join("; "));
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        }
        Ok(())
    }
}

/// The address, or its whole family.
fn is_not_of_this_machine(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

pub(super) fn refused(place: &impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}
