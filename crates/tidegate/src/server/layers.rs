//! The layers of accepted connections: closures that make them, and connections whose layers did not
//! open.

use super::ListenOptions;
use super::state::ServerState;
use crate::event_loop::Failure;
use crate::log::guarded;
use crate::transport::NewLayer;
use crate::{Address, CloseReason, Closed, Layer};
use std::fmt;
use std::sync::Arc;

/// Makes the layers of each connection, from the wire up.
#[derive(Default)]
pub(super) struct MakeLayers(Vec<Box<dyn FnMut() -> NewLayer>>);

impl fmt::Debug for MakeLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.0.len())
    }
}

impl ListenOptions {
    /// Puts a layer on each accepted connection, such as TLS. Several calls stack them, from the
    /// wire up.
    ///
    /// `make` runs after the factory of the protocol, for each connection that is not
    /// [refused](Self::accept_if). The `connection_made` of the protocol comes when all layers are
    /// open.
    ///
    /// A connection whose layers do not open has no callback at all, and its protocol is dropped:
    /// when a layer fails or reaches its [`open_limit`](crate::Layer::open_limit), when the peer
    /// leaves, and when the server ends its clients. A peer can cause this, so it is no failure: it
    /// is logged at `debug`, at most ten times a second. Until then the connection counts in
    /// [`Server::connection_count`](crate::Server::connection_count).
    ///
    /// When `make` panics, or makes a layer whose `open_limit` panics or is zero, the connection is
    /// closed, and the [error handler](crate::Handle::set_error_handler) gets the failure.
    pub fn layer<L: Layer>(mut self, mut make: impl FnMut() -> L + 'static) -> Self {
        self.layers.0.push(Box::new(move || NewLayer::new(make())));
        self
    }
}

impl ServerState {
    /// Makes the layers of a connection. `None` after a failure, which was reported.
    pub(super) fn make_layers(
        &self,
        make: &mut MakeLayers,
        peer: &Address,
    ) -> Option<Vec<NewLayer>> {
        const CONTEXT: &str = "a server's layer";
        let core = self.handle().core();
        let mut layers = Vec::with_capacity(make.0.len());
        for make in &mut make.0 {
            let made = core.guard(CONTEXT, make);
            let Some(layer) = made else {
                core.defer_drop_layers(layers);
                return None;
            };
            let checked = layer.check();
            layers.push(layer);
            if let Err(error) = checked {
                let reason = CloseReason::Io(Arc::new(error));
                core.report(Failure::new(CONTEXT, reason).of_peer(peer.clone()));
                core.defer_drop_layers(layers);
                return None;
            }
        }
        Some(layers)
    }

    /// Logs that a connection was not made, unless it was ended here.
    pub(crate) fn log_unmade(&self, peer: &Address, closed: &Closed) {
        if !matches!(
            closed.reason(),
            CloseReason::Io(_) | CloseReason::Timeout(_)
        ) {
            return;
        }
        guarded(|| {
            if !log::log_enabled!(target: "tidegate::server", log::Level::Debug) {
                return;
            }
            let now = self.handle().core().clock();
            let admitted = self.unmade_log.borrow_mut().admit(now);
            let Some(left_out) = admitted else { return };
            if left_out > 0 {
                log::debug!(target: "tidegate::server", "{left_out} connections that were not made were not logged");
            }
            let reason = closed.reason();
            log::debug!(target: "tidegate::server", "no connection with {peer}: {reason}");
        });
    }
}
