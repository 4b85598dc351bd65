//! Calls of the layer: what it is given, and what it said.

use super::LayeredSocket;
use crate::Result;
use crate::layer::buffer::Buffer;
use crate::layer::fault::Fault;
use crate::layer::io::{Above, Below, Call, Said};
use crate::layer::shared::Shared;
use crate::layer::{Layer, LayerIo};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

impl LayeredSocket {
    /// Calls a method of the layer, with the reader's buffer and the number of bytes in it. `None`:
    /// the layer has failed, now or before, or has left, or was given up.
    pub(super) fn call<T>(
        &mut self,
        buffer: &mut [u8],
        filled: &mut usize,
        method: impl FnOnce(&mut dyn Layer, &mut LayerIo<'_>) -> Result<T>,
    ) -> Option<T> {
        if self.is_out_of_use() {
            return None;
        }
        let outcome = self.enter(buffer, filled, method);
        self.blocked = false;
        self.value_of(outcome)
    }

    /// As [`call`](Self::call), for a layer on a quiet socket.
    #[inline(always)]
    pub(super) fn call_quiet<T>(
        &mut self,
        buffer: &mut [u8],
        filled: &mut usize,
        method: impl FnOnce(&mut dyn Layer, &mut LayerIo<'_>) -> Result<T>,
    ) -> Option<T> {
        let outcome = self.enter(buffer, filled, method);
        self.value_of(outcome)
    }

    /// Takes a layer for failed that returned an error, panicked, or misused what it was given.
    #[inline(always)]
    fn value_of<T>(&mut self, outcome: thread::Result<Result<T>>) -> Option<T> {
        match outcome {
            Ok(Ok(value)) if self.fault.is_none() => return Some(value),
            Ok(Ok(_)) => {}
            // The error or the panic of a layer counts more than a misuse before.
            Ok(Err(error)) => self.fail(Fault::of_error(error)),
            Err(payload) => self.fail(Fault::of_panic(payload)),
        }
        None
    }

    /// Calls a method while nothing is read.
    pub(super) fn call_aside<T>(
        &mut self,
        method: impl FnOnce(&mut dyn Layer, &mut LayerIo<'_>) -> Result<T>,
    ) -> Option<T> {
        self.call(&mut [], &mut 0, method)
    }

    /// Calls code that is not the layer's own.
    pub(super) fn call_from_outside<L: Layer, R>(
        &mut self,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R,
    ) -> Option<R> {
        if self.is_out_of_use() {
            let layer: &mut dyn Any = &mut *self.layer;
            let layer = layer.downcast_mut()?;
            return Some(detached(&self.shared, |io| call(layer, io)));
        }
        let outcome = self.enter(&mut [], &mut 0, |layer, io| {
            let layer: &mut dyn Any = layer;
            layer.downcast_mut().map(|layer| call(layer, io))
        });
        self.blocked = false;
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    }

    /// Returns whether the layer is not called any more.
    pub(super) fn is_out_of_use(&self) -> bool {
        self.fault.is_some() || self.left || self.is_given_up()
    }

    /// Calls, and notes what was said.
    #[inline(always)]
    fn enter<R>(
        &mut self,
        buffer: &mut [u8],
        filled: &mut usize,
        call: impl FnOnce(&mut dyn Layer, &mut LayerIo<'_>) -> R,
    ) -> thread::Result<R> {
        let called = Call::new(&self.shared);
        let mut io = LayerIo {
            input: self.input.bytes_mut(),
            consumed: 0,
            above: Above {
                buffer,
                filled,
                kept: &mut self.plain,
                has_ended: self.ended,
                call: &called,
            },
            below: Below {
                wire: &mut self.wire,
                call: &called,
            },
            said: Said::default(),
            deadline: &mut self.deadline,
            call: &called,
        };
        let layer = &mut *self.layer;
        let outcome = catch_unwind(AssertUnwindSafe(|| call(layer, &mut io)));
        let LayerIo { consumed, said, .. } = io;
        if consumed > 0 {
            self.input.consume(consumed);
        }
        let misuse = called.misuse();
        if !said.is_nothing() | misuse.is_some() | self.sent_end {
            self.note_said(said, misuse);
        }
        outcome
    }

    #[inline(never)]
    fn note_said(&mut self, said: Said, misuse: Option<&'static str>) {
        self.quiet = false;
        self.open |= said.has(Said::OPEN) || said.has(Said::LEAVE);
        self.ended |= said.has(Said::END_OF_STREAM);
        self.left |= said.has(Said::LEAVE);
        self.more |= said.has(Said::MORE);
        if let Some(misuse) = misuse {
            self.fail(Fault::new(io::Error::other(misuse)));
            // It may have had room for more than the maximum.
            self.wire.fit();
        }
        if self.left {
            self.no_more_calls();
        }
        if self.sent_end {
            self.wire.clear();
        }
    }

    /// Takes the layer for failed: it is not called any more. One that fails in the call in which it
    /// leaves has not left.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.quiet = false;
        self.left = false;
        self.fault = Some(fault);
        self.no_more_calls();
    }

    pub(super) fn no_more_calls(&mut self) {
        self.deadline = None;
        self.more = false;
        self.blocked = false;
    }
}

/// Calls with the bytes of no connection: it has ended, or the layer has.
pub(in crate::layer) fn detached<R>(
    shared: &Shared,
    call: impl FnOnce(&mut LayerIo<'_>) -> R,
) -> R {
    let (mut plain, mut wire) = <(Buffer, Buffer)>::default();
    let called = Call::new(shared);
    call(&mut LayerIo {
        input: &mut [],
        consumed: 0,
        above: Above {
            buffer: &mut [],
            filled: &mut 0,
            kept: &mut plain,
            has_ended: true,
            call: &called,
        },
        below: Below {
            wire: &mut wire,
            call: &called,
        },
        said: Said::default(),
        deadline: &mut None,
        call: &called,
    })
}
