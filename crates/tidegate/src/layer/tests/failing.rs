//! Layers that fail, and layers that do what cannot be.

use super::{Scene, kind};
use crate::Result;
use crate::layer::io::MAX_PLAIN;
use crate::layer::shared::SCRATCH;
use crate::layer::testing::layers::{CUSTOM, Custom, ENDLESS, Framing, Identity};
use crate::layer::{Layer, LayerIo};
use crate::panics::panic_message;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Start,
    Receive,
    InputEnded,
    Send,
    End,
    Timer,
}

const METHODS: [Method; 6] = [
    Method::Start,
    Method::Receive,
    Method::InputEnded,
    Method::Send,
    Method::End,
    Method::Timer,
];

#[derive(Debug)]
struct Broken(Method);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken in {:?}", self.0)
    }
}

impl std::error::Error for Broken {}

/// Fails in one method, with last words; no method is called afterwards.
struct Fails {
    method: Method,
    panics: bool,
    failed: bool,
}

impl Fails {
    fn call(&mut self, method: Method, io: &mut LayerIo<'_>) -> Result {
        assert!(!self.failed, "called again");
        if method == self.method {
            self.failed = true;
            io.send(b"alert");
            if self.panics {
                panic!("panic in {method:?}");
            }
            return Err(Broken(method).into());
        }
        Ok(())
    }
}

impl Layer for Fails {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.open();
        io.wake_after(Duration::ZERO);
        self.call(Method::Start, io)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        Identity.receive(io)?;
        self.call(Method::Receive, io)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.end_of_stream();
        self.call(Method::InputEnded, io)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        self.call(Method::Send, io)?;
        Identity.send(data, io)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.call(Method::End, io)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.call(Method::Timer, io)
    }
}

#[test]
fn a_failure_in_any_method_is_told_behind_what_was_delivered_and_its_last_words_go_out() {
    for method in METHODS {
        for (panics, above) in [(false, false), (true, false), (false, true), (true, true)] {
            let case = format!("{method:?}, panics {panics}, with one above {above}");
            let mut scene = Scene::unopened(Fails {
                method,
                panics,
                failed: false,
            });
            if above {
                scene = scene.push(Identity, 0);
            }
            scene.socket.advance().unwrap();
            if method == Method::Receive {
                scene.arrive(b"data");
            }
            let deadline = scene.socket.deadline();
            assert_eq!(deadline.is_none(), method == Method::Start, "{case}");
            if method != Method::Start {
                scene.socket.timer(deadline.unwrap());
            }
            if method == Method::InputEnded {
                scene.peer.cut();
            }
            let failed = match method {
                Method::Send => scene.write(b"x").unwrap_err(),
                Method::End => scene.socket.end().unwrap_err(),
                Method::InputEnded => {
                    // The end of the stream was told of, so reading is over.
                    assert_eq!(scene.read(9).unwrap(), b"", "{case}");
                    assert!(scene.socket.has_output(), "{case}");
                    scene.socket.flush_output().unwrap_err()
                }
                Method::Receive => {
                    assert_eq!(scene.read(9).unwrap(), b"data", "{case}");
                    assert!(scene.socket.has_input(), "{case}");
                    scene.read(9).unwrap_err()
                }
                Method::Start | Method::Timer => {
                    assert!(scene.socket.has_input(), "{case}");
                    scene.read(9).unwrap_err()
                }
            };
            assert!(scene.socket.has_failed(), "{case}");
            let payload = scene.socket.take_panic();
            let message = payload.as_ref().map(panic_message);
            let panic = format!("panic in {method:?}");
            assert_eq!(message.as_deref(), panics.then_some(&*panic), "{case}");
            if panics {
                assert_eq!(failed.to_string(), format!("a layer panicked: {panic}"));
            } else {
                let cause = failed.get_ref().and_then(|cause| cause.downcast_ref());
                let Some(Broken(of)) = cause else {
                    panic!("{case}: {failed:?}");
                };
                assert_eq!(*of, method, "{case}");
            }
            let _ = scene.socket.flush_output();
            assert_eq!(scene.line.sent(), b"alert", "{case}");
            // Nothing is called any more, and nothing wants to be.
            assert!(scene.write(b"y").is_err(), "{case}");
            assert_eq!(scene.socket.deadline(), None, "{case}");
            assert!(!scene.socket.wants_write(), "{case}");
        }
    }
}

#[test]
fn an_error_of_a_layer_is_never_taken_for_one_of_the_socket_that_may_be_over() {
    let errors: [fn() -> io::Error; 4] = [
        || ErrorKind::WouldBlock.into(),
        || ErrorKind::Interrupted.into(),
        || io::Error::from_raw_os_error(libc::ENOBUFS),
        || io::Error::from_raw_os_error(libc::ENOMEM),
    ];
    for error in errors {
        struct Returns(fn() -> io::Error);
        impl Layer for Returns {
            fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
                Err((self.0)().into())
            }
            fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
                Ok(0)
            }
        }
        let mut scene = Scene::new(Returns(error)).push(Framing, 0).opened();
        scene.arrive(b"x");
        assert_eq!(kind(scene.read(9)), Some(ErrorKind::Other));
    }
    let mut scene = Scene::new(Custom {
        receive: |_| Err(io::Error::from(ErrorKind::InvalidData).into()),
        ..CUSTOM
    });
    scene.arrive(b"x");
    for _ in 0..2 {
        assert_eq!(
            kind(scene.read(9)),
            Some(ErrorKind::InvalidData),
            "the kind is kept"
        );
    }
}

