//! Errors and panics of every callback, and sends from the first and the last one.

use std::cell::RefCell;
use std::rc::Rc;
use support::datagrams::{DatagramPeer, Datagrams, assert_accounted};
use support::{TempDir, drive, failures};
use tidegate::{
    Address, CloseReason, Closed, DatagramError, DatagramProtocol, DatagramTransport, EventLoop,
    Flow, OnPause, Result, WriteError,
};

const CALLBACKS: [&str; 7] = [
    "connection_made",
    "datagram_received",
    "batch_received",
    "error_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
];

/// How a callback fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Error,
    Panic,
}

/// A protocol that fails in one callback.
struct Failing {
    at: &'static str,
    how: Fails,
    heard: Rc<RefCell<Vec<&'static str>>>,
}

impl Failing {
    fn run(&self, name: &'static str) -> Result {
        self.heard.borrow_mut().push(name);
        if self.at != name {
            return Ok(());
        }
        assert!(self.how != Fails::Panic, "a planned panic");
        Err("a planned error".into())
    }
}

impl DatagramProtocol for Failing {
    fn connection_made(&mut self, _: &DatagramTransport) -> Result {
        self.run("connection_made")
    }

    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        self.run("datagram_received")
    }

    fn batch_received(&mut self, _: &DatagramTransport) -> Result {
        self.run("batch_received")
    }

    fn error_received(&mut self, _: &DatagramTransport, _: &DatagramError) -> Result {
        self.run("error_received")
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        self.run("pause_writing")?;
        Ok(OnPause::StopReading)
    }

    fn resume_writing(&mut self, _: &DatagramTransport) -> Result {
        self.run("resume_writing")
    }

    fn connection_lost(&mut self, _: &DatagramTransport, _: &Closed) {
        // It has no error to return.
        drop(self.run("connection_lost"));
    }
}

/// The callbacks that came, and the contexts of the reports.
type Heard = (Vec<&'static str>, Vec<String>);

/// An endpoint whose protocol fails in a callback, in a life that has all of them.
fn life(at: &'static str, how: Fails) -> (Heard, Closed) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let reports = failures(event_loop.handle());
    let heard: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Failing {
        at,
        how,
        heard: heard.clone(),
    };
    let transport = event_loop
        .handle()
        .create_datagram_endpoint("127.0.0.1:0", protocol)
        .unwrap();
    let drive_to = |event_loop: &mut EventLoop, name: &'static str| {
        drive(event_loop, name, || {
            transport.closed().is_some() || heard.borrow().contains(&name)
        });
    };
    peer.send_to(b"x", transport.local_addr());
    drive_to(&mut event_loop, "batch_received");
    // Longer than any datagram of UDP.
    let _ = transport.send_to(&vec![0; 65_508], &peer.address());
    drive_to(&mut event_loop, "error_received");
    // More than the share of a tick.
    while transport
        .send_to(&[0; 60_000], &peer.address())
        .is_ok_and(|flow| flow == Flow::Open)
    {}
    drive_to(&mut event_loop, "pause_writing");
    drive_to(&mut event_loop, "resume_writing");
    transport.close();
    let closed = event_loop.run_until(transport.wait_closed()).unwrap();
    assert_accounted(&transport);
    for report in reports.borrow().iter() {
        assert_eq!(report.transport(), Some(transport.id()));
        assert!(report.protocol().unwrap().contains("Failing"), "{report}");
        let panicked = matches!(report.reason(), CloseReason::Panic(_));
        assert_eq!(panicked, how == Fails::Panic, "{report}");
    }
    let contexts = reports.borrow();
    let contexts = contexts.iter().map(|report| report.context().to_owned());
    let heard = heard.borrow().clone();
    ((heard, contexts.collect()), closed)
}

#[test]
fn an_error_of_a_callback_is_reported_and_the_endpoint_goes_on() {
    for at in &CALLBACKS[1..6] {
        let ((heard, reports), closed) = life(at, Fails::Error);
        assert_eq!(heard, CALLBACKS, "{at}");
        assert_eq!(reports, [*at]);
        assert_eq!(closed.reason(), &CloseReason::LocalClose);
    }
}

