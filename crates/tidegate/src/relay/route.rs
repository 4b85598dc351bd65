//! The check that a relay does not lead back to itself.
//!
//! A back that arrives at the listener of its own front becomes another front, and that has
//! another back, until no descriptors are left. So a loop notes where the backs of its relays go
//! ([`Routes`]), when an attempt begins and before the kernel can have a front for it. After the connect
//! it would be too late: each hop would be one ahead of the reset of the last. A front that one of them opened is recognised by
//! the addresses of both ends. The client of a Unix socket has none; there the last back to the
//! same file counts as the opener. The openers of a front are a chain, and a back is refused the
//! places at which the fronts of its chain were accepted.

use super::link::Link;
use crate::connect::Guide;
use crate::event_loop::Core;
use crate::{Address, Handle, Transport};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

/// Where the backs of a loop's relays go.
#[derive(Default)]
pub(crate) struct Routes(BTreeMap<Route, Weak<Link>>);

/// Both ends of a back. Unix clients have no place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    to: Place,
    from: Option<Place>,
}

/// The place that an address names: equal for texts that name the same listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// With the zone of an IPv6 address.
    Inet(IpAddr, u16, u32),
    /// By device and inode.
    File(u64, u64),
    /// Of a file that is gone, or in a world without files.
    Path(PathBuf),
}

/// The arrival of the front of a relay.
#[derive(Default)]
pub(super) struct Arrival {
    at: Option<Place>,
    opener: Weak<Link>,
}

/// Gives the connect of a relay's back its [`Link`].
pub(super) struct RelayGuide(pub(super) Weak<Link>);

impl Place {
    fn of(address: &Address, core: &Core) -> Option<Self> {
        match address {
            Address::Inet(addr) => Some(Self::of_inet(*addr)),
            Address::Unix(path) => {
                let file = core.with_driver(|driver| driver.as_dyn().file_of_socket(path));
                Some(match file {
                    Some((device, inode)) => Self::File(device, inode),
                    None => Self::Path(path.clone()),
                })
            }
            Address::Unnamed => None,
        }
    }

    fn of_inet(addr: SocketAddr) -> Self {
        let zone = match addr {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(addr) => addr.scope_id(),
        };
        // A connect to no address in particular goes to this machine.
        let ip = match addr.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self::Inet(ip, addr.port(), zone)
    }
}

impl Routes {
    fn get(&self, route: &Route) -> Option<Weak<Link>> {
        self.0.get(route).cloned()
    }

    fn insert(&mut self, route: Route, link: &Weak<Link>) {
        self.0.insert(route, link.clone());
    }

    /// Another relay may have taken the place over.
    fn remove(&mut self, route: &Route, link: *const Link) {
        if self.0.get(route).is_some_and(|own| own.as_ptr() == link) {
            self.0.remove(route);
        }
    }
}

impl Arrival {
    fn of(front: &Transport) -> Self {
        if !front.is_accepted() {
            return Self::default();
        }
        let core = front.handle().core();
        let Some(at) = Place::of(front.local_addr(), core) else {
            return Self::default();
        };
        let route = Route {
            to: at.clone(),
            from: Place::of(front.peer_addr(), core).filter(|_| matches!(at, Place::Inet(..))),
        };
        Self {
            at: Some(at),
            opener: core.routes.borrow().get(&route).unwrap_or_default(),
        }
    }
}

impl Link {
    /// Notes how the front came in. Called before its back is connected, so that every opener is older than
    /// the fronts that it opened, and chains have an end.
    pub(super) fn arrive(&self, front: &Transport) {
        let _ = self.arrival.set(Arrival::of(front));
    }

    /// Returns whether a front of the chain was accepted there.
    fn came_from(&self, place: &Place) -> bool {
        let mut opener: Rc<Self>;
        let mut link = self;
        loop {
            let Some(arrival) = link.arrival.get() else {
                return false;
            };
            if arrival.at.as_ref() == Some(place) {
                return true;
            }
            let Some(next) = arrival.opener.upgrade() else {
                return false;
            };
            opener = next;
            link = &opener;
        }
    }

    /// No back goes there any more.
    pub(super) fn forget_routes(&self, handle: &Handle) {
        let routes = self.routes.take();
        for route in routes {
            handle.core().routes.borrow_mut().remove(&route, self);
        }
    }
}

impl Guide for RelayGuide {
    fn check(&self, core: &Core, to: &Address) -> io::Result<()> {
        let (Some(link), Some(place)) = (self.0.upgrade(), Place::of(to, core)) else {
            return Ok(());
        };
        if link.came_from(&place) {
            let message = "the relay would lead back to itself: its front was accepted there, or \
                           another that led to it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    fn begun(&self, core: &Core, from: &Address, to: &Address) {
        let (Some(link), Some(to)) = (self.0.upgrade(), Place::of(to, core)) else {
            return;
        };
        let from = Place::of(from, core).filter(|_| matches!(to, Place::Inet(..)));
        let route = Route { to, from };
        core.routes.borrow_mut().insert(route.clone(), &self.0);
        link.routes.borrow_mut().push(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::of_inet(text.parse().unwrap())
    }

    #[test]
    fn texts_that_name_one_listener_name_one_place() {
        for (one, other) in [
            ("127.0.0.1:1", "0.0.0.0:1"),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1"),
            ("127.0.0.1:1", "[::ffff:0.0.0.0]:1"),
            ("[::1]:1", "[::]:1"),
        ] {
            assert_eq!(place(one), place(other), "{one} and {other}");
        }
    }

    #[test]
    fn another_port_address_or_zone_is_another_place() {
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("127.0.0.1:1", "[::1]:1"),
            ("[fe80::1%2]:1", "[fe80::1%3]:1"),
        ] {
            assert_ne!(place(one), place(other), "{one} and {other}");
        }
    }
}
