//! A protocol that records its callbacks, checks their grammar and acts as a test tells it.

use crate::log::{Log, Seen};
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport};

type Hook<A, R> = Option<Box<dyn FnMut(&Transport, A) -> Result<R>>>;
type DataHook = Option<Box<dyn FnMut(&Transport, &[u8]) -> Result>>;
type BufferHook = Option<Box<dyn FnMut(&Transport, usize)>>;
type LostHook = Option<Box<dyn FnMut(&Transport, &Closed)>>;

/// Records every callback in a [`Log`], then calls the test's closures.
///
/// It stands in for a protocol: the other side of the one under test, or something that a server
/// makes. To record the callbacks of a protocol of your own, see [`Watched`](crate::Watched).
///
/// ```
/// use tidegate_testkit::{Log, Recorder, World};
///
/// # fn main() -> tidegate::Result {
/// let mut world = World::new();
/// let host = world.add_host("host")?;
/// let log = Log::new();
/// let served = log.clone();
/// host.handle().create_server(host.addr(7), move || {
///     Recorder::new(&served).on_data(|transport, _| {
///         transport.write(b"thanks")?;
///         transport.close();
///         Ok(())
///     })
/// })?;
/// let peer = world.network().dial(host.addr(7))?;
/// world.pump()?;
/// peer.send(b"a gift")?;
/// world.pump()?;
/// assert_eq!(peer.take(), b"thanks");
/// assert_eq!(log.words(), ["made", "data", "lost"]);
/// assert_eq!(log.reason(), "local-close");
/// # Ok(()) }
/// ```
#[derive(Default)]
#[must_use]
pub struct Recorder {
    log: Log,
    made: Hook<(), ()>,
    data: DataHook,
    eof: Hook<(), OnEof>,
    pause: Hook<(), OnPause>,
    resume: Hook<(), ()>,
    lost: LostHook,
    buffer: Option<Vec<u8>>,
    get_buffer: BufferHook,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records into `log` and does nothing else.
    pub fn new(log: &Log) -> Self {
        let mut recorder = Self::default();
        recorder.log = log.clone();
        recorder
    }

    /// Sends back what it receives.
    pub fn echo(log: &Log) -> Self {
        Self::new(log).on_data(|transport, data| {
            transport.write(data)?;
            Ok(())
        })
    }

    /// Calls `hook` in `connection_made`.
    pub fn on_made(mut self, mut hook: impl FnMut(&Transport) -> Result + 'static) -> Self {
        self.made = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// Calls `hook` with data.
    pub fn on_data(mut self, hook: impl FnMut(&Transport, &[u8]) -> Result + 'static) -> Self {
        self.data = Some(Box::new(hook));
        self
    }

    /// Calls `hook` in `eof_received`, and returns its result; `Close` unless set.
    pub fn on_eof(mut self, mut hook: impl FnMut(&Transport) -> Result<OnEof> + 'static) -> Self {
        self.eof = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// Returns `KeepOpen` from `eof_received`.
    pub fn keep_open(self) -> Self {
        self.on_eof(|_| Ok(OnEof::KeepOpen))
    }

    /// Calls `hook` in `pause_writing`, and returns its result; that of the default implementation unless
    /// set.
    pub fn on_pause(
        mut self,
        mut hook: impl FnMut(&Transport) -> Result<OnPause> + 'static,
    ) -> Self {
        self.pause = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// Calls `hook` in `resume_writing`.
    pub fn on_resume(mut self, mut hook: impl FnMut(&Transport) -> Result + 'static) -> Self {
        self.resume = Some(Box::new(move |transport, ()| hook(transport)));
        self
    }

    /// Calls `hook` in `connection_lost`.
    pub fn on_lost(mut self, hook: impl FnMut(&Transport, &Closed) + 'static) -> Self {
        self.lost = Some(Box::new(hook));
        self
    }

    /// Reads into an own buffer of this size, through `get_buffer` and `buffer_updated`.
    pub fn buffered(mut self, size: usize) -> Self {
        self.buffer = Some(vec![0; size]);
        self
    }

    /// Calls `hook` in `get_buffer`, with its size hint.
    pub fn on_get_buffer(mut self, hook: impl FnMut(&Transport, usize) + 'static) -> Self {
        self.get_buffer = Some(Box::new(hook));
        self
    }

    fn received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.log.push(Seen::Data(data.to_vec()));
        match &mut self.data {
            Some(hook) => hook(transport, data),
            None => Ok(()),
        }
    }
}

/// The default implementations of the trait.
struct Provided;

impl Protocol for Provided {}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        let _running = self.log.enter("connection_made");
        self.log.made(transport);
        match &mut self.made {
            Some(hook) => hook(transport, ()),
            None => Ok(()),
        }
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let _running = self.log.enter("data_received");
        self.received(transport, data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        let _running = self.log.enter("eof_received");
        self.log.push(Seen::Eof);
        let received = match &mut self.eof {
            Some(hook) => hook(transport, ()),
            None => Provided.eof_received(transport),
        };
        self.log.eof_ended(transport);
        received
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        let _running = self.log.enter("pause_writing");
        self.log.push(Seen::Pause);
        match &mut self.pause {
            Some(hook) => hook(transport, ()),
            None => Provided.pause_writing(transport),
        }
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let _running = self.log.enter("resume_writing");
        self.log.push(Seen::Resume);
        match &mut self.resume {
            Some(hook) => hook(transport, ()),
            None => Ok(()),
        }
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let _running = self.log.enter("connection_lost");
        self.log.lost(transport, closed);
        if let Some(hook) = &mut self.lost {
            hook(transport, closed);
        }
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        let _running = self.log.enter("get_buffer");
        if let Some(hook) = &mut self.get_buffer {
            hook(transport, size_hint);
        }
        self.buffer.as_deref_mut()
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let _running = self.log.enter("buffer_updated");
        let buffer = self.buffer.take().unwrap_or_default();
        let result = self.received(transport, &buffer[..len]);
        self.buffer = Some(buffer);
        result
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.log.count_drop();
    }
}
