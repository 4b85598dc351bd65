//! Putting layers on.

use super::Shared;
use crate::transport::random::layers::{LayerKind, Ours};
use crate::transport::random::model::Model;
use crate::transport::random::ops::{How, What};
use std::io::ErrorKind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use support::poll_once;
use tidegate::Transport;

impl Shared {
    /// Puts a layer on both sides: at once when nothing of the peer is on its way, else when all of it
    /// has come.
    pub(crate) fn push(self: &Rc<Self>, model: &mut Model, transport: &Transport, kind: LayerKind) {
        if model.refuses_layers() {
            let layer = Ours::new(kind, model.accepted, &model.alive);
            let mut completion = transport.push_layer(layer, b"");
            let refused = matches!(poll_once(Pin::new(&mut completion)), Poll::Ready(Err(_)));
            return model.expect(refused, "no layer is put on at the end");
        }
        // An end of the peer that we have not seen would be one of a stream without the layer.
        let is_ending = model.peer_eof || model.peer_gone || model.peer.is_none();
        if model.announced.is_none() && !is_ending && model.announce(kind) {
            self.put_on(model, transport, b"");
        }
        model.pump_peer();
    }

    /// Puts the announced layer on, whose first bytes are `unread`.
    pub(crate) fn put_on(self: &Rc<Self>, model: &mut Model, transport: &Transport, unread: &[u8]) {
        let Some(announced) = model.announced.take() else {
            return;
        };
        let level = announced.level;
        if model.opens_first() {
            self.may_be_unmade.set(true);
        }
        let layer = Ours::new(announced.kind, model.accepted, &model.alive);
        let mut completion = transport.push_layer(layer, unread);
        if let Poll::Ready(answer) = poll_once(Pin::new(&mut completion)) {
            let kind = answer.as_ref().err().map(std::io::Error::kind);
            let late =
                kind == Some(ErrorKind::UnexpectedEof) && (model.peer_eof || model.peer_gone);
            let refused = answer.is_err() && (model.refuses_layers() || late);
            model.expect(refused, "a layer is refused at the end only");
            // We do not understand what comes now.
            transport.abort();
            return model.abort();
        }
        model.wire.place(level, model.written);
        let index = model.add_waiter(What::Open, How::Then);
        model.note(format!("   {:?} is put on: waiter {index}", announced.kind));
        let (shared, at) = (self.clone(), transport.clone());
        completion.then(move |_, answer| match shared.model.try_borrow_mut() {
            Ok(mut model) => {
                if answer.is_ok() {
                    model.wire.opened(level);
                }
                model.answered(&at, index, answer.map(|()| None));
            }
            Err(_) => shared.complain("a waiter within a call of ours".to_owned()),
        });
    }
}
