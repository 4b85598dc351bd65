//! A server whose every connection records into its own log.

use crate::{Log, Peer, Recorder, drive};
use std::cell::RefCell;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use tidegate::{Address, Completion, EventLoop, Handle, ListenOptions, Server, Transport};

/// A server and what it has accepted, in order.
#[derive(Debug)]
pub struct Served {
    /// The server.
    pub server: Server,
    logs: Rc<RefCell<Vec<Log>>>,
    transports: Rc<RefCell<Vec<Transport>>>,
}

impl Served {
    /// Listens; `make` completes the recorder of each connection (but for `on_made`, which
    /// collects the transports).
    #[track_caller]
    pub fn new(
        handle: &Handle,
        options: impl Into<ListenOptions>,
        mut make: impl FnMut(Recorder) -> Recorder + 'static,
    ) -> Self {
        let logs: Rc<RefCell<Vec<Log>>> = Rc::default();
        let transports: Rc<RefCell<Vec<Transport>>> = Rc::default();
        let (each_log, each_transport) = (logs.clone(), transports.clone());
        let created = handle.create_server(options, move || {
            let log = Log::new();
            each_log.borrow_mut().push(log.clone());
            let collect = each_transport.clone();
            make(Recorder::new(&log)).on_made(move |transport| {
                collect.borrow_mut().push(transport.clone());
                Ok(())
            })
        });
        match created {
            Ok(server) => Self {
                server,
                logs,
                transports,
            },
            Err(error) => panic!("{error}"),
        }
    }

    /// A server whose connections echo.
    #[track_caller]
    pub fn echo(handle: &Handle, options: impl Into<ListenOptions>) -> Self {
        Self::new(handle, options, |recorder| {
            recorder.on_data(|transport, data| {
                transport.write(data)?;
                Ok(())
            })
        })
    }

    /// Its first address.
    pub fn address(&self) -> Address {
        self.server.local_addrs()[0].clone()
    }

    /// The log of the connection that was accepted as number `n`.
    pub fn log(&self, n: usize) -> Log {
        self.logs.borrow()[n].clone()
    }

    /// The transport of the connection that was accepted as number `n`.
    pub fn transport(&self, n: usize) -> Transport {
        self.transports.borrow()[n].clone()
    }

    /// How many were accepted so far.
    pub fn accepted(&self) -> usize {
        self.transports.borrow().len()
    }

    /// Connects peers and waits until the server has them.
    #[track_caller]
    pub fn connect<const N: usize>(&self, event_loop: &mut EventLoop) -> [Peer; N] {
        let before = self.accepted();
        let peers = std::array::from_fn(|_| Peer::connect(&self.address()));
        drive(event_loop, "the server to accept", || {
            self.accepted() == before + N
        });
        peers
    }
}

/// Returns the value of a completion, once it has completed.
pub fn answer_of<T: 'static>(completion: Completion<T>) -> Rc<RefCell<Option<T>>> {
    let slot = Rc::new(RefCell::new(None));
    let answer = slot.clone();
    completion.then(move |_, result| {
        match result {
            Ok(value) => answer.replace(Some(value)),
            Err(error) => panic!("{error}"),
        };
    });
    slot
}

/// Connects a peer, and has one message go there and back.
#[track_caller]
pub fn assert_serves(event_loop: &mut EventLoop, address: &Address) -> Peer {
    let mut peer = Peer::connect(address);
    peer.send(b"ping");
    peer.expect(event_loop, 4);
    assert_eq!(peer.received(), b"ping");
    peer
}

/// Fails when somebody listens there.
#[track_caller]
pub fn assert_refused(address: &Address) {
    let result = match address {
        Address::Inet(addr) => TcpStream::connect(addr).map(drop),
        Address::Unix(path) => UnixStream::connect(path).map(drop),
        _ => unreachable!("servers have addresses"),
    };
    let gone = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    assert!(
        result.is_err_and(|error| gone.contains(&error.kind())),
        "{address} is listened on"
    );
}
