//! A relay whose back does not stand yet, or never will.

use socket2::Socket;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, Log, Peer, Recorder, Reports, TempDir, accept, adopted, drive, each_way, failures,
    pattern, relay_server, relayed, settle,
};
use tidegate::{
    Address, CloseReason, ConnectOptions, EventLoop, Failure, Relay, RelayReport, Server,
    WriteLimits,
};

/// A relay whose back hangs: the backlog of its listener is full.
struct Hanging {
    event_loop: EventLoop,
    server: Server,
    reports: Reports,
    failures: Rc<RefCell<Vec<Failure>>>,
    listener: Socket,
    _filler: Peer,
    dir: TempDir,
}

impl Hanging {
    fn new(back: Kind) -> Self {
        let event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let dir = TempDir::new();
        let (listener, address) = back.listen(&dir);
        // A backlog of none has room for one.
        listener.listen(0).unwrap();
        let filler = Peer::connect(&address);
        let (server, reports) = relay_server(
            event_loop.handle(),
            "127.0.0.1:0",
            WriteLimits::new(),
            &address,
        );
        Self {
            event_loop,
            server,
            reports,
            failures,
            listener,
            _filler: filler,
            dir,
        }
    }

    fn address(&self) -> Address {
        self.server.local_addrs()[0].clone()
    }

    /// A front whose connect is under way.
    #[track_caller]
    fn front(&mut self) -> Peer {
        let peer = Peer::connect(&self.address());
        let handle = self.event_loop.handle().clone();
        drive(&mut self.event_loop, "a connect under way", || {
            handle.stats().connecting == 1
        });
        peer
    }

    #[track_caller]
    fn report(&mut self) -> RelayReport {
        drive(&mut self.event_loop, "the report", || {
            !self.reports.borrow().is_empty()
        });
        self.reports.borrow()[0].clone()
    }

    #[track_caller]
    fn assert_nothing_is_left(&mut self) {
        settle(&mut self.event_loop);
        let stats = self.event_loop.handle().stats();
        assert_eq!((stats.connections, stats.connecting), (0, 0));
        assert_eq!((stats.timers, stats.completions), (0, 0));
        assert!(self.failures.borrow().is_empty());
    }
}

fn refusing() -> Address {
    let dir = TempDir::new();
    // Closed again, so nobody listens.
    Kind::Tcp.listen(&dir).1
}

each_way!(a_front_that_is_reset_cancels_the_connect_however_much_it_has_sent);
fn a_front_that_is_reset_cancels_the_connect_however_much_it_has_sent(back: Kind) {
    for amount in [0, 100, 4 << 20] {
        let mut hanging = Hanging::new(back);
        let mut front = hanging.front();
        if amount > 0 {
            front.write(&pattern(0, amount));
            settle(&mut hanging.event_loop);
        }
        assert_eq!(hanging.event_loop.handle().stats().connecting, 1);
        front.reset();
        let report = hanging.report();
        assert!(report.front.is_reset(), "{report:?}");
        let error = report.back.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        hanging.assert_nothing_is_left();
    }
}

each_way!(a_front_that_is_closed_or_aborted_here_cancels_the_connect);
fn a_front_that_is_closed_or_aborted_here_cancels_the_connect(back: Kind) {
    let ways: [fn(&Server); 3] = [Server::close_clients, Server::abort_clients, |server| {
        server.shutdown(Duration::from_secs(9)).detach()
    }];
    for way in ways {
        let mut hanging = Hanging::new(back);
        let mut front = hanging.front();
        front.send(b"never relayed");
        way(&hanging.server);
        let report = hanging.report();
        assert!(report.back.is_err());
        assert!(!report.front.is_reset());
        front.expect_end(&mut hanging.event_loop);
        front.close();
        let handle = hanging.event_loop.handle().clone();
        drive(&mut hanging.event_loop, "no lingering", || {
            handle.stats().lingering == 0
        });
        hanging.assert_nothing_is_left();
    }
}

