//! The names that the hosts of a world can resolve.

use crate::faults::{Dice, Fault};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Debug)]
pub(super) struct Names {
    known: BTreeMap<String, Vec<IpAddr>>,
    pub(super) dice: Dice,
}

impl Names {
    pub(super) fn new(dice: Dice) -> Self {
        let mut names = Self {
            known: BTreeMap::new(),
            dice,
        };
        names.add(
            "localhost",
            &[Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        );
        names
    }

    pub(super) fn add(&mut self, name: &str, addresses: &[IpAddr]) {
        self.known
            .insert(name.to_ascii_lowercase(), addresses.to_vec());
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.known.contains_key(&name.to_ascii_lowercase())
    }

    pub(super) fn resolve(&mut self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if self.dice.strikes(Fault::ResolveFailed) {
            let message = format!("{name}: temporary failure in name resolution");
            return Err(io::Error::other(message));
        }
        match self.known.get(&name.to_ascii_lowercase()) {
            Some(addresses) => {
                let with_port = |ip: &IpAddr| SocketAddr::new(*ip, port);
                Ok(addresses.iter().map(with_port).collect())
            }
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{name}: no host of this world has that name"),
            )),
        }
    }
}
