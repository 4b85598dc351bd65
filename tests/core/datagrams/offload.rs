//! The feature `offload`: reads that bring several datagrams, ECN and destination address of received ones.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use support::datagrams::{DatagramPeer, Datagrams, Heard, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{Address, Arrival, DatagramOptions, DatagramTransport, Ecn, EventLoop};
use tidegate_testkit::Seen;

/// UDP of both families.
fn wires() -> impl Iterator<Item = Datagrams> {
    Datagrams::each().filter(|wire| *wire != Datagrams::Unix)
}

fn at(wire: Datagrams) -> DatagramOptions {
    wire.local(&TempDir::new(), "unused")
}

/// Ten datagrams, the last one shorter.
fn run() -> Vec<Vec<u8>> {
    let mut run: Vec<_> = (0..10).map(|i| vec![i; 1_200]).collect();
    run[9].truncate(100);
    run
}

/// Sends the datagrams in one system call.
#[track_caller]
fn send_run(event_loop: &mut EventLoop, from: &DatagramTransport, to: &Address) {
    let before = (from.stats().sent, event_loop.handle().stats().writes);
    for data in run() {
        from.send_to(&data, to).unwrap();
    }
    drive(event_loop, "the run is sent", || {
        from.stats().sent == before.0 + 10
    });
    assert_eq!(event_loop.handle().stats().writes, before.1 + 1);
}

/// Notes how each datagram arrived.
fn noting() -> (Heard, Rc<RefCell<Vec<Arrival>>>) {
    let arrivals: Rc<RefCell<Vec<_>>> = Rc::default();
    let noted = arrivals.clone();
    let protocol = Heard::default().on_datagram(move |transport, _, _| {
        noted.borrow_mut().push(transport.arrival());
        Ok(())
    });
    (protocol, arrivals)
}

fn ecn(arrivals: &Rc<RefCell<Vec<Arrival>>>) -> Vec<Option<Ecn>> {
    let arrivals = arrivals.borrow();
    arrivals.iter().map(|arrival| arrival.ecn).collect()
}

#[test]
fn a_coalesced_read_brings_a_run_and_its_datagrams_are_delivered_one_by_one() {
    for wire in wires() {
        for (coalesce, most_reads) in [(false, 11), (true, 2)] {
            let mut event_loop = EventLoop::new().unwrap();
            let protocol = Heard::default();
            let to = endpoint(&event_loop, at(wire).coalesce(coalesce), &protocol);
            let from = endpoint(&event_loop, at(wire), &Heard::default());
            settle(&mut event_loop);
            let reads = event_loop.handle().stats().reads;
            send_run(&mut event_loop, &from, to.local_addr());
            drive(&mut event_loop, "the run", || {
                protocol.datagrams().len() == 10
            });
            settle(&mut event_loop);
            assert_eq!(protocol.datagrams(), run(), "{wire:?}");
            let senders = protocol.seen();
            let senders = senders.iter().filter_map(|heard| match heard {
                Seen::Datagram(_, from) => Some(from),
                _ => None,
            });
            assert!(
                senders
                    .into_iter()
                    .all(|sender| sender == from.local_addr())
            );
            assert_eq!(to.stats().received_bytes, 9 * 1_200 + 100);
            let reads = event_loop.handle().stats().reads - reads;
            assert_eq!(reads, most_reads, "{wire:?}, coalesce({coalesce})");
        }
    }
}