#[test]
fn an_error_of_connection_made_ends_the_endpoint() {
    let ((heard, reports), closed) = life("connection_made", Fails::Error);
    assert_eq!(heard, ["connection_made", "connection_lost"]);
    assert_eq!(reports, ["connection_made"]);
    assert!(matches!(closed.reason(), CloseReason::Callback(_)));
}

#[test]
fn a_panic_of_any_callback_is_reported_and_ends_the_endpoint() {
    for (n, at) in CALLBACKS.iter().enumerate() {
        let ((heard, reports), closed) = life(at, Fails::Panic);
        assert_eq!(heard[..=n], CALLBACKS[..=n], "{at}");
        let rest = if n == 6 {
            &[][..]
        } else {
            &["connection_lost"]
        };
        assert_eq!(&heard[n + 1..], rest, "{at}");
        assert_eq!(reports, [*at]);
        // The last one cannot change how the endpoint ended.
        let panicked = matches!(closed.reason(), CloseReason::Panic(_));
        assert_eq!(panicked, n < 6, "{at}: {closed}");
    }
}

#[test]
fn an_error_of_pause_writing_keeps_reading() {
    struct Unsure;
    impl DatagramProtocol for Unsure {
        fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
            Ok(())
        }

        fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
            Err("a planned error".into())
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let reports = failures(event_loop.handle());
    // It takes nothing.
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let options = Datagrams::Unix.local(&dir, "a");
    let made = event_loop
        .handle()
        .create_datagram_endpoint(options, Unsure);
    let transport = made.unwrap();
    while transport.flow() == Flow::Open {
        transport.send_to(&[0; 1_000], &peer.address()).unwrap();
    }
    drive(&mut event_loop, "the report", || {
        !reports.borrow().is_empty()
    });
    assert!(transport.flow().is_paused() && transport.is_reading());
    peer.send_to(b"x", transport.local_addr());
    drive(&mut event_loop, "a datagram while it is paused", || {
        transport.stats().received == 1
    });
}

/// Sends in its first callback and in its last one.
struct Greeter {
    to: Address,
    /// The results of the sends of the last callback.
    late: Rc<RefCell<Vec<String>>>,
}

impl DatagramProtocol for Greeter {
    fn connection_made(&mut self, transport: &DatagramTransport) -> Result {
        transport.send_to(b"hello", &self.to)?;
        transport.try_send_to(b"there", &self.to)?;
        transport.send_to(b"", &self.to)?;
        Ok(())
    }

    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        Ok(())
    }

    fn connection_lost(&mut self, transport: &DatagramTransport, closed: &Closed) {
        let sent = transport.send_to(b"late", &self.to);
        let Err(WriteError::Closed { closed: told, .. }) = sent else {
            panic!("{sent:?}");
        };
        assert_eq!(told, *closed);
        let tried = transport.try_send_to(b"late", &self.to).unwrap_err();
        assert_eq!(Closed::of(&tried).as_ref(), Some(closed));
        let mut late = self.late.borrow_mut();
        for (name, wait) in [
            ("drain", transport.drain()),
            ("flush", transport.flush()),
            ("writable", transport.writable()),
        ] {
            let late = self.late.clone();
            let note = move |_: &_, result: std::io::Result<()>| {
                late.borrow_mut()
                    .push(format!("{name} {}", result.is_err()));
            };
            wait.then(note);
        }
        late.push("lost".into());
    }
}

#[test]
fn the_first_callback_may_send_and_what_the_last_one_sends_is_refused() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let reports = failures(event_loop.handle());
        let late: Rc<RefCell<Vec<String>>> = Rc::default();
        let greeter = Greeter {
            to: peer.address(),
            late: late.clone(),
        };
        let made = event_loop
            .handle()
            .create_datagram_endpoint(wire.local(&dir, "a"), greeter);
        let transport = made.unwrap();
        drive(&mut event_loop, "three datagrams", || {
            transport.stats().sent == 3
        });
        for expected in [&b"hello"[..], b"there", b""] {
            assert_eq!(peer.receive(), expected, "{wire:?}");
        }
        transport.close();
        drive(&mut event_loop, "all results", || late.borrow().len() == 4);
        assert_eq!(
            *late.borrow(),
            ["lost", "drain true", "flush true", "writable true"]
        );
        assert_eq!(transport.stats().taken, 3);
        assert_accounted(&transport);
        assert!(reports.borrow().is_empty(), "{reports:?}");
    }
}
