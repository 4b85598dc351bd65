//! The message names `Flow` and `tidegate::Result`, whose documentation has the two lines to write.

use tidegate::{Protocol, Result, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)
    }
}

fn main() {}
