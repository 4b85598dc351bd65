//! From the places of the options to bound listeners.

use super::options::{ListenAt, ListenOptions};
use crate::Address;
use crate::address::Target;
use crate::driver::{BindOptions, Listener};
use crate::event_loop::Core;
use std::fmt;
use std::io;

impl ListenOptions {
    /// Binds every address, or none. Names are resolved here and now.
    pub(super) fn bind(&mut self, core: &Core) -> io::Result<Vec<Listener>> {
        check_mode(self.bind.unix.mode)?;
        let mut bound = Vec::new();
        for at in self.at.drain(..) {
            match at {
                ListenAt::Ready(listener) => bound.push(listener),
                ListenAt::Failed(error) => return Err(error),
                ListenAt::Target(Target::Address(address)) => {
                    let listener = bind(core, &address, self.bind);
                    bound.push(listener.map_err(|error| refused(&address, &error))?);
                }
                ListenAt::Target(Target::Name { host, port }) => {
                    bound.extend(bind_name(core, &host, port, self.bind)?);
                }
            }
        }
        if bound.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a server needs at least one address to listen on",
            ));
        }
        Ok(bound)
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

fn bind(core: &Core, address: &Address, options: BindOptions) -> io::Result<Listener> {
    core.with_driver(|driver| driver.as_dyn().bind(address, options))
}

fn bind_name(
    core: &Core,
    host: &str,
    port: u16,
    options: BindOptions,
) -> io::Result<Vec<Listener>> {
    let name = Target::Name {
        host: host.to_owned(),
        port,
    };
    let addresses = core
        .resolver()
        .ask(host, port)
        .map_err(|error| refused(&name, &error))?;
    let (mut bound, mut left_out) = (Vec::new(), Vec::new());
    for address in addresses.into_iter().map(Address::Inet) {
        match bind(core, &address, options) {
            Ok(listener) => bound.push(listener),
            Err(error) if is_not_of_this_machine(&error) => left_out.push((address, error)),
            Err(error) => {
                return Err(refused(&format!("{name}: {address}"), &error));
            }
        }
    }
    if bound.is_empty() {
        let reasons: Vec<_> = left_out
            .iter()
            .map(|(address, error)| format!("{address}: {error}"))
            .collect();
        let message = format!("cannot listen on {name}: {}", reasons.join("; "));
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    Ok(bound)
}

/// The address, or its whole family.
fn is_not_of_this_machine(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

pub(super) fn refused(place: &impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}
