//! The operations: each is done to the transport and told to the model.

use super::{Place, Shared};
use crate::transport::random::model::{CHUNK_COST, Kept, Model, ours, theirs};
use crate::transport::random::ops::{How, Op, What};
use crate::transport::random::protocol::{Driven, Scripted};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;
use support::Log;
use tidegate::{Closed, Completion, Transport, WriteError, WriteLimits};

impl Shared {
    /// Does one operation. Returns the error of a write.
    pub(crate) fn act(
        self: &Rc<Self>,
        model: &mut Model,
        transport: &Transport,
        op: &Op,
        place: Place<'_>,
    ) -> Result<(), WriteError> {
        model.note(format!("{op:?}"));
        model.observe(transport);
        match op {
            Op::Write(len) => {
                return self.write(model, transport, *len, 1, |bytes| transport.write(bytes));
            }
            Op::WriteOwned(len) => {
                return self.write(model, transport, *len, 1, |bytes| {
                    transport.write_owned(Bytes::copy_from_slice(bytes))
                });
            }
            Op::WriteVectored(len, count) => {
                return self.write(model, transport, *len, *count, |bytes| {
                    let size = bytes.len().div_ceil(*count).max(1);
                    let mut slices: Vec<_> = bytes.chunks(size).map(IoSlice::new).collect();
                    slices.insert(slices.len() / 2, IoSlice::new(&[]));
                    transport.write_vectored(&slices)
                });
            }
            Op::WriteEof => {
                let result = transport.write_eof();
                let refused = match &result {
                    Ok(()) => false,
                    Err(WriteError::Closing { .. }) => model.closing,
                    Err(error) => error.closed().is_some(),
                };
                model.expect(refused == model.is_ended(), "write_eof fails at the end");
                model.eof_asked |= result.is_ok();
            }
            Op::PauseReading => {
                transport.pause_reading();
                model.reading_paused = true;
            }
            Op::ResumeReading => {
                transport.resume_reading();
                model.reading_paused = false;
            }
            Op::HoldReading => model.holds.push(transport.hold_reading()),
            Op::DropHold => drop(model.holds.pop()),
            Op::GiveBack(len) => {
                let bytes = match place {
                    Place::Data(data) => &data[data.len().saturating_sub(*len)..],
                    _ => theirs(*len, *len),
                };
                // Outside of a callback it is not known whether the next protocol is in its place.
                let is_open = model.next.is_some() && matches!(place, Place::Outside);
                if model.gives_back() && !is_open {
                    transport.unread(bytes);
                    model.give_back(bytes);
                }
            }
            Op::SetProtocol {
                unread,
                leftover,
                buffer,
            } => {
                let lens = (*unread, *leftover);
                self.set_protocol(model, transport, lens, *buffer, place);
            }
            Op::WithProtocol => {
                // Within a callback it is another one's turn.
                let found = transport.with_protocol(|it: &mut Scripted, _| it.index());
                let driven = transport.with_protocol(|it: &mut Driven, _| it.index);
                model.check_found(found, driven);
            }
            Op::Limits { high, low, cap } => limits(model, transport, *high, *low, *cap),
            Op::Wait(what, how) => self.wait(model, transport, *what, *how),
            Op::DropKept => {
                for kept in std::mem::take(&mut model.kept) {
                    let (Kept::Unit(index, _) | Kept::Closed(index, _)) = &kept;
                    model.forget_waiter(*index);
                }
            }
            Op::Close => {
                transport.close();
                model.begin_close();
            }
            Op::CloseWithin(limit) => {
                transport.close_within(Duration::from_millis(*limit));
                model.timed = true;
                model.begin_close();
            }
            Op::Abort => {
                transport.abort();
                model.abort();
            }
            Op::Reset => {
                transport.reset();
                model.reset();
            }
            Op::Soon(ops) => {
                let run = self.closure(ops);
                transport.call_soon(move |it: &mut Scripted, transport| {
                    run(transport, Some(it.index()))
                });
            }
            Op::Later(delay, ops) => {
                let run = self.closure(ops);
                let delay = Duration::from_millis(*delay);
                transport.call_later(delay, move |it: &mut Driven, transport| {
                    run(transport, Some(it.index))
                });
            }
            Op::LoopSoon(ops) => {
                let run = self.closure(ops);
                let at = transport.clone();
                transport.handle().call_soon(move |_| {
                    // Nobody takes an error here.
                    let _ = run(&at, None);
                });
            }
            Op::PeerRead(most) => model.peer_read(transport, *most),
            Op::PeerWrite(len) => model.peer_write(*len),
            Op::Push(kind) => self.push(model, transport, *kind),
            Op::PeerEof => model.peer_end(),
            Op::PeerClose | Op::PeerReset => {
                if let Some(peer) = model.peer.as_mut().filter(|_| !model.peer_gone) {
                    match op {
                        Op::PeerClose => peer.close(),
                        _ => peer.reset(),
                    }
                    model.peer_gone = true;
                    model.wire.leave();
                }
            }
            Op::Ticks(_) => {}
        }
        model.observe(transport);
        Ok(())
    }

