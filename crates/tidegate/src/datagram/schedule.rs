//! Callbacks that an endpoint's protocol gets later, and calls with the protocol.

use super::protocol::find;
use super::{DatagramProtocol, DatagramTransport};
use crate::callback::{CallbackHandle, Run};
use crate::protocol::Internal;
use crate::timers::TimerId;
use crate::transport::State;
use crate::{Handle, Result, TransportId, WithProtocolError};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

impl DatagramTransport {
    pub(super) fn schedule<P: DatagramProtocol>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let run: Rc<dyn Run> = OnEndpoint::new(self.id(), "call_soon", call);
        let handle = CallbackHandle::new(self.core(), &run, None);
        self.core().push_ready(run);
        handle
    }

    pub(super) fn schedule_after<P: DatagramProtocol>(
        &self,
        delay: Duration,
        call: impl FnOnce(&mut P, &Self) -> Result + 'static,
    ) -> CallbackHandle {
        let timed = OnEndpoint::new(self.id(), "call_later", call);
        let run: Rc<dyn Run> = timed.clone();
        let core = self.core();
        if self.endpoint().is(State::LOST_CALLED) || core.is_closed() {
            let handle = CallbackHandle::new(core, &run, None);
            core.defer_drop_call(&*run);
            return handle;
        }
        let timer = core.start_timer(core.clock().checked_add(delay), run.clone());
        timed.timer.set(Some(timer));
        self.endpoint()
            .with_extra(|extra| extra.timers.insert(timer));
        CallbackHandle::new(core, &run, Some(timer)).owned_by(self.id())
    }

    pub(super) fn call_with_protocol<P: DatagramProtocol, R>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> R,
    ) -> Result<R, WithProtocolError> {
        let endpoint = self.endpoint();
        if endpoint.is(State::LOST_CALLED) {
            return Err(WithProtocolError::Ended);
        }
        let Ok(mut slot) = endpoint.protocol.try_borrow_mut() else {
            return Err(WithProtocolError::InCallback);
        };
        let Some(protocol) = slot.as_deref_mut() else {
            return Err(WithProtocolError::Ended);
        };
        let result = call(downcast(protocol)?, self);
        drop(slot);
        if self.core().is_closed() {
            // The loop was dropped meanwhile, and could not tell a protocol that was in use.
            self.settle();
        }
        Ok(result)
    }

    /// A timer of the library's own, which dies with the endpoint.
    pub(super) fn timer_at(
        &self,
        deadline: Instant,
        call: impl FnOnce(&Self) + 'static,
    ) -> TimerId {
        let id = self.id();
        let own: Rc<Cell<Option<TimerId>>> = Rc::default();
        let fired = own.clone();
        let timer = self.core().at(Some(deadline), move |handle| {
            if let Some(transport) = handle.datagrams(id) {
                if let Some(timer) = fired.take() {
                    transport
                        .endpoint()
                        .with_extra(|extra| extra.timers.remove(&timer));
                }
                call(&transport);
            }
        });
        own.set(Some(timer));
        self.endpoint()
            .with_extra(|extra| extra.timers.insert(timer));
        timer
    }

    /// Whether `with_protocol` or a callback is on the stack.
    pub(super) fn is_borrowed(&self) -> bool {
        self.endpoint().protocol.try_borrow_mut().is_err()
    }
}

fn downcast<P: DatagramProtocol>(
    protocol: &mut dyn DatagramProtocol,
) -> Result<&mut P, WithProtocolError> {
    let found = protocol.__type_name(Internal);
    find(protocol).ok_or_else(|| WithProtocolError::of_names(std::any::type_name::<P>(), found))
}

/// A closure for the protocol of one endpoint: dropped when the endpoint has ended.
struct OnEndpoint<F> {
    id: TransportId,
    context: &'static str,
    timer: Cell<Option<TimerId>>,
    call: RefCell<Option<F>>,
}

impl<F> OnEndpoint<F> {
    fn new<P: DatagramProtocol>(
        id: TransportId,
        context: &'static str,
        call: F,
    ) -> Rc<
        OnEndpoint<impl FnOnce(&mut dyn DatagramProtocol, &DatagramTransport) -> Result + 'static>,
    >
    where
        F: FnOnce(&mut P, &DatagramTransport) -> Result + 'static,
    {
        Rc::new(OnEndpoint {
            id,
            context,
            timer: Cell::new(None),
            call: RefCell::new(Some(
                move |protocol: &mut dyn DatagramProtocol, transport: &DatagramTransport| {
                    call(downcast(protocol)?, transport)
                },
            )),
        })
    }
}

impl<F> Run for OnEndpoint<F>
where
    F: FnOnce(&mut dyn DatagramProtocol, &DatagramTransport) -> Result + 'static,
{
    fn run(self: Rc<Self>, handle: &Handle) {
        let transport = handle.datagrams(self.id);
        if transport
            .as_ref()
            .is_some_and(DatagramTransport::is_borrowed)
        {
            handle.core().push_ready(self);
            return;
        }
        let call = self.call.take();
        let Some(call) = call else { return };
        let Some(transport) = transport else {
            handle.core().drop_value(call);
            return;
        };
        if let Some(timer) = self.timer.take() {
            transport
                .endpoint()
                .with_extra(|extra| extra.timers.remove(&timer));
        }
        if transport.endpoint().is(State::CONNECTING) {
            transport.settle();
        }
        if transport.endpoint().is(State::LOST_CALLED) {
            handle.core().drop_value(call);
            return;
        }
        transport.call(self.context, call);
        transport.settle();
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        let call = self.call.take()?;
        Some(Box::new(call))
    }
}
