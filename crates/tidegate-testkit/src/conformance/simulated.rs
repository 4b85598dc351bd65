//! The harness over a simulated world.

use super::Harness;
use crate::single_connection::Unexpected;
use crate::{Host, World};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use tidegate::{Handle, Protocol};

/// A harness for TCP in a [`World`], in virtual time, with each end on a host of its own.
pub struct Simulated {
    world: World,
    hosts: [Host; 2],
    server: SocketAddr,
    next: Rc<RefCell<Option<Box<dyn Protocol>>>>,
}

impl Simulated {
    /// Makes a world without faults.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn new() -> io::Result<Self> {
        Self::within(World::new())
    }

    /// Adds two hosts to a world, whose seed, links and faults hold. Faults that end connections are
    /// violations, and so is a world that loses time.
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
            slot.take().unwrap_or_else(|| Box::new(Unexpected))
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
