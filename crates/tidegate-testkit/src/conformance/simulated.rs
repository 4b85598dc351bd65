//! A harness in a simulated world.

use super::harness::{Harness, Stranger};
use crate::{Host, World};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use tidegate::{Handle, Protocol};

/// TCP in the memory of a [`World`], each end on a host of its own; in virtual time.
pub struct Simulated {
    world: World,
    hosts: [Host; 2],
    server: SocketAddr,
    next: Rc<RefCell<Option<Box<dyn Protocol>>>>,
}

impl Simulated {
    /// A world in which nothing goes wrong.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn new() -> io::Result<Self> {
        Self::within(World::new())
    }

    /// Two more hosts in this world, whose seed, links and faults hold. Faults that end
    /// connections, and a world that loses time, are violations.
    ///
    /// # Errors
    ///
    /// When a fault of the world keeps the server from starting.
    pub fn within(mut world: World) -> io::Result<Self> {
        let hosts = [
            world.add_host("connecting.test")?,
            world.add_host("accepted.test")?,
        ];
        let next: Rc<RefCell<Option<Box<dyn Protocol>>>> = Rc::default();
        let slot = next.clone();
        let server = hosts[1].addr(7);
        hosts[1].handle().create_server(server, move || {
            slot.take().unwrap_or_else(|| Box::new(Stranger))
        })?;
        Ok(Self {
            world,
            hosts,
            server,
            next,
        })
    }
}

impl Harness for Simulated {
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()> {
        let unused = self.next.replace(Some(accepted));
        drop(unused);
        let handle = self.hosts[0].handle();
        handle.create_connection(self.server, connecting).detach();
        Ok(())
    }

    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        Ok(self.world.run_until_true(done)?)
    }

    fn settle(&mut self) -> io::Result<()> {
        Ok(self.world.settle()?)
    }

    fn handles(&self) -> Vec<Handle> {
        self.hosts
            .iter()
            .map(|host| host.handle().clone())
            .collect()
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulated")
            .field("world", &self.world)
            .finish_non_exhaustive()
    }
}
