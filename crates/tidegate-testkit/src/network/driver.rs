//! The simulated kernel in the place of the real one, under a loop.

use super::Network;
use super::child::{self, SimulatedPipe};
use super::datagram::MAX_SEGMENTS;
use super::endpoint::EndpointId;
use super::listener::{ListenerId, inet};
use super::port::PortId;
use super::process::Pid;
use super::state::{HostId, State};
use crate::faults::Fault;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::Address;
#[cfg(feature = "signal")]
use tidegate::Signal;
use tidegate::driver::{
    BindOptions, DatagramBindOptions, DatagramOption, DatagramSocket, Datagrams, Driver, Events,
    Job, JobId, JobStart, Listener, ListenerSocket, Process, Readiness, Received, Socket,
    SocketOption, Spawned, StreamSocket, Token, Transmit, WAKE, Wake,
};

/// The kernel of one host. Its polls never wait: the world runs a loop only when there is
/// something for it, and moves the clock when no loop has anything to do.
#[derive(Debug)]
pub(crate) struct SimulatedDriver {
    network: Network,
    host: HostId,
}

impl SimulatedDriver {
    pub(crate) fn new(network: &Network, host: HostId) -> Self {
        let network = network.clone();
        Self { network, host }
    }

    fn with<R>(&self, call: impl FnOnce(&mut State, HostId) -> R) -> R {
        self.network.with(|state| call(state, self.host))
    }
}

impl Driver for SimulatedDriver {
    fn poll(&mut self, events: &mut Events, _: Option<Duration>) -> io::Result<()> {
        self.with(|state, host| {
            if state.dice.strikes(Fault::Interrupted) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let rang = state.host(host).bell.take();
            if rang {
                events.push(WAKE, Readiness::new());
            }
            let taken = state.take_events(host);
            let count = taken.len() as u64 + u64::from(rang);
            events.extend(taken);
            state.note(("tick", host.0 as u64, count), &[], || {
                format!("{host} tick, {count} events")
            });
            Ok(())
        })
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.with(|state, host| state.host(host).bell.clone())
    }

    fn now(&self) -> Instant {
        self.with(|state, _| state.instant())
    }

    fn bind(&mut self, address: &Address, options: BindOptions) -> io::Result<Listener> {
        let addr = inet(address)?;
        let id = self.with(|state, host| state.bind(host, addr, options, true))?;
        let network = self.network.clone();
        Ok(Listener::foreign(SimulatedListener { network, id }))
    }

    fn listen(&mut self, listener: &mut Listener, backlog: u32, token: Token) -> io::Result<()> {
        let id = listener.of::<SimulatedListener>()?.id;
        self.with(|state, _| state.listen(id, backlog as usize, Some(token)));
        Ok(())
    }

