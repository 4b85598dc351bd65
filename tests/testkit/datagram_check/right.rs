//! Protocols of datagrams that keep every rule.

use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::{
    Address, DatagramError, DatagramProtocol, DatagramTransport, Departure, OnPause, Result,
};

/// Sends back the bytes that a length in front counts, and nothing for what is no such message.
pub(crate) struct Counted;

impl DatagramProtocol for Counted {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        if let Some((len, rest)) = data.split_first()
            && rest.len() == usize::from(*len)
        {
            transport.send_to(rest, from)?;
        }
        Ok(())
    }
}

/// Sends back each datagram, at the end of the batch.
#[derive(Default)]
pub(crate) struct InBatches(Vec<(Address, Vec<u8>)>);

impl DatagramProtocol for InBatches {
    fn datagram_received(&mut self, _: &DatagramTransport, data: &[u8], from: &Address) -> Result {
        self.0.push((from.clone(), data.to_vec()));
        Ok(())
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        for (from, data) in self.0.drain(..) {
            transport.send_run_to(&data, 0, &from, Departure::new())?;
        }
        Ok(())
    }
}

/// As `Counted`, but with an error for what is no such message.
pub(crate) struct Complains;

impl DatagramProtocol for Complains {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        let (len, rest) = data.split_first().ok_or("an empty datagram")?;
        if rest.len() != usize::from(*len) {
            return Err("a wrong length".into());
        }
        transport.send_to(rest, from)?;
        Ok(())
    }
}

/// Replies after a second.
pub(crate) struct Slow;

impl DatagramProtocol for Slow {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        let (data, from) = (data.to_vec(), from.clone());
        let second = Duration::from_secs(1);
        transport.call_later(second, move |_: &mut Self, transport| {
            transport.send_to(&data, &from)?;
            Ok(())
        });
        Ok(())
    }
}

/// Counts the datagrams of each peer.
#[derive(Default)]
pub(crate) struct Visits(BTreeMap<String, u32>);

impl DatagramProtocol for Visits {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        _: &[u8],
        from: &Address,
    ) -> Result {
        let visits = self.0.entry(from.to_string()).or_default();
        *visits += 1;
        transport.send_to(visits.to_string().as_bytes(), from)?;
        Ok(())
    }
}

/// Reads on while it is paused, and leaves replies out.
#[derive(Default)]
pub(crate) struct LeavesOut {
    pub(crate) is_paused: bool,
}

impl DatagramProtocol for LeavesOut {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        if !self.is_paused {
            transport.send_to(data, from)?;
        }
        Ok(())
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        self.is_paused = true;
        Ok(OnPause::KeepReading)
    }

    fn resume_writing(&mut self, _: &DatagramTransport) -> Result {
        self.is_paused = false;
        Ok(())
    }
}

/// A client: asks each second until there is a reply, and closes then.
pub(crate) struct Asks;

impl Asks {
    fn ask(&mut self, transport: &DatagramTransport) -> Result {
        transport.send(b"hello?")?;
        transport.call_later(Duration::from_secs(1), Self::ask);
        Ok(())
    }
}

impl DatagramProtocol for Asks {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        self.ask(transport)
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        _: &Address,
    ) -> Result {
        if data == b"hello" {
            transport.close();
        }
        Ok(())
    }
}

/// Sends back what comes from its one peer, and counts the refusals.
#[derive(Default)]
pub(crate) struct Tied {
    refusals: u32,
}

impl DatagramProtocol for Tied {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        _: &Address,
    ) -> Result {
        transport.send(data)?;
        Ok(())
    }

    fn error_received(&mut self, _: &DatagramTransport, error: &DatagramError) -> Result {
        self.refusals += u32::from(error.is_refused());
        Ok(())
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        Ok(OnPause::StopReading)
    }
}
