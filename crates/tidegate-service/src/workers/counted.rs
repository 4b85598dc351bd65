//! A protocol whose connection has a place in its loop.

use super::gate::Place;
use tidegate::{Closed, Protocol, Result, Transport, Wrap};

/// Gives the place back when the connection has ended, also when another protocol has taken over.
pub(super) struct Counted<P> {
    protocol: P,
    transport: Option<Transport>,
    place: Option<Place>,
}

impl<P> Counted<P> {
    pub(super) fn new(protocol: P, place: Option<Place>) -> Self {
        Self {
            protocol,
            transport: None,
            place,
        }
    }
}

impl<P: Protocol> Wrap for Counted<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.protocol
    }

    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.transport = Some(transport.clone());
        self.protocol.connection_made(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.protocol.connection_lost(transport, closed);
        self.place.take();
    }
}

impl<P> Drop for Counted<P> {
    fn drop(&mut self) {
        let (Some(place), Some(transport)) = (self.place.take(), self.transport.take()) else {
            return;
        };
        if transport.closed().is_none() {
            // Another protocol has taken over.
            transport.wait_closed().then(move |_, _| drop(place));
        }
    }
}
