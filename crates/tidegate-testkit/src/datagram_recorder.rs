//! A protocol of datagrams that records its callbacks, checks their grammar and acts as a test tells it.

use crate::log::Log;
use crate::watched::Watched;
use std::fmt;
use tidegate::{
    Address, Closed, DatagramError, DatagramProtocol, DatagramTransport, OnPause, Result,
};

type Hook<R> = Option<Box<dyn FnMut(&DatagramTransport) -> Result<R>>>;
type DatagramHook = Option<Box<dyn FnMut(&DatagramTransport, &[u8], &Address) -> Result>>;
type ErrorHook = Option<Box<dyn FnMut(&DatagramTransport, &DatagramError) -> Result>>;
type LostHook = Option<Box<dyn FnMut(&DatagramTransport, &Closed)>>;

/// Records every callback of an endpoint of datagrams in a [`Log`], then calls the test's closures.
///
/// To record the callbacks of a protocol of your own, see [`Watched`].
///
/// ```
/// use tidegate::{Address, DatagramOptions};
/// use tidegate_testkit::{DatagramRecorder, Log, Seen, World};
///
/// # fn main() -> tidegate::Result {
/// let mut world = World::new();
/// let (a, b) = (world.add_host("a")?, world.add_host("b")?);
/// let (asked, served) = (Log::new(), Log::new());
/// let server = DatagramRecorder::echo(&served);
/// b.handle().create_datagram_endpoint(b.addr(7), server)?;
/// let client = DatagramRecorder::new(&asked)
///     .on_made(|transport| {
///         transport.send(b"hello")?;
///         Ok(())
///     })
///     .on_datagram(|transport, _, _| {
///         transport.close();
///         Ok(())
///     });
/// let to = DatagramOptions::connected(b.addr(7));
/// a.handle().create_datagram_endpoint(to, client)?;
/// world.run_until_idle()?;
/// assert_eq!(asked.words(), ["made", "datagram", "lost"]);
/// assert_eq!(asked.seen()[1], Seen::Datagram(b"hello".to_vec(), b.addr(7).into()));
/// assert_eq!(served.datagrams(), [b"hello"]);
/// # Ok(()) }
/// ```
#[must_use]
pub struct DatagramRecorder(Watched<Hooks>);

/// The closures of a test.
#[derive(Default)]
struct Hooks {
    made: Hook<()>,
    datagram: DatagramHook,
    batch: Hook<()>,
    error: ErrorHook,
    pause: Hook<OnPause>,
    resume: Hook<()>,
    lost: LostHook,
}

impl DatagramRecorder {
    /// Records into `log` and does nothing else.
    pub fn new(log: &Log) -> Self {
        Self(Watched::new(Hooks::default(), log))
    }

    /// Sends each datagram back to its sender.
    pub fn echo(log: &Log) -> Self {
        Self::new(log).on_datagram(|transport, data, from| {
            transport.send_to(data, from)?;
            Ok(())
        })
    }

    /// Calls `hook` in `connection_made`.
    pub fn on_made(mut self, hook: impl FnMut(&DatagramTransport) -> Result + 'static) -> Self {
        self.0.protocol.made = Some(Box::new(hook));
        self
    }

    /// Calls `hook` with each datagram and its sender.
    pub fn on_datagram(
        mut self,
        hook: impl FnMut(&DatagramTransport, &[u8], &Address) -> Result + 'static,
    ) -> Self {
        self.0.protocol.datagram = Some(Box::new(hook));
        self
    }

    /// Calls `hook` in `batch_received`, of which the record has nothing: a [note](Log::note) can tell of it.
    pub fn on_batch(mut self, hook: impl FnMut(&DatagramTransport) -> Result + 'static) -> Self {
        self.0.protocol.batch = Some(Box::new(hook));
        self
    }

    /// Calls `hook` in `error_received`.
    pub fn on_error(
        mut self,
        hook: impl FnMut(&DatagramTransport, &DatagramError) -> Result + 'static,
    ) -> Self {
        self.0.protocol.error = Some(Box::new(hook));
        self
    }

    /// Calls `hook` in `pause_writing`, and returns its result; that of the default implementation unless
    /// set.
    pub fn on_pause(
        mut self,
        hook: impl FnMut(&DatagramTransport) -> Result<OnPause> + 'static,
    ) -> Self {
        self.0.protocol.pause = Some(Box::new(hook));
        self
    }

    /// Calls `hook` in `resume_writing`.
    pub fn on_resume(mut self, hook: impl FnMut(&DatagramTransport) -> Result + 'static) -> Self {
        self.0.protocol.resume = Some(Box::new(hook));
        self
    }

    /// Calls `hook` in `connection_lost`.
    pub fn on_lost(mut self, hook: impl FnMut(&DatagramTransport, &Closed) + 'static) -> Self {
        self.0.protocol.lost = Some(Box::new(hook));
        self
    }
}

impl fmt::Debug for DatagramRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramRecorder")
            .field("log", &self.0.log)
            .finish_non_exhaustive()
    }
}

/// The default implementations of the trait.
struct Provided;

impl DatagramProtocol for Provided {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        Ok(())
    }
}

impl DatagramProtocol for Hooks {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.made.as_mut().map_or(Ok(()), |hook| hook(transport))
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        let hook = self.datagram.as_mut();
        hook.map_or(Ok(()), |hook| hook(transport, data, from))
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        self.batch.as_mut().map_or(Ok(()), |hook| hook(transport))
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        let hook = self.error.as_mut();
        hook.map_or(Ok(()), |hook| hook(transport, error))
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        match &mut self.pause {
            Some(hook) => hook(transport),
            None => Provided.pause_writing(transport),
        }
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        self.resume.as_mut().map_or(Ok(()), |hook| hook(transport))
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        if let Some(hook) = &mut self.lost {
            hook(transport, closed);
        }
    }
}

impl DatagramProtocol for DatagramRecorder {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.0.connection_made(transport)
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        self.0.datagram_received(transport, data, from)
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        self.0.batch_received(transport)
    }

    fn error_received(&mut self, transport: &DatagramTransport, error: &DatagramError) -> Result {
        self.0.error_received(transport, error)
    }

    fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
        self.0.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
        self.0.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        self.0.connection_lost(transport, closed);
    }
}