#[test]
fn the_rest_of_a_coalesced_read_survives_a_pause_and_comes_first_when_reading_goes_on() {
    let mut event_loop = EventLoop::new().unwrap();
    let count = Cell::new(0);
    let protocol = Heard::default().on_datagram(move |transport, _, _| {
        count.set(count.get() + 1);
        if [3, 5].contains(&count.get()) {
            transport.pause_reading();
        }
        Ok(())
    });
    let options = DatagramOptions::new("127.0.0.1:0").coalesce(true);
    let to = endpoint(&event_loop, options, &protocol);
    let from = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    send_run(&mut event_loop, &from, to.local_addr());
    drive(&mut event_loop, "the pause", || !to.is_reading());
    let other = DatagramPeer::new(Datagrams::V4, &TempDir::new(), "b");
    other.send_to(b"later", to.local_addr());
    settle(&mut event_loop);
    assert_eq!(protocol.datagrams(), run()[..3]);
    to.resume_reading();
    drive(&mut event_loop, "the second pause", || !to.is_reading());
    settle(&mut event_loop);
    assert_eq!(protocol.datagrams(), run()[..5]);
    to.resume_reading();
    let mut all = run();
    all.push(b"later".to_vec());
    drive(&mut event_loop, "the rest", || {
        protocol.datagrams().len() == all.len()
    });
    assert_eq!(protocol.datagrams(), all);
}

#[test]
fn nothing_of_a_coalesced_read_is_delivered_after_a_close() {
    let mut event_loop = EventLoop::new().unwrap();
    let protocol = Heard::default().on_datagram(|transport, _, _| {
        transport.close();
        Ok(())
    });
    let options = DatagramOptions::new("127.0.0.1:0").coalesce(true);
    let to = endpoint(&event_loop, options, &protocol);
    let from = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    send_run(&mut event_loop, &from, to.local_addr());
    drive(&mut event_loop, "the end", || protocol.closed().is_some());
    assert_eq!(protocol.datagrams(), run()[..1]);
    assert_eq!(to.stats().received, 1);
    assert_eq!(to.arrival(), Arrival::default(), "it has ended");
}

#[test]
fn single_empty_and_the_longest_datagrams_arrive_with_coalesce_as_without() {
    for wire in wires() {
        let mut event_loop = EventLoop::new().unwrap();
        let protocol = Heard::default();
        let options = at(wire).coalesce(true).receive_buffer(1 << 20);
        let to = endpoint(&event_loop, options, &protocol);
        let peer = DatagramPeer::new(wire, &TempDir::new(), "b");
        let sent = [vec![1; 7], vec![], vec![2; 65_507], vec![3]];
        for data in &sent {
            peer.send_to(data, to.local_addr());
        }
        drive(&mut event_loop, "all of them", || {
            protocol.datagrams().len() == sent.len()
        });
        assert_eq!(protocol.datagrams(), sent, "{wire:?}");
    }
}

#[test]
fn the_ecn_of_each_datagram_is_told_whatever_its_family() {
    let marks = [
        Ecn::NotCapable,
        Ecn::Capable1,
        Ecn::Capable0,
        Ecn::Congested,
    ];
    let both = || DatagramOptions::new("[::]:0").v6only(false);
    for wire in wires() {
        for options in [at(wire), both()] {
            let mut event_loop = EventLoop::new().unwrap();
            let (protocol, arrivals) = noting();
            let to = endpoint(&event_loop, options.receive_ecn(true), &protocol);
            let port = to.local_addr().as_inet().unwrap().port();
            let from = endpoint(&event_loop, at(wire), &Heard::default());
            let ip = from.local_addr().as_inet().unwrap().ip();
            for mark in marks {
                // The other bits of the traffic class are none of them.
                let class = 0x20 | u32::from(mark.bits());
                from.set_traffic_class(class).unwrap();
                from.send_to(b"x", &SocketAddr::from((ip, port))).unwrap();
                let sent = from.flush();
                event_loop.run_until(sent).unwrap();
            }
            drive(&mut event_loop, "all marks", || {
                arrivals.borrow().len() == 4
            });
            assert_eq!(ecn(&arrivals), marks.map(Some), "{wire:?} at {to:?}");
            assert_eq!(arrivals.borrow()[0].destination, None, "nobody asked");
        }
    }
}