each_way!(the_front_s_bytes_wait_in_the_kernel_during_the_connect_and_come_with_eof);
fn the_front_s_bytes_wait_in_the_kernel_during_the_connect_and_come_with_eof(back: Kind) {
    let mut hanging = Hanging::new(back);
    let mut front = hanging.front();
    let data = pattern(0, 100_000);
    front.send(&data);
    front.shutdown_write();
    settle(&mut hanging.event_loop);
    let stats = hanging.event_loop.handle().stats();
    assert_eq!((stats.bytes_received, stats.connecting), (0, 1));
    // The one that filled the backlog makes room.
    let _filler = accept(&mut hanging.event_loop, &hanging.listener);
    let mut back = accept(&mut hanging.event_loop, &hanging.listener);
    back.expect_end(&mut hanging.event_loop);
    assert!(back.saw_eof());
    assert!(back.received() == data);
    back.send(b"answer");
    back.shutdown_write();
    front.expect_end(&mut hanging.event_loop);
    assert_eq!(front.received(), b"answer");
    let report = hanging.report();
    assert!(report.is_clean(), "{report:?}");
    hanging.assert_nothing_is_left();
}

each_way!(the_end_of_the_loop_gives_up_a_connect_and_the_closures_of_the_relay);
fn the_end_of_the_loop_gives_up_a_connect_and_the_closures_of_the_relay(back: Kind) {
    let mut hanging = Hanging::new(back);
    let mut front = hanging.front();
    let reports = hanging.reports.clone();
    drop(hanging);
    front.read_available();
    assert!(front.is_ended());
    assert_eq!(Rc::strong_count(&reports), 1);
    let report = reports.borrow()[0].clone();
    assert!(matches!(report.front.reason(), CloseReason::Shutdown));
    assert!(report.back.is_err());
}

#[test]
fn a_refused_connect_resets_the_front_with_its_error_and_is_reported_once() {
    for asked in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let reports: Reports = Rc::default();
        let (told, to) = (reports.clone(), refusing());
        let server = event_loop
            .handle()
            .create_server("127.0.0.1:0", move || {
                let told = told.clone();
                let relay = relayed(Relay::to(&to));
                if asked {
                    relay.on_end(move |_, report| told.borrow_mut().push(report.clone()))
                } else {
                    relay
                }
            })
            .unwrap();
        let mut front = Peer::connect(&server.local_addrs()[0]);
        front.send(b"hello?");
        front.expect_end(&mut event_loop);
        assert_eq!(front.saw_error(), Some(ErrorKind::ConnectionReset));
        settle(&mut event_loop);
        let (reports, failures) = (reports.borrow(), failures.borrow());
        if asked {
            assert!(failures.is_empty());
            assert_eq!(reports.len(), 1);
            let error = reports[0].back.as_ref().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(error.to_string().contains("cannot connect to 127.0.0.1"));
            let reason = reports[0].front.reason();
            assert!(
                matches!(reason, CloseReason::Io(io) if io.kind() == error.kind()),
                "{reason}"
            );
        } else {
            assert_eq!(failures.len(), 1);
            let failure = failures[0].to_string();
            assert!(
                failure.starts_with("connecting the back of a relay of tidegate::relay::Relay on"),
                "{failure}"
            );
            assert!(failure.contains("cannot connect to"), "{failure}");
        }
        assert_eq!(event_loop.handle().stats().connections, 0);
    }
}

