//! The layers under test.

use super::case::Side;
use super::observed::{Calls, Observed};
use std::cell::RefCell;
use std::rc::Rc;
use tidegate::{ConnectOptions, Layer, ListenOptions};

/// Adds a layer to options.
type AddLayer<Options> = dyn Fn(Options, &Calls) -> Options;

/// Makes a layer for each end of each run.
pub(super) struct Subject {
    connect: Box<AddLayer<ConnectOptions>>,
    listen: Box<AddLayer<ListenOptions>>,
}

impl Subject {
    pub(super) fn new<C: Layer, S: Layer>(
        client: impl FnMut() -> C + 'static,
        server: impl FnMut() -> S + 'static,
    ) -> Self {
        let (client, server) = (RefCell::new(client), Rc::new(RefCell::new(server)));
        Self {
            connect: Box::new(move |options, calls| {
                let layer = client.borrow_mut()();
                options.layer(Observed::new(layer, Side::Client, calls))
            }),
            listen: Box::new(move |options, calls| {
                let (server, calls) = (server.clone(), calls.clone());
                options.layer(move || {
                    let layer = server.borrow_mut()();
                    Observed::new(layer, Side::Server, &calls)
                })
            }),
        }
    }

    pub(super) fn connect(&self, options: ConnectOptions, calls: &Calls) -> ConnectOptions {
        (self.connect)(options, calls)
    }

    pub(super) fn listen(&self, options: ListenOptions, calls: &Calls) -> ListenOptions {
        (self.listen)(options, calls)
    }
}
