//! Protocols of datagrams that are wrong, each in its own way.

use super::right::{Counted, LeavesOut};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::{
    Address, DatagramError, DatagramProtocol, DatagramTransport, Flow, OnPause, Result,
};
use tidegate_testkit::Watched;

macro_rules! on_datagram {
    ($name:ident, $this:ident, $transport:ident, $data:ident, $from:ident, $body:block $($more:item)*) => {
        impl DatagramProtocol for $name {
            fn datagram_received(
                &mut self,
                $transport: &DatagramTransport,
                $data: &[u8],
                $from: &Address,
            ) -> Result {
                let $this = self;
                let _ = &$this;
                $body
                Ok(())
            }

            $($more)*
        }
    };
}

/// Takes each datagram for one with a first byte.
pub(crate) struct NeedsByte;
on_datagram!(NeedsByte, _this, transport, data, from, {
    transport.send_to(&data[..1], from)?;
});

/// Takes each datagram that is not empty for a whole one.
pub(crate) struct NeedsWhole;
on_datagram!(NeedsWhole, _this, transport, data, from, {
    if let Some((len, rest)) = data.split_first() {
        transport.send_to(&rest[..usize::from(*len)], from)?;
    }
});

/// Reports each datagram that is too long for it.
pub(crate) struct HatesLength;
on_datagram!(HatesLength, _this, transport, data, from, {
    if data.len() > 1000 {
        return Err("too long".into());
    }
    transport.send_to(data, from)?;
});

/// Sends though it is paused, and reads on.
pub(crate) struct IgnoresPause;
on_datagram!(IgnoresPause, _this, transport, data, from, {
    // No error: a refused reply is none to it.
    drop(transport.send_to(data, from));
} fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
    Ok(OnPause::KeepReading)
});

/// Sends until it is refused.
pub(crate) struct FillsQueue;
on_datagram!(FillsQueue, _this, transport, data, from, {
    while transport.send_to(data, from).is_ok() {}
});

/// Sends as long as it may, again and again.
pub(crate) struct Endless(pub(crate) Option<Address>);

impl Endless {
    fn fill(&self, transport: &DatagramTransport) -> Result {
        if let Some(to) = &self.0 {
            while transport.send_to(&[0; 60_000], to)? == Flow::Open {}
        }
        Ok(())
    }
}

on_datagram!(Endless, this, transport, _data, from, {
    this.0 = Some(from.clone());
    this.fill(transport)?;
} fn resume_writing(&mut self, transport: &DatagramTransport) -> Result {
    self.fill(transport)
});

/// Stays paused.
#[derive(Default)]
pub(crate) struct NeverResumes(LeavesOut);
on_datagram!(NeverResumes, this, transport, data, from, {
    this.0.datagram_received(transport, data, from)?;
} fn pause_writing(&mut self, transport: &DatagramTransport) -> Result<OnPause> {
    self.0.pause_writing(transport)
});

/// Replies with the number of datagrams so far.
pub(crate) struct Counts(pub(crate) u8);
on_datagram!(Counts, this, transport, _data, from, {
    this.0 = this.0.wrapping_add(1);
    transport.send_to(&[this.0], from)?;
});

/// Ends at the first datagram that it cannot read.
pub(crate) struct GivesUp;
on_datagram!(GivesUp, _this, transport, data, from, {
    if data.is_empty() {
        transport.close();
    }
    transport.send_to(data, from)?;
});

/// Ends when its peer is not there.
pub(crate) struct NeedsPeer;
on_datagram!(NeedsPeer, _this, transport, data, _from, {
    transport.send(data)?;
} fn error_received(&mut self, transport: &DatagramTransport, _: &DatagramError) -> Result {
    transport.abort();
    Ok(())
});

/// Takes every error for one of a datagram that it sent.
pub(crate) struct NeedsLength;
on_datagram!(NeedsLength, _this, transport, data, _from, {
    transport.send(data)?;
} fn error_received(&mut self, _: &DatagramTransport, error: &DatagramError) -> Result {
    assert!(error.len().unwrap() > 0);
    Ok(())
});

/// Replies to the first peer only.
pub(crate) struct OnePeer(pub(crate) Option<Address>);
on_datagram!(OnePeer, this, transport, data, from, {
    let to = this.0.get_or_insert_with(|| from.clone());
    transport.send_to(data, to)?;
});

/// Its timer is the loop's, and nobody stops it.
pub(crate) struct LeavesTimer;
on_datagram!(LeavesTimer, _this, transport, _data, _from, {
    transport
        .handle()
        .call_later(Duration::from_secs(86_400), |_| ());
});

thread_local! {
    static MOOD: Cell<u8> = const { Cell::new(0) };
}

/// Replies each time with something else.
pub(crate) struct Moody;
on_datagram!(Moody, _this, transport, _data, from, {
    MOOD.set(MOOD.get().wrapping_add(1));
    transport.send_to(&[MOOD.get()], from)?;
});

/// Complains about everything.
pub(crate) struct Fails;
on_datagram!(Fails, _this, _transport, _data, _from, {
    Err("never right")?;
});

/// Tells the protocol inside of its beginning at each datagram.
pub(crate) struct Again(pub(crate) Watched<Counted>);
on_datagram!(Again, this, transport, data, from, {
    this.0.connection_made(transport)?;
    this.0.datagram_received(transport, data, from)?;
} fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
    self.0.connection_made(transport)
});

/// Sends after its close, and panics about it.
pub(crate) struct SendsWhenClosed;
on_datagram!(SendsWhenClosed, _this, transport, data, from, {
    transport.send_to(data, from)?;
} fn connection_lost(&mut self, transport: &DatagramTransport, _: &tidegate::Closed) {
    transport.send_to(b"bye", &transport.local_addr().clone()).unwrap();
});

/// Takes numbers that only grow, of each peer.
#[derive(Default)]
pub(crate) struct InOrder {
    pub(crate) last: BTreeMap<String, u8>,
    pub(crate) may_repeat: bool,
}
on_datagram!(InOrder, this, transport, data, from, {
    let Some(number) = data.first() else {
        return Ok(());
    };
    if let Some(last) = this.last.insert(from.to_string(), *number) {
        assert!(last < *number || this.may_repeat && last == *number);
    }
    transport.send_to(data, from)?;
});

/// Takes every error for a refusal.
pub(crate) struct NeedsRefusal;
on_datagram!(NeedsRefusal, _this, transport, data, from, {
    transport.send_to(data, from)?;
} fn error_received(&mut self, _: &DatagramTransport, error: &DatagramError) -> Result {
    assert!(error.is_refused());
    Ok(())
});

/// Takes every end for a close, of an endpoint that was of some use.
pub(crate) struct NeedsUse {
    pub(crate) was_used: bool,
    pub(crate) may_be_idle: bool,
}
on_datagram!(NeedsUse, this, _transport, _data, _from, {
    this.was_used = true;
} fn connection_lost(&mut self, _: &DatagramTransport, closed: &tidegate::Closed) {
    assert!(self.was_used || self.may_be_idle);
    assert!(closed.is_clean());
});
