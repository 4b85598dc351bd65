//! A server whose every connection records into its own log.

use crate::{Log, Recorder};
use std::cell::RefCell;
use std::rc::Rc;
use tidegate::{Address, Handle, ListenOptions, Server, Transport};

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
}