#[test]
fn a_wrong_address_and_a_timeout_are_told_like_a_refusal() {
    let hanging = Hanging::new(Kind::Tcp);
    let address = hanging.listener.local_addr().unwrap().as_socket().unwrap();
    for wrong in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let told = Rc::new(RefCell::new(None));
        let tell = told.clone();
        let to = if wrong {
            ConnectOptions::new("127.0.0.1:none")
        } else {
            ConnectOptions::new(address).timeout(Duration::from_millis(20))
        };
        let relay = relayed(Relay::to(to)).on_end(move |_, report| {
            tell.replace(Some(report.clone()));
        });
        let (transport, mut peer) = adopted(event_loop.handle(), Kind::Tcp, relay);
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
        let report = told.take().unwrap();
        let expected = if wrong {
            ErrorKind::InvalidInput
        } else {
            ErrorKind::TimedOut
        };
        assert_eq!(report.back.unwrap_err().kind(), expected);
        let reason = transport.closed().unwrap().reason().to_string();
        assert!(!reason.contains("aborted"), "{reason}");
        settle(&mut event_loop);
        let stats = event_loop.handle().stats();
        assert_eq!((stats.timers, stats.completions), (0, 0));
    }
}

#[test]
fn what_is_wrong_with_a_target_can_be_asked_before_the_first_client() {
    let mut event_loop = EventLoop::new().unwrap();
    for text in ["nonsense", "127.0.0.1:none", "unix:", ""] {
        let told = ConnectOptions::new(text).validate().unwrap_err();
        assert_eq!(told.kind(), ErrorKind::InvalidInput);
        let log = Log::new();
        let connecting = event_loop
            .handle()
            .create_connection(text, Recorder::new(&log));
        let failed = event_loop.run_until(connecting).unwrap_err();
        assert_eq!(told.to_string(), failed.to_string());
    }
    let limits = WriteLimits::new().with_high(1).with_low(2);
    let options = ConnectOptions::new("127.0.0.1:1").write_limits(limits);
    let error = options.validate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for text in ["127.0.0.1:1", "nowhere.invalid:1", "unix:/nowhere"] {
        ConnectOptions::new(text).validate().unwrap();
    }
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.jobs), (0, 0));
}

each_way!(bytes_that_were_read_too_far_are_lost_with_a_refused_connect_and_counted);
fn bytes_that_were_read_too_far_are_lost_with_a_refused_connect_and_counted(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = Rc::new(RefCell::new(None));
    let tell = told.clone();
    let relay = relayed(Relay::to(refusing())).on_end(move |_, report| {
        tell.replace(Some(report.clone()));
    });
    let relay = Cell::new(Some(relay));
    let first = Recorder::new(&Log::new()).on_data(move |transport, data| {
        if let Some(relay) = relay.take() {
            transport.set_protocol(relay, data)?;
        }
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, first);
    peer.send(b"CONNECT");
    peer.expect_end(&mut event_loop);
    let report = told.take().unwrap();
    assert_eq!((report.to_back.sent, report.to_back.lost), (0, 7));
    assert!(report.back.is_err());
}

each_way!(a_front_that_gets_another_protocol_meanwhile_goes_on_without_a_back);
fn a_front_that_gets_another_protocol_meanwhile_goes_on_without_a_back(back: Kind) {
    let mut hanging = Hanging::new(back);
    let address = match hanging.listener.local_addr().unwrap().as_socket() {
        Some(addr) => Address::Inet(addr),
        None => Address::Unix(hanging.dir.path("peer.sock")),
    };
    let handle = hanging.event_loop.handle().clone();
    let kept = Rc::new(());
    let keep = kept.clone();
    let relay = relayed(Relay::to(address)).on_end(move |_, _| drop(keep));
    let (front, mut peer) = adopted(&handle, Kind::Tcp, relay);
    drive(&mut hanging.event_loop, "a connect under way", || {
        handle.stats().connecting == 1
    });
    let log = Log::new().switched_in();
    front.set_protocol(Recorder::echo(&log), b"").unwrap();
    front.resume_reading();
    peer.send(b"echo");
    peer.expect(&mut hanging.event_loop, 4);
    assert_eq!(handle.stats().connecting, 0);
    assert!(!front.is_closing());
    peer.shutdown_write();
    drive(&mut hanging.event_loop, "lost", || log.is_lost());
    assert_eq!(Rc::strong_count(&kept), 1, "nothing of the relay is left");
    hanging.assert_nothing_is_left();
}
