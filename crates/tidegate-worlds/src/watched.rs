//! Around each protocol: checks the order of the callbacks, and keeps the book.

use crate::layers::Stack;
use crate::ledger::{Guard, Ledger};
use crate::limits::Limits;
use std::rc::Rc;
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport};

#[derive(Debug, Default)]
struct Order {
    made: bool,
    eof: bool,
    paused: bool,
    lost: bool,
    running: bool,
}

pub(crate) struct Watched<P> {
    inner: P,
    ledger: Rc<Ledger>,
    /// The layers that the connection has from the start.
    stack: Option<Stack>,
    half_closes: bool,
    /// Those of the server.
    limits: Option<Rc<Limits>>,
    order: Order,
    _guard: Guard,
}

impl<P: Protocol> Watched<P> {
    pub(crate) fn new(ledger: &Rc<Ledger>, inner: P) -> Self {
        Self {
            inner,
            ledger: ledger.clone(),
            stack: None,
            half_closes: false,
            limits: None,
            order: Order::default(),
            _guard: Guard::new(ledger, |ledger| &ledger.protocols),
        }
    }

    /// With the layers of a stack from the start.
    pub(crate) fn behind(mut self, stack: Option<&Stack>) -> Self {
        self.stack = stack.cloned();
        self
    }

    /// Accepted by the server that has these.
    pub(crate) fn on(mut self, limits: &Rc<Limits>) -> Self {
        self.limits = Some(limits.clone());
        self
    }

    /// For a protocol that ends its stream unseen.
    pub(crate) fn half_closing(mut self) -> Self {
        self.half_closes = true;
        self
    }

    /// Takes over from another one, which was made.
    pub(crate) fn switched_in(mut self) -> Self {
        self.order.made = true;
        self
    }

    /// One callback: whether it may come now, and what it leaves.
    fn watch<R>(
        &mut self,
        transport: &Transport,
        callback: &str,
        fits: impl FnOnce(&mut Order) -> bool,
        call: impl FnOnce(&mut P) -> R,
    ) -> R {
        let order = &mut self.order;
        let in_order = !order.lost && !order.running && fits(order);
        if !in_order {
            let order = &self.order;
            self.ledger.violation(format!(
                "{callback} came out of order: {order:?} {transport:?}"
            ));
        }
        self.order.running = true;
        let result = call(&mut self.inner);
        self.order.running = false;
        result
    }

    fn data_fits(order: &Order, transport: &Transport) -> bool {
        order.made && !order.eof && transport.is_reading()
    }
}

impl<P: Protocol> Protocol for Watched<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.ledger.open(transport);
        if let Some(limits) = &self.limits {
            limits.serve(transport);
        }
        if self.half_closes {
            self.ledger.ends_stream(transport);
        }
        if let Some(stack) = &self.stack {
            self.ledger.behind(transport, stack);
        }
        let fits = |order: &mut Order| !std::mem::replace(&mut order.made, true);
        self.watch(transport, "connection_made", fits, |inner| {
            inner.connection_made(transport)
        })
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let fits = |order: &mut Order| Self::data_fits(order, transport) && !data.is_empty();
        self.watch(transport, "data_received", fits, |inner| {
            inner.data_received(transport, data)
        })
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        // It closes now, or when it has sent the rest.
        self.ledger.ends_stream(transport);
        let fits = |order: &mut Order| order.made && !std::mem::replace(&mut order.eof, true);
        let received = self.watch(transport, "eof_received", fits, |inner| {
            inner.eof_received(transport)
        });
        // It comes again behind bytes that it gave back.
        self.order.eof &= !transport.has_unread();
        received
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        let fits = |order: &mut Order| {
            let twice = std::mem::replace(&mut order.paused, true);
            order.made && !twice && !transport.is_closing()
        };
        self.watch(transport, "pause_writing", fits, |inner| {
            inner.pause_writing(transport)
        })
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        let fits = |order: &mut Order| {
            let paused = std::mem::take(&mut order.paused);
            order.made && paused && !transport.is_closing()
        };
        self.watch(transport, "resume_writing", fits, |inner| {
            inner.resume_writing(transport)
        })
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        let saw_eof = self.order.eof;
        self.ledger.close(transport, closed, saw_eof);
        let made = self.order.made;
        self.watch(
            transport,
            "connection_lost",
            |_| made,
            |inner| {
                inner.connection_lost(transport, closed);
            },
        );
        self.order.lost = true;
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        self.inner.get_buffer(transport, size_hint)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let fits = |order: &mut Order| Self::data_fits(order, transport) && len > 0;
        self.watch(transport, "buffer_updated", fits, |inner| {
            inner.buffer_updated(transport, len)
        })
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.inner)
    }

    fn leftover(&mut self) -> Vec<u8> {
        let left = self.inner.leftover();
        let torn = &self.ledger.torn;
        torn.set(torn.get() + u64::from(!left.is_empty()));
        left
    }
}
