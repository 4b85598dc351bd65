//! Wrappers in each other, in any order.

use std::cell::Cell;
use std::rc::Rc;
use support::{Log, Peer, Recorder, Seen, Wire, drive, each_wire};
use tidegate::{Protocol, Result, Transport, Wrap};
use tidegate_framing::{Lines, framed};
use tidegate_service::{Bucket, ProxyProtocol, Throttle};

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

/// A wrapper of the user's: counts the times that bytes come.
struct Tap<P> {
    protocol: P,
    times: Rc<Cell<usize>>,
}

impl<P: Protocol> Wrap for Tap<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.protocol
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.times.set(self.times.get() + 1);
        self.protocol.data_received(transport, data)
    }
}

/// Sends back each line, and pauses behind some until the next tick.
fn lines(log: &Log) -> Recorder {
    let mut torn = Vec::new();
    Recorder::new(log).on_data(move |transport, data| {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            if !transport.wants_input() {
                transport.unread(rest);
                return Ok(());
            }
            let (part, behind) = rest.split_at(end + 1);
            torn.extend_from_slice(part);
            rest = behind;
            transport.write(&torn)?;
            if torn == b"pause\n" {
                transport.pause_reading();
                transport.call_soon(|_: &mut Recorder, transport| {
                    transport.resume_reading();
                    Ok(())
                });
            }
            torn.clear();
        }
        torn.extend_from_slice(rest);
        Ok(())
    })
}

type Make = fn(Log, Rc<Cell<usize>>) -> Box<dyn Protocol>;

fn bucket() -> Bucket {
    Bucket::new(u64::MAX, u64::MAX)
}

/// Each order of the three, and one with boxes.
const ORDERS: [Make; 7] = [
    |log, times| {
        Box::new(ProxyProtocol::new(move |_| {
            let protocol = lines(&log);
            Throttle::new(bucket(), Tap { protocol, times })
        }))
    },
    |log, times| {
        Box::new(ProxyProtocol::new(move |_| {
            let protocol = Throttle::new(bucket(), lines(&log));
            Tap { protocol, times }
        }))
    },
    |log, times| {
        let protocol = ProxyProtocol::new(move |_| lines(&log));
        Box::new(Throttle::new(bucket(), Tap { protocol, times }))
    },
    |log, times| {
        let protocol = ProxyProtocol::new(move |_| Throttle::new(bucket(), lines(&log)));
        Box::new(Tap { protocol, times })
    },
    |log, times| {
        let protocol = ProxyProtocol::new(move |_| Tap {
            protocol: lines(&log),
            times,
        });
        Box::new(Throttle::new(bucket(), protocol))
    },
    |log, times| {
        let protocol = ProxyProtocol::new(move |_| lines(&log));
        let protocol = Throttle::new(bucket(), protocol);
        Box::new(Tap { protocol, times })
    },
    |log, times| {
        let boxed: Box<dyn Protocol> = Box::new(ProxyProtocol::new(move |_| {
            let boxed: Box<dyn Protocol> = Box::new(Throttle::new(bucket(), lines(&log)));
            boxed
        }));
        Box::new(Throttle::new(
            bucket(),
            Tap {
                protocol: boxed,
                times,
            },
        ))
    },
];

fn assert_served(wire: Wire, make: Make, parts: [&[u8]; 2], replies: &[u8]) {
    let mut event_loop = support::strict_loop();
    let (log, times) = (Log::new(), Rc::default());
    let protocol = make(log.clone(), Rc::clone(&times));
    let (transport, mut peer): (Transport, Peer) = wire.scene().on(&mut event_loop, protocol);
    for part in parts {
        let before = transport.stats().received;
        peer.send(part);
        let all = before + part.len() as u64;
        drive(&mut event_loop, "the part", || {
            transport.stats().received == all
        });
    }
    peer.expect(&mut event_loop, replies.len());
    assert_eq!(peer.received(), replies);
    assert!(times.get() > 0);
    assert_eq!(log.seen()[0], Seen::Made);
    assert!(transport.with_protocol(|_: &mut Recorder, _| ()).is_ok());
    peer.shutdown_write();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words()[log.words().len() - 2..], ["eof", "lost"]);
}

each_wire!(in_any_order_and_at_every_cut_they_pass_on_the_same);
fn in_any_order_and_at_every_cut_they_pass_on_the_same(wire: Wire) {
    let replies = b"one\npause\ntwo\npause\nthree\n";
    let stream = [HEADER, replies].concat();
    for make in ORDERS {
        for cut in 1..stream.len() {
            let (before, behind) = stream.split_at(cut);
            assert_served(wire, make, [before, behind], replies);
        }
    }
}

/// Sends back each line, and pauses behind some until the next tick.
fn frames() -> impl Protocol {
    framed(Lines::new().keep_end(true), |transport, line| {
        transport.write(line)?;
        if line == b"pause\n" {
            transport.pause_reading();
            let paused = transport.clone();
            transport
                .handle()
                .call_soon(move |_| paused.resume_reading());
        }
        Ok(())
    })
}

each_wire!(frames_come_through_all_of_them_at_every_cut);
fn frames_come_through_all_of_them_at_every_cut(wire: Wire) {
    let replies = b"one\npause\ntwo\npause\nthree\n";
    let stream = [HEADER, replies].concat();
    for cut in 1..stream.len() {
        let mut event_loop = support::strict_loop();
        let times: Rc<Cell<usize>> = Rc::default();
        let tapped = times.clone();
        let protocol = ProxyProtocol::new(move |_| {
            let protocol = frames();
            let times = tapped;
            Throttle::new(bucket(), Tap { protocol, times })
        });
        let (transport, mut peer) = wire.scene().on(&mut event_loop, protocol);
        for part in [&stream[..cut], &stream[cut..]] {
            let all = transport.stats().received + part.len() as u64;
            peer.send(part);
            drive(&mut event_loop, "the part", || {
                transport.stats().received == all
            });
        }
        peer.expect(&mut event_loop, replies.len());
        assert_eq!(peer.received(), replies);
        // Once for each pause and what is behind it.
        assert!(times.get() >= 3, "{}", times.get());
        peer.shutdown_write();
        peer.expect_end(&mut event_loop);
    }
}

each_wire!(bytes_that_came_with_a_header_count_for_the_throttle_behind_it);
fn bytes_that_came_with_a_header_count_for_the_throttle_behind_it(wire: Wire) {
    let mut event_loop = support::strict_loop();
    let log = Log::new();
    let seen = log.clone();
    let protocol =
        ProxyProtocol::new(move |_| Throttle::new(Bucket::new(1, 100), Recorder::new(&seen)));
    let (transport, mut peer): (Transport, Peer) = wire.scene().on(&mut event_loop, protocol);
    peer.send(&[HEADER, &[b'.'; 101]].concat());
    drive(&mut event_loop, "the bytes", || log.data_len() == 101);
    assert!(!transport.is_reading(), "{transport:?}");
}
