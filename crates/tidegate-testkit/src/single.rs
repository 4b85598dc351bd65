//! A server's factory that has one protocol to give.

use tidegate::{Protocol, Result, Transport};

pub(crate) fn single(protocol: impl Protocol) -> impl FnMut() -> Box<dyn Protocol> {
    let mut protocol = Some(protocol);
    move || match protocol.take() {
        Some(protocol) => Box::new(protocol),
        None => Box::new(Nobody),
    }
}

/// For a second connection, which nobody is meant to make.
struct Nobody;

impl Protocol for Nobody {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.abort();
        Ok(())
    }
}
