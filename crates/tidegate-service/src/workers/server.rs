//! A server on all loops.

use super::Workers;
use super::door::{Door, To};
use super::gate::Gate;
use super::spread::{Spread, Turns};
use super::thread::{LoopThread, caught};
use super::worker::Home;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate::{Address, Handle, ListenOptions, LoopClosed, Protocol};

/// The number of the next server of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// In the error of a panic.
const CLOSURE: &str = "a closure of the server";

/// A server whose connections are spread over the loops of [`Workers`]. Dropping it does nothing: the
/// workers serve on until their [`shutdown`](Workers::shutdown). Clones name the same server.
#[derive(Clone)]
pub struct WorkersServer {
    addrs: Arc<[Address]>,
    gate: Arc<Gate>,
}

impl WorkersServer {
    /// Returns the addresses that it listens on, with the port that was taken for port 0.
    pub fn local_addrs(&self) -> &[Address] {
        &self.addrs
    }

    /// Returns the number of connections on each loop, in the order of the threads. One that is on its way
    /// to a loop counts.
    pub fn connections(&self) -> Vec<usize> {
        self.gate.connections()
    }
}

impl fmt::Debug for WorkersServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersServer")
            .field("addrs", &self.local_addrs())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

type Change = Arc<dyn Fn(ListenOptions) -> ListenOptions + Send + Sync>;

impl Workers {
    /// Listens, and spreads the accepted connections over the loops.
    ///
    /// `options` runs on each loop, and once more on each that accepts: settings of connections, such as
    /// timeouts and [layers](ListenOptions::layer), hold where the connection is, and those of
    /// accepting, such as [`accept_if`](ListenOptions::accept_if), where it is accepted. It adds no addresses.
    ///
    /// `factory` runs once on each loop, and returns a closure that makes the protocols of the
    /// connections there. That closure stays on its loop, so what it shares among connections may be an
    /// [`Rc`].
    ///
    /// [`ListenOptions::max_connections`] is a maximum of all loops together, without the sockets that linger.
    /// With [`Spread::ReusePort`] each loop may have accepted one more, which waits for a place.
    /// [`ListenOptions::max_connections_per_peer`] holds for each loop.
    ///
    /// `at` is what [`ListenOptions`] is made of. For addresses that differ in their settings, or another
    /// [`String`] than a constant one, see its conversions.
    ///
    /// # Errors
    ///
    /// As [`Handle::create_server`]; a panic of one of the closures, on any loop;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when `options` adds an address; [`LoopClosed`] when every worker
    /// has ended. Nothing listens then. A worker that has ended before is left out.
    pub fn create_server<P: Protocol, F: FnMut() -> P + 'static>(
        &self,
        at: impl Into<ListenOptions> + Send + 'static,
        options: impl Fn(ListenOptions) -> ListenOptions + Send + Sync + 'static,
        spread: Spread,
        factory: impl Fn(&Handle) -> F + Send + Sync + 'static,
    ) -> io::Result<WorkersServer> {
        self.serve(at, options, spread, move |handle, options, gate| {
            Home::open(handle, options, factory(handle), gate, |server| {
                let server = server.clone();
                Rc::new(move |grace| server.shutdown(grace))
            })
        })
    }

    /// Listens, with a part of the server on each loop, which `open` makes.
    pub(super) fn serve(
        &self,
        at: impl Into<ListenOptions> + Send + 'static,
        options: impl Fn(ListenOptions) -> ListenOptions + Send + Sync + 'static,
        spread: Spread,
        open: impl Fn(&Handle, ListenOptions, &Arc<Gate>) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<WorkersServer> {
        let gate = Gate::new(NEXT.fetch_add(1, Ordering::Relaxed), self.threads().len());
        let change: Change = Arc::new(options);
        let opened = self
            .open_homes(&gate, &change, open)
            .and_then(|living| match spread {
                Spread::ReusePort => self.listen_on_each(at, &change, &living, &gate),
                spread => self.listen_apart(at, &change, Turns::new(spread, &living), &gate),
            });
        let number = gate.server();
        match opened {
            Ok(addrs) => {
                self.gates().push(gate.clone());
                let addrs = addrs.into();
                Ok(WorkersServer { addrs, gate })
            }
            Err(error) => {
                self.on_each(move |_| {
                    Door::close(number);
                    Home::close(number);
                });
                Err(error)
            }
        }
    }

    /// Makes the part of each loop. Returns, in the order of the threads, which loops live.
    fn open_homes(
        &self,
        gate: &Arc<Gate>,
        change: &Change,
        open: impl Fn(&Handle, ListenOptions, &Arc<Gate>) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Vec<bool>> {
        let (gate, change) = (gate.clone(), change.clone());
        let opened = self.ask_each(move |handle| {
            caught(CLOSURE, || {
                open(handle, change(ListenOptions::nowhere()), &gate)
            })
        });
        if opened.iter().all(Option::is_none) {
            return Err(LoopClosed.into());
        }
        let opened = opened.into_iter().map(Option::transpose);
        opened.map(|opened| Ok(opened?.is_some())).collect()
    }

    /// Has every loop listen: the first one where it is told to, the others at the addresses that it got.
    fn listen_on_each(
        &self,
        at: impl Into<ListenOptions> + Send + 'static,
        change: &Change,
        living: &[bool],
        gate: &Arc<Gate>,
    ) -> io::Result<Vec<Address>> {
        let threads = self.threads();
        let mut living = threads.iter().enumerate().filter(|(n, _)| living[*n]);
        let Some((number, first)) = living.next() else {
            return Err(LoopClosed.into());
        };
        let addrs = listen(first, at, change, To::Own(number), gate)?;
        for (number, thread) in living {
            listen(thread, addrs.clone(), change, To::Own(number), gate)?;
        }
        Ok(addrs)
    }

    /// Has a thread of its own listen.
    fn listen_apart(
        &self,
        at: impl Into<ListenOptions> + Send + 'static,
        change: &Change,
        turns: Turns,
        gate: &Arc<Gate>,
    ) -> io::Result<Vec<Address>> {
        let accepting = self.start_thread("accept", false)?;
        match listen(
            &accepting,
            at,
            change,
            To::Loops(turns, self.remotes()),
            gate,
        ) {
            Ok(addrs) => {
                self.accepting().push(accepting);
                Ok(addrs)
            }
            Err(error) => {
                accepting.end();
                Err(error)
            }
        }
    }
}

fn listen(
    thread: &LoopThread,
    at: impl Into<ListenOptions> + Send + 'static,
    change: &Change,
    to: To,
    gate: &Arc<Gate>,
) -> io::Result<Vec<Address>> {
    let (change, gate) = (change.clone(), gate.clone());
    let opened = thread.ask(move |handle, told| {
        let opened = caught(CLOSURE, || {
            let shared = matches!(to, To::Own(_));
            let options = change(at.into());
            let options = if shared {
                options.reuse_port(true)
            } else {
                options
            };
            Door::open(handle, options, to, &gate)
        });
        // Somebody waits for it.
        let _ = told.send(opened);
    });
    opened.recv().unwrap_or_else(|_| Err(LoopClosed.into()))
}
