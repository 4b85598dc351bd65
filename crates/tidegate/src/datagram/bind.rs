//! From the options to an endpoint.

use super::endpoint::Endpoint;
use super::options::{DEFAULT_CAP, Local, Settings};
use super::{DatagramOptions, DatagramProtocol, DatagramTransport};
use crate::address::Target;
use crate::driver::{DatagramOption, Datagrams};
use crate::event_loop::{Core, Deferred, add};
use crate::resolve::in_zone;
use crate::{Address, Handle, LoopClosed};
use std::fmt;
use std::io;

/// # Datagrams
impl Handle {
    /// Binds an endpoint of datagrams, on UDP or a Unix socket, and starts to receive.
    ///
    /// Unlike asyncio's coroutine of this name it returns at once: binding takes no time, and the
    /// address is there for the next line. `connection_made` comes from the loop. A name is resolved
    /// here and now.
    ///
    /// # Errors
    ///
    /// Those of the system, with the address that they are about;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a text that is no address, and for a remote
    /// address that is a name: [resolve](Self::resolve) it first; [`LoopClosed`].
    ///
    /// ```
    /// use tidegate::{Address, DatagramProtocol, DatagramTransport, EventLoop, Result};
    ///
    /// struct Echo;
    ///
    /// impl DatagramProtocol for Echo {
    ///     fn datagram_received(
    ///         &mut self,
    ///         transport: &DatagramTransport,
    ///         data: &[u8],
    ///         from: &Address,
    ///     ) -> Result {
    ///         transport.send_to(data, from)?;
    ///         transport.close();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let echo = event_loop.handle().create_datagram_endpoint("127.0.0.1:0", Echo)?;
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// peer.send_to(b"hello", echo.local_addr().as_inet().unwrap())?;
    /// let closed = event_loop.run_until(echo.wait_closed())?;
    /// assert!(closed.is_clean());
    /// # Ok(()) }
    /// ```
    pub fn create_datagram_endpoint(
        &self,
        options: impl Into<DatagramOptions>,
        protocol: impl DatagramProtocol,
    ) -> io::Result<DatagramTransport> {
        let protocol: Box<dyn DatagramProtocol> = Box::new(protocol);
        let core = self.core();
        match bind(self, options.into()) {
            Ok((settings, socket)) => {
                let transport = Endpoint::start(settings, socket, protocol);
                transport.register().map(|()| transport)
            }
            Err(error) => {
                core.defer_drop(Deferred::Value(Box::new(protocol)));
                Err(error)
            }
        }
    }

    /// Returns the endpoint of this id, if it has not ended.
    pub(super) fn datagrams(&self, id: crate::TransportId) -> Option<DatagramTransport> {
        self.core().datagrams(id)
    }
}

impl DatagramTransport {
    fn register(&self) -> io::Result<()> {
        let endpoint = self.endpoint();
        let core = endpoint.core();
        add(&core.counters.registrations, 1);
        let registered = match endpoint.socket.borrow_mut().as_mut() {
            Some(socket) => core.with_driver(|driver| {
                let token = endpoint.id.token();
                driver.as_dyn().register_datagrams(socket, token)
            }),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if registered.is_err() {
            let gone = core.registry.borrow_mut().remove(endpoint.id);
            drop(gone);
            if let Some(protocol) = endpoint.protocol.take() {
                core.defer_drop(Deferred::Value(Box::new(protocol)));
            }
        }
        self.touch();
        registered
    }
}

fn bind(handle: &Handle, options: DatagramOptions) -> io::Result<(Settings, Datagrams)> {
    let core = handle.core();
    if core.is_closed() {
        return Err(LoopClosed.into());
    }
    let marks = options.write_limits.or_cap(DEFAULT_CAP).resolve()?;
    let remote = options
        .remote
        .map(|remote| remote_address(core, remote?))
        .transpose()?;
    let bind = |local: Option<&Address>| {
        let bound = core.with_driver(|driver| {
            let driver = driver.as_dyn();
            driver.bind_datagrams(local, remote.as_ref(), options.bind)
        });
        bound.map_err(|error| refused(local.or(remote.as_ref()), &error))
    };
    let (mut socket, connected) = match options.local {
        Local::Failed(error) => return Err(error),
        Local::Given(_, Some(_)) if remote.is_some() => {
            let message = "the given socket has a remote address already";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Local::Given(mut socket, connected) => {
            if options.bind.broadcast {
                socket.set_option(DatagramOption::Broadcast(true))?;
            }
            if let Some(remote) = &remote {
                socket
                    .connect(remote)
                    .map_err(|error| refused(Some(remote), &error))?;
            }
            (socket, connected)
        }
        Local::Unbound => (bind(None)?, None),
        Local::Target(target) => (bind_target(core, target, bind)?, None),
    };
    for option in options.options {
        socket.set_option(option)?;
    }
    let segments = if options.segmentation {
        socket.max_segments().clamp(1, usize::from(u8::MAX))
    } else {
        1
    };
    let remote = remote.or(connected);
    let of_kernel = remote.as_ref().and_then(|_| socket.remote_addr());
    let settings = Settings {
        handle: handle.clone(),
        local: socket.local_addr()?,
        remote_of_kernel: of_kernel.filter(|addr| Some(addr) != remote.as_ref()),
        remote,
        marks,
        when_full: options.when_full,
        segments: segments as u8,
    };
    Ok((settings, socket))
}

/// Binds to the first address that can be bound.
fn bind_target(
    core: &Core,
    target: Target,
    bind: impl Fn(Option<&Address>) -> io::Result<Datagrams>,
) -> io::Result<Datagrams> {
    match target {
        Target::Address(address) => bind(Some(&address)),
        Target::Zoned { ip, zone, port } => {
            let addr = in_zone(core, ip, &zone, port)?;
            bind(Some(&Address::Inet(addr)))
        }
        Target::Name { host, port } => {
            let mut failed = None;
            for addr in core.resolver().ask(&host, port)? {
                match bind(Some(&Address::Inet(addr))) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => failed = Some(error),
                }
            }
            let none = || io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
            Err(failed.unwrap_or_else(none))
        }
    }
}

fn remote_address(core: &Core, target: Target) -> io::Result<Address> {
    match target {
        Target::Address(Address::Unnamed) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an unnamed Unix socket cannot be sent to",
        )),
        Target::Address(address) => Ok(address),
        Target::Zoned { ip, zone, port } => Ok(Address::Inet(in_zone(core, ip, &zone, port)?)),
        Target::Name { host, port } => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{host}:{port} is a name: resolve it first, for example with Handle::resolve"),
        )),
    }
}

fn refused(address: Option<&Address>, error: &io::Error) -> io::Error {
    let place: &dyn fmt::Display = match address {
        Some(address) => address,
        None => &"any address",
    };
    io::Error::new(
        error.kind(),
        format!("cannot make an endpoint of datagrams at {place}: {error}"),
    )
}