#[test]
fn all_datagrams_of_a_coalesced_read_have_its_arrival() {
    for wire in wires() {
        let mut event_loop = EventLoop::new().unwrap();
        let (protocol, arrivals) = noting();
        let options = at(wire)
            .coalesce(true)
            .receive_ecn(true)
            .receive_destination(true);
        let to = endpoint(&event_loop, options, &protocol);
        let from = endpoint(&event_loop, at(wire), &Heard::default());
        from.set_traffic_class(Ecn::Capable0.bits().into()).unwrap();
        assert_eq!(to.arrival(), Arrival::default(), "nothing has come");
        send_run(&mut event_loop, &from, to.local_addr());
        drive(&mut event_loop, "the run", || arrivals.borrow().len() == 10);
        let to = to.local_addr().as_inet().unwrap().ip();
        for arrival in arrivals.borrow().iter() {
            assert_eq!(arrival.ecn, Some(Ecn::Capable0));
            assert_eq!(arrival.destination, Some(to));
        }
    }
}

#[test]
fn the_destination_address_of_each_datagram_is_told() {
    let v4 = (
        "0.0.0.0:0",
        ["127.0.0.1", "127.0.0.77"],
        ["127.0.0.1", "127.0.0.77"],
    );
    let both = (
        "[::]:0",
        ["::1", "127.0.0.77"],
        ["::1", "::ffff:127.0.0.77"],
    );
    for (at, destinations, told) in [v4, both] {
        if at != v4.0 && !support::has_ipv6() {
            continue;
        }
        let mut event_loop = EventLoop::new().unwrap();
        let (protocol, arrivals) = noting();
        let options = DatagramOptions::new(at)
            .v6only(false)
            .receive_destination(true);
        let to = endpoint(&event_loop, options, &protocol);
        let port = to.local_addr().as_inet().unwrap().port();
        for destination in destinations {
            let ip: IpAddr = destination.parse().unwrap();
            let from =
                UdpSocket::bind((if ip.is_ipv6() { "::1" } else { "127.0.0.1" }, 0)).unwrap();
            from.send_to(b"x", (ip, port)).unwrap();
        }
        drive(&mut event_loop, "both", || arrivals.borrow().len() == 2);
        let found = arrivals.borrow().clone();
        for (arrival, told) in found.iter().zip(told) {
            assert_eq!(arrival.destination, Some(told.parse().unwrap()), "{at}");
            assert_eq!(arrival.ecn, None, "nobody asked");
        }
    }
}

#[test]
fn connected_and_given_sockets_are_asked_too() {
    let mut event_loop = EventLoop::new().unwrap();
    let peer = DatagramPeer::new(Datagrams::V4, &TempDir::new(), "b");
    let given = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (protocol, arrivals) = noting();
    let options = DatagramOptions::new(given)
        .remote(peer.address())
        .receive_destination(true);
    let to = endpoint(&event_loop, options, &protocol);
    peer.send_to(b"x", to.local_addr());
    drive(&mut event_loop, "a datagram", || {
        arrivals.borrow().len() == 1
    });
    let ip = to.local_addr().as_inet().unwrap().ip();
    assert_eq!(arrivals.borrow()[0].destination, Some(ip));
    assert_eq!(to.arrival(), arrivals.borrow()[0], "that of the last one");
}

#[test]
fn an_endpoint_that_asks_for_nothing_is_told_nothing() {
    let asked = |on| {
        DatagramOptions::new("127.0.0.1:0")
            .receive_ecn(on)
            .receive_destination(on)
            .coalesce(on)
    };
    let taken_back = asked(true)
        .receive_ecn(false)
        .receive_destination(false)
        .coalesce(false);
    for options in [asked(false), taken_back] {
        let mut event_loop = EventLoop::new().unwrap();
        let (protocol, arrivals) = noting();
        let to = endpoint(&event_loop, options, &protocol);
        let peer = DatagramPeer::new(Datagrams::V4, &TempDir::new(), "b");
        peer.send_to(b"x", to.local_addr());
        drive(&mut event_loop, "a datagram", || {
            arrivals.borrow().len() == 1
        });
        assert_eq!(arrivals.borrow()[0], Arrival::default());
    }
}

#[test]
fn a_unix_socket_has_none_of_it_and_making_the_endpoint_says_so() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let local = || Datagrams::Unix.local(&dir, "a");
    for options in [
        local().coalesce(true),
        local().receive_ecn(true),
        local().receive_destination(true),
    ] {
        let made = event_loop
            .handle()
            .create_datagram_endpoint(options, Heard::default().protocol());
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("one of UDP"), "{error}");
    }
}

