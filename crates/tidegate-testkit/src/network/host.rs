use super::state::{HostId, WorldId, addresses};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tidegate::Handle;

/// A host of a [`World`](crate::World). Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host {
    id: HostId,
    /// That of its world: a number is another host's in another one.
    world: WorldId,
    name: Rc<str>,
    handle: Handle,
}

impl Host {
    pub(crate) fn new(id: HostId, world: WorldId, name: &str, handle: Handle) -> Self {
        Self {
            id,
            world,
            name: name.into(),
            handle,
        }
    }

    pub(crate) fn is_of(&self, world: WorldId) -> bool {
        self.world == world
    }

    /// Returns its number in this world.
    #[track_caller]
    pub(super) fn id_in(&self, world: WorldId) -> HostId {
        assert!(
            self.is_of(world),
            "the host {:?} is of another world",
            self.name
        );
        self.id
    }

    /// Returns the handle to its loop.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns its name, which resolves to its addresses.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its IPv4 address.
    pub fn ip(&self) -> IpAddr {
        let [v4, _] = addresses(self.id);
        v4
    }

    /// Returns its IPv6 address.
    pub fn ipv6(&self) -> IpAddr {
        let [_, v6] = addresses(self.id);
        v6
    }

    /// Returns a port at its IPv4 address.
    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }
}
