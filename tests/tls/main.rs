//! The tests of tidegate-tls, by theme, on real sockets. The other end is rustls's buffered API over a
//! plain socket, which can also do what TLS forbids.

mod any_cut;
mod ends;
mod names;
mod negotiated;
mod opening;
mod pem_files;
mod policies;
mod providers;
mod records;
mod refused;
mod stacks;
mod start_tls;

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use support::{Log, Peer, Recorder, Served, TlsPeer, drive};
use tidegate::{ConnectError, ConnectOptions, EventLoop, ListenOptions, Transport};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::version::{TLS12, TLS13};
use tidegate_tls::rustls::{
    AlertDescription, ClientConfig, Error, ServerConfig, SupportedProtocolVersion,
};

/// Each version alone.
const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// A server of the loop that echoes.
fn serve(event_loop: &EventLoop, config: ServerConfig) -> Served {
    let options = ListenOptions::new("127.0.0.1:0").tls(Arc::new(config));
    Served::echo(event_loop.handle(), options)
}

/// A client of the test that has shaken hands with a server of the loop.
#[track_caller]
fn client_of(event_loop: &mut EventLoop, served: &Served, config: &Arc<ClientConfig>) -> TlsPeer {
    let before = served.accepted();
    let mut client = TlsPeer::client(Peer::connect(&served.address()), config);
    client.shake_hands(event_loop);
    client.until(event_loop, "connection_made", |_| {
        served.accepted() > before
    });
    client
}

/// One message there and back.
#[track_caller]
fn assert_echoes(event_loop: &mut EventLoop, client: &mut TlsPeer) {
    let before = client.received().len();
    client.send(b"ping");
    client.expect(event_loop, before + 4);
    assert_eq!(&client.received()[before..], b"ping");
}

/// A connect of the loop, and what came of it.
struct Connecting {
    log: Log,
    result: Rc<RefCell<Option<io::Result<Transport>>>>,
}

impl Connecting {
    /// Begins; returns the accepted peer too.
    #[track_caller]
    fn new(
        event_loop: &mut EventLoop,
        options: impl FnOnce(ConnectOptions) -> ConnectOptions,
        make: impl FnOnce(Recorder) -> Recorder,
    ) -> (Self, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let to = ConnectOptions::new(listener.local_addr().unwrap());
        let connecting = Self::to(event_loop, options(to), make);
        let mut accepted = None;
        drive(event_loop, "a connection", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        (connecting, Peer::new(accepted.unwrap().0.into()))
    }

    /// Begins.
    fn to(
        event_loop: &EventLoop,
        options: ConnectOptions,
        make: impl FnOnce(Recorder) -> Recorder,
    ) -> Self {
        let (log, result) = (Log::new(), Rc::new(RefCell::new(None)));
        let told = result.clone();
        event_loop
            .handle()
            .create_connection(options, make(Recorder::new(&log)))
            .then(move |_, result| {
                told.replace(Some(result));
            });
        Self { log, result }
    }

    fn is_decided(&self) -> bool {
        self.result.borrow().is_some()
    }

    #[track_caller]
    fn transport(&self) -> Transport {
        match &*self.result.borrow() {
            Some(Ok(transport)) => transport.clone(),
            other => panic!("no connection: {other:?}"),
        }
    }

    /// The error of the connect. Nothing may have come to the protocol, which is dropped.
    #[track_caller]
    fn error(&self) -> io::Error {
        assert_eq!((self.log.words().len(), self.log.dropped()), (0, 1));
        match self.result.take() {
            Some(Err(error)) => error,
            other => panic!("no error: {other:?}"),
        }
    }
}

/// A connect of the loop that has shaken hands with the peer.
#[track_caller]
fn server_of(
    event_loop: &mut EventLoop,
    client: ClientConfig,
    server: &Arc<ServerConfig>,
    make: impl FnOnce(Recorder) -> Recorder,
) -> (Log, Transport, TlsPeer) {
    let options = |to: ConnectOptions| to.tls_as(Arc::new(client), "localhost");
    let (connecting, peer) = Connecting::new(event_loop, options, make);
    let mut peer = TlsPeer::server(peer, server);
    peer.shake_hands(event_loop);
    peer.until(event_loop, "the connect", |_| connecting.is_decided());
    (connecting.log.clone(), connecting.transport(), peer)
}

/// The error of the library that is in another one.
#[track_caller]
fn tls_error(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.clone();
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as _).or_else(|| error.source());
    }
    panic!("no error of rustls: {error:?}");
}

/// The reason of a connect that failed.
#[track_caller]
fn cause(error: &io::Error) -> Error {
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert!(ConnectError::of(error).is_some(), "{error:?}");
    tls_error(error)
}

/// The reason why a connection was lost.
#[track_caller]
fn lost_by(log: &Log) -> (io::ErrorKind, Option<Error>) {
    let closed = log.closed();
    match closed.reason() {
        tidegate::CloseReason::Io(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            (error.kind(), inner.cloned())
        }
        other => panic!("lost by {other:?}"),
    }
}

fn alert(description: AlertDescription) -> Error {
    Error::AlertReceived(description)
}
