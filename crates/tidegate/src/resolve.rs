//! Names of hosts. Asking for one may take long: who connects has a job ask.

use crate::panics::caught;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

type Ask = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Answers the addresses of a host, in the order in which they are to be tried. May block.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Ask>);

impl Resolver {
    pub(crate) fn new(
        ask: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    /// At least one address is an answer, and each comes once.
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
