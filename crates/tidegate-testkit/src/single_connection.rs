//! Servers of a single connection: its protocol, and one that ends every connection beside it.

use tidegate::{Protocol, Result, Transport};

/// Returns a factory that makes `protocol` once, and then protocols that abort.
pub(crate) fn single_connection(protocol: impl Protocol) -> impl FnMut() -> Box<dyn Protocol> {
    let mut protocol = Some(protocol);
    move || match protocol.take() {
        Some(protocol) => Box::new(protocol),
        None => Box::new(Unexpected),
    }
}

/// Aborts a connection that the test did not ask for.
pub(crate) struct Unexpected;

impl Protocol for Unexpected {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.abort();
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        Ok(())
    }
}