/// Two endpoints on a loop of their own that each send a run to `to`.
fn two_runs(to: &Address) {
    let mut event_loop = EventLoop::new().unwrap();
    for _ in 0..2 {
        let from = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
        settle(&mut event_loop);
        send_run(&mut event_loop, &from, to);
    }
}

#[test]
fn the_replies_to_a_coalesced_read_go_in_one_call_also_when_it_is_the_second_sender_of_a_tick() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = DatagramOptions::new("127.0.0.1:0").coalesce(true);
    let echo = endpoint(&event_loop, options, &Heard::echo());
    settle(&mut event_loop);
    two_runs(echo.local_addr());
    let before = event_loop.handle().stats().writes;
    drive(&mut event_loop, "all echoes", || echo.stats().sent == 20);
    assert_eq!(event_loop.handle().stats().writes - before, 2);
}

#[test]
fn the_share_of_a_tick_cuts_no_coalesced_read() {
    let mut event_loop = EventLoop::new().unwrap();
    let protocol = Heard::default();
    let options = DatagramOptions::new("127.0.0.1:0")
        .coalesce(true)
        .receive_buffer(1 << 20);
    let to = endpoint(&event_loop, options, &protocol);
    settle(&mut event_loop);
    let mut senders = EventLoop::new().unwrap();
    let from = endpoint(&senders, "127.0.0.1:0", &Heard::default());
    for sent in 1..=3 {
        for i in 0..50 {
            from.send_to(&[i; 100], to.local_addr()).unwrap();
        }
        drive(&mut senders, "a run is sent", || {
            from.stats().sent == 50 * sent
        });
    }
    let mut ticks = Vec::new();
    drive(&mut event_loop, "all of them", || {
        ticks.push(to.stats().received);
        to.stats().received == 150
    });
    ticks.retain(|received| *received > 0);
    assert_eq!(ticks, [100, 150]);
    let each: Vec<_> = (0..3).flat_map(|_| 0..50).map(|i| vec![i; 100]).collect();
    assert_eq!(protocol.datagrams(), each);
}

#[test]
fn a_given_socket_that_coalesces_already_delivers_its_datagrams_one_by_one() {
    let mut event_loop = EventLoop::new().unwrap();
    let given = UdpSocket::bind("127.0.0.1:0").unwrap();
    let copy = given.try_clone().unwrap();
    let asked = DatagramOptions::new(copy).coalesce(true);
    let gone = endpoint(&event_loop, asked, &Heard::default());
    gone.abort();
    settle(&mut event_loop);
    let protocol = Heard::default();
    let to = Address::Inet(given.local_addr().unwrap());
    let from = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    settle(&mut event_loop);
    // It has come before the socket is given.
    send_run(&mut event_loop, &from, &to);
    let to = endpoint(&event_loop, given, &protocol);
    drive(&mut event_loop, "the run", || {
        to.stats().received_bytes == 9 * 1_200 + 100
    });
    assert_eq!(protocol.datagrams(), run());
}

#[test]
fn a_traffic_class_holds_for_what_is_sent_after_it_and_not_for_what_is_queued() {
    for wire in wires() {
        let mut event_loop = EventLoop::new().unwrap();
        let (protocol, arrivals) = noting();
        let to = endpoint(&event_loop, at(wire).receive_ecn(true), &protocol);
        let from = endpoint(&event_loop, at(wire), &Heard::default());
        settle(&mut event_loop);
        for mark in [Ecn::Capable0, Ecn::Capable1, Ecn::NotCapable] {
            from.set_traffic_class(mark.bits().into()).unwrap();
            from.send_to(b"x", to.local_addr()).unwrap();
        }
        drive(&mut event_loop, "three", || arrivals.borrow().len() == 3);
        let marks = [Ecn::Capable0, Ecn::Capable1, Ecn::NotCapable];
        assert_eq!(ecn(&arrivals), marks.map(Some), "{wire:?}");
    }
}