    fn write(
        &self,
        model: &mut Model,
        transport: &Transport,
        len: usize,
        slices: usize,
        write: impl FnOnce(&[u8]) -> Result<tidegate::Flow, WriteError>,
    ) -> Result<(), WriteError> {
        let bytes = ours(model.written, len);
        let was_closed = transport.closed().is_some();
        let refused = was_closed || model.closing || model.eof_asked;
        let before = model.buffered();
        let may_be_full = before + CHUNK_COST * model.chunks >= model.cap;
        let result = write(bytes);
        let flow = match &result {
            Ok(flow) => Some(*flow),
            Err(_) => None,
        };
        let sent = transport.sent() - model.sent;
        match &result {
            _ if bytes.is_empty() => model.expect(result.is_ok(), "an empty write is no write"),
            Ok(_) => {
                model.expect(!refused, "no write after the end");
                let room = before.saturating_sub(sent) < model.cap;
                model.expect(room, "no write at the cap");
                if may_be_full && model.budget.is_none() {
                    model.fell_and_rose(transport, before);
                }
                model.written += bytes.len() as u64;
                model.largest = model.largest.max(bytes.len() as u64);
                model.chunks += slices as u64;
            }
            Err(WriteError::BufferFull { .. }) => {
                model.expect(!refused && may_be_full, "BufferFull at the cap only");
            }
            Err(WriteError::Closing { .. }) => {
                model.expect(model.closing && !was_closed, "Closing after close");
            }
            Err(WriteError::AfterEof { .. }) => {
                let open = !was_closed && !model.closing;
                model.expect(open && model.eof_asked, "AfterEof after write_eof");
            }
            Err(WriteError::Closed { .. }) if was_closed => {}
            Err(WriteError::Closed { .. }) => {
                let gone = model.peer_gone || model.budget.is_some();
                model.expect(gone, "a write fails when the peer is gone");
                let counted = transport.written() == model.written + bytes.len() as u64;
                model.expect(counted || may_be_full, "the failed write counts as written");
                model.written = transport.written();
            }
            Err(_) => model.expect(false, "a refusal that cannot be"),
        }
        model.observe_rise(transport);
        let told = flow.is_none_or(|flow| flow == transport.flow());
        model.expect(told, "write answers the flow");
        let size = transport.write_buffer_size();
        let outcome = match &result {
            Err(error) => error.to_string(),
            Ok(flow) => format!("{flow:?}"),
        };
        model.note(format!("   -> {outcome}, buffered {size}"));
        result.map(drop)
    }

    fn set_protocol(
        self: &Rc<Self>,
        model: &mut Model,
        transport: &Transport,
        (unread, leftover): (usize, usize),
        buffer: usize,
        place: Place<'_>,
    ) {
        let index = model.logs.len();
        let log = Log::new().switched_in();
        let protocol = self.protocol(index, &log, buffer);
        let (before, kept) = model.split_last(leftover);
        // From `data_received`: the rest of the data. Else: bytes that the peer never sent.
        let unread = match place {
            Place::Data(_) => before[before.len().saturating_sub(unread)..].to_vec(),
            _ => theirs(index * 1000 + 7, unread).to_vec(),
        };
        model.logs.push(log);
        let result = transport.set_protocol(protocol, &unread);
        let accepted = result.is_ok();
        model.expect(
            accepted == model.lost.is_none(),
            "set_protocol fails from connection_lost on",
        );
        if accepted {
            model.set_next(index, &unread, kept, !matches!(place, Place::Outside));
        }
    }

    fn wait(self: &Rc<Self>, model: &mut Model, transport: &Transport, what: What, how: How) {
        let index = model.add_waiter(what, how);
        model.note(format!("   is waiter {index}"));
        match what {
            What::Drain => {
                let completion = transport.drain();
                self.answer(model, transport, index, how, completion, Kept::Unit, |()| {
                    None
                });
            }
            What::Flush => {
                let completion = transport.flush();
                self.answer(model, transport, index, how, completion, Kept::Unit, |()| {
                    None
                });
            }
            What::Closed => {
                let completion = transport.wait_closed();
                self.answer(model, transport, index, how, completion, Kept::Closed, Some);
            }
            // Only by [`Shared::put_on`].
            What::Open => {}
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the two kinds of completion differ in types"
    )]
    fn answer<T: 'static>(
        self: &Rc<Self>,
        model: &mut Model,
        transport: &Transport,
        index: usize,
        how: How,
        completion: Completion<T>,
        keep: impl FnOnce(usize, Completion<T>) -> Kept,
        closed: impl FnOnce(T) -> Option<Closed> + 'static,
    ) {
        let shared = self.clone();
        let at = transport.clone();
        let done = move |answer: io::Result<T>| match shared.model.try_borrow_mut() {
            Ok(mut model) => model.answered(&at, index, answer.map(closed)),
            Err(_) => shared.complain("a waiter within a call of ours".to_owned()),
        };
        match how {
            How::Then => completion.then(move |_, answer| done(answer)),
            How::ThenWithin(limit) => completion
                .within(Duration::from_millis(limit))
                .then(move |_, answer| done(answer)),
            How::ThenOn => completion.then_on(transport, move |_: &mut Driven, _, answer| {
                done(answer);
                Ok(())
            }),
            How::Keep => model.kept.push(keep(index, completion)),
            How::Drop => drop(completion),
            How::Detach => completion.detach(),
        }
    }
}

fn limits(model: &mut Model, transport: &Transport, high: usize, low: usize, cap: usize) {
    let limits = WriteLimits::new()
        .with_high(high)
        .with_low(low)
        .with_cap(cap);
    let valid = low <= high && high <= cap && cap > 0;
    let result = transport.set_write_limits(limits);
    model.expect(result.is_ok() == valid, "limits are checked");
    if valid {
        model.high = high as u64;
        model.low = low as u64;
        model.cap = cap as u64;
    }
    let now = transport.write_limits();
    let known = (now.high() as u64, now.low() as u64, now.cap() as u64);
    let same = known == (model.high, model.low, model.cap);
    model.expect(same, "refused limits change nothing");
    model.observe_rise(transport);
}