#[test]
fn what_cannot_be_is_an_error_of_the_layer() {
    let table: [(&str, Custom, ErrorKind, &str); 8] = [
        (
            "consumes more than there is",
            Custom {
                receive: |io| {
                    let len = io.input().len();
                    io.consume(len + 1);
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::Other,
            "a layer consumed more input than there is",
        ),
        (
            "consumes it twice",
            Custom {
                receive: |io| {
                    let len = io.input().len();
                    io.consume(len);
                    io.consume(len);
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::Other,
            "a layer consumed more input than there is",
        ),
        (
            "never consumes",
            Custom {
                receive: |_| Ok(()),
                ..CUSTOM
            },
            ErrorKind::InvalidData,
            "a layer waits for more input than the maximum that is kept for it",
        ),
        (
            "delivers without end in one call",
            Custom {
                receive: |io| {
                    for _ in 0..1_000 {
                        io.deliver(&[1; SCRATCH]);
                    }
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::Other,
            "a layer delivered far more than there was room for",
        ),
        (
            "asks for calls without end",
            Custom {
                receive: |io| {
                    io.more();
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::Other,
            "a layer asks for calls and does nothing in them",
        ),
        (
            "fills more than there was room",
            Custom {
                receive: |io| {
                    let (_, _, mut below) = io.parts();
                    let room = below.spare(10).len();
                    below.filled(room + 1);
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::Other,
            "a layer filled more of its output than there was room",
        ),
        (
            "fills without room",
            Custom {
                receive: |io| {
                    let (_, _, mut below) = io.parts();
                    below.filled(1);
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::Other,
            "a layer filled more of its output than there was room",
        ),
        (
            "starts no timer that it waits for",
            Custom {
                receive: |io| {
                    io.wake_after(Duration::MAX);
                    Ok(())
                },
                ..CUSTOM
            },
            ErrorKind::InvalidData,
            "a layer waits for more input than the maximum that is kept for it",
        ),
    ];
    for (case, layer, kind, text) in table {
        let mut scene = Scene::new(layer);
        scene.arrive(&vec![0; 2 * SCRATCH]);
        let error = loop {
            match scene.read(SCRATCH) {
                Ok(data) => assert!(!data.is_empty(), "{case}"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(scene.socket.has_more(), "{case}");
                }
                Err(error) => break error,
            }
            scene.socket.check_memory();
        };
        assert_eq!((error.kind(), &*error.to_string()), (kind, text), "{case}");
        assert!(scene.socket.has_failed(), "{case}");
    }
}

#[test]
fn a_layer_that_takes_more_than_it_was_given_has_failed() {
    let mut scene = Scene::new(Custom {
        send: |data, io| {
            io.send(data);
            Ok(data.len() + 1)
        },
        ..CUSTOM
    });
    let error = scene.write(b"x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a layer took more bytes than it was given"
    );
}

#[test]
fn a_layer_that_delivers_without_end_over_many_calls_is_read_as_far_as_there_is_room() {
    let mut scene = Scene::new(ENDLESS);
    scene.arrive(b"y");
    for _ in 0..100 {
        assert_eq!(scene.read(1_000).unwrap().len(), 1_000);
        scene.socket.check_memory();
        assert!(scene.socket.has_more());
    }
    const { assert!(MAX_PLAIN > SCRATCH) }
}

#[test]
fn a_panic_of_a_call_from_outside_goes_on_and_what_it_said_before_counts() {
    let mut scene = Scene::new(CUSTOM);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scene.socket.with_layer(|_: &mut Custom, io| {
            io.deliver(b"said");
            panic!("outside");
        })
    }));
    assert!(panicked.is_err());
    assert!(!scene.socket.has_failed());
    assert_eq!(scene.read(9).unwrap(), b"said");
}

#[test]
fn the_topmost_layer_of_a_type_is_found_also_when_it_has_failed() {
    let mut scene = Scene::new(CUSTOM)
        .push(Framing, 0)
        .opened()
        .push(
            Custom {
                end: |_| Err("no".into()),
                ..CUSTOM
            },
            0,
        )
        .opened();
    let ends = |scene: &mut Scene| scene.socket.with_layer(|_: &mut Framing, io| io.room());
    assert_eq!(ends(&mut scene), Some(0));
    scene
        .socket
        .with_layer(|_: &mut Custom, io| io.send(b"top"))
        .unwrap();
    scene.socket.flush_output().unwrap();
    assert_eq!(scene.line.sent().len(), 5, "it went through the one below");
    assert!(scene.socket.with_layer(|_: &mut Identity, _| ()).is_none());
    assert!(scene.socket.end().is_err());
    scene
        .socket
        .with_layer(|_: &mut Custom, io| io.send(b"dead"))
        .unwrap();
    assert!(!scene.socket.has_output());
    let (_, mut off) = scene.socket.into_parts();
    assert_eq!(
        off.with_layer(|_: &mut Custom, io| io.input().len()),
        Some(0)
    );
    assert!(off.with_layer(|_: &mut Identity, _| ()).is_none());
}
