//! Names of hosts. Asking for one may take long: a connect has a job ask.

use crate::address::Target;
use crate::completion::{Completion, Work};
use crate::driver::JobId;
use crate::event_loop::Core;
use crate::panics::caught;
use crate::{Handle, LoopClosed};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::Arc;

/// # Names
impl Handle {
    /// Resolves a host to its addresses, at least one, in the order in which to try them.
    ///
    /// A name is resolved by the system (getaddrinfo(3)), or by the
    /// [`resolver`](crate::EventLoopBuilder::resolver) of the loop, as a [job](Self::run_in_executor). A
    /// numeric host needs no job, nor does one in the zone of a network interface, such as
    /// `fe80::1%eth0`.
    ///
    /// A name has to be ASCII: encode others as IDNA says (RFC 5891), for example with the crate
    /// idna.
    ///
    /// # Errors
    ///
    /// Of the completion: those of the system; [`NotFound`](io::ErrorKind::NotFound) when there is
    /// no address, or no such interface; [`InvalidInput`](io::ErrorKind::InvalidInput) for a text that is
    /// no host; [`LoopClosed`].
    #[doc(alias = "getaddrinfo")]
    pub fn resolve(&self, host: &str, port: u16) -> Completion<Vec<SocketAddr>> {
        let core = self.core();
        if core.is_closed() {
            return Completion::ready(self, Err(LoopClosed.into()));
        }
        let name = match Target::of_host(host, port) {
            Ok(Target::Name { host, .. }) => host,
            Ok(Target::Address(address)) => {
                let answer = Ok(address.as_inet().into_iter().collect());
                return Completion::ready(self, answer);
            }
            Ok(Target::Zoned { ip, zone, port }) => {
                let found = in_zone(core, ip, &zone, port);
                return Completion::ready(self, found.map(|addr| vec![addr]));
            }
            Err(error) => return Completion::ready(self, Err(error)),
        };
        let (completer, completion) = Completion::pair(self);
        let id = self.resolve_name(&name, port, move |_, answer| completer.complete(answer));
        completion.on_drop(Work::Job(id), None);
        completion
    }

    /// Has a name resolved off the loop; `answer` runs on it.
    pub(crate) fn resolve_name(
        &self,
        host: &str,
        port: u16,
        answer: impl FnOnce(&Self, io::Result<Vec<SocketAddr>>) + 'static,
    ) -> JobId {
        let (resolver, host) = (self.core().resolver(), host.to_owned());
        self.start_job(move || resolver.ask(&host, port), answer)
    }
}

/// The address in the zone of an interface, which has a number here.
pub(crate) fn in_zone(core: &Core, ip: Ipv6Addr, zone: &str, port: u16) -> io::Result<SocketAddr> {
    let index = core.with_driver(|driver| driver.as_dyn().interface_index(zone))?;
    Ok(SocketAddrV6::new(ip, port, 0, index).into())
}

type Ask = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Returns the addresses of a host, in the order in which to try them. May block.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Ask>);

impl Resolver {
    pub(crate) fn new(
        ask: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    /// Returns at least one address, and each once.
    pub(crate) fn ask(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = caught(|| (self.0)(host, port)).unwrap_or_else(|message| {
            let message = format!("the resolver panicked: {message}");
            Err(io::Error::other(message))
        })?;
        let mut seen = BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() {
            let message = format!("{host} has no address");
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(addresses)
    }
}

/// The system's: getaddrinfo(3).
impl Default for Resolver {
    fn default() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_comes_once_and_in_the_order_of_the_answer() {
        let given = addresses(&["127.0.0.2:1", "[::1]:1", "127.0.0.2:1", "127.0.0.1:1"]);
        let resolver = Resolver::new(move |_, _| Ok(given.clone()));
        let expected = addresses(&["127.0.0.2:1", "[::1]:1", "127.0.0.1:1"]);
        assert_eq!(resolver.ask("name", 1).unwrap(), expected);
    }

    #[test]
    fn no_address_and_a_panic_are_errors() {
        let error = Resolver::new(|_, _| Ok(Vec::new()))
            .ask("name", 1)
            .unwrap_err();
        assert_eq!(error.to_string(), "name has no address");
        let error = Resolver::new(|_, _| panic!("no")).ask("name", 1);
        assert_eq!(error.unwrap_err().to_string(), "the resolver panicked: no");
    }

    #[test]
    fn the_system_knows_localhost() {
        let found = Resolver::default().ask("localhost", 7).unwrap();
        assert!(
            found
                .iter()
                .all(|addr| addr.ip().is_loopback() && addr.port() == 7)
        );
    }
}