    fn connect(&mut self, address: &Address, from: Option<SocketAddr>) -> io::Result<Socket> {
        let to = inet(address)?;
        let id = self.with(|state, host| state.connect(host, to, from, true))?;
        Ok(SimulatedStream::socket(&self.network, id))
    }

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        if let Ok(pipe) = socket.of::<SimulatedPipe>() {
            return self.with(|state, _| state.register_pipe(pipe.id, token));
        }
        let id = socket.of::<SimulatedStream>()?.id;
        self.with(|state, host| {
            let Some(endpoint) = state.endpoint(id) else {
                return;
            };
            endpoint.watch = Some((host, token));
            let ready = endpoint.readiness();
            if ready != Readiness::new() {
                state.tell(id, ready);
            }
        });
        Ok(())
    }

    fn deregister(&mut self, socket: &mut Socket) -> io::Result<()> {
        let id = socket.of::<SimulatedStream>()?.id;
        self.with(|state, _| state.unwatch(id));
        Ok(())
    }

    fn bind_datagrams(
        &mut self,
        local: Option<&Address>,
        remote: Option<&Address>,
        options: DatagramBindOptions,
    ) -> io::Result<Datagrams> {
        let (local, remote) = (local.map(inet).transpose()?, remote.map(inet).transpose()?);
        let id = self.with(|state, host| state.bind_port(host, local, remote, options, true))?;
        let network = self.network.clone();
        Ok(Datagrams::foreign(SimulatedDatagrams { network, id }))
    }

    fn register_datagrams(&mut self, socket: &mut Datagrams, token: Token) -> io::Result<()> {
        let id = socket.of::<SimulatedDatagrams>()?.id;
        self.with(|state, _| state.register_port(id, token))
    }

    fn watch_room(&mut self, socket: &mut Datagrams, _: Token, on: bool) -> io::Result<()> {
        let id = socket.of::<SimulatedDatagrams>()?.id;
        self.with(|state, _| state.watch_room(id, on))
    }

    #[cfg(feature = "signal")]
    fn watch_signal(&mut self, signal: Signal, token: Token) -> io::Result<()> {
        self.with(|state, host| state.watch_signal(host, signal, token));
        Ok(())
    }

    #[cfg(feature = "signal")]
    fn forget_signal(&mut self, signal: Signal) {
        self.with(|state, host| state.forget_signal(host, signal));
    }

    #[cfg(feature = "signal")]
    fn take_signals(&mut self) -> Vec<Signal> {
        self.with(|state, host| state.take_signals(host))
    }

    fn spawn(&mut self, command: &mut Command) -> io::Result<Spawned> {
        child::spawn(&self.network, self.host, command)
    }

    fn watch_child(&mut self, process: &mut Process, token: Token) -> io::Result<()> {
        let pid = Pid(process.id());
        self.with(|state, _| state.watch_process(pid, token));
        Ok(())
    }

    fn start_job(&mut self, id: JobId, job: Job) -> JobStart {
        self.with(|state, host| state.start_job(host, id, job));
        JobStart::Taken
    }

    fn cancel_job(&mut self, id: JobId) -> Option<Job> {
        self.with(|state, host| state.cancel_job(host, id))
    }

    fn close_jobs(&mut self) -> Vec<Job> {
        self.with(|state, host| state.close_jobs(host))
    }
}

#[derive(Debug)]
struct SimulatedListener {
    network: Network,
    id: ListenerId,
}

impl ListenerSocket for SimulatedListener {
    fn accept(&mut self) -> io::Result<(Socket, Address)> {
        let (id, peer) = self.network.with(|state| state.accept(self.id))?;
        Ok((SimulatedStream::socket(&self.network, id), peer.into()))
    }

    fn local_addr(&self) -> io::Result<Address> {
        let addr = self.network.with(|state| state.listener_addr(self.id))?;
        Ok(addr.into())
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        self.network.with(|state| state.close_listener(self.id));
    }
}

#[derive(Debug)]
struct SimulatedStream {
    network: Network,
    id: EndpointId,
}

impl SimulatedStream {
    fn socket(network: &Network, id: EndpointId) -> Socket {
        let network = network.clone();
        Socket::foreign(Self { network, id })
    }
}

impl StreamSocket for SimulatedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.network.with(|state| state.read(self.id, buffer))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.network.with(|state| state.write(self.id, slices))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.network.with(|state| state.shutdown_write(self.id))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.network.with(|state| state.take_error(self.id)))
    }

    fn connected(&mut self) -> io::Result<bool> {
        self.network.with(|state| state.connected(self.id))
    }

    fn local_addr(&self) -> io::Result<Address> {
        let addr = self
            .network
            .with(|state| state.endpoint(self.id).map(|endpoint| endpoint.local));
        Ok(addr.map_or(Address::Unnamed, Address::Inet))
    }

    fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        self.network.with(|state| state.set_option(self.id, option))
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        self.network.with(|state| state.close(self.id));
    }
}

#[derive(Debug)]
struct SimulatedDatagrams {
    network: Network,
    id: PortId,
}

impl DatagramSocket for SimulatedDatagrams {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        self.network.with(|state| state.receive(self.id, buffer))
    }

    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<()> {
        self.network
            .with(|state| state.send_datagrams(self.id, transmit))
    }

    fn max_segments(&self) -> usize {
        MAX_SEGMENTS
    }

    fn local_addr(&self) -> io::Result<Address> {
        let addr = self.network.with(|state| state.port_addr(self.id))?;
        Ok(addr.into())
    }

    fn set_option(&mut self, option: DatagramOption) -> io::Result<()> {
        self.network
            .with(|state| state.set_port_option(self.id, option))
    }
}

impl Drop for SimulatedDatagrams {
    fn drop(&mut self) {
        self.network.with(|state| state.close_port(self.id));
    }
}
