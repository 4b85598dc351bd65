//! Layers that were made and never put on a connection: the loop drops them, each once, so that a panic
//! of their drop is reported like that of any other value of the user.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use support::seal::Seal;
use support::{BOUND, Kind, Log, Peer, Recorder, TempDir, drive, each_kind, failures, settle};
use tidegate::{
    Completion, ConnectOptions, EventLoop, Handle, Layer, LayerIo, ListenOptions, Result, Server,
    Transport,
};

/// The drops of layers.
type Drops = Rc<RefCell<Vec<&'static str>>>;

/// Is never called. Its drop is noted; that of the first one panics.
struct Unused {
    name: &'static str,
    drops: Drops,
}

impl Unused {
    fn new(name: &'static str, drops: &Drops) -> Self {
        let drops = drops.clone();
        Self { name, drops }
    }
}

impl Layer for Unused {
    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        panic!("{} is called", self.name)
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        panic!("{} is called", self.name)
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        self.drops.borrow_mut().push(self.name);
        assert_ne!(self.name, "first", "provoked");
    }
}

/// Returns what was reported: contexts, in order.
fn contexts(told: &Rc<RefCell<Vec<tidegate::Failure>>>) -> Vec<&'static str> {
    told.borrow()
        .iter()
        .map(|failure| failure.context())
        .collect()
}

/// Must open in this time. Panics when it is asked and has none.
struct Limited(Option<Duration>);

impl Layer for Limited {
    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        panic!("the third is called")
    }

    fn send(&mut self, _: &[u8], _: &mut LayerIo<'_>) -> Result<usize> {
        panic!("the third is called")
    }

    fn open_limit(&self) -> Duration {
        self.0.expect("provoked")
    }
}

/// The layer that is made third.
type Third = fn(&RefCell<Option<Server>>) -> Limited;

const THIRDS: [(&str, Third, &[&str]); 4] = [
    (
        "a panic",
        |_| panic!("provoked"),
        &["a server's layer", "a drop"],
    ),
    (
        "a limit of zero",
        |_| Limited(Some(Duration::ZERO)),
        &["a server's layer", "a drop"],
    ),
    (
        "a panic when it is asked for its limit",
        |_| Limited(None),
        &["a server's layer", "a drop"],
    ),
    (
        "the server is closed",
        |server| {
            if let Some(server) = server.borrow().as_ref() {
                server.close();
            }
            Limited(Some(BOUND))
        },
        &["a drop"],
    ),
];

fn those_of_a_connection_that_is_not_taken_are_dropped_by_the_loop(kind: Kind) {
    for (name, third, expected) in THIRDS {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let dir = TempDir::new();
        let drops = Drops::default();
        let [first, second] = std::array::from_fn(|_| drops.clone());
        let server: Rc<RefCell<Option<Server>>> = Rc::default();
        let to_close = server.clone();
        let log = Log::new();
        let made = log.clone();
        let options = ListenOptions::new(kind.somewhere(&dir))
            .layer(move || Unused::new("first", &first))
            .layer(move || Unused::new("second", &second))
            .layer(move || third(&to_close));
        let created = event_loop
            .handle()
            .create_server(options, move || Recorder::new(&made))
            .unwrap();
        let mut peer = Peer::connect(&created.local_addrs()[0]);
        server.replace(Some(created));
        peer.expect_end(&mut event_loop);
        settle(&mut event_loop);
        assert_eq!(*drops.borrow(), ["first", "second"], "{name}");
        assert_eq!(contexts(&told), expected, "{name}");
        assert_eq!((log.words().len(), log.dropped()), (0, 1), "{name}");
        assert_eq!(event_loop.handle().stats().connections, 0, "{name}");
    }
}
each_kind!(those_of_a_connection_that_is_not_taken_are_dropped_by_the_loop);

fn none_is_made_for_a_peer_that_is_refused(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let made = Drops::default();
    let noted = made.clone();
    let options = ListenOptions::new(kind.somewhere(&dir))
        .accept_if(|_| false)
        .layer(move || {
            noted.borrow_mut().push("made");
            Seal::server()
        });
    let log = Log::new();
    let server = event_loop
        .handle()
        .create_server(options, move || Recorder::new(&log))
        .unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.expect_end(&mut event_loop);
    assert_eq!((server.refused_count(), made.borrow().len()), (1, 0));
}
each_kind!(none_is_made_for_a_peer_that_is_refused);

/// Ends a connect that no socket has come of, and returns its error if it has one.
type Fail = fn(&mut EventLoop, Completion<Transport>) -> Option<ErrorKind>;

fn error_of(event_loop: &mut EventLoop, connect: Completion<Transport>) -> Option<ErrorKind> {
    Some(event_loop.run_until(connect).unwrap_err().kind())
}

fn dropped(_: &mut EventLoop, connect: Completion<Transport>) -> Option<ErrorKind> {
    drop(connect);
    None
}

/// A name, how a connect ends, and its error.
type Failing = (&'static str, Fail, Option<ErrorKind>);

const FAILING: [Failing; 2] = [
    (
        "nobody listens",
        error_of,
        Some(ErrorKind::ConnectionRefused),
    ),
    ("the completion is dropped", dropped, None),
];

fn connect(handle: &Handle, options: ConnectOptions, drops: &Drops) -> Completion<Transport> {
    let options = options
        .layer(Unused::new("first", drops))
        .layer(Unused::new("second", drops));
    handle.create_connection(options, Recorder::new(&Log::new()))
}

#[test]
fn those_of_a_connect_that_finds_no_socket_are_dropped_by_the_loop() {
    // Bound and not listening: a connect is refused.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    bound.bind(&any.into()).unwrap();
    let to = bound.local_addr().unwrap().as_socket().unwrap().to_string();
    for (name, fail, expected) in FAILING {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let drops = Drops::default();
        let options = ConnectOptions::new(to.as_str()).timeout(BOUND);
        let connect = connect(event_loop.handle(), options, &drops);
        assert_eq!(fail(&mut event_loop, connect), expected, "{name}");
        drive(&mut event_loop, name, || drops.borrow().len() == 2);
        settle(&mut event_loop);
        assert_eq!(*drops.borrow(), ["first", "second"], "{name}");
        assert_eq!(contexts(&told), ["a drop"], "{name}");
        assert_eq!(event_loop.handle().stats().connecting, 0, "{name}");
    }
}

/// Nothing was begun yet.
#[test]
fn those_of_a_connect_with_one_that_panics_when_it_is_asked_for_its_limit_are_dropped_at_once() {
    let drops = Drops::default();
    let options = ConnectOptions::new("127.0.0.1:9").layer(Unused::new("second", &drops));
    let asked = catch_unwind(AssertUnwindSafe(|| options.layer(Limited(None))));
    assert!(asked.is_err());
    assert_eq!(*drops.borrow(), ["second"]);
}

/// The completion still waits for it.
#[test]
fn those_of_a_connect_are_dropped_with_the_loop() {
    let event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let drops = Drops::default();
    let connect = connect(
        event_loop.handle(),
        ConnectOptions::new("127.0.0.1:9"),
        &drops,
    );
    drop(event_loop);
    assert_eq!(*drops.borrow(), ["first", "second"]);
    assert!(connect.is_ready());
    assert!(contexts(&told).iter().all(|context| *context == "a drop"));
}
